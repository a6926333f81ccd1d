"""Databases that are servers, where this machine has them, and a table of one's own in each."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

URLS = {
    "PostgreSQL": os.environ.get(
        "HEADWAY_TEST_POSTGRES", "postgresql+psycopg://root@127.0.0.1/test"
    ),
    "MariaDB": os.environ.get("HEADWAY_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1/test"),
}


@contextmanager
def table_of(kind: str, rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """A table with the columns slug, title and body: the URL of its database, and its name.

    The test is skipped where there is no such server.
    """
    try:
        engine = sa.create_engine(URLS[kind], connect_args={"connect_timeout": 3})
        connection = engine.connect()
    except OperationalError as error:
        pytest.skip(f"no {kind} here: {str(error).splitlines()[0]}")
    name = f"headway_{uuid4().hex[:12]}"
    text = "longtext" if kind == "MariaDB" else "text"
    options = " character set utf8mb4" if kind == "MariaDB" else ""
    with connection:
        columns = f"(slug {text}, title {text}, body {text}){options}"
        connection.execute(sa.text(f"CREATE TABLE {name} {columns}"))
        for row in rows:
            connection.execute(sa.text(f"INSERT INTO {name} VALUES (:slug, :title, :body)"), row)
        connection.commit()
        try:
            yield URLS[kind], name
        finally:
            connection.execute(sa.text(f"DROP TABLE {name}"))
            connection.commit()
    engine.dispose()
