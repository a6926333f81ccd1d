"""`database`: named tables of a database that SQLAlchemy reaches, and only read.

Words are found by the database's own full text where it has one (`statements`), and otherwise as
part of the text. Failures are reported in words of our own: those of databases name hosts and
users.
"""

import logging
import re
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from headway.tools.index import index_trouble, stop_after
from headway.tools.redaction import Secrets
from headway.tools.search.databank import FIELD, Databank, Table
from headway.tools.search.sources import SNIPPET_LENGTH, Asked, Hit, Source, SourceFailed
from headway.tools.search.statements import (
    HAS,
    Dialect,
    full_text_postgres,
    full_text_sqlite,
    has_folded,
    like,
)
from headway.tools.words import folded

logger = logging.getLogger(__name__)

Row = sa.Row[Any]

PASSED_OVER = ("22", "54")
"""Classes of SQLSTATE for one row that full text cannot take: unreadable, or too much."""


class Database(Source):
    """Tables of a database; each search has a connection of its own, in a thread."""

    def __init__(self, name: str, databank: Databank) -> None:
        super().__init__(name)
        self._tables = databank.tables
        self._seconds = databank.seconds
        self._url = sa.make_url(databank.url)
        password = self._url.password
        self._secrets = Secrets([str(password)] if password else [])
        options: dict[str, Any] = {}
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            options["creator"] = partial(_open_sqlite, self._url.database, databank.seconds)
        # A connection is not kept: a hung one would be given to the next search.
        self._engine = sa.create_engine(self._url, poolclass=NullPool, **options)

    async def search(self, asked: Asked) -> list[Hit]:
        """Return the rows that have every word, those with one in the title first."""
        if not asked.terms:
            return []
        return await self.in_thread(lambda: self._search_blocking(asked))

    def _search_blocking(self, asked: Asked) -> list[Hit]:
        hits: list[Hit] = []
        try:
            with self._read_transaction() as connection:
                dialect = _dialect_of(connection)
                for table in self._tables:
                    rows = self._find_rows(connection, dialect, table, asked)
                    hits += [_make_hit(table, row, asked.terms) for row in rows]
        except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
            logger.warning("the source %r: %s", self.name, self._secrets.mask(_words_of(error)))
            raise SourceFailed(f"the database cannot be searched: {reason_of(error)}") from error
        return hits[: asked.limit]

    @contextmanager
    def _read_transaction(self) -> Generator[sa.Connection]:
        """Begin a transaction that cannot write and, where the database helps, ends in time."""
        with self._engine.connect() as connection:
            match self._engine.dialect.name:
                case "sqlite":
                    raw = connection.connection.driver_connection
                    assert isinstance(raw, sqlite3.Connection)
                    stop_after(raw, self._seconds)
                case "postgresql":
                    limit = int(self._seconds * 1000)
                    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                    connection.execute(sa.text(f"SET LOCAL statement_timeout = {limit:d}"))
                case "mysql" | "mariadb":
                    connection.execute(sa.text(_mysql_limit(connection, self._seconds)))
                    connection.execute(sa.text("START TRANSACTION READ ONLY"))
                case _:
                    pass  # nothing but SELECT is ever sent
            yield connection

    def _find_rows(
        self, connection: sa.Connection, dialect: Dialect, table: Table, asked: Asked
    ) -> Sequence[Row]:
        """Return the rows of a table: by full text, or as part of the text if a row is more than
        full text can take.
        """
        by_parts = like(table, asked, dialect)
        match dialect.name:
            case "sqlite":
                made = _full_text(connection, table.name)
                words = full_text_sqlite(table, asked, dialect, made) if made else by_parts
                return connection.execute(words).fetchmany(asked.limit)
            case "postgresql":
                try:
                    with connection.begin_nested():
                        words = full_text_postgres(table, asked, dialect)
                        return connection.execute(words).fetchmany(asked.limit)
                except DBAPIError as error:
                    if _sql_state(error)[:2] not in PASSED_OVER:
                        raise
            case _:
                pass
        return connection.execute(by_parts).fetchmany(asked.limit)


def _dialect_of(connection: sa.Connection) -> Dialect:
    """Return the database's dialect, and how it can compare texts."""
    name = connection.dialect.name
    if name != "postgresql":
        return Dialect("mysql" if name == "mariadb" else name)
    encoding = connection.execute(sa.text("SHOW server_encoding")).scalar()
    version: Any = (connection.dialect.server_version_info or (0,))[0]
    return Dialect(name, normalizes=encoding == "UTF8" and int(version) >= 13)


