"""Fill after fill + our own SQL -> its rows, in one SQLite that stays open.

Only queries of the grammar come here, so their steps alone are bounded, because rows of others have such queries
too; what models write runs in `sqlite.py`.
"""

from __future__ import annotations

import sqlite3

from data_gen.run.database import INDEX, Database
from data_gen.run.sqlite import MAX_STEPS, STEPS_PER_CALL, Row, create_statement, guard, insert_statement
from data_gen.schema import Schema

STATEMENTS = 128
"""Statements that stay prepared."""


class Scratch:
    """Empty tables of one schema, to be filled again and again; use it in the thread that made it."""

    def __init__(self, schema: Schema) -> None:
        self.steps = 0
        """Steps of all statements so far, in whole thousands of each."""
        self._begun = 0
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=STATEMENTS)
        self._inserts = [insert_statement(table) for table in schema.tables]
        self._deletes = [f"DELETE FROM {table.name}" for table in schema.tables]
        self._schema = schema
        self._index: str | None = None
        for table in schema.tables:
            self._connection.execute(create_statement(table))
        self._connection.set_progress_handler(self._is_over, STEPS_PER_CALL)

    def _is_over(self) -> bool:
        self.steps += STEPS_PER_CALL
        return self.steps - self._begun > MAX_STEPS

    def fill(self, database: Database) -> None:
        """Put the rows, and the index, of `database` in the place of those that are there."""
        execute = self._connection.execute
        self._begun = self.steps
        execute("BEGIN")
        for delete, insert, rows in zip(self._deletes, self._inserts, database.rows, strict=True):
            execute(delete)
            self._connection.executemany(insert, rows)
        if database.index != self._index:
            if self._index is not None:
                execute(f"DROP INDEX {INDEX}")
            if database.index is not None:
                execute(database.index)
            self._index = database.index
        execute("COMMIT")

    def rows(self, sql: str) -> list[Row]:
        """The rows of a query.

        Raises:
            sqlite3.Error: it does not run, or takes more than `MAX_STEPS` steps.
        """
        self._begun = self.steps
        return self._connection.execute(sql).fetchall()

    def copy(self) -> sqlite3.Connection:
        """A database of its own with what is there now, guarded against what models write."""
        connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        self._connection.backup(connection)
        return guard(connection, self._schema)

    def close(self) -> None:
        """Free its memory."""
        self._connection.close()
