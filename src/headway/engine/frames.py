"""Which lines are an author's: neither Headway's nor Python's, nor those of what is installed."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

_PACKAGE: Final = str(Path(__file__).parent.parent)

_ELSEWHERE: Final = (
    _PACKAGE, "<frozen", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
)  # fmt: skip


def is_authors(file: str) -> bool:
    """Whether a file is an author's own."""
    return not file.startswith(_ELSEWHERE)


def is_headways(file: str) -> bool:
    """Whether a file is Headway's."""
    return file.startswith(_PACKAGE)


def frames_from(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and those that called it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def line_of(frame: FrameType | None) -> str:
    """`images.py:51`, of the innermost frame that is an author's; else of the frame itself.

    An author's server may itself be installed, so a frame of a package is better than none.
    """
    others = [each for each in frames_from(frame) if not is_headways(each.f_code.co_filename)]
    own = [each for each in others if is_authors(each.f_code.co_filename)]
    found = next(iter([*own, *others]), frame)
    return "an unknown line" if found is None else _line(found)


def _line(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
