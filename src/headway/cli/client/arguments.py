"""A tool's arguments: from `key=value` and its schema to JSON, checked before anything is sent."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from headway.cli.exit_codes import Refused

if TYPE_CHECKING:
    from headway.api.schema_fit import Mistake

Schema = Mapping[str, Any]

SHOWN = 3
"""Mistakes that are listed at once: enough to mend a call, few enough to read."""

_ANY: frozenset[str] = frozenset()
_OPEN = {"additionalProperties", "patternProperties", "anyOf", "oneOf", "allOf", "$ref"}
"""Keywords of a schema that may allow more than its own properties."""
_CLOSED = {"additionalProperties", "propertyNames", "unevaluatedProperties"}
"""Keywords of a schema that may allow only its own properties."""
_TEXT: frozenset[str] = frozenset({"string"})


def collect_arguments(pairs: Sequence[str], document: str | None, schema: Schema) -> dict[str, Any]:
    """Return the arguments that `key=value` pairs or a JSON `document` give for `schema`.

    A value is JSON where it parses and its type is one that the schema allows, else a string:
    `steps=5` is a number for an integer, and the text "5" for a string.

    Raises:
        Refused: Not `key=value`, not a JSON object, a key twice, or one that the tool lacks.
    """
    if document is not None:
        if pairs:
            raise Refused("give either key=value or --json, not both")
        return _parse_object(document)
    properties = cast("Mapping[str, Schema]", schema.get("properties") or {})
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise Refused(f"{pair!r} is not key=value")
        if key in arguments:
            raise Refused(f"{key!r} is given twice; a list is one value, {key}='[1, 2]'")
        if key not in properties and not _may_have_more(schema):
            # Many servers drop what they do not know: a misspelt option would be lost in silence.
            takes = ", ".join(properties) or "none"
            raise Refused(f"there is no argument {key!r}, only {takes}; --json sends it anyway")
        arguments[key] = _parse_value(text, types_of(properties.get(key, {}), schema))
    return arguments


def _may_have_more(schema: Schema) -> bool:
    return any(schema.get(word, False) is not False for word in _OPEN)


def open_schema(schema: Any) -> Any:
    """Return a schema that refuses no names: the server judges a document that is sent as it is."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {
            word: open_schema(said)
            for word, said in items
            if word not in _CLOSED or (isinstance(said, dict) and word == "additionalProperties")
        }
    return (
        [open_schema(each) for each in cast("list[Any]", schema)]
        if isinstance(schema, list)
        else schema
    )


def _parse_object(document: str) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except ValueError as error:
        raise Refused(f"--json is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused("--json must be an object, as in '{\"steps\": 5}'")
    return cast("dict[str, Any]", value)


def _parse_value(text: str, allowed: frozenset[str]) -> Any:
    if allowed == _TEXT:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if "string" in allowed and not allowed & _json_types(value):
        return text
    return value


def _json_types(value: object) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer", "number"})
        case float():
            return frozenset({"number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})


def types_of(schema: Any, root: Schema, depth: int = 8) -> frozenset[str]:
    """Return the JSON types that `schema`, a part of `root`, allows; none where it names none."""
    if not isinstance(schema, dict) or depth == 0:
        return _ANY
    part = cast("dict[str, Any]", schema)
    if isinstance(part.get("$ref"), str):
        return types_of(_resolve_ref(part["$ref"], root), root, depth - 1)
    named = part.get("type")
    if isinstance(named, str):
        return frozenset({named})
    if isinstance(named, list):
        return frozenset(map(str, cast("list[object]", named)))
    if isinstance(part.get("enum"), list):
        return _ANY.union(*map(_json_types, part["enum"]))
    if "const" in part:
        return _json_types(part["const"])
    branches: list[Any] = part.get("anyOf") or part.get("oneOf") or part.get("allOf") or []
    found = [types_of(branch, root, depth - 1) for branch in branches]
    return _ANY if _ANY in found else _ANY.union(*found)


def _resolve_ref(reference: str, root: Schema) -> Any:
    """Return the schema that a `$ref` within `root` points at, or None."""
    value: Any = root
    for step in reference.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


def check_arguments(tool: str, arguments: Mapping[str, Any], schema: Schema) -> None:
    """Refuse arguments that the tool's schema does not allow, with the reasons.

    A schema that is itself broken refuses nothing: its server has the last word.

    Raises:
        Refused: The arguments do not fit.
    """
    from headway.api.schema_fit import mistakes_in

    mistakes = mistakes_in(arguments, schema)
    if mistakes:
        reasons = "; ".join(map(_as_sentence, mistakes[:SHOWN]))
        raise Refused(f"{tool} does not take these arguments: {reasons}")


def _as_sentence(mistake: "Mistake") -> str:
    where = ".".join(map(str, mistake.path))
    return f"{where}: {mistake.reason}" if where else mistake.reason
