"""SQL statements: one SELECT for a table and a query, in the dialect of the database.

| database | words are found by | accents, case, width |
|---|---|---|
| SQLite, an FTS5 table | its own tokenizer | as that has it |
| PostgreSQL | `to_tsvector` in its default configuration | do not count (UTF-8, version 13 and
after) |
| MySQL, MariaDB | being part of the text | do not count (`utf8mb4_unicode_520_ci`) |
| SQLite, any other | being part of the text | case does not count elsewhere |

What full text does not know is looked for as part of the text: words of scripts without spaces,
signs, words that a language has everywhere (`to be or not to be`). Of each column only the
beginning is looked at: there are limits, of full text above all, that one huge row would break for
all.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from headway.tools.index import fts_phrase
from headway.tools.search.databank import Table
from headway.tools.search.sources import Asked
from headway.tools.words import folded, has_unspaced, is_word

READ_LENGTH = 20_000
"""Characters of a column that are read to make a snippet."""

SEARCHED = 250_000
"""Characters of a column in which words are looked for; of full text in PostgreSQL bytes, for all
columns. A `tsvector` has at most a MiB, and may be four times what it is made of."""

NORMALIZED = 20_000
"""Characters of a text from which PostgreSQL takes accents."""

WIDEST = 4
"""Bytes of a character."""

HAS = "headway_has"
"""Our own function of SQLite, whose own ones know the case of ASCII alone."""

_ACCENTS = r"[\u0300-\u036f]"
"""To Python and to PostgreSQL alike."""

_Text = sa.ColumnElement[Any]
_Condition = sa.ColumnElement[bool]


def table_clause(table: Table) -> sa.TableClause:
    """Return the table with its columns.

    They are named with it: alone, a name that is no column is a text to SQLite, and would be found
    or shown as it stands.
    """
    names = dict.fromkeys([*table.columns, *table.read_columns])
    schema = None if table.schema is None else sa.quoted_name(table.schema, quote=True)
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(sa.quoted_name(name, quote=True)) for name in names
    ]
    return sa.table(sa.quoted_name(table.name, quote=True), *columns, schema=schema)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A database's dialect: `sqlite`, `postgresql`, `mysql` or another name of SQLAlchemy's."""

    name: str
    normalizes: bool = False
    """Whether it can take accents off."""

    def text(self, column: _Text, most: int) -> _Text:
        """Return the beginning of a column as text."""
        kind = mysql.CHAR(charset="utf8mb4") if self.name == "mysql" else sa.Text()
        return sa.func.substr(sa.cast(column, kind), 1, most)

    def has(self, text: _Text, term: str) -> _Condition:
        """Return whether a term is part of a text."""
        match self.name:
            case "postgresql":
                return self.has_plain(self.plain(text), term)
            case "mysql":
                return sa.collate(text, "utf8mb4_unicode_520_ci").contains(term, autoescape=True)
            case "sqlite":
                has_others = text.op("GLOB")("*[^\x01-\x7f]*")
                found = getattr(sa.func, HAS)(sa.cast(text, sa.LargeBinary), folded(term)) == 1
                return sa.or_(text.icontains(term, autoescape=True), sa.and_(has_others, found))
            case _:
                return text.icontains(term, autoescape=True)

    def plain(self, text: _Text) -> _Text:
        """Return a text of PostgreSQL for comparing; of a long one the beginning only is without
        accents.

        Texts of ASCII are quick. Long runs of accents stay as they are: `normalize` sorts them in
        quadratic time, and nothing can interrupt it, no time limit and no cancel.
        """
        lower = sa.func.lower(text)
        if not self.normalizes:
            return lower
        beginning = sa.func.left(text, NORMALIZED)
        rest = sa.func.lower(sa.func.substr(text, NORMALIZED + 1))
        decomposed = sa.func.normalize(beginning, sa.literal_column("NFKD"))
        without = sa.func.lower(sa.func.regexp_replace(decomposed, _ACCENTS, "", "g"))
        is_plain = sa.func.octet_length(text) == sa.func.char_length(text)
        is_wild = beginning.op("~")(f"{_mark_class()}{{31}}")
        folded = sa.func.concat(sa.func.replace(without, "ς", "σ"), rest)
        return sa.case((sa.or_(is_plain, is_wild), lower), else_=folded)

    def plain_term(self, term: str) -> str:
        """Return a term as `plain` makes the same text."""
        if not self.normalizes:
            return term.lower()
        decomposed = unicodedata.normalize("NFKD", term)
        return re.sub(_ACCENTS, "", decomposed).lower().replace("ς", "σ")

    def has_plain(self, plain: _Text, term: str) -> _Condition:
        """Return whether a term is part of a text that `plain` made."""
        return sa.func.strpos(plain, self.plain_term(term)) > 0


def like(table: Table, asked: Asked, dialect: Dialect) -> sa.Select[Any]:
    """Return rows that have each term in some column, as part of the text."""
    clause = table_clause(table)
    texts = [dialect.text(clause.c[name], SEARCHED) for name in table.columns]
    found = [sa.or_(*(dialect.has(text, term) for text in texts)) for term in asked.terms]
    title = dialect.text(clause.c[table.title], READ_LENGTH)
    in_title = sa.or_(*(dialect.has(title, term) for term in asked.terms))
    return (
        sa.select(*_read_columns(table, clause, dialect))
        .where(*found)
        .order_by(sa.case((in_title, 0), else_=1))
        .limit(asked.limit)
    )


