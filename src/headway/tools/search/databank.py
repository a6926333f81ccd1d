"""A database and its tables, as values. Only `database`, which asks them, needs SQLAlchemy."""

import re
from dataclasses import dataclass

FIELD = re.compile(r"\{([^{}]+)\}")
"""A column in a link."""

NEEDS_SQLALCHEMY = "databases need SQLAlchemy; install it with: pip install 'headway[tools]'"


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
        """Return the columns in the link."""
        return FIELD.findall(self.link)

    @property
    def read_columns(self) -> list[str]:
        """Return the columns that make a hit: of the title, of the snippet, of the link."""
        return [self.title, self.snippet or self.columns[-1], *self.link_columns]


@dataclass(frozen=True, slots=True)
class Databank:
    """A database and its tables."""

    url: str
    tables: tuple[Table, ...]
    seconds: float = 10.0
