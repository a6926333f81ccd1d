"""Glob patterns, matched one directory level at a time.

The walk carries a *state* down the tree: which segments of the pattern may come next. A
directory where none can is never opened, and no pattern costs more than names × segments.

A pattern comes from a client, so its length and its wildcards are bounded before anything is made
of it. Forms of other languages (a regular expression, a list, `{a,b}`) are refused with the form
that works: they would find nothing, as if there were no files.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from headway.tools.roots import printable_name

UNVISITED = frozenset({"node_modules", ".venv", "__pycache__"})
"""Directories that a wildcard does not enter: many files, and seldom what was meant."""

MAX_PATTERN = 1024
"""Characters."""

MAX_SEGMENTS = 100
"""More levels than any real pattern has."""

MAX_WILDCARDS = 64
"""`*`, `**`, `?` and `[…]`, all together."""

_WILDCARD = re.compile(r"\*+|\?|\[")

State = tuple[int, ...]
"""Positions in the pattern from which the rest may still match; empty: nothing below can."""


class _Segment(NamedTuple):
    text: str
    matches: Callable[[str], object] | None
    """None for `**`."""


class Pattern:
    """A relative glob: `*`, `?`, `[a-z]` inside a name, `**` for any number of directories.

    A trailing `**` means every file below. Hidden files match like others. `[!a]` and `[^a]` are
    any character but these.

    Raises:
        ToolError: The pattern is empty, too long, absolute, climbs with `..`, ends with a slash,
            glues `**` to other characters, opens a bracket that nothing closes, or is written as
            something other than a glob.
    """

    def __init__(self, text: str) -> None:
        self._segments = [_parse_segment(name) for name in _split_names(text)]
        self.names = [segment.text for segment in self._segments]
        """Its parts, one for each level."""
        self._last = len(self._segments) - 1
        self.start: State = self._with_optional({0})

    def file_matcher(self, state: State) -> Callable[[str], object] | None:
        """Return a predicate for names in a directory of this state; None where no name matches."""
        return self._segments[self._last].matches if self._last in state else None

    def descend(self, state: State, name: str) -> State:
        """Return the state inside the subdirectory `name`."""
        following: set[int] = set()
        for position in state:
            text, matches = self._segments[position]
            if name in UNVISITED and text != name:
                continue
            if matches is None:
                following.add(position)
            elif position < self._last and matches(name):
                following.add(position + 1)
        return self._with_optional(following)

    def _with_optional(self, positions: set[int]) -> State:
        """Add the positions after a `**`, which may stand for no directory at all."""
        for position in range(self._last):
            if position in positions and self._segments[position].matches is None:
                positions.add(position + 1)
        return tuple(sorted(positions))


def _parse_segment(text: str) -> _Segment:
    if text == "**":
        return _Segment(text, None)
    plain = text
    for start, _ in _bracket_spans(text):
        if text[start + 1] == "^":  # shells know both signs for "not", `fnmatch` only one
            plain = f"{plain[: start + 1]}!{plain[start + 2 :]}"
    return _Segment(text, re.compile(fnmatch.translate(plain)).match)


def _split_names(text: str) -> list[str]:
    names = (
        []
        if len(text) > MAX_PATTERN
        else [name for name in text.split("/") if name not in ("", ".")]
    )
    problem = _worst_fault(text, names)
    if problem:
        raise ToolError(
            f"The pattern {printable_name(text[:200])!r} {problem}; give one relative to the "
            "directory, such as '*.txt', 'src/**/*.py' or '**/*'"
        )
    if names[-1] == "**":
        names.append("*")
    return [
        name
        for name, before in zip(names, ["", *names], strict=False)
        if name != before or name != "**"
    ]


def _worst_fault(text: str, names: list[str]) -> str | None:
    """Return the worst fault of a pattern, or None."""
    found = (says for is_so, says in _find_faults(text, names) if is_so)
    return next(found, None)


def _find_faults(text: str, names: list[str]) -> Iterator[tuple[bool, str]]:
    yield len(text) > MAX_PATTERN, f"has more than {MAX_PATTERN:,} characters"
    yield re.match(r"\w+://|file:", text) is not None, "is a URL"
    yield re.match(r"[A-Za-z]:/", text) is not None, "begins with a drive"
    yield text.startswith("/"), "is absolute"
    yield not names, "is empty"
    yield "\0" in text, "contains NUL"
    yield ".." in names, "leaves the directory with '..'"
    yield text.endswith("/"), "ends with '/', and only files are processed"
    yield (
        any("**" in name and name != "**" for name in names),
        ("uses '**' beside other characters of a name"),
    )
    yield len(names) > MAX_SEGMENTS, f"has more than {MAX_SEGMENTS} levels"
    wildcards = len(_WILDCARD.findall(text))
    yield wildcards > MAX_WILDCARDS, f"has more than {MAX_WILDCARDS} wildcards"
    yield (
        any(end < 0 for name in names for _, end in _bracket_spans(name)),
        ("has a '[' that no ']' closes; a bracket in a name is written '[[]'"),
    )
    for pattern, says in _OTHER_FORMS:
        yield re.search(pattern, text) is not None, says


def _bracket_spans(name: str) -> Iterator[tuple[int, int]]:
    """Yield where each bracket expression of a name begins and ends; -1 where nothing closes it."""
    start = name.find("[")
    while start >= 0:
        first = start + 1 + name.startswith(("!", "^"), start + 1)
        end = name.find("]", first + 1)  # the first character in it closes nothing
        yield start, end
        start = name.find("[", end + 1) if end >= 0 else -1


_NOT = "which means nothing in a glob"
_OTHER_FORMS = (
    (r"\A~|(?:\A|/)(?:\$\{?\w|%\w+%)", "has '~' or a variable in it, and nothing is replaced"),
    (r"\\", f"has a backslash, {_NOT}: '/' separates directories, and '[*]' is a star itself"),
    (r"\{[^{}]*[,.][^{}]*\}", f"has '{{a,b}}', {_NOT}: call once for each, or write '*.[ch]'"),
    (r"\A\^|\$\Z|\.[*+]\$|\.\+|\(\?|\([^()]*\|[^()]*\)", "is a regular expression, and not a glob"),
    (
        r"\*\.\w+\s*[,;|\s]\s*(?:\*\*/)?\*",
        "is a list, and one call takes one pattern: call once for each",
    ),
    (r"\A!.*[*?]", "begins with '!', and nothing is taken out of what a pattern finds"),
    (r"\A\s|\s\Z|\A(['\"]).*\1\Z", "has spaces or quotes around it, which would count"),
)
"""Forms of other languages, and the error for each."""
