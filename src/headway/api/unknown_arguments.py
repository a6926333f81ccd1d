"""Arguments of a call that the tool does not have.

pydantic drops them, and a model that guessed a name gets a plausible answer to something else. The
schema that a tool publishes says which names there are; a call is checked against it. Values are
left to pydantic, which takes more than the schema says: "5" for a number, say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

Schema = Mapping[str, Any]

SHOWN = 5
"""Names that are refused at once."""

LONGEST_NAME = 100
"""Characters of a name in the error."""

MOST_KNOWN = 50
"""Known names that the error lists."""

DEEPEST = 64
"""Levels of the arguments that are checked; no schema that people write has more."""


class Unknown(NamedTuple):
    """A name that an object in the arguments does not have."""

    path: tuple[str | int, ...]
    value: object
    known: tuple[str, ...]


def check_names(arguments: Mapping[str, Any], schema: Schema, title: str) -> None:
    """Check that the arguments, and the objects in them, have only names that `schema` has.

    Raises:
        ValidationError: They have others; the text names them, and the known ones.
    """
    if _are_plain(arguments, schema):
        return
    found = list(_find_unknown(arguments, schema, schema, ()))[:SHOWN]
    if found:
        details = [
            InitErrorDetails(type=_refusal_error(each), loc=each.path, input=each.value)
            for each in found
        ]
        raise ValidationError.from_exception_data(title, details)


def _are_plain(arguments: Mapping[str, Any], schema: Schema) -> bool:
    """Return whether all names are the tool's and no value has names, as in most calls."""
    if not isinstance(schema.get("properties"), dict):
        return False
    names: Mapping[str, Any] = schema["properties"]
    if not arguments.keys() <= names.keys():
        return False
    return not any(isinstance(value, dict | list) for value in arguments.values())


def _refusal_error(unknown: Unknown) -> PydanticCustomError:
    *inside, name = unknown.path
    where = ".".join(map(str, inside))
    known = ", ".join(unknown.known[:MOST_KNOWN]) or "none at all"
    shown = repr(str(name)[:LONGEST_NAME])
    text = (
        f"there is no {shown} in {where}; it has {known}"
        if where
        else (f"there is no argument {shown}; the tool has {known}")
    )
    # The text is no template: a name may have braces.
    return PydanticCustomError("unknown_argument", "{reason}", {"reason": text})


def _find_unknown(
    value: object, schema: object, root: Schema, path: tuple[str | int, ...]
) -> Iterator[Unknown]:
    part = _resolve_reference(schema, root)
    if part is None or len(path) > DEEPEST:
        return
    if isinstance(value, dict):
        yield from _in_object(cast("dict[str, object]", value), part, root, path)
    elif isinstance(value, list):
        yield from _in_list(cast("list[object]", value), part, root, path)
    else:
        return
    yield from _in_branches(cast("object", value), part, root, path)


def _in_branches(
    value: object, part: Schema, root: Schema, path: tuple[str | int, ...]
) -> Iterator[Unknown]:
    for branch in part.get("allOf", ()):
        yield from _find_unknown(value, branch, root, path)
    branches: list[object] = [*part.get("anyOf", ()), *part.get("oneOf", ())]
    fitting = [
        list(_find_unknown(value, each, root, path))
        for each in branches
        if _may_be(value, each, root)
    ]
    if fitting:
        yield from min(fitting, key=len)


def _in_object(
    value: dict[str, object], part: Schema, root: Schema, path: tuple[str | int, ...]
) -> Iterator[Unknown]:
    properties = cast("dict[str, Schema]", part.get("properties") or {})
    rest = part.get("additionalProperties", True)
    naming = cast("Schema", part.get("propertyNames") or {})
    names = cast("Sequence[str] | None", naming.get("enum"))
    known = tuple(properties) if names is None else tuple(names)
    is_closed = (rest is False and not part.get("patternProperties")) or names is not None
    for name, item in value.items():
        if is_closed and name not in known:
            yield Unknown((*path, name), item, known)
        else:
            yield from _find_unknown(item, properties.get(name, rest), root, (*path, name))


def _in_list(
    value: list[object], part: Schema, root: Schema, path: tuple[str | int, ...]
) -> Iterator[Unknown]:
    first = cast("list[object]", part.get("prefixItems") or [])
    for index, item in enumerate(value):
        schema = first[index] if index < len(first) else part.get("items")
        yield from _find_unknown(item, schema, root, (*path, index))


def _may_be(value: object, branch: object, root: Schema) -> bool:
    """Return whether a branch is about values of this kind at all."""
    part = _resolve_reference(branch, root)
    if part is None:
        return False
    kind = part.get("type")
    kinds = cast("list[str]", [kind] if isinstance(kind, str) else kind)
    return kind is None or ("object" if isinstance(value, dict) else "array") in kinds


def _resolve_reference(schema: object, root: Schema) -> Schema | None:
    """Return a schema, or the one that it refers to; None where it does not limit names."""
    for _ in range(DEEPEST):
        if not isinstance(schema, Mapping):
            return None
        part = cast("Schema", schema)
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return part
        schema = cast("Schema", root.get("$defs") or {}).get(reference.rpartition("/")[2])
    return None
