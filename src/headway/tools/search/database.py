"""`database`: named tables of a database that SQLAlchemy reaches, and only read.

Words are found by the database's own full text where it has one (FTS tables of SQLite,
`to_tsvector` of PostgreSQL), and otherwise with LIKE.
"""

import re
import sqlite3
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from headway.tools.index import phrase, stop_after
from headway.tools.search.sources import SNIPPET_LENGTH, Asked, Hit, Source, SourceFailed

READ_LENGTH = 20_000
"""Characters of a column that are read to make a snippet."""

_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Table:
    """A table to search."""

    name: str
    columns: tuple[str, ...]
    """Those that are searched."""
    title: str
    link: str
    """A text with the names of columns in braces: `https://wiki.example.com/{slug}`."""
    snippet: str | None = None
    schema: str | None = None

    @property
    def link_columns(self) -> list[str]:
        """The columns in the link."""
        return _FIELD.findall(self.link)


@dataclass(frozen=True, slots=True)
class Databank:
    """A database and its tables."""

    url: str
    tables: tuple[Table, ...]
    seconds: float = 10.0


Row = sa.Row[Any]


class Database(Source):
    """Tables of a database; each search has a connection of its own, in a thread."""

    def __init__(self, name: str, databank: Databank) -> None:
        super().__init__(name)
        self._tables = databank.tables
        self._seconds = databank.seconds
        self._url = sa.make_url(databank.url)
        options: dict[str, Any] = {}
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            options["creator"] = partial(_open_sqlite, self._url.database, databank.seconds)
        # A connection is not kept: a hung one would be given to the next search.
        self._engine = sa.create_engine(self._url, poolclass=NullPool, **options)

    async def search(self, asked: Asked) -> list[Hit]:
        """The rows that have every word, those with one in the title first."""
        if not asked.terms:
            return []
        return await self.in_thread(lambda: self._search(asked))

    def _search(self, asked: Asked) -> list[Hit]:
        hits: list[Hit] = []
        try:
            with self._reading() as connection:
                for table in self._tables:
                    statement = self._statement(connection, table, asked)
                    rows = connection.execute(statement).fetchmany(asked.limit)
                    hits += [_hit(table, row, asked.terms) for row in rows]
        except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
            raise SourceFailed(f"the database refused: {_cause(error)}") from error
        return hits[: asked.limit]

    @contextmanager
    def _reading(self) -> Generator[sa.Connection]:
        """A transaction that cannot write and, where the database helps, ends in time."""
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

    def _statement(
        self, connection: sa.Connection, table: Table, asked: Asked
    ) -> sa.Select[tuple[Any, ...]]:
        match self._engine.dialect.name:
            case "sqlite" if _is_full_text(connection, table.name):
                return full_text_sqlite(table, asked)
            case "postgresql":
                return full_text_postgres(table, asked)
            case _:
                return like(table, asked)


def like(table: Table, asked: Asked) -> sa.Select[tuple[Any, ...]]:
    """Rows that have each term in some column, wherever LIKE finds it."""
    found = [
        sa.or_(*(_text(column).icontains(term, autoescape=True) for column in table.columns))
        for term in asked.terms
    ]
    in_title = sa.or_(
        *(_text(table.title).icontains(term, autoescape=True) for term in asked.terms)
    )
    return _select(table).where(*found).order_by(sa.case((in_title, 0), else_=1)).limit(asked.limit)


def full_text_sqlite(table: Table, asked: Asked) -> sa.Select[tuple[Any, ...]]:
    """Rows of an FTS5 table, by its own rank."""
    words = [phrase(term) for term in asked.terms if any(map(str.isalnum, term))]
    columns = " ".join(map(phrase, table.columns))
    expression = f"{{{columns}}} : ({' AND '.join(words)})"
    matching = _column(table.name).op("MATCH")(expression) if words else sa.false()
    return _select(table).where(matching).order_by(sa.literal_column("rank")).limit(asked.limit)


def full_text_postgres(table: Table, asked: Asked) -> sa.Select[tuple[Any, ...]]:
    """Rows by PostgreSQL's own rank; its reading of a query takes any text."""
    text = sa.func.concat_ws(" ", *map(_text, table.columns))
    vector = sa.func.to_tsvector(text)
    words = sa.func.websearch_to_tsquery(" ".join(f'"{term}"' for term in asked.terms))
    rank = sa.func.ts_rank(vector, words)
    matching = vector.op("@@")(words)
    return _select(table).where(matching).order_by(rank.desc()).limit(asked.limit)


def _select(table: Table) -> sa.Select[tuple[Any, ...]]:
    wanted = [table.title, table.snippet or table.columns[-1], *table.link_columns]
    shortened = [
        sa.func.substr(_text(name), 1, READ_LENGTH).label(f"c{place}")
        for place, name in enumerate(wanted)
    ]
    schema = None if table.schema is None else sa.quoted_name(table.schema, quote=True)
    named = sa.table(sa.quoted_name(table.name, quote=True), schema=schema)
    return sa.select(*shortened).select_from(named)


def _column(name: str) -> sa.ColumnClause[Any]:
    return sa.column(sa.quoted_name(name, quote=True))


def _text(name: str) -> sa.Cast[str]:
    return sa.cast(_column(name), sa.Text)


def _hit(table: Table, row: Row, terms: Iterable[str]) -> Hit:
    title, snippet, *links = ("" if value is None else str(value) for value in row)
    values = dict(zip(table.link_columns, links, strict=True))
    # In a URL a value is a part of the path; elsewhere it stands as it is.
    encode: Callable[[str], str] = partial(quote, safe="") if "://" in table.link else str
    link = _FIELD.sub(lambda found: encode(values[found[1]]), table.link)
    return Hit(title or link, link, excerpt(snippet, terms))


def excerpt(text: str, terms: Iterable[str]) -> str:
    """The text around the first term in it."""
    folded = text.casefold()
    places = [place for term in terms if (place := folded.find(term.casefold())) >= 0]
    start = max(0, min(places, default=0) - SNIPPET_LENGTH // 4)
    return ("…" if start else "") + text[start : start + SNIPPET_LENGTH - 2]


def _is_full_text(connection: sa.Connection, name: str) -> bool:
    made = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name"),
        {"name": name},
    ).scalar()
    return re.search(r"\bUSING\s+fts5\b", str(made or ""), re.IGNORECASE) is not None


def _mysql_limit(connection: sa.Connection, seconds: float) -> str:
    """The two have grown apart: MariaDB counts seconds for every statement, MySQL thousandths
    for SELECT.
    """
    if getattr(connection.dialect, "is_mariadb", False):
        return f"SET SESSION max_statement_time = {seconds:f}"
    return f"SET SESSION max_execution_time = {int(seconds * 1000):d}"


def _open_sqlite(file: str, seconds: float) -> sqlite3.Connection:
    # SQLAlchemy may close the connection in another thread of the pool than this one.
    connection = sqlite3.connect(
        f"file:{quote(file)}?mode=ro", uri=True, timeout=seconds, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def _cause(error: BaseException) -> str:
    """The database's own words on one line, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:200]
