"""A service's own SQLite file in the early steps; from step 6 on it is Postgres."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def transaction(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction at a time may write; the others wait up to 10 s."""
    with closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def create_tables(database: Path, tables: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(tables)
