"""`headway.toml`: what the ready-made tools may read, search and ask.

Everything is checked before anything starts, and every mistake is named with its line. What may be
in the file is in `sections`.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from headway.errors import SetupError
from headway.tools.batch import BatchLimits
from headway.tools.files import Limits
from headway.tools.redaction import Secrets
from headway.tools.search import Databank, Endpoint, Table
from headway.tools.sections import (
    VARIABLE,
    ApiSection,
    BatchSection,
    DatabaseSection,
    FileSection,
    FilesSection,
    HostSection,
    IndexSection,
    is_host,
    keys_at,
)
from headway.tools.toml_lines import line_of
from headway.tools.web.addresses import network_of
from headway.tools.web.hosts import Egress, Host, Hosts, name_of

NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
RESERVED = {"documents", "cache"}


_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
"""In the name of a URL's option: its value is not to be shown."""


class ConfigError(SetupError):
    """The configuration cannot be used; the text names every mistake."""


@dataclass(frozen=True, slots=True)
class Config:
    """The contents of a configuration; paths are absolute."""

    file: Path | None = None
    """Where it was read; it may hold keys, so that no tool reads it."""
    roots: tuple[Path, ...] | None = None
    data: Path | None = None
    journal: str | None = None
    deadline: float = 20.0
    cache_ttl: float | None = None
    databases: tuple[tuple[str, Databank], ...] = ()
    endpoints: tuple[tuple[str, Endpoint], ...] = ()
    hosts: Hosts = field(default_factory=lambda: Hosts({}))
    secrets: Secrets = field(default_factory=Secrets)
    """What no answer, error or log shows."""
    files: Limits = field(default_factory=Limits)
    batch: BatchLimits = field(default_factory=BatchLimits)

    @property
    def egress(self) -> Egress:
        """Return how requests leave, those of sources too."""
        return self.hosts.egress

    @property
    def allows_hosts(self) -> bool:
        """Return whether `process_batch` may ask anybody."""
        return bool(self.hosts)


def load(file: Path) -> Config:
    """Read and check a configuration.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; every mistake is named.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_explain_parse_error(file, str(error))) from error
    mistakes = list(_name_mistakes(raw))
    try:
        parsed = FileSection.model_validate(raw)
    except ValidationError as error:
        mistakes += [_schema_mistake(each) for each in error.errors()]
        parsed = None
    if mistakes or parsed is None:
        raise ConfigError(_list_mistakes(file, text, raw, mistakes))
    return _make_config(parsed, raw, file.absolute())


Mistake = tuple[tuple[str | int, ...], str]
"""Where, as the keys that lead there, and what."""


def _name_mistakes(raw: dict[str, Any]) -> Iterator[Mistake]:
    """Yield mistakes in the names of things."""
    sources, hosts = raw.get("sources", {}), raw.get("hosts", {})
    for name in cast("dict[str, Any]", sources) if isinstance(sources, dict) else ():
        if name in RESERVED:
            yield ("sources", name), "is a source that is always there; choose another name"
        elif not NAMES.fullmatch(name):
            yield ("sources", name), "is no name for a source; use a-z, 0-9, - and _"
    seen: set[str] = set()
    for name in cast("dict[str, Any]", hosts) if isinstance(hosts, dict) else ():
        if not is_host(name):
            yield (
                ("hosts", name),
                "is no host name; write api.example.com or *.example.com, and the port in ports",
            )
            continue
        if name_of(name) in seen:
            yield ("hosts", name), "is there in another spelling already"
        seen.add(name_of(name))


def _schema_mistake(error: Any) -> Mistake:
    place: tuple[str | int, ...] = error["loc"]
    match error["type"]:
        case "extra_forbidden":
            return (
                place,
                f"there is no such key{_spelling_hint(str(place[-1]), keys_at(place[:-1]))}",
            )
        case "missing":
            return place, "is missing"
        case "union_tag_not_found":
            return (*place, "kind"), 'is missing; it is "database" or "api"'
        case "union_tag_invalid":
            return (*place, "kind"), 'is neither "database" nor "api"'
        case "value_error":
            # Of a whole source: its last key is the union's branch, which is not in the file.
            whole = place[0] == "sources" and len(place) == 3
            return place[:2] if whole else place, str(error["ctx"]["error"])
        case _:
            return place, str(error["msg"]).removeprefix("Input should be ")


def _spelling_hint(key: str, keys: list[str]) -> str:
    close = get_close_matches(key, keys, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(keys)}" if keys else ""


def _explain_parse_error(file: Path, error: str) -> str:
    """Return the parser's message, with the line where all other mistakes have it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", error, re.DOTALL)
    if found is None:
        return f"{file}: {error}"
    return f"{file}:{found[2]}: {found[1]} (column {found[3]})"


def _list_mistakes(file: Path, text: str, raw: dict[str, Any], mistakes: list[Mistake]) -> str:
    lines: list[tuple[int, str]] = []
    for place, what in mistakes:
        keys = _plain_keys(raw, place)
        lines.append((line_of(text, keys), f"{'.'.join(map(str, keys))}: {what}"))
    told = "\n".join(f"  {file}:{line}: {what}" for line, what in sorted(lines))
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return f"{file} has {count}:\n{told}"


