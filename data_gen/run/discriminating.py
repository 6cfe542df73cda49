"""Query -> the databases of a row, on which every mistake shows."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from msgspec.structs import replace

from data_gen.query import OrderBy, Query, SelectItem
from data_gen.run.database import Database, same_rows
from data_gen.run.filling import fill_as_planned
from data_gen.run.mutations import Mutant, mutants
from data_gen.run.plan import Plan
from data_gen.run.scratch import Scratch
from data_gen.run.sqlite import Row
from data_gen.sql import sql_string

FEWEST = 3
"""Fewest databases on which an answer has to be right."""
CANDIDATES = 160
"""Fills that are tried for one query, at most."""
SEARCH_STEPS = 20_000_000
"""Steps in SQLite after which no more fills are tried; those for a query of ours take under a million."""


@dataclass(frozen=True)
class Evidence:
    """The databases of a query, and what they leave open."""

    databases: tuple[Database, ...]
    """`FEWEST` or a few more."""
    hidden: tuple[Mutant, ...]
    """Queries one mistake away that give the right rows on all of them."""
    is_settled: bool
    """Whether no two different rows tie on all sort keys; where that cannot be had, SQLite's order counts."""


def databases(query: Query) -> tuple[Database, ...]:
    """The databases of `query`: a pure function of it. `find_evidence` tells what they leave open."""
    return find_evidence(query).databases


def find_evidence(query: Query) -> Evidence:
    """Search to the end."""
    search = Search(query)
    try:
        kept = tuple([found.database for found in search])
        return Evidence(kept, tuple([mistake.mutant for mistake in search.hidden]), search.is_settled)
    finally:
        search.close()


class Found(NamedTuple):
    """A database of the query, with the right rows."""

    database: Database
    right: list[Row]


class Search:
    """The databases of a query one after the other, searched for only as far as they are asked for.

    Fills are drawn as long as some mistake shows on none of them. The first is kept, then each that shows a
    mistake that none before it shows, or any once all show. Fills whose sort keys leave a tie open between
    different rows are passed over, so that every engine gives one answer. Use it in the thread that made it.
    """

    def __init__(self, query: Query) -> None:
        self._query, self._plan, self._scratch = query, Plan(query), Scratch(query.schema)
        self._gold, self._probe, self._ordered = sql_string(query), _probe(query), bool(query.order_by)
        self._number = self._kept = 0
        self.is_settled = True
        """Whether enough fills leave no tie open."""
        self._unmarked: Found | None = None
        self._idle: list[Found] = []
        """The first fills that show nothing new."""
        self._unsettled: list[Found] = []

    @cached_property
    def hidden(self) -> list[_Mistake]:
        """The mistakes that show on none of the databases so far."""
        return [_Mistake(mutant) for mutant in mutants(self._query)]

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        if self._unmarked is not None:
            self._mark(self._unmarked)
            self._unmarked = None
        while self._may_go_on() and (self._kept < FEWEST or self.hidden):
            found = self._draw()
            if found is None:
                continue
            if not self._kept:
                # Most wrong answers fail on it, and nobody has to know what else it shows.
                self._unmarked = found
            elif not self._mark(found):
                self._idle += [found][: FEWEST - len(self._idle)]
                continue
            self._kept += 1
            return found
        # Too few: what is left has to do.
        spare = self._idle or self._unsettled
        if self._kept >= FEWEST or not spare:
            self.close()
            raise StopIteration
        self.is_settled = bool(self._idle)
        self._kept += 1
        found = spare.pop(0)
        self._scratch.fill(found.database)
        return found

    def _may_go_on(self) -> bool:
        return self._number < CANDIDATES and self._scratch.steps < SEARCH_STEPS

    def open(self) -> sqlite3.Connection:
        """The database that was found last, guarded against what models write; the caller closes it."""
        return self._scratch.copy()

    def _draw(self) -> Found | None:
        """The next fill, unless it leaves a tie open."""
        database = fill_as_planned(self._plan, self._number)
        self._number += 1
        self._scratch.fill(database)
        found = Found(database, self._scratch.rows(self._gold))
        if self._probe is None or self._probe.is_settled(self._scratch, found.right):
            return found
        self._unsettled += [found][: FEWEST - len(self._unsettled)]
        return None

    def _mark(self, found: Found) -> bool:
        """Take the mistakes that show on the last fill off the hidden ones; whether there was one, or none left."""
        before = self.hidden
        self.hidden = [one for one in before if not self._shows(one, found.right)]
        return not before or len(self.hidden) < len(before)

    def _shows(self, mistake: _Mistake, right: list[Row]) -> bool:
        if right and len(mistake.mutant.query.select) != len(self._query.select):
            # Its rows have another width.
            return True
        try:
            rows = self._scratch.rows(mistake.sql)
        except sqlite3.Error:
            return True
        return not same_rows(right, rows, ordered=self._ordered)

    def close(self) -> None:
        """Free its memory."""
        self._scratch.close()


@dataclass
class _Mistake:
    mutant: Mutant

    @cached_property
    def sql(self) -> str:
        return sql_string(self.mutant.query)


@dataclass(frozen=True)
class _Probe:
    """A query that shows whether a database leaves the order of rows open that the gold SQL settles."""

    sql: str
    outputs: int
    """How many of its columns are the answer's; the others are sort keys. 0: the rows have to be the answer's."""
    keys: tuple[int, ...] = ()

    def is_settled(self, scratch: Scratch, right: list[Row]) -> bool:
        rows = scratch.rows(self.sql)
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
