"""The sections of `headway.toml`: their keys, and the checks of their values.

`${NAME}` in a path, a URL or a header stands for an environment variable, so that no key is in the
file. For the same reason no error about such a value repeats it. Templates are checked as they are
written, before that (`templates`).
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import httpx2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from headway.errors import SetupError
from headway.settings import parse_duration
from headway.toml_file import VARIABLE, expand_variables
from headway.tools import templates
from headway.tools.search.databank import NEEDS_SQLALCHEMY
from headway.tools.search.web_api import PLACEHOLDER
from headway.tools.template import FRAMING, HEADER_NAME
from headway.tools.web.addresses import network_of
from headway.tools.web.hosts import PORTS, name_of

LONGEST = 365 * 24 * 3600.0
"""The longest time in seconds: a larger number is probably in another unit."""


def _expand_variables(text: Any) -> Any:
    return expand_variables(text) if isinstance(text, str) else text


def _checked_by(check: Callable[[str], None]) -> BeforeValidator:
    """Return a validator of a text as it is written, before its environment variables are filled
    in.
    """

    def validate(text: Any) -> Any:
        if isinstance(text, str):
            check(VARIABLE.sub("x", text))
        return text

    return BeforeValidator(validate)


def _parse_seconds(text: Any) -> Any:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("write a duration such as 500ms, 45s or 30m")
    try:
        seconds = parse_duration(text)
    except SetupError as error:
        raise ValueError(str(error)) from None
    if seconds > LONGEST:
        raise ValueError("longer than a year")
    return seconds


def _header_name(text: str) -> str:
    if not HEADER_NAME.fullmatch(text):
        raise ValueError("is no name of a header")
    if text.lower() in FRAMING:
        raise ValueError("is a header that belongs to the connection")
    return text


def _check_header(text: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise ValueError("a header holds visible ASCII characters only")
    return text


def _database_url(text: str) -> str:
    try:
        import sqlalchemy as sa
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ModuleNotFoundError:
        raise ValueError(NEEDS_SQLALCHEMY) from None
    try:
        dialect = sa.make_url(text).get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise ValueError("SQLAlchemy knows no such database") from None
    except (ArgumentError, ValueError):
        raise ValueError("it is no SQLAlchemy URL; write sqlite:///file.db") from None
    except ImportError as error:
        raise ValueError(f"its driver is not installed ({error})") from None
    if dialect.is_async:
        raise ValueError(f"its driver {dialect.driver!r} is for async code; take one that is not")
    return text


def _search_url(text: str) -> str:
    try:
        url = httpx2.URL(PLACEHOLDER.sub("1", text))
    except httpx2.InvalidURL:
        raise ValueError("it is no URL") from None
    if url.scheme not in PORTS or not url.raw_host:
        raise ValueError("it is no http or https URL")
    if url.userinfo:
        raise ValueError("a name and a password are not sent; write an Authorization header")
    if PLACEHOLDER.search(text.split("://", 1)[1].split("/")[0].split("?")[0]):
        raise ValueError("{query} and {limit} may stand behind the host only")
    return text


def _proxy_url(text: str) -> str:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise ValueError("it is no URL; write http://host:3128") from None
    if url.scheme not in PORTS or not url.raw_host or url.raw_path not in (b"", b"/"):
        raise ValueError("it is no http or https proxy; write http://host:3128")
    return text


def _journal_url(text: str) -> str:
    if not re.fullmatch(r"memory:(//)?|sqlite:///.+|(rediss?(\+\w+)?|unix)://.+", text):
        raise ValueError("it is no journal; write memory:, sqlite:///journal.db or redis://host")
    return text


def _check_network(text: str) -> str:
    network_of(text)
    return text


def _name_pattern(text: str) -> str:
    if not text or "/" in text:
        raise ValueError("is no pattern for one name; write '*.key'")
    return text


Secret = Annotated[str, BeforeValidator(_expand_variables)]
AskedText = Annotated[Secret, _checked_by(templates.check_asked)]
HitPath = Annotated[str, AfterValidator(templates.check_path)]
Duration = Annotated[float, BeforeValidator(_parse_seconds)]
Headers = dict[
    Annotated[str, AfterValidator(_header_name)], Annotated[Secret, AfterValidator(_check_header)]
]
Count = Annotated[int, Field(ge=1, le=2**40)]


class Section(BaseModel):
    """A table of the file; a key that it does not have is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TableSection(Section):
    """`[[sources.NAME.tables]]`: a table of a database."""

    name: str
    columns: list[str] = Field(min_length=1)
    title: str
    link: Annotated[str, AfterValidator(templates.check_link)]
    snippet: str | None = None
    schema_name: str | None = Field(default=None, alias="schema")