def _plain_keys(raw: Any, place: tuple[str | int, ...]) -> list[str | int]:
    """Return the keys of a place without what the schema alone knows, such as a union's branch."""
    keys: list[str | int] = []
    value = raw
    for position, key in enumerate(place):
        is_last = position == len(place) - 1
        if isinstance(value, dict) and (key in value or is_last):
            keys.append(key)
            value = cast("dict[Any, Any]", value).get(key)
        elif isinstance(value, list) and isinstance(key, int):
            keys.append(key)
            value = cast("list[Any]", value)[key]
    return keys


def _make_config(parsed: FileSection, raw: dict[str, Any], file: Path) -> Config:
    base, sources = file.parent, parsed.sources.items()
    egress = Egress(tuple(map(network_of, parsed.deny)), parsed.proxy)
    return Config(
        file=file,
        roots=None
        if parsed.roots is None
        else tuple(_resolve_path(base, root) for root in parsed.roots),
        data=None if parsed.data is None else _resolve_path(base, parsed.data),
        journal=None if parsed.journal is None else _resolve_sqlite(parsed.journal, base),
        deadline=parsed.search.deadline,
        cache_ttl=None if parsed.cache is None else parsed.cache.ttl,
        databases=tuple(
            (name, _make_databank(source, base))
            for name, source in sources
            if isinstance(source, DatabaseSection)
        ),
        endpoints=tuple(
            (name, _make_endpoint(source))
            for name, source in sources
            if isinstance(source, ApiSection)
        ),
        hosts=Hosts({name: _make_host(section) for name, section in parsed.hosts.items()}, egress),
        secrets=_collect_secrets(parsed, raw),
        files=Limits(**_given_limits(parsed.files), **_given_limits(parsed.index)),
        batch=BatchLimits(**_given_limits(parsed.batch)),
    )


def _resolve_path(base: Path, text: str) -> Path:
    """Return a path of the file: relative to it, or with `~` for the user's own directory.

    Raises:
        ConfigError: There is no such user.
    """
    try:
        return base / Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"the path {text!r} cannot be used: {error}") from error


def _collect_secrets(parsed: FileSection, raw: dict[str, Any]) -> Secrets:
    """Return all in the file and in the environment variables it names that is nobody's to see."""
    secrets = Secrets()
    for section in (*parsed.hosts.values(), *parsed.sources.values()):
        if not isinstance(section, DatabaseSection):
            secrets |= Secrets.of_headers(section.headers)
    for url in (parsed.proxy, parsed.journal, *_database_urls(parsed)):
        if url is not None:
            secrets |= Secrets(_passwords_of(url))
    return secrets | Secrets(_named_in_requests(raw))


def _database_urls(parsed: FileSection) -> Iterator[str]:
    sections = parsed.sources.values()
    return (each.url for each in sections if isinstance(each, DatabaseSection))


def _passwords_of(url: str) -> Iterator[str]:
    """Yield the password of a URL, as it stands there and as it is meant."""
    with suppress(ValueError):
        parts = urlsplit(url)
        hidden = [value for name, value in parse_qsl(parts.query) if _SECRET.search(name)]
        for given in filter(None, (parts.password, *hidden)):
            yield from {given, unquote(given)}


def _named_in_requests(raw: dict[str, Any]) -> Iterator[str]:
    """Yield the environment variables in what `api` sources send; those in a host are no secret."""
    for source in raw.get("sources", {}).values():
        asked = [str(source.get("url", "")).partition("://")[2].partition("/")[2]]
        asked += map(str, source.get("params", {}).values())
        for text in asked:
            for name in VARIABLE.findall(text):
                yield os.environ.get(name, "")


def _given_limits(section: FilesSection | IndexSection | BatchSection) -> Mapping[str, Any]:
    """Return the limits that are in the file; what is not keeps the tool's own default."""
    return section.model_dump(exclude_none=True)


def _resolve_sqlite(url: str, base: Path) -> str:
    """Return a URL of SQLAlchemy's form whose relative SQLite file is beside the configuration."""
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)(\?.*)?", url)
    if relative is None:
        return url
    return f"{relative[1]}{base / relative[2]}{relative[3] or ''}"


def _make_databank(section: DatabaseSection, base: Path) -> Databank:
    tables = tuple(
        Table(
            name=table.name,
            columns=tuple(table.columns),
            title=table.title,
            link=table.link,
            snippet=table.snippet,
            schema=table.schema_name,
        )
        for table in section.tables
    )
    return Databank(_resolve_sqlite(section.url, base), tables, section.timeout)


def _make_endpoint(section: ApiSection) -> Endpoint:
    return Endpoint(
        url=section.url,
        method=section.method,
        params=section.params,
        body=section.body,
        hits=section.hits,
        title=section.title,
        link=section.link,
        snippet=section.snippet,
        headers=section.headers,
        private=section.private,
        seconds=section.timeout,
        largest=section.largest,
    )


def _make_host(section: HostSection) -> Host:
    return Host(
        ports=tuple(section.ports),
        private=section.private,
        rate=section.rate,
        headers=section.headers,
        retry_unsafe=section.retry_unsafe,
    )
