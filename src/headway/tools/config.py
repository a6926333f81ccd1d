"""`headway.toml`: what the ready-made tools may read, search and ask.

Everything is checked before anything starts, and every mistake is named with its line. `${NAME}`
in a URL or a header stands for an environment variable, so that no key is in the file.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import httpx2
import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from headway.errors import SetupError
from headway.settings import parse_duration
from headway.tools.search import Databank, Endpoint, Table
from headway.tools.toml_lines import line_of
from headway.tools.web.hosts import PORTS, Host, Hosts

NAMES = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
RESERVED = {"documents", "cache"}


class ConfigError(SetupError):
    """The configuration cannot be used; the text names every mistake."""


def _expanded(text: Any) -> Any:
    """`text` with the environment variables that it names."""
    if not isinstance(text, str):
        return text
    for name in re.findall(r"\$\{(\w+)\}", text):
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set")
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], text)


def _seconds(text: Any) -> Any:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("write a duration such as 500ms, 45s or 30m")
    try:
        return parse_duration(text)
    except SetupError as error:
        raise ValueError(str(error)) from None


def _header(text: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise ValueError("a header holds visible ASCII characters only")
    return text


def _database_url(text: str) -> str:
    try:
        sa.make_url(text).get_dialect()
    except NoSuchModuleError:
        raise ValueError("SQLAlchemy knows no such database") from None
    except ArgumentError:
        raise ValueError("it is no SQLAlchemy URL; write sqlite:///file.db") from None
    except ImportError as error:
        raise ValueError(f"there is no driver for it ({error})") from None
    return text


def _search_url(text: str) -> str:
    try:
        url = httpx2.URL(text.replace("{query}", "q").replace("{limit}", "1"))
    except httpx2.InvalidURL as error:
        raise ValueError(f"it is no URL ({error})") from None
    if url.scheme not in PORTS or not url.host:
        raise ValueError("it is no http or https URL")
    if "{" in url.host or "{query}" not in text:
        raise ValueError("it needs {query} behind its host")
    return text


Secret = Annotated[str, BeforeValidator(_expanded)]
Duration = Annotated[float, BeforeValidator(_seconds)]
Headers = dict[str, Annotated[Secret, AfterValidator(_header)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TableSection(_Section):
    """`[[sources.NAME.tables]]`: a table of a database."""

    name: str
    columns: list[str] = Field(min_length=1)
    title: str
    link: str
    snippet: str | None = None
    schema_name: str | None = Field(default=None, alias="schema")


class DatabaseSection(_Section):
    """`[sources.NAME]` with `kind = "database"`."""

    kind: Literal["database"]
    url: Annotated[Secret, AfterValidator(_database_url)]
    tables: list[TableSection] = Field(min_length=1)
    timeout: Duration = 10.0


class ApiSection(_Section):
    """`[sources.NAME]` with `kind = "api"`: an HTTP endpoint that answers with JSON."""

    kind: Literal["api"]
    url: Annotated[Secret, AfterValidator(_search_url)]
    hits: str = ""
    title: str
    link: str
    snippet: str | None = None
    headers: Headers = {}
    private: bool = False
    timeout: Duration = 10.0


class HostSection(_Section):
    """`[hosts."NAME"]`: a host that `process_batch` may ask."""

    ports: list[Annotated[int, Field(ge=1, le=65535)]] = []
    private: bool = False
    rate: float = Field(default=50.0, gt=0, le=10_000, strict=False)
    headers: Headers = {}
    retry_unsafe: bool = False


class CacheSection(_Section):
    """`[cache]`: earlier answers of `search`."""

    ttl: Duration = 3600.0


class SearchSection(_Section):
    """`[search]`."""

    deadline: Duration = 20.0


SourceSection = Annotated[DatabaseSection | ApiSection, Field(discriminator="kind")]


class _File(_Section):
    roots: list[str] | None = None
    data: str | None = None
    journal: str | None = None
    search: SearchSection = SearchSection()
    cache: CacheSection | None = None
    sources: dict[str, SourceSection] = {}
    hosts: dict[str, HostSection] = {}


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration says; paths are absolute."""

    roots: tuple[Path, ...] | None = None
    data: Path | None = None
    journal: str | None = None
    deadline: float = 20.0
    cache_ttl: float | None = None
    databases: tuple[tuple[str, Databank], ...] = ()
    endpoints: tuple[tuple[str, Endpoint], ...] = ()
    hosts: Hosts = Hosts({})  # noqa: RUF009 - it is never changed

    @property
    def allows_hosts(self) -> bool:
        """Whether `process_batch` may ask anybody."""
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
        raise ConfigError(f"{file}: {error}") from error
    mistakes = list(_named(raw))
    try:
        parsed = _File.model_validate(raw)
    except ValidationError as error:
        mistakes += [_mistake(each) for each in error.errors()]
        parsed = None
    if mistakes or parsed is None:
        raise ConfigError(_told(file, text, raw, mistakes))
    return _config(parsed, file.absolute().parent)


