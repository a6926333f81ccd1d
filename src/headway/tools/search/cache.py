"""`cache`: answers of the other sources, kept for a while.

One small SQLite file with one table, `answer`: source, query (folded), time, hits as JSON. The
hits of a source that answers now are not given again: `search` takes cached ones only for
those that do not.
"""

import json
import logging
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from headway.private_files import create_private, warn_if_exposed
from headway.tools.search.sources import Asked, Hit, Source, SourceFailed
from headway.tools.timing import Clock

logger = logging.getLogger(__name__)

MAX_ANSWERS = 5_000
"""Answers kept, some kilobytes each; over it the oldest go."""

VERSION = 2
"""Version 1 had absolute paths."""

_SCHEMA = (
    "DROP TABLE IF EXISTS answer",
    """CREATE TABLE answer (
        source TEXT NOT NULL, query TEXT NOT NULL, time REAL NOT NULL, hits TEXT NOT NULL,
        PRIMARY KEY (source, query)
    )""",
    "CREATE INDEX answer_time ON answer (time)",
    f"PRAGMA user_version = {VERSION}",
)


class Cache(Source):
    """Earlier answers, in `file`, which is made when there is something to keep."""

    def __init__(self, name: str, file: Path, ttl: float, clock: Clock) -> None:
        super().__init__(name)
        self._file = file
        self._ttl = ttl
        self._clock = clock

    async def search(self, asked: Asked) -> list[Hit]:
        """Return earlier hits of the sources that are asked; of all if only the cache is asked."""
        return await self.in_thread(lambda: self._search_rows(asked))

    async def keep(self, asked: Asked, found: Mapping[str, Sequence[Hit]]) -> None:
        """Remember answers, by source. A failure is logged, since the answers are good.

        A cancel ends the waiting; a thread may still write them.
        """
        try:
            await self.in_thread(lambda: self._keep_answers(asked, found))
        except (sqlite3.Error, OSError, ValueError):
            logger.warning("the search cache %s cannot be written", self._file, exc_info=True)

    def _search_rows(self, asked: Asked) -> list[Hit]:
        if not self._file.exists():
            return []
        now = self._clock.time()
        try:
            with self._open_database() as database:
                rows = database.execute(
                    "SELECT source, ? - time, hits FROM answer WHERE query = ? AND time > ? "
                    "ORDER BY source",
                    (now, _fold_query(asked.query), now - self._ttl),
                ).fetchall()
            return list(self._hits_of(rows, asked))
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise SourceFailed(f"the cache cannot be read ({error})") from error

    def _hits_of(self, rows: list[tuple[str, float, str]], asked: Asked) -> Generator[Hit]:
        others = set(asked.sources) - {self.name}
        answers = [
            [
                Hit(title, link, snippet, source, max(0.0, age))
                for title, link, snippet in json.loads(hits)[: asked.limit]
            ]
            for source, age, hits in rows
            if not others or source in others
        ]
        # The best of each, then the second of each: a cache has no opinion of its own.
        for place in range(asked.limit):
            for answer in answers:
                yield from answer[place : place + 1]

    def _keep_answers(self, asked: Asked, found: Mapping[str, Sequence[Hit]]) -> None:
        now, query = self._clock.time(), _fold_query(asked.query)
        rows = [
            (source, query, now, json.dumps([hit[:3] for hit in hits]))
            for source, hits in found.items()
        ]
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(self._file)
        warn_if_exposed(self._file, "the search cache")
        with self._open_database() as database:
            database.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", rows)
            database.execute("DELETE FROM answer WHERE time <= ?", (now - self._ttl,))
            database.execute(
                "DELETE FROM answer WHERE rowid IN "
                "(SELECT rowid FROM answer ORDER BY time DESC LIMIT -1 OFFSET ?)",
                (MAX_ANSWERS,),
            )

    @contextmanager
    def _open_database(self) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=5)) as database:
            if _read_version(database) != VERSION:
                with database:
                    database.execute("BEGIN IMMEDIATE")
                    # Somebody else may have been quicker, and must not lose what he kept.
                    for statement in _SCHEMA if _read_version(database) != VERSION else ():
                        database.execute(statement)
            with database:
                yield database


def _read_version(database: sqlite3.Connection) -> int:
    return database.execute("PRAGMA user_version").fetchone()[0]


def _fold_query(query: str) -> str:
    return " ".join(query.casefold().split())