def full_text_sqlite(table: Table, asked: Asked, dialect: Dialect, made: str) -> sa.Select[Any]:
    """Return rows of an FTS5 table that was `made` so, by its own rank."""
    clause = table_clause(table)
    cuts_in_three = re.search(r"tokenize\s*=\s*[\"']?\s*trigram", made, re.IGNORECASE) is not None
    known = [term for term in asked.terms if _is_known(term, cuts_in_three=cuts_in_three)]
    others = [term for term in asked.terms if term not in known]
    texts = [dialect.text(clause.c[name], SEARCHED) for name in table.columns]
    found = [sa.or_(*(dialect.has(text, term) for text in texts)) for term in others]
    statement = sa.select(*_read_columns(table, clause, dialect)).where(*found).limit(asked.limit)
    if not known:
        return statement
    columns = " ".join(map(fts_phrase, table.columns))
    expression = f"{{{columns}}} : ({' AND '.join(map(fts_phrase, known))})"
    matching = sa.column(sa.quoted_name(table.name, quote=True)).op("MATCH")(expression)
    return statement.where(matching).order_by(sa.literal_column("rank"))


def _is_known(term: str, *, cuts_in_three: bool) -> bool:
    """Return whether full text finds a term: tokens of three characters need as many in it."""
    if cuts_in_three:
        return len(term) >= 3
    return is_word(term) and not has_unspaced(term)


def full_text_postgres(table: Table, asked: Asked, dialect: Dialect) -> sa.Select[Any]:
    """Return rows by PostgreSQL's own rank; its reading of a phrase takes any text."""
    clause = table_clause(table)
    texts = [dialect.text(clause.c[name], SEARCHED) for name in table.columns]
    together = sa.func.left(sa.func.concat_ws(" ", *texts), SEARCHED)
    read = _read_columns(table, clause, dialect)
    # One query inside of the other, and each stays so: what is made of a text is made once.
    rows = _keep_subquery(sa.select(*read, together.label("whole")))
    rows = _keep_subquery(sa.select(*rows.c, dialect.plain(rows.c.whole).label("plain")))
    rows = _keep_subquery(
        sa.select(*rows.c, sa.func.to_tsvector(_short_text(rows.c.plain)).label("vector"))
    )
    queries = {term: sa.func.phraseto_tsquery(dialect.plain_term(term)) for term in asked.terms}
    found = [_found_by(dialect, rows, term, query) for term, query in queries.items()]
    statement = sa.select(*list(rows.c)[: len(read)]).where(*found).limit(asked.limit)
    ranking = [query for term, query in queries.items() if _is_known(term, cuts_in_three=False)]
    if not ranking:
        return statement
    all_of_them = reduce(lambda one, other: one.op("&&")(other), ranking)
    return statement.order_by(sa.func.ts_rank(rows.c.vector, all_of_them).desc())


def _keep_subquery(statement: sa.Select[Any]) -> sa.Subquery:
    """Return a query inside of another one, which PostgreSQL does not make one with it."""
    return statement.offset(sa.literal_column("0")).subquery()


def _found_by(
    dialect: Dialect, row: sa.Subquery, term: str, query: sa.ColumnElement[Any]
) -> _Condition:
    """Return whether a row has a term: by full text, or in its text where full text cannot."""
    is_part = dialect.has_plain(row.c.plain, term)
    if not _is_known(term, cuts_in_three=False):
        return is_part
    is_nothing = sa.func.numnode(query) == 0
    return sa.or_(row.c.vector.op("@@")(query), sa.and_(is_nothing, is_part))


def _short_text(text: _Text) -> _Text:
    """As much of a text as fits into a `tsvector` whatever is in it."""
    most = sa.func.left(text, SEARCHED)
    fits = sa.func.octet_length(most) <= SEARCHED
    return sa.case((fits, most), else_=sa.func.left(text, SEARCHED // WIDEST))


def _read_columns(
    table: Table, clause: sa.TableClause, dialect: Dialect
) -> Sequence[sa.Label[Any]]:
    return [
        dialect.text(clause.c[name], READ_LENGTH).label(f"c{place}")
        for place, name in enumerate(table.read_columns)
    ]


@lru_cache(maxsize=1)
def _mark_class() -> str:
    """Return a class, in a regular expression, of all characters that Unicode sorts behind another
    one."""
    marks = [code for code in range(0x110000) if unicodedata.combining(chr(code))]
    starts = [code for code, before in zip(marks, [-1, *marks], strict=False) if code != before + 1]
    ends = [code for code, after in zip(marks, [*marks[1:], -1], strict=False) if code + 1 != after]
    ranges = (f"\\U{start:08X}-\\U{end:08X}" for start, end in zip(starts, ends, strict=True))
    return f"[{''.join(ranges)}]"


def has_folded(data: bytes | None, term: str) -> bool:
    """Return whether a folded term is part of a text, as SQLite calls it."""
    return data is not None and term in folded(data.decode(errors="replace"))
