"""A check whether a JSON value fits a JSON Schema, and where it does not.

A schema is compiled once, into functions for the keywords that pydantic writes. They only decide
"it fits for sure". All else is left to `jsonschema`, which is exact and names the path, and takes
some twenty times as long: too long for the rows of an ordinary result on the event loop.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

Schema = Mapping[str, Any]
Fits = Callable[[Any], bool]


class Mistake(NamedTuple):
    """One path at which a value does not fit, with the reason."""

    path: tuple[str | int, ...]
    """The names and indices that lead there."""
    reason: str


class SchemaFit:
    """A compiled schema that values are checked against."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._fits_for_sure = _Compiler(schema).compile_schema(schema)

    def find_mistakes(self, value: object) -> list[Mistake]:
        """Return the places where `value` does not fit, the nearest to its beginning first."""
        return [] if self._fits_for_sure(value) else mistakes_in(value, self._schema)


def mistakes_in(value: object, schema: Schema) -> list[Mistake]:
    """Return the places where `value` does not fit `schema`; none for a schema that is itself
    broken.

    Nothing is fetched for a reference that leads out of the schema.
    """
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator_class: Any = validator_for(schema)
    try:
        validator_class.check_schema(schema)
        empty: Registry[Any] = Registry()
        errors = list(validator_class(schema, registry=empty).iter_errors(value))
    except (SchemaError, Unresolvable):
        return []
    found = [Mistake(tuple(error.absolute_path), str(error.message)) for error in errors]
    return sorted(found, key=lambda mistake: list(map(str, mistake.path)))


_SILENT: Final = frozenset({
    "$comment", "$defs", "$id", "$schema", "contentEncoding", "contentMediaType", "default",
    "deprecated", "description", "discriminator", "examples", "format", "readOnly", "title",
    "writeOnly",
})  # fmt: skip
"""Keywords that do not decide which values fit; `format` is only a remark, as for most checkers."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_KINDS: Final[dict[str, Fits]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _bound_check(kind: Fits, compare: Callable[[Any, Any], bool], limit: Any) -> Fits:
    return lambda value: not kind(value) or compare(value, limit)


_BOUNDS: Final[dict[str, tuple[Fits, Callable[[Any, Any], bool]]]] = {
    "minimum": (_is_number, lambda value, limit: value >= limit),
    "maximum": (_is_number, lambda value, limit: value <= limit),
    "exclusiveMinimum": (_is_number, lambda value, limit: value > limit),
    "exclusiveMaximum": (_is_number, lambda value, limit: value < limit),
    "minLength": (_KINDS["string"], lambda value, limit: len(value) >= limit),
    "maxLength": (_KINDS["string"], lambda value, limit: len(value) <= limit),
    "minItems": (_KINDS["array"], lambda value, limit: len(value) >= limit),
    "maxItems": (_KINDS["array"], lambda value, limit: len(value) <= limit),
    "minProperties": (_KINDS["object"], lambda value, limit: len(value) >= limit),
    "maxProperties": (_KINDS["object"], lambda value, limit: len(value) <= limit),
    "required": (_KINDS["object"], lambda value, limit: all(name in value for name in limit)),
    "pattern": (_KINDS["string"], lambda value, limit: re.search(limit, value) is not None),
}
_OBJECT: Final = ("properties", "additionalProperties")
_ARRAY: Final = ("prefixItems", "items")


def _never_fits(_value: Any) -> bool:
    return False


class _Compiler:
    """Makes functions of the parts of one schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._targets: dict[str, Fits] = {}

    def compile_schema(self, schema: Any) -> Fits:
        """Return a function that is True for a value that fits for sure; False is "perhaps not"."""
        if schema is True or schema == {}:
            return lambda _value: True
        if not isinstance(schema, Mapping):
            return _never_fits
        part = cast("Schema", schema)
        checks: list[Fits] = []
        for word, said in part.items():
            if word not in _SILENT and word not in _OBJECT[1:] and word not in _ARRAY[1:]:
                checks.append(self._compile_word(word, said, part))
        if "properties" not in part and "additionalProperties" in part:
            checks.append(self._compile_object({}, part))
        if "prefixItems" not in part and "items" in part:
            checks.append(self._compile_array([], part))
        if len(checks) == 1:
            return checks[0]
        return lambda value: all(check(value) for check in checks)

    def _compile_word(self, word: str, said: Any, part: Schema) -> Fits:
        if word == "type":
            kinds = [
                _KINDS.get(each, _never_fits)
                for each in ([said] if isinstance(said, str) else said)
            ]
            return kinds[0] if len(kinds) == 1 else _fits_any(kinds)
        if word in _BOUNDS:
            return _bound_check(*_BOUNDS[word], said)
        match word:
            case "properties":
                return self._compile_object(said, part)
            case "prefixItems":
                return self._compile_array(said, part)
            case "anyOf":
                return _fits_any([self.compile_schema(each) for each in said])
            case "allOf":
                parts = [self.compile_schema(each) for each in said]
                return lambda value: all(fits(value) for fits in parts)
            case "$ref":
                return self._compile_reference(said)
            case "enum" | "const":
                values: list[Any] = said if word == "enum" else [said]
                return lambda value: any(_is_same(value, each) for each in values)
            case _:
                return _never_fits

    def _compile_object(self, properties: Mapping[str, Any], part: Schema) -> Fits:
        known = {name: self.compile_schema(each) for name, each in properties.items()}
        rest = self.compile_schema(part.get("additionalProperties", True))

        def fits(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            items = cast("dict[str, Any]", value).items()
            return all(known.get(name, rest)(item) for name, item in items)

        return fits

    def _compile_array(self, first: Sequence[Any], part: Schema) -> Fits:
        heads = [self.compile_schema(each) for each in first]
        rest = self.compile_schema(part.get("items", True))

        def fits(value: Any) -> bool:
            if not isinstance(value, list):
                return True
            items = cast("list[Any]", value)
            # The first ones each by their own schema, as far as both go.
            if not all(head(item) for head, item in zip(heads, items, strict=False)):
                return False
            return all(map(rest, items[len(heads) :]))

        return fits

    def _compile_reference(self, reference: str) -> Fits:
        """Return the check for a reference, which may point at a schema around it."""
        name = reference.removeprefix("#/$defs/")
        target = cast("dict[str, Any]", self._root.get("$defs") or {}).get(name)
        if target is None or name == reference:
            return _never_fits
        if name not in self._targets:
            self._targets[name] = lambda value: self._targets[name](value)
            self._targets[name] = self.compile_schema(target)
        return lambda value: self._targets[name](value)


def _fits_any(parts: Sequence[Fits]) -> Fits:
    return lambda value: any(fits(value) for fits in parts)


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two plain values are equal in JSON, where 1 is not true."""
    return type(value) is type(other) and value == other
