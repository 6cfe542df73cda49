"""Example + SQL text -> grade: is it right as text, as a tree, and by what it gives?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from data_gen.database import fill, open_database
from data_gen.example import Example
from data_gen.query import COMMAND_SETS, Query
from data_gen.sql import Reading, SqlError, read_sql, to_query
from data_gen.sqlite import Row, run_statement

DATABASE_SEEDS = (0, 1)
"""Each answer runs on one database per seed; it has to be right on all of them."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How right an answer is: `exact` implies `tree`, and `tree` implies `execution`."""

    valid: bool
    """It runs."""
    exact: bool
    """It is the gold SQL, character for character, apart from white space around it."""
    tree: bool
    """It runs and states the same query."""
    execution: bool
    """It gives the same rows as the gold SQL on every database, in the same order if the gold SQL sorts."""
    clauses: dict[str, bool]
    """For each clause of the command set, whether it states the same; `order_by` also where there is none."""
    error: str | None = None
    """Why it does not run; or else why it cannot be read as a query of the command set."""


def grade(example: Example, sql: str) -> Grade:
    """Grade `sql` as an answer to `example`; any string has a grade, and none raises.

    Column headers make no difference, the order of columns does.
    """
    query, answer = example.query, sql.strip()
    same, error = _execute(query, example.sql.string, answer)
    reading: Reading | None = None
    tree, outside = False, None
    try:
        reading = read_sql(answer)
        tree = error is None and to_query(reading, query.schema, query.command_set) == query
    except SqlError as reason:
        outside = reason.message
    return Grade(
        valid=error is None,
        exact=answer == example.sql.string,
        tree=tree,
        execution=same,
        clauses=_clauses(query, reading),
        error=error or outside,
    )


def _execute(query: Query, gold: str, answer: str) -> tuple[bool, str | None]:
    """Whether `answer` gives the same as `gold` on every database, and the reason if it does not run."""
    for seed in DATABASE_SEEDS:
        connection = open_database(fill(query, seed))
        try:
            right, given = run_statement(connection, gold), run_statement(connection, answer)
        finally:
            connection.close()
        if right.error is not None:
            raise AssertionError(f"gold SQL does not run: {right.error}: {gold}")
        if given.error is not None:
            return False, given.error
        if not _same_rows(right.rows, given.rows, ordered=bool(query.order_by)):
            return False, None
    return True, None


def _same_rows(right: tuple[Row, ...], given: tuple[Row, ...], *, ordered: bool) -> bool:
    return right == given if ordered else Counter(right) == Counter(given)


def _clauses(query: Query, reading: Reading | None) -> dict[str, bool]:
    """Compare clause by clause; a clause that cannot be read is wrong, whatever the others are."""
    gold: dict[str, object] = {
        "select": tuple(item.column.lower() for item in query.select),
        "from": query.table.lower(),
        "order_by": tuple((key.column.lower(), key.direction) for key in query.order_by),
    }
    given: dict[str, object] = {}
    if reading is not None:
        given = {"select": reading.select, "from": reading.table, "order_by": reading.order_by}
    return {clause: given.get(clause) == gold[clause] for clause in COMMAND_SETS[query.command_set].clauses}
