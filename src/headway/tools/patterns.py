"""Glob patterns, matched one directory level at a time.

The walk carries a *state* down the tree: which segments of the pattern may come next. A
directory where none can is never opened, and no pattern costs more than names × segments.
"""

import fnmatch
import re
from collections.abc import Callable
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from headway.tools.roots import printable

UNVISITED = frozenset({".git", "node_modules", ".venv", "__pycache__"})
"""Directories that a wildcard does not enter: many files, and seldom what was meant."""

MAX_SEGMENTS = 100
"""More levels than any real pattern has."""

State = tuple[int, ...]
"""Positions in the pattern from which the rest may still match; empty: nothing below can."""


class _Segment(NamedTuple):
    text: str
    matches: Callable[[str], object] | None
    """None for `**`."""


class Pattern:
    """A relative glob: `*`, `?`, `[a-z]` inside a name, `**` for any number of directories.

    A trailing `**` means every file below. Hidden files match like others.

    Raises:
        ToolError: The pattern is empty, absolute, climbs with `..`, ends with a slash, or
            glues `**` to other characters.
    """

    def __init__(self, text: str) -> None:
        self._segments = [_segment(name) for name in _names(text)]
        self._last = len(self._segments) - 1
        self.start: State = self._closed({0})

    def file_matcher(self, state: State) -> Callable[[str], object] | None:
        """What tells whether a name in a directory of this state matches; None: no name does."""
        return self._segments[self._last].matches if self._last in state else None

    def descend(self, state: State, name: str) -> State:
        """The state inside the subdirectory `name`."""
        following: set[int] = set()
        for position in state:
            text, matches = self._segments[position]
            if name in UNVISITED and text != name:
                continue
            if matches is None:
                following.add(position)
            elif position < self._last and matches(name):
                following.add(position + 1)
        return self._closed(following)

    def _closed(self, positions: set[int]) -> State:
        """With what follows a `**`, which may stand for no directory at all."""
        for position in range(self._last):
            if position in positions and self._segments[position].matches is None:
                positions.add(position + 1)
        return tuple(sorted(positions))


def _segment(text: str) -> _Segment:
    if text == "**":
        return _Segment(text, None)
    return _Segment(text, re.compile(fnmatch.translate(text)).match)


def _names(text: str) -> list[str]:
    names = [name for name in text.split("/") if name not in ("", ".")]
    problem = _problem(text, names)
    if problem:
        raise ToolError(
            f"The pattern {printable(text)[:200]!r} {problem}; give one relative to the directory, "
            "such as '*.txt', 'src/**/*.py' or '**/*'"
        )
    if names[-1] == "**":
        names.append("*")
    return [
        name
        for name, before in zip(names, ["", *names], strict=False)
        if name != before or name != "**"
    ]


def _problem(text: str, names: list[str]) -> str | None:
    if text.startswith("/"):
        return "is absolute"
    if not names:
        return "is empty"
    if "\0" in text:
        return "contains NUL"
    if ".." in names:
        return "leaves the directory with '..'"
    if text.endswith("/"):
        return "ends with '/', and only files are processed"
    if any("**" in name and name != "**" for name in names):
        return "uses '**' beside other characters of a name"
    if len(names) > MAX_SEGMENTS:
        return f"has more than {MAX_SEGMENTS} levels"
    return None
