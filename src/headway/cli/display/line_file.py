"""The files of `--parts` and `--trace`: a line each, for as long as they can be written."""

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from headway.cli.exit_codes import Refused, ToolFailed, report_line


class LineFile:
    """A file that takes lines until it cannot; what comes after that is left out.

    A full disk is no reason to lose the call.
    """

    def __init__(self, name: str, out: TextIO) -> None:
        self._name = name
        self._out = out
        self.trouble = ""
        """Why it is not whole; empty: it is."""

    @property
    def is_stderr(self) -> bool:
        """Return whether it is no file, but what a person sees."""
        return self._out is sys.stderr

    def write_line(self, text: str) -> None:
        """Write a line, if the file can still be written."""
        if self.trouble:
            return
        try:
            print(text, file=self._out, flush=True)
        except OSError as error:
            self.trouble = f"{self._name} is not whole: {error.strerror}"

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if not self.is_stderr:
            with suppress(OSError):  # what could not be written is tried once more
                self._out.close()


class CallFiles(NamedTuple):
    """The files that a call is written to."""

    parts: LineFile | None
    trace: LineFile | None


@contextmanager
def open_files(parts: str | None, trace: str | None) -> Generator[CallFiles]:
    """The files of a call, while it goes on and its result is printed.

    Raises:
        Refused: One cannot be opened.
        ToolFailed: On leaving: one could not be written to its end.
    """
    files = CallFiles(None, None)
    try:
        files = files._replace(parts=None if parts in ("all", "none") else _opened(parts))
        files = files._replace(trace=_opened(trace))
        yield files
    except BaseException:
        for trouble in _close(files):
            report_line(trouble)
        raise
    if troubles := _close(files):
        raise ToolFailed("; ".join(troubles))


def _close(files: CallFiles) -> list[str]:
    there = [file for file in files if file is not None]
    for file in there:
        file.close()
    return [file.trouble for file in there if file.trouble]


def _opened(name: str | None) -> LineFile | None:
    if name is None:
        return None
    if name == "-":
        return LineFile("stderr", sys.stderr)
    try:
        return LineFile(name, Path(name).open("w", encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        raise Refused(f"{name} cannot be written: {error.strerror}") from error
