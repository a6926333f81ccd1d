"""`headway.toml`: the files, sources and hosts that the ready-made tools may use.

Everything is checked before anything starts, and every mistake is named with its line. `sections`
declares what the file may contain.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from headway.toml_file import (
    VARIABLE,
    ConfigError,
    Mistake,
    TomlFile,
    read_toml,
    resolve_sqlite,
)
from headway.toml_lines import Key
from headway.toml_sections import mistake_of
from headway.tools.batch import BatchLimits
from headway.tools.files import Limits
from headway.tools.redaction import Secrets
from headway.tools.search import Databank, Endpoint, Table
from headway.tools.sections import (
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
from headway.tools.web.addresses import network_of
from headway.tools.web.hosts import Egress, Host, Hosts, name_of

NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
RESERVED = {"documents", "cache"}

SERVER_SECTIONS = ("server", "worker", "limits", "client", "auth", "audit", "encryption")
"""The sections that are not about the tools: the command line reads them."""


_SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
"""Words in the name of a URL's option that mark its value as secret."""


@dataclass(frozen=True, slots=True)
class Config:
    """The contents of a configuration; paths are absolute."""

    file: Path | None = None
    """The file that it was read from; it may hold keys, so no tool reads it."""
    roots: tuple[Path, ...] | None = None
    data: Path | None = None
    journal: str | None = None
    deadline: float = 20.0
    cache_ttl: float | None = None
    databases: tuple[tuple[str, Databank], ...] = ()
    endpoints: tuple[tuple[str, Endpoint], ...] = ()
    hosts: Hosts = field(default_factory=lambda: Hosts({}))
    secrets: Secrets = field(default_factory=Secrets)
    """Secrets that no answer, error or log shows."""
    files: Limits = field(default_factory=Limits)
    batch: BatchLimits = field(default_factory=BatchLimits)

    @property
    def egress(self) -> Egress:
        """Return the way that requests take, those of sources too."""
        return self.hosts.egress

    @property
    def allows_hosts(self) -> bool:
        """Return whether `process_batch` may ask any host."""
        return bool(self.hosts)


def load(file: Path) -> Config:
    """Read and check a configuration.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; every mistake is named.
    """
    toml = read_toml(file)
    parsed, mistakes = parse_sections(toml)
    toml.check(mistakes)
    return make_config(cast("FileSection", parsed), toml)


def parse_sections(toml: TomlFile) -> tuple[FileSection | None, list[Mistake]]:
    """Return the sections of the tools, or None, and what is wrong in them."""
    raw = {key: value for key, value in toml.values.items() if key not in SERVER_SECTIONS}
    mistakes = list(_name_mistakes(raw))
    try:
        return FileSection.model_validate(raw), mistakes
    except ValidationError as error:
        return None, mistakes + [_schema_mistake(each) for each in error.errors()]


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


def _keys_there(place: tuple[Key, ...]) -> list[str]:
    """Return the keys that a section has; at the top also the sections that are the server's."""
    return [*keys_at(place), *(SERVER_SECTIONS if not place else ())]


def _schema_mistake(error: Any) -> Mistake:
    place: tuple[str | int, ...] = error["loc"]
    match error["type"]:
        case "union_tag_not_found":
            return (*place, "kind"), 'is missing; it is "database" or "api"'
        case "union_tag_invalid":
            return (*place, "kind"), 'is neither "database" nor "api"'
        case "value_error":
            # Of a whole source: its last key is the union's branch, which is not in the file.
            whole = place[0] == "sources" and len(place) == 3
            return place[:2] if whole else place, str(error["ctx"]["error"])
        case _:
            return mistake_of(error, _keys_there)


def make_config(parsed: FileSection, toml: TomlFile) -> Config:
    """Return the configuration that checked sections say; paths begin where the file is.

    Raises:
        ConfigError: A path names a user that does not exist.
    """
    base, sources = toml.directory, parsed.sources.items()
    egress = Egress(tuple(map(network_of, parsed.deny)), parsed.proxy)
    return Config(
        file=toml.file.absolute(),
        roots=None
        if parsed.roots is None
        else tuple(_resolve_path(base, root) for root in parsed.roots),
        data=None if parsed.data is None else _resolve_path(base, parsed.data),
        journal=None if parsed.journal is None else resolve_sqlite(parsed.journal, base),
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
        secrets=_collect_secrets(parsed, toml.values),
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
    """Return the secrets in the file, and in the environment variables that it names."""
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
    """Return the limits that are in the file; the others keep the tool's own defaults."""
    return section.model_dump(exclude_none=True)


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
    return Databank(resolve_sqlite(section.url, base), tables, section.timeout)


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
