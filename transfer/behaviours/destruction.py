"""Destructive statement + typed twin -> what it leaves of the databases: is it the right one?

A statement is right when it leaves every database of the twin SELECT as the right one does: the same tables, the same
columns, the same rows. These databases were chosen so that every mistake in columns and conditions shows on them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from data_gen.query import Query
from data_gen.run.database import Database
from data_gen.run.discriminating import Search, databases
from data_gen.run.sqlite import MAX_STEPS, create_statement, insert_statement
from data_gen.schema import Schema

State = dict[str, tuple[tuple[str, ...], Counter[tuple[Any, ...]]]]
"""Table -> its columns and its rows."""
_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_REINDEX,
    }
)
"""What a statement may do; no ATTACH, no PRAGMA, no table, view or trigger of its own."""
_FUNCTIONS = frozenset(
    ["like", "printf", "substr", "sqlite_drop_column", "sqlite_rename_test", "sqlite_rename_quotefix"]
)
"""What comparisons, and SQLite's own ALTER TABLE, call."""
MAX_BYTES = 1000
"""Of a value."""


def destroys_rightly(query: Query, right: str, sql: str) -> tuple[bool, str | None]:
    """Whether `sql` does what `right` does to the databases of `query`, and why it does not run, if it does not."""
    if sql.strip() == right:
        return True, None
    for wanted in (_first_wanted, _wanted):  # most wrong ones fail on the first, and nobody searches for more
        for database, state in wanted(query, right):
            found = state_after(database, sql)
            if isinstance(found, str):
                return False, found
            if found != state:
                return False, None
    return True, None


@lru_cache(maxsize=4096)
def _first_wanted(query: Query, right: str) -> tuple[tuple[Database, State], ...]:
    """The first of `_wanted` alone, for a third of the time."""
    search = Search(query)
    try:
        return _with_states([found.database for found in islice(search, 1)], right)
    finally:
        search.close()


@lru_cache(maxsize=4096)
def _wanted(query: Query, right: str) -> tuple[tuple[Database, State], ...]:
    return _with_states(databases(query), right)


def _with_states(some: Sequence[Database], right: str) -> tuple[tuple[Database, State], ...]:
    found = []
    for database in some:
        state = state_after(database, right)
        assert not isinstance(state, str), f"{right}: {state}"
        found.append((database, state))
    return tuple(found)


def state_after(database: Database, sql: str) -> State | str:
    """What one statement leaves of a fresh database, or why it does not run; it can touch nothing else."""
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    try:
        for table, rows in zip(database.schema.tables, database.rows, strict=True):
            connection.execute(create_statement(table))
            connection.executemany(insert_statement(table), rows)
        _guard(connection)
        try:
            connection.execute(sql).fetchmany(1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
            return str(error) or type(error).__name__
        connection.set_authorizer(None)
        return _state(connection, database.schema)
    finally:
        connection.close()


def _guard(connection: sqlite3.Connection) -> None:
    calls = 0

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        is_named = action != sqlite3.SQLITE_FUNCTION or (second or "").lower() in _FUNCTIONS
        return sqlite3.SQLITE_OK if action in _ALLOWED and is_named else sqlite3.SQLITE_DENY

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls * 1000 > MAX_STEPS

    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000 * MAX_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(authorize)
    connection.set_progress_handler(stop, 1000)


def _state(connection: sqlite3.Connection, schema: Schema) -> State:
    left = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found: State = {}
    for table in schema.tables:
        if table.name in left:
            cursor = connection.execute(f"SELECT * FROM {table.name}")
            names = tuple(column[0] for column in cursor.description)
            found[table.name] = names, Counter(cursor.fetchall())
    return found
