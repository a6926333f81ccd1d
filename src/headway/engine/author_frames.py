"""Telling an author's lines of code from those of Headway, Python and installed packages."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

_PACKAGE: Final = str(Path(__file__).parent.parent)

_PYTHON: Final = ("<frozen", sysconfig.get_path("stdlib"))

_ELSEWHERE: Final = (
    _PACKAGE, *_PYTHON, *(sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts")),
)  # fmt: skip


def is_authors(file: str) -> bool:
    """Return whether a file is an author's own."""
    return not file.startswith(_ELSEWHERE)


def is_headways(file: str) -> bool:
    """Return whether a file is Headway's."""
    return file.startswith(_PACKAGE)


def frames_from(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def line_of(frame: FrameType | None) -> str:
    """Return the innermost line that is an author's, such as `images.py:51`.

    If there is none, it is the innermost line of a library; if there is none of these either, it is
    the innermost one of all.
    """
    frames = list(frames_from(frame))
    own = (each for each in frames if is_authors(each.f_code.co_filename))
    others = (each for each in frames if not _is_pythons(each.f_code.co_filename))
    found = next(own, None) or next(others, frame)
    if found is None:
        return "an unknown line"
    return f"{Path(found.f_code.co_filename).name}:{found.f_lineno}"


def _is_pythons(file: str) -> bool:
    # Libraries are below Python's own directory.
    installed = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), _PACKAGE)
    return file.startswith(_PYTHON) and not file.startswith(installed)