Mistake = tuple[tuple[str | int, ...], str]
"""Where, as the keys that lead there, and what."""


def _named(raw: dict[str, Any]) -> Iterator[Mistake]:
    """Mistakes in the names of things."""
    sources, hosts = raw.get("sources", {}), raw.get("hosts", {})
    for name in cast("dict[str, Any]", sources) if isinstance(sources, dict) else ():
        if name in RESERVED:
            yield ("sources", name), "is a source that is always there; choose another name"
        elif not NAMES.fullmatch(name):
            yield ("sources", name), "is no name for a source; use a-z, 0-9, - and _"
    for name in cast("dict[str, Any]", hosts) if isinstance(hosts, dict) else ():
        if not re.fullmatch(r"(\*\.)?[\w.:\-]+", name):
            yield ("hosts", name), "is no host name; write api.example.com or *.example.com"


def _mistake(error: Any) -> Mistake:
    place: tuple[str | int, ...] = error["loc"]
    match error["type"]:
        case "extra_forbidden":
            close = get_close_matches(str(place[-1]), _KEYS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return place, f"there is no such key{hint}"
        case "missing":
            return place, "is missing"
        case "union_tag_not_found":
            return (*place, "kind"), 'is missing; it is "database" or "api"'
        case "union_tag_invalid":
            return (*place, "kind"), 'is neither "database" nor "api"'
        case "value_error":
            return place, str(error["ctx"]["error"])
        case _:
            return place, str(error["msg"]).removeprefix("Input should be ")


_SECTIONS: tuple[type[_Section], ...] = (
    _File, SearchSection, CacheSection, DatabaseSection, ApiSection, TableSection, HostSection,
)  # fmt: skip
_KEYS = sorted(
    {field.alias or name for section in _SECTIONS for name, field in section.model_fields.items()}
)


def _told(file: Path, text: str, raw: dict[str, Any], mistakes: list[Mistake]) -> str:
    lines: list[tuple[int, str]] = []
    for place, what in mistakes:
        keys = _keys(raw, place)
        lines.append((line_of(text, keys), f"{'.'.join(map(str, keys))}: {what}"))
    told = "\n".join(f"  {file}:{line}: {what}" for line, what in sorted(lines))
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return f"{file} has {count}:\n{told}"


def _keys(raw: Any, place: tuple[str | int, ...]) -> list[str | int]:
    """The keys of a place without what the schema alone knows, such as a union's branch."""
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


def _config(parsed: _File, base: Path) -> Config:
    sources = parsed.sources.items()
    return Config(
        roots=None if parsed.roots is None else tuple(base / root for root in parsed.roots),
        data=None if parsed.data is None else base / parsed.data,
        journal=None if parsed.journal is None else _beside(parsed.journal, base),
        deadline=parsed.search.deadline,
        cache_ttl=None if parsed.cache is None else parsed.cache.ttl,
        databases=tuple(
            (name, _databank(source, base))
            for name, source in sources
            if isinstance(source, DatabaseSection)
        ),
        endpoints=tuple(
            (name, _endpoint(source)) for name, source in sources if isinstance(source, ApiSection)
        ),
        hosts=Hosts({name: _host(section) for name, section in parsed.hosts.items()}),
    )


def _beside(url: str, base: Path) -> str:
    """A URL of SQLAlchemy's form whose relative SQLite file is beside the configuration."""
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)(\?.*)?", url)
    if relative is None:
        return url
    return f"{relative[1]}{base / relative[2]}{relative[3] or ''}"


def _databank(section: DatabaseSection, base: Path) -> Databank:
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
    return Databank(_beside(section.url, base), tables, section.timeout)


def _endpoint(section: ApiSection) -> Endpoint:
    return Endpoint(
        url=section.url,
        hits=section.hits,
        title=section.title,
        link=section.link,
        snippet=section.snippet,
        headers=section.headers,
        private=section.private,
        seconds=section.timeout,
    )


def _host(section: HostSection) -> Host:
    return Host(
        ports=tuple(section.ports),
        private=section.private,
        rate=section.rate,
        headers=section.headers,
        retry_unsafe=section.retry_unsafe,
    )
