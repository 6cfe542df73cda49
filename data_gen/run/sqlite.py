"""Hostile SQL text -> its rows or a reason, in a SQLite that can do nothing but read.

Whatever a model writes ends up here. The authorizer allows reading the given tables and calling a few
functions, and denies everything else (writes, PRAGMA, ATTACH, recursion, system tables). The number of
virtual-machine steps bounds time; the length of a value and the number of rows and columns bound memory.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_gen.read.parse import MAX_CHARS
from data_gen.schema import Schema, Table

Value = bool | int | float | str | None
Row = tuple[Value, ...]

MAX_STEPS = 500_000
"""Most steps of a statement; a right answer takes under 5,000. Unlike a time limit, it stops a statement at
the same point on every machine."""
SECONDS = 0.5
"""Processor time after which a statement is stopped, if its steps do not stop it."""
MAX_RESULT_ROWS = 1000
"""Most rows of a result; the tables have about ten each."""
MAX_VALUE = 1000
"""Most bytes of a value or a row."""
MAX_COLUMNS = 64
"""Most columns of a result."""

MAX_SELECTS_BEHIND_WITH = 3
"""Most SELECTs of a statement that has WITH; a right answer has two."""

# fmt: off
FUNCTIONS = frozenset([
    "abs", "avg", "coalesce", "count", "ifnull", "length", "like", "lower", "ltrim", "max",
    "dense_rank", "min", "nullif", "rank", "round", "row_number", "rtrim", "substr", "substring", "sum",
    "total", "trim", "upper",
])
# fmt: on
"""Functions that SQL may call: none of them gives a value longer than those it is given."""

STEPS_PER_CALL = 1000
"""Steps of a statement between two looks at its bounds."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE,
    sqlite3.SQLITE_LIMIT_COLUMN: MAX_COLUMNS,
    # Window functions nest too, and make a program that grows with the square of their number.
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 32,
    # The authorizer alone refuses ATTACH; this would still hold if it ever let one through.
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
"""The length of a statement, and with it the number of arguments, is bounded by `MAX_CHARS`; triggers and
threads there are none."""


class Result(NamedTuple):
    """The rows a statement gave, or the reason why it gave none."""

    rows: tuple[Row, ...]
    error: str | None = None


def open_tables(
    schema: Schema, rows: Sequence[Sequence[Row]], index: str | None = None
) -> sqlite3.Connection:
    """An in-memory database with these tables and rows, which from then on can only be read."""
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    connection.execute("BEGIN")
    for table, records in zip(schema.tables, rows, strict=True):
        connection.execute(create_statement(table))
        connection.executemany(insert_statement(table), records)
    if index is not None:
        connection.execute(index)
    connection.execute("COMMIT")
    return guard(connection, schema)


def guard(connection: sqlite3.Connection, schema: Schema) -> sqlite3.Connection:
    """The same connection, which from then on can only read the tables of `schema`, within bounds."""
    # The authorizer alone refuses every write; this would still hold if it ever let one through.
    connection.execute("PRAGMA query_only = ON")
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorizer(frozenset([table.name.lower() for table in schema.tables])))
    return connection


def create_statement(table: Table) -> str:
    """CREATE TABLE without keys, which say nothing about rows."""
    columns = ", ".join([f"{column.name} {column.type}" for column in table.columns])
    return f"CREATE TABLE {table.name} ({columns})"


def insert_statement(table: Table) -> str:
    """INSERT with a mark for each value of a row."""
    return f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})"


def _authorizer(
    tables: frozenset[str],
) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    def authorize(
        action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and (first or "").lower() in tables:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    return authorize


def run_statement(connection: sqlite3.Connection, sql: str) -> Result:
    """Run one statement on a connection that `open_tables` gave; every failure is a `Result` with a reason."""
    if len(sql) > MAX_CHARS:
        return Result((), f"SQL of {len(sql)} characters, expected at most {MAX_CHARS}")
    text = sql.lower()
    if "with" in text and text.count("select") + text.count("values") > MAX_SELECTS_BEHIND_WITH:
        # SQLite copies a WITH query wherever it is named while it prepares, before any bound holds: names that
        # name names would grow without end.
        return Result((), f"more than {MAX_SELECTS_BEHIND_WITH} SELECTs with WITH")
    # Processor time, so that a machine that is busy or asleep does not make an answer wrong.
    deadline = time.thread_time() + SECONDS
    calls = 0

    def stop() -> int:
        nonlocal calls
        calls += 1
        return calls * STEPS_PER_CALL > MAX_STEPS or time.thread_time() > deadline

    connection.set_progress_handler(stop, STEPS_PER_CALL)
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            return Result((), "the statement gives no rows")
        rows = cursor.fetchmany(MAX_RESULT_ROWS + 1)
    # ValueError is what lone surrogates raise.
    except (sqlite3.Error, ValueError, MemoryError) as error:
        return Result((), str(error) or type(error).__name__)
    if len(rows) > MAX_RESULT_ROWS:
        return Result((), f"more than {MAX_RESULT_ROWS} rows")
    return Result(tuple(rows))
