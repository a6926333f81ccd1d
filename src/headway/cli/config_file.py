"""`headway.toml` on the command line: what `run`, `serve` and `worker` take from it.

| section | what is in it |
|---|---|
| `[server]` | the options of `run` and `serve` by their names: `port = 8000`, `grace = "1m"` |
| `[worker]` | what `worker` has besides: `queue`, `concurrency`, `health_port` |
| `[limits]` | every setting of `--set`: `max_runs = 50`, `keep.ttl = "2h"` |
| `[auth]` | whose tokens let a request in (`headway.tokens`) |
| `[audit]` | where a line goes for each call, and what is in it (`headway.audit`) |
| `[encryption]` | the keys that the journal is encrypted with (`headway.encryption`) |
| `[[client]]` | what the operator knows of clients, as in the file of `--clients` |

Everything else is about the tools of `serve` (`headway.tools.sections`). An option on the command
line wins over its environment variable, and that over the file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args, get_origin

from headway.cli.clients_file import read_profile
from headway.client_profiles import Profile
from headway.encryption import Encryption
from headway.errors import SetupError
from headway.settings import Settings, is_tool_limit, setting_names, with_values
from headway.toml_file import (
    ConfigError,
    Mistake,
    TomlFile,
    expand_variables,
    read_toml,
    resolve_sqlite,
    unknown_key,
)

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.tokens import AuthConfig

AUTH_SECTION: Final = "auth"
AUDIT_SECTION: Final = "audit"
ENCRYPTION_SECTION: Final = "encryption"

USUAL_FILE: Final = Path("headway.toml")
"""The file that is read where none is named, if it is there."""

OPTIONS_OF_LIMITS: Final = ("progress_rate", "timeout", "hand_over")
"""Options that are settings too: the file has them among `[limits]`."""

NOT_IN_FILE: Final = (
    "stdio", "config", "auth", "audit", "encryption_keys", "clients", "set_", *OPTIONS_OF_LIMITS,
)  # fmt: skip
"""Options that `[server]` does not have."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The part of a configuration that is about the server."""

    toml: TomlFile | None = None
    """The file, or None where there is none."""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """Values of options, by the names of their parameters."""
    limits: tuple[str, ...] = ()
    """Settings, each as `--set` takes it."""
    profiles: tuple[Profile, ...] = ()
    auth: "AuthConfig | None" = None
    """The tokens that let a request in; None where the file has no `[auth]`."""
    audit: "AuditConfig | None" = None
    """The audit log; None where the file has no `[audit]`."""
    encryption: Encryption | None = None
    """The keys of the journal; None where the file has no `[encryption]`."""


@dataclass(frozen=True, slots=True)
class OptionTypes:
    """The types of the options that may be in the file, by the names of their parameters."""

    server: Mapping[str, object]
    worker: Mapping[str, object]
    check: Callable[[str, object], None]
    """Raises a ValueError where a value is none for the option of that name."""


def read_config(file: Path | None, types: OptionTypes, *, tools: bool) -> ConfigFile:
    """Return what a file says of the server: the one that is named, or else the usual one.

    With `tools` the sections of the tools are checked too, so that one listing has all mistakes.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; every mistake is named.
    """
    if file is None and not USUAL_FILE.is_file():
        return ConfigFile()
    toml = read_toml(file or USUAL_FILE)
    config, mistakes = parse_server_sections(toml, types)
    if tools:
        from headway.tools.config import parse_sections

        mistakes += parse_sections(toml)[1]
    else:
        mistakes += _unknown_sections(toml)
    toml.check(mistakes)
    return config


def parse_server_sections(toml: TomlFile, types: OptionTypes) -> tuple[ConfigFile, list[Mistake]]:
    """Return what a file says of the server, and what is wrong in it."""
    mistakes: list[Mistake] = []
    options: dict[str, object] = {}
    for section, known in (("server", types.server), ("worker", types.worker)):
        for name, value in _table(toml, section, mistakes).items():
            place = (section, name)
            try:
                options[name] = _read_option(toml, place, known, value)
                types.check(name, options[name])
            except (ValueError, SetupError) as error:
                mistakes.append((place, str(error)))
    limits: list[str] = []
    for place, value in _flatten(_table(toml, "limits", mistakes), ("limits",)):
        name = ".".join(place[1:])
        try:
            text = _limit_text(name, value)
            if name in OPTIONS_OF_LIMITS:
                types.check(name, text)
        except (ValueError, SetupError) as error:
            mistakes.append((place, str(error)))
            continue
        if name in OPTIONS_OF_LIMITS:
            options[name] = text
        else:
            limits.append(f"{name}={text}")
    profiles = _read_profiles(toml, mistakes)
    auth, audit, encryption = _parse_own_sections(toml, mistakes)
    return ConfigFile(toml, options, tuple(limits), profiles, auth, audit, encryption), mistakes


