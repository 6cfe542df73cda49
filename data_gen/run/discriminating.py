"""Query -> the databases of a row, on which every mistake shows."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

from msgspec.structs import replace

from data_gen.query import OrderBy, Query, SelectItem
from data_gen.run.database import Database, same_rows
from data_gen.run.filling import Plan
from data_gen.run.mutations import Mutant, mutants
from data_gen.run.sqlite import Row, open_tables
from data_gen.sql import sql_string

DATABASES = 3
"""Fewest databases on which an answer has to be right."""
CANDIDATES = 160
"""Fills that are tried for one query, at most."""


@dataclass(frozen=True)
class Evidence:
    """The databases of a query, and what they leave open."""

    databases: tuple[Database, ...]
    """`DATABASES` or a few more."""
    hidden: tuple[Mutant, ...]
    """Queries one mistake away that give the right rows on all of them."""
    is_settled: bool
    """Whether no two different rows tie on all sort keys; where that cannot be had, SQLite's order counts."""


def databases(query: Query) -> tuple[Database, ...]:
    """The databases of `query`: a pure function of it. `find_evidence` tells what they leave open."""
    return find_evidence(query).databases


def find_evidence(query: Query) -> Evidence:
    """Draw fills one after the other, as long as some mistake shows on none of them.

    Those whose sort keys leave a tie open between different rows are dropped, so that every engine gives one
    answer.
    """
    plan = Plan(query)
    gold, ordered = sql_string(query), bool(query.order_by)
    probe = _probe(query)
    wrong = [(mutant, sql_string(mutant.query)) for mutant in mutants(query)]
    hidden = set(range(len(wrong)))
    candidates: list[tuple[Database, set[int]]] = []
    unsettled: list[Database] = []
    for number in range(CANDIDATES):
        database = plan.fill(number)
        connection = open_tables(database.schema, database.rows, database.index, guarded=False)
        try:
            right = tuple(connection.execute(gold).fetchall())
            if probe is not None and not probe.is_settled(connection, right):
                unsettled.append(database)
                continue
            shown = {i for i, (_, sql) in enumerate(wrong) if not _same(connection, sql, right, ordered)}
        finally:
            connection.close()
        candidates.append((database, shown))
        hidden -= shown
        if not hidden and len(candidates) >= DATABASES:
            break
    kept = _cover(candidates)
    return Evidence(
        databases=(*kept, *unsettled[: DATABASES - len(kept)]) if len(kept) < DATABASES else kept,
        hidden=tuple(wrong[i][0] for i in sorted(hidden)),
        is_settled=len(kept) >= DATABASES,
    )


def _cover(candidates: list[tuple[Database, set[int]]]) -> tuple[Database, ...]:
    """`DATABASES` candidates, or as many as it takes to show every mistake that any of them shows."""
    kept: list[Database] = []
    rest = list(candidates)
    open_ = set().union(*[shown for _, shown in rest]) if rest else set()
    while rest and (open_ or len(kept) < DATABASES):
        best = max(rest, key=lambda one: len(one[1] & open_))
        rest.remove(best)
        kept.append(best[0])
        open_ -= best[1]
    return tuple(kept)


@dataclass(frozen=True)
class _Probe:
    """A query that shows whether a database leaves the order of rows open that the gold SQL settles."""

    sql: str
    outputs: int
    """How many of its columns are the answer's; the others are sort keys. 0: the rows have to be the answer's."""
    keys: tuple[int, ...] = ()

    def is_settled(self, connection: sqlite3.Connection, right: tuple[Row, ...]) -> bool:
        rows = connection.execute(self.sql).fetchall()
        if not self.outputs:
            return Counter(rows) == Counter(right)
        answer_of: dict[Row, Row] = {}
        for row in rows:
            key, answer = tuple([row[place] for place in self.keys]), row[: self.outputs]
            # Engines sort NULL differently.
            if answer_of.setdefault(key, answer) != answer or None in key:
                return False
        return True


def _probe(query: Query) -> _Probe | None:
    """The probe of a query whose answer could depend on the order in which rows are read."""
    windows = [item for item in query.select if item.window is not None]
    if any(item.window.function == "ROW_NUMBER" for item in windows if item.window is not None):
        # Without ties a row's number is its rank.
        ranked = [
            replace(item, window=replace(item.window, function="RANK")) if item.window is not None else item
            for item in query.select
        ]
        return _Probe(sql_string(replace(query, select=tuple(ranked))), 0)
    if not query.order_by:
        return None
    items, places = list(query.select), []
    for key in query.order_by:
        found = [i for i, item in enumerate(items) if _is_key(item, key)]
        if not found:
            found = [len(items)]
            items.append(SelectItem(key.column, key.table))
        places.append(found[0])
    probe = replace(query, select=tuple(items), limit=None)
    return _Probe(sql_string(probe), len(query.select), tuple(places))


def _is_key(item: SelectItem, key: OrderBy) -> bool:
    if item.alias is not None:
        return item.alias == key.column
    return (item.column, item.table) == (key.column, key.table)


def _same(connection: sqlite3.Connection, sql: str, right: tuple[Row, ...], ordered: bool) -> bool:
    try:
        rows = tuple(connection.execute(sql).fetchall())
    except sqlite3.Error:
        return False
    return same_rows(right, rows, ordered=ordered)
