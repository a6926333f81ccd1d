"""`search`: one question to many sources.

| module | what is in it |
|---|---|
| `tool` | the tool: ask all, take answers as they come, merge |
| `sources` | what a source is; `documents`, the full-text index |
| `database` | tables of a database |
| `endpoint` | HTTP search endpoints |
| `cache` | earlier answers |
| `fusion` | one ranking out of many |
"""

from headway.tools.search.cache import Cache
from headway.tools.search.database import Databank, Database, Table
from headway.tools.search.sources import Documents, Source
from headway.tools.search.tool import SearchTool
from headway.tools.search.web_api import Api, Endpoint

__all__ = [
    "Api",
    "Cache",
    "Databank",
    "Database",
    "Documents",
    "Endpoint",
    "SearchTool",
    "Source",
    "Table",
]
