"""The schemas of a `Headway` tool: strict for its arguments, exact for its results.

The SDK derives both schemas as pydantic reads values. Two things are different here. An object
inside the arguments takes no names but its own, unless its author allows others. And the schema of
a result describes what is written: NaN and infinity are null there, and aliases, serializers and
computed fields are those of writing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Schema = Mapping[str, Any]

_RAW = ("before", "wrap")
"""Modes of model validators that see the raw input, and may accept more names."""

_DEFS = "#/$defs/"


class ArgumentSchema(GenerateJsonSchema):
    """Writes the schemas of arguments, whose objects allow no names but their own."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Close a model whose config does not mention other names."""
        made, model = super().model_schema(schema), schema["cls"]
        if not issubclass(model, BaseModel) or model.model_config.get("extra") is not None:
            return made
        validators = model.__pydantic_decorators__.model_validators.values()
        if any(each.info.mode in _RAW for each in validators):
            return made
        return _close_object(made, _names_of(model))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Close a dataclass, likewise."""
        made = super().dataclass_schema(schema)
        return _close_object(made) if _says_nothing(schema["cls"]) else made

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """Close a `TypedDict`, likewise."""
        made = super().typed_dict_schema(schema)
        return _close_object(made) if _says_nothing(schema.get("cls")) else made


def _says_nothing(kind: object) -> bool:
    config: Any = getattr(kind, "__pydantic_config__", None) or {}
    return config.get("extra") is None


def _close_object(schema: JsonSchemaValue, names: frozenset[str] = frozenset()) -> JsonSchemaValue:
    """Return the schema of an object that allows only its properties and `names`."""
    if schema.get("type") != "object" or "additionalProperties" in schema:
        return schema
    own = frozenset(schema.get("properties", {}))
    if names <= own:
        return {**schema, "additionalProperties": False}
    # A field may be given by its name or by an alias, of which a schema shows one.
    return {**schema, "propertyNames": {"enum": sorted(own | names)}}


def _names_of(model: type[BaseModel]) -> frozenset[str]:
    config = model.model_config
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    found: set[str] = set()
    for name, info in model.model_fields.items():
        aliases = set(_aliases_of(info))
        found |= aliases
        if by_name or not aliases:
            found.add(name)
    return frozenset(found)


def _aliases_of(info: FieldInfo) -> Iterator[str]:
    given = info.validation_alias or info.alias
    for each in given.choices if isinstance(given, AliasChoices) else [given]:
        if isinstance(each, AliasPath):
            yield str(each.path[0])
        elif each is not None:
            yield each


class ResultSchema(GenerateJsonSchema):
    """The schema of results as they are serialized."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Allow null too, for NaN and infinity, which JSON does not have (RFC 8259, section 6)."""
        made = super().float_schema(schema)
        if schema.get("allow_inf_nan") is False:
            return made
        return {"anyOf": [made, {"type": "null"}]}

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        """Return the schema of base64 text."""
        return {"type": "string", "contentEncoding": "base64"}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Refuse what has no schema, as the SDK does."""
        raise ValueError(f"{kind}: {detail}")


def written_schema(adapter: TypeAdapter[Any]) -> dict[str, Any] | None:
    """Return the schema of what `adapter` writes; None where pydantic has none."""
    try:
        schema = adapter.json_schema(mode="serialization", schema_generator=ResultSchema)
    except (PydanticUserError, ValueError, TypeError):
        return None
    return _with_open_root(schema)


def _with_open_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with its root inlined, if that is only a reference."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith(_DEFS):
        return schema
    target = cast("dict[str, Any]", schema["$defs"][reference.removeprefix(_DEFS)])
    return {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
