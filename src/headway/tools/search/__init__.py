"""`search`: one question to many sources.

| module | what is in it |
|---|---|
| `tool` | the tool: ask all, take answers as they come, merge |
| `sources` | what a source is; `documents`, the full-text index |
| `databank` | a database and its tables, as values |
| `database` | asking them, with SQLAlchemy |
| `endpoint` | HTTP search endpoints |
| `cache` | earlier answers |
| `fusion` | one ranking out of many |
"""

from headway.errors import SetupError
from headway.tools.search.cache import Cache
from headway.tools.search.databank import NEEDS_SQLALCHEMY, Databank, Table
from headway.tools.search.sources import Documents, Source
from headway.tools.search.tool import SearchTool
from headway.tools.search.web_api import Api, Endpoint

__all__ = [
    "Api",
    "Cache",
    "Databank",
    "Documents",
    "Endpoint",
    "SearchTool",
    "Source",
    "Table",
    "open_database",
]


def open_database(name: str, databank: Databank) -> Source:
    """Return the source that asks a database.

    Raises:
        SetupError: SQLAlchemy is not installed.
    """
    try:
        from headway.tools.search.database import Database
    except ModuleNotFoundError as error:
        raise SetupError(NEEDS_SQLALCHEMY) from error
    return Database(name, databank)
