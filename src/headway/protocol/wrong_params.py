"""Errors that name the wrong fields of a request's params, which the SDK's errors do not.

The protocol's models find them, in the words of their library. Here they become a sentence with the
path of each field, as a client would write it. The values themselves are not repeated.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import INVALID_PARAMS
from pydantic import ValidationError

MOST: Final = 5
"""Fields that are named; more are counted."""

MANY: Final = 1000
"""Faults that are looked at one by one; to list more takes long."""

_SHOWN: Final = 100

LONGEST: Final = 200
"""Characters of a path: names of fields may be the client's own."""

_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be an array",
    "extra_forbidden": "is not known here",
}


def wrong_params(error: ValidationError, params: object) -> MCPError:
    """Return the refusal of params that a model of the protocol does not take, fields named."""
    faults: dict[str, str] = {}
    for fault in islice(error.errors(include_url=False, include_context=False), 10 * MOST):
        path = _path_of(fault["loc"], params, is_missing=fault["type"] == "missing")
        # A field that may have several kinds gets one error for each kind that it is not.
        known = faults.get(path)
        words = _WORDS.get(fault["type"]) or fault["msg"].replace("Input should be", "must be")
        faults[path] = words if known is None or known == words else f"{known}, or {words}"
    shown = [f"{path} {words}" for path, words in islice(faults.items(), MOST)]
    more = error.error_count() - len(shown) if len(faults) > MOST else 0
    text = "; ".join(shown) + (f"; and {more} more" if more else "")
    fields = [{"field": path, "problem": words} for path, words in islice(faults.items(), MOST)]
    return MCPError(INVALID_PARAMS, f"Invalid request parameters: {text}", {"fields": fields})


def first_items(value: object) -> Any:
    """Return a copy of a JSON value with the first of its items, however many there are."""
    if items := _items_of(value):
        return [first_items(inner) for inner in items[:_SHOWN]]
    members = islice(_members_of(value).items(), _SHOWN)
    return {name: first_items(inner) for name, inner in members} or value


def _path_of(place: Sequence[str | int], params: object, *, is_missing: bool) -> str:
    """Return a place as the path of a field: without the names of models and kinds in between."""
    parts, items, members = ["params"], _items_of(params), _members_of(params)
    rest = list(place[1:] if place[:1] == ("params",) else place)
    while rest:
        part = rest.pop(0)
        if isinstance(part, int) and part < len(items):
            parts[-1] += f"[{part}]"
            items, members = _items_of(items[part]), _members_of(items[part])
        elif part in members:
            parts.append(str(part))
            items, members = _items_of(members[part]), _members_of(members[part])
        elif is_missing and not rest:
            parts.append(str(part))
    path = ".".join(parts)
    return path if len(path) <= LONGEST else f"{path[:LONGEST]}…"


def _members_of(value: object) -> Mapping[object, object]:
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else {}


def _items_of(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