def _make_hit(table: Table, row: Row, terms: Iterable[str]) -> Hit:
    title, snippet, *links = map(_as_text, row)
    values = dict(zip(table.link_columns, links, strict=True))
    # In a URL a value is a part of the path; elsewhere it stands as it is.
    encode: Callable[[str], str] = _quote_value if "://" in table.link else str
    link = FIELD.sub(lambda found: encode(values[found[1]]), table.link)
    return Hit(title or link, link, excerpt_around(snippet, terms))


def _as_text(value: object) -> str:
    """Return a value of a column as text, whatever type the driver returns."""
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def _quote_value(value: str) -> str:
    return quote(value, safe="", errors="replace")


def excerpt_around(text: str, terms: Iterable[str]) -> str:
    """Return the text around the first term in it."""
    plain = folded(text)
    places = [place for term in terms if (place := plain.find(folded(term))) >= 0]
    start = max(0, min(places, default=0) - SNIPPET_LENGTH // 4)
    return ("…" if start else "") + text[start : start + SNIPPET_LENGTH - 2]


def _full_text(connection: sa.Connection, name: str) -> str | None:
    """Return how an FTS5 table of SQLite was made; None for another one."""
    made = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name"),
        {"name": name},
    ).scalar()
    text = str(made or "")
    return text if re.search(r"\bUSING\s+fts5\b", text, re.IGNORECASE) else None


def _mysql_limit(connection: sa.Connection, seconds: float) -> str:
    """Return the statement that limits the time: MariaDB takes seconds for every statement, MySQL
    milliseconds for SELECT.
    """
    if getattr(connection.dialect, "is_mariadb", False):
        return f"SET SESSION max_statement_time = {seconds:f}"
    return f"SET SESSION max_execution_time = {int(seconds * 1000):d}"


def _open_sqlite(file: str, seconds: float) -> sqlite3.Connection:
    # SQLAlchemy may close the connection in another thread of the pool than this one.
    connection = sqlite3.connect(
        f"file:{quote(file)}?mode=ro", uri=True, timeout=seconds, check_same_thread=False
    )
    # One row that is no UTF-8 must not make the whole table unreadable.
    connection.text_factory = _as_text
    connection.create_function(HAS, 2, has_folded, deterministic=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


_REACH = "it cannot be reached"
_LOGIN = "it refuses the user or the password of the configuration"
_NO_DATABASE = "there is no such database"
_NO_TABLE = "a table or a column of the configuration is not there"
_DENIED = "the user of the configuration may not read it"
_LATE = "it took too long"
_FULL = "it takes no more connections"

_STATES = {
    "08": _REACH, "57P": _REACH, "28": _LOGIN, "3D": _NO_DATABASE, "3F": _NO_TABLE,
    "42P01": _NO_TABLE, "42703": _NO_TABLE, "42501": _DENIED, "57014": _LATE, "55P03": _LATE,
    "53": _FULL,
}  # fmt: skip
"""Reasons by the beginning of PostgreSQL's SQLSTATE."""

_NUMBERS = {
    2002: _REACH, 2003: _REACH, 2005: _REACH, 2006: _REACH, 2013: _REACH, 1045: _LOGIN,
    1698: _LOGIN, 1044: _DENIED, 1142: _DENIED, 1143: _DENIED, 1049: _NO_DATABASE,
    1146: _NO_TABLE, 1054: _NO_TABLE, 1969: _LATE, 3024: _LATE, 1205: _LATE, 1040: _FULL,
}  # fmt: skip
"""Reasons by the error number of MySQL and MariaDB."""

_SAID = (
    ('database "?[^ ]*"? does not exist|unknown database', _NO_DATABASE),
    ('authentication|password|role "?[^ ]*"? does not exist', _LOGIN),
    ("timeout|timed out", _LATE),
    ("refused|resolve|connect|server closed|unreachable|no such host", _REACH),
)
"""Reasons by a word in the error, where a driver has neither."""


def reason_of(error: BaseException) -> str:
    """Return why a database refused, without its own words: these name hosts, users and
    statements."""
    original = getattr(error, "orig", None) or error
    if isinstance(original, sqlite3.Error | OSError):
        return index_trouble(original)
    state = _sql_state(error)
    for begins, says in _STATES.items():
        if state.startswith(begins):
            return says
    number: Any = next(iter(getattr(original, "args", ())), None)
    if number in _NUMBERS:
        return _NUMBERS[number]
    words = str(original).lower()
    found = (says for pattern, says in _SAID if re.search(pattern, words))
    return next(found, "for a reason that is in the server's log")


def _sql_state(error: BaseException) -> str:
    """Return the SQLSTATE of an error, where it has one."""
    original = getattr(error, "orig", None) or error
    return str(getattr(original, "sqlstate", None) or "")


def _words_of(error: BaseException) -> str:
    """Return the database's own words on one line, without the statement and its values; for the
    log."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:500]