class DatabaseSection(Section):
    """`[sources.NAME]` with `kind = "database"`."""

    kind: Literal["database"]
    url: Annotated[Secret, AfterValidator(_database_url)]
    tables: list[TableSection] = Field(min_length=1)
    timeout: Duration = 10.0


class ApiSection(Section):
    """`[sources.NAME]` with `kind = "api"`: an HTTP endpoint that answers with JSON."""

    kind: Literal["api"]
    url: Annotated[Secret, _checked_by(templates.check_asked_url), AfterValidator(_search_url)]
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, AskedText] = {}
    body: Annotated[
        dict[str, Any] | list[Any] | None, AfterValidator(templates.check_asked_body)
    ] = None
    hits: HitPath = ""
    title: HitPath
    link: HitPath
    snippet: HitPath | None = None
    headers: Annotated[Headers, AfterValidator(templates.check_fixed)] = {}
    private: bool = False
    timeout: Duration = 10.0
    largest: Count = 5 * 1024 * 1024

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if "{query}" not in f"{self.url} {self.params} {self.body}":
            raise ValueError("{query} is nowhere in its url, params or body")
        if self.body is not None and self.method != "POST":
            raise ValueError('a body is sent with method = "POST"')
        return self


class HostSection(Section):
    """`[hosts."NAME"]`: a host that `process_batch` may ask."""

    ports: list[Annotated[int, Field(ge=1, le=65535)]] = []
    private: bool = False
    rate: float = Field(default=50.0, gt=0, le=10_000, strict=False)
    headers: Headers = {}
    retry_unsafe: bool = False


class CacheSection(Section):
    """`[cache]`: earlier answers of `search`."""

    ttl: Duration = 3600.0


class SearchSection(Section):
    """`[search]`."""

    deadline: Duration = 20.0


class FilesSection(Section):
    """`[files]`: what one call of `process_files` may do; the names are those of its `Limits`."""

    files: Count | None = None
    checksum_bytes: Count | None = None
    stats_bytes: Count | None = None
    index_bytes: Count | None = None
    hidden: bool | None = None
    private: list[Annotated[str, AfterValidator(_name_pattern)]] | None = None


class IndexSection(Section):
    """`[index]`: the full-text index that `process_files` makes and `search` reads."""

    index_total: Count | None = Field(default=None, alias="bytes")


class BatchSection(Section):
    """`[batch]`: what one call of `process_batch` may do; the names are those of its limits."""

    items: Count | None = None
    request_chars: Count | None = None
    answer_bytes: Count | None = None
    timeout: Duration | None = None


SourceSection = Annotated[DatabaseSection | ApiSection, Field(discriminator="kind")]


class FileSection(Section):
    """The whole file."""

    roots: list[Secret] | None = Field(default=None, min_length=1)
    data: Secret | None = None
    journal: Annotated[Secret, AfterValidator(_journal_url)] | None = None
    deny: list[Annotated[str, AfterValidator(_check_network)]] = []
    proxy: Annotated[Secret, AfterValidator(_proxy_url)] | None = None
    search: SearchSection = SearchSection()
    files: FilesSection = FilesSection()
    index: IndexSection = IndexSection()
    batch: BatchSection = BatchSection()
    cache: CacheSection | None = None
    sources: dict[str, SourceSection] = {}
    hosts: dict[str, HostSection] = {}


def is_host(name: str) -> bool:
    """Return whether a text is the name of a host, an address, or `*.` and a name."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return re.fullmatch(r"(\*\.)?[\w\-]+(\.[\w\-]+)*\.?", name_of(name)) is not None
    except httpx2.InvalidURL:
        return False


SECTION_TYPES: tuple[tuple[tuple[str, ...], type[Section]], ...] = (
    (("sources", "*", "database", "tables", "*"), TableSection),
    (("sources", "*", "database"), DatabaseSection),
    (("sources", "*", "api"), ApiSection),
    (("hosts", "*"), HostSection),
    (("search",), SearchSection),
    (("files",), FilesSection),
    (("index",), IndexSection),
    (("batch",), BatchSection),
    (("cache",), CacheSection),
    ((), FileSection),
)
"""Every section, by where it is as pydantic says it in an error: with the kind of a source."""


def keys_at(place: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the section at a place has."""
    for pattern, section in SECTION_TYPES:
        if len(pattern) == len(place) and all(
            here in ("*", there) for here, there in zip(pattern, place, strict=True)
        ):
            return [field.alias or name for name, field in section.model_fields.items()]
    return []
