"""The lines of values in a TOML text, which Python's parser does not tell.

The text is known to be valid. A value inside an inline table, or a list over several lines, is on
the line where that begins.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

Key = str | int

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_ASSIGNMENT = re.compile(r"""\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[\w-]+|\s*\.\s*)+?)\s*=(.*)$""")
_QUOTES = ('"' * 3, "'" * 3)


def line_of(text: str, keys: Sequence[Key]) -> int:
    """Return the line, from 1, where `keys` lead to; of the nearest thing around when it is not
    there."""
    best, depth = 1, 0
    for line, place in places(text):
        common = 0
        while common < min(len(place), len(keys)) and place[common] == keys[common]:
            common += 1
        if common == len(place) and common > depth:
            best, depth = line, common
    return best


def places(text: str) -> Iterator[tuple[int, tuple[Key, ...]]]:
    """Yield every line that begins a table or a value, with the keys that lead to it."""
    table: tuple[Key, ...] = ()
    counts: Counter[tuple[Key, ...]] = Counter()
    inside: str | None = None
    nesting = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if inside is not None:
            inside = None if line.count(inside) % 2 else inside
            continue
        if nesting > 0:
            nesting += _open_brackets(line)
            continue
        header = _HEADER.match(line)
        if header is not None:
            table = _resolve_keys(_split_key(header[2]), counts)
            if header[1] == "[[":
                counts[table] += 1
                table = (*table, counts[table] - 1)
            yield number, table
            continue
        assignment = _ASSIGNMENT.match(line)
        if assignment is not None:
            yield number, (*table, *_split_key(assignment[1]))
            rest = assignment[2]
            inside = next((each for each in _QUOTES if rest.count(each) % 2), None)
            nesting = max(0, _open_brackets(rest)) if inside is None else 0


def _open_brackets(line: str) -> int:
    """Return how many brackets are open after a line, without those in strings and comments."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|' + r"'[^']*'|#.*", "", line)
    return bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")


def _resolve_keys(keys: Sequence[str], counts: Counter[tuple[Key, ...]]) -> tuple[Key, ...]:
    """Return the keys of a table, with the place in the list for each list of tables on the way."""
    place: tuple[Key, ...] = ()
    for position, key in enumerate(keys):
        place = (*place, key)
        is_last = position == len(keys) - 1
        if counts[place] and not is_last:
            place = (*place, counts[place] - 1)
    return place


def _split_key(dotted: str) -> tuple[str, ...]:
    """Return the names of a dotted key; the parser knows all about quotes."""
    value: object = tomllib.loads(f"{dotted} = 0")
    names: list[str] = []
    while isinstance(value, dict):
        ((name, value),) = cast("dict[str, object]", value).items()
        names.append(name)
    return tuple(names)
