"""JSON as no library writes it: names twice, numbers without end, text that is no text."""

import json
from collections.abc import Iterator
from typing import Any


class Raw(str):
    """A piece of JSON text, right or wrong, that stands as it is."""


class Pairs(list[tuple[str, Any]]):
    """An object whose names may come twice."""


def pairs_of(value: Any) -> Any:
    """A JSON value whose objects are `Pairs`, so that a mutation may repeat a name."""
    if isinstance(value, dict):
        return Pairs((name, pairs_of(inner)) for name, inner in value.items())
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [pairs_of(inner) for inner in value]
    return value


def write(value: Any) -> bytes:
    """The text of a value; what UTF-8 cannot hold is written as an escape."""
    return "".join(_pieces(value)).encode("utf-8", "surrogatepass")


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Raw):
        yield str(value)
    elif isinstance(value, Pairs):
        yield "{"
        for number, (name, inner) in enumerate(value):
            yield f"{',' if number else ''}{json.dumps(name)}:"
            yield from _pieces(inner)
        yield "}"
    elif isinstance(value, dict):
        yield from _pieces(Pairs(value.items()))
    elif isinstance(value, list):
        yield "["
        for number, inner in enumerate(value):
            yield "," if number else ""
            yield from _pieces(inner)
        yield "]"
    else:
        yield json.dumps(value)
