"""A JSON schema of `headway.toml`, for editors that complete and check it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from headway.cli.config_file import OPTIONS_OF_LIMITS, OptionTypes, plain_type
from headway.settings import setting_names

_DURATION: Final = {"type": ["string", "number"]}

_TYPES: Final[dict[object, dict[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: _DURATION,
    str: {"type": "string"},
    Path: {"type": "string"},
    list: {"type": "array", "items": {"type": "string"}},
}


def config_schema(types: OptionTypes) -> dict[str, Any]:
    """Return the schema of the whole file: the server's sections and those of the tools."""
    from headway.audit import AuditConfig
    from headway.cli.encryption_section import EncryptionSection
    from headway.client_profiles import Profile
    from headway.tokens import AuthConfig
    from headway.tools.sections import FileSection

    schema = FileSection.model_json_schema()
    schema["title"] = "headway.toml"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    rows: dict[str, Any] = {name: {} for name in Profile.__dataclass_fields__}
    auth = AuthConfig.model_json_schema()
    schema["$defs"] |= auth.pop("$defs")
    schema["properties"] |= {
        "auth": auth,
        "audit": AuditConfig.model_json_schema(),
        "encryption": EncryptionSection.model_json_schema(),
        "server": _table_schema(types.server),
        "worker": _table_schema(types.worker),
        "limits": _limits_schema(),
        "client": {
            "type": "array",
            "items": {"type": "object", "properties": rows, "additionalProperties": False},
        },
    }
    return schema


def _table_schema(options: Mapping[str, object]) -> dict[str, Any]:
    properties = {name: _type_schema(plain_type(hint)) for name, hint in options.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _type_schema(kind: object) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    return _TYPES[kind]


def _limits_schema() -> dict[str, Any]:
    """Return the schema of `[limits]`; `keep.ttl` is a table `keep` in it, rates of tools too."""
    value: dict[str, Any] = {"type": ["string", "number", "boolean"]}
    names = [*setting_names(), *OPTIONS_OF_LIMITS]
    own = {name: value for name in names if "." not in name}
    kept = {name.removeprefix("keep."): value for name in names if name.startswith("keep.")}
    own["keep"] = {"type": "object", "properties": kept, "additionalProperties": False}
    own["tools"] = {"type": "object", "additionalProperties": {"type": "string"}}
    return {"type": "object", "properties": own, "additionalProperties": False}
