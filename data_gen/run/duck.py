"""Database + our own SQL -> its rows in DuckDB, the second opinion on what a query means.

Only gold SQL and its databases come here, so its time alone is bounded, because rows of others have gold SQL too;
what models write runs in `sqlite.py`.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from threading import Timer
from typing import Any

from data_gen.errors import InputError
from data_gen.run.database import Database
from data_gen.run.sqlite import Result, Row, Value

SECONDS = 10.0
"""Time after which a statement is stopped; a right answer takes some milliseconds."""


class Duck:
    """One in-memory DuckDB that runs statement after statement, each on tables of its own."""

    def __init__(self) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise InputError(
                "the second engine, DuckDB, is not installed",
                hint="pip install duckdb, or pass --engines sqlite",
            ) from error
        self._error: type[Exception] = duckdb.Error
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")

    def run(self, create: str, database: Database, sql: str) -> Result:
        """The rows of `sql` on the tables that `create` makes, or the engine's reason."""
        connection = self._connection
        watch = Timer(SECONDS, connection.interrupt)
        watch.start()
        connection.execute("BEGIN")
        try:
            connection.execute(create)
            for statement in database.inserts():
                connection.execute(statement)
            rows = connection.execute(sql).fetchall()
        except self._error as error:
            return Result((), str(error).splitlines()[0])
        finally:
            watch.cancel()
            watch.join()
            connection.execute("ROLLBACK")
        return Result(tuple([_plain(row) for row in rows]))

    def reserved_words(self) -> frozenset[str]:
        """Words that DuckDB does not take for a name."""
        rows = self._connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
        ).fetchall()
        return frozenset(word for (word,) in rows)

    def close(self) -> None:
        """Free its memory."""
        self._connection.close()


def _plain(row: tuple[Any, ...]) -> Row:
    return tuple([_value(value) for value in row])


def _value(value: Any) -> Value:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    known: Value = value
    return known