def _parse_own_sections(
    toml: TomlFile, mistakes: list[Mistake]
) -> "tuple[AuthConfig | None, AuditConfig | None, Encryption | None]":
    """Return what the sections say that others than the command line read too."""
    auth = None
    if AUTH_SECTION in toml.values:  # it needs the SDK, which takes a second to import
        from headway.tokens import parse_auth

        auth, wrong = parse_auth(toml)
        mistakes += wrong
    audit = None
    if AUDIT_SECTION in toml.values:
        from headway.audit import parse_audit

        audit, wrong = parse_audit(toml)
        mistakes += wrong
    encryption = None
    if ENCRYPTION_SECTION in toml.values:
        from headway.cli.encryption_section import parse_encryption

        encryption, wrong = parse_encryption(toml)
        mistakes += wrong
    return auth, audit, encryption


def _table(toml: TomlFile, name: str, mistakes: list[Mistake]) -> dict[str, Any]:
    value = toml.values.get(name, {})
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    mistakes.append(((name,), f"is a table; write [{name}] in a line of its own"))
    return {}


def _unknown_sections(toml: TomlFile) -> list[Mistake]:
    """Return the keys that nobody has; the tools' own are not looked into."""
    from headway.tools.config import SERVER_SECTIONS
    from headway.tools.sections import keys_at

    known = [*SERVER_SECTIONS, *keys_at(())]
    return [((key,), unknown_key(key, known)) for key in toml.values if key not in known]


_WORDS: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a duration such as '45s', or a number",
    str: "a text",
    Path: "a path",
    list: "a list of texts",
}
"""How each type of an option is called."""


def _read_option(
    toml: TomlFile, place: tuple[str, str], known: Mapping[str, object], value: object
) -> object:
    """Return an option's value as the command line takes it.

    Raises:
        ValueError: There is no such option, or that is no value for it.
    """
    name = place[1]
    if name not in known:
        if name in OPTIONS_OF_LIMITS:
            raise ValueError("write it in [limits]")
        raise ValueError(unknown_key(name, known))
    kind = plain_type(known[name])
    if not is_of_type(value, kind):
        raise ValueError(f"must be {_describe_type(kind)}, not {value!r}")
    if isinstance(value, str):
        value = expand_variables(value)
    elif isinstance(value, list):
        value = [expand_variables(each) for each in cast("list[str]", value)]
    if name == "journal":
        return resolve_sqlite(str(value), toml.directory)
    # Relative paths begin where the file is, whatever directory the command is started in.
    return str(toml.directory / Path(str(value)).expanduser()) if kind is Path else value


def plain_type(hint: object) -> object:
    """Return the type of an option's value without `None`; `list` for a list of texts."""
    members = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) is not Literal and len(members) == 1 and get_origin(hint) is not list:
        return plain_type(members[0])
    return list if get_origin(hint) is list else hint


def is_of_type(value: object, kind: object) -> bool:
    """Return whether a value of TOML is one of an option's type."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is list:
        texts = cast("list[object]", value) if isinstance(value, list) else [None]
        return all(isinstance(each, str) for each in texts)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float | str)
    return isinstance(value, int if kind is int else str)


def _describe_type(kind: object) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return _WORDS[kind]


def _flatten(
    table: Mapping[str, Any], at: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each value of a table and its tables, with the keys that lead there."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(cast("dict[str, Any]", value), (*at, name))
        else:
            yield (*at, name), value


def _limit_text(name: str, value: object) -> str:
    """Return a setting's value as `--set` takes it.

    Raises:
        ValueError: There is no such setting.
        SetupError: That is no value for it.
    """
    if name not in (*setting_names(), *OPTIONS_OF_LIMITS) and not is_tool_limit(name):
        raise ValueError(unknown_key(name, setting_names()))
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"must be a number, a duration or a text, not {value!r}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name not in OPTIONS_OF_LIMITS:
        with_values(Settings(), [f"{name}={text}"])
    return text


def _read_profiles(toml: TomlFile, mistakes: list[Mistake]) -> tuple[Profile, ...]:
    rows: object = toml.values.get("client", [])
    if not isinstance(rows, list):
        mistakes.append((("client",), "is a list of tables; write [[client]]"))
        return ()
    found: list[Profile] = []
    for number, row in enumerate(cast("list[object]", rows)):
        try:
            found.append(read_profile(row))
        except SetupError as error:
            mistakes.append((("client", number), str(error)))
    return tuple(found)


__all__ = [
    "NOT_IN_FILE",
    "OPTIONS_OF_LIMITS",
    "USUAL_FILE",
    "ConfigError",
    "ConfigFile",
    "OptionTypes",
    "parse_server_sections",
    "read_config",
]
