"""Query -> filled databases, in which wrong answers differ from the right one."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from random import Random

from data_gen.query import OrderBy, Query
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import stable_rng
from data_gen.sqlite import MAX_RESULT_ROWS, SECONDS, Result, Row, Value, open_tables, run_statement

MIN_ROWS, MAX_ROWS = 8, 12
"""Rows of a table; more only where more than nine sort keys need a row each to be seen."""
VALUES = 1000
"""Different values a column may take."""

_LETTERS = str.maketrans("0123456789", "abcdefghij")
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Database:
    """A schema, and for each of its tables the rows in the order of insertion."""

    schema: Schema
    rows: tuple[tuple[Row, ...], ...]


def open_database(database: Database) -> sqlite3.Connection:
    """A connection that can only read, for several statements on one database."""
    return open_tables(database.schema, database.rows)


def run_sql(
    database: Database, sql: str, *, seconds: float = SECONDS, max_rows: int = MAX_RESULT_ROWS
) -> Result:
    """Run one statement read-only in a fresh in-memory SQLite; whatever it says, it gives a `Result`.

    A statement is refused if it writes, calls a function that is not on the short list, recurses, or gives
    more than `max_rows` rows; it is stopped after `seconds` of processor time or a fixed number of steps.
    """
    connection = open_database(database)
    try:
        return run_statement(connection, sql, seconds=seconds, max_rows=max_rows)
    finally:
        connection.close()


def fill(query: Query, seed: int) -> Database:
    """A database for `query`, a pure function of (query, seed).

    Values of different columns never coincide, and no column is sorted as inserted. One row occurs twice, so
    that DISTINCT changes the answer; the order of two equal rows makes no difference. Between other rows each
    prefix of the sort keys has ties, the whole key has none. For each key there is a pair of rows that tie on
    all keys before it, that this key sorts one way and all later keys the other way; the last such pair is
    inserted against its order. So dropping a key, flipping it, or swapping it with another changes the answer.
    """
    rng = stable_rng("database", *_words(query), seed)
    return Database(
        query.schema,
        tuple(
            _fill_table(rng, table, query.order_by if table.name == query.table else ())
            for table in query.schema.tables
        ),
    )


def _words(query: Query) -> list[str]:
    words = [query.table, *[item.column for item in query.select]]
    words += [word for key in query.order_by for word in (key.column, key.direction)]
    for table in query.schema.tables:
        words += [table.name, *[word for column in table.columns for word in (column.name, column.type)]]
    return words


def _value(column: Column, place: int, number: int) -> Value:
    """Value `number` (0 <= number < VALUES) of the column at `place`; a larger number is a larger value."""
    if column.type == "INTEGER":
        return VALUES * (place + 1) + number
    if column.type == "REAL":
        return VALUES * (place + 1) + number + 0.5
    if column.type == "DATE":
        return date.fromordinal(_EPOCH + VALUES * place + number).isoformat()
    return f"{number:03d}".translate(_LETTERS) + f"{place:02d}"


def _numbers(rng: Random, count: int) -> list[int]:
    # Ten from a thousand rarely collide; `rng.sample` takes longer.
    numbers: set[int] = set()
    while len(numbers) < count:
        numbers.add(int(rng.random() * VALUES))
    return list(numbers)


def _fill_table(rng: Random, table: Table, keys: tuple[OrderBy, ...]) -> tuple[Row, ...]:
    count = max(rng.randint(MIN_ROWS, MAX_ROWS), len(keys) + 3)
    ranks = dict(zip([key.column for key in keys], _key_ranks(rng, len(keys), count), strict=True))
    descending = {key.column for key in keys if key.direction == "DESC"}
    columns: list[list[Value]] = []
    for place, column in enumerate(table.columns):
        if column.name in ranks:
            sign = -1 if column.name in descending else 1
            columns.append(_ranked(rng, column, place, [sign * rank for rank in ranks[column.name]]))
        else:
            numbers = _numbers(rng, count)
            rng.shuffle(numbers)
            # The last two rows are equal in every column; the ranks of the keys make them so too.
            numbers[-1] = numbers[-2]
            columns.append([_value(column, place, number) for number in numbers])
    rows = list(zip(*columns, strict=True))
    order = list(range(count))
    while True:
        rng.shuffle(order)
        if keys:
            _insert_against(order, ranks[keys[-1].column], len(keys))
        if not any(_is_sorted([column[i] for i in order]) for column in columns):
            return tuple(rows[i] for i in order)


def _key_ranks(rng: Random, keys: int, count: int) -> list[list[float]]:
    """For each key, the rank of each row as the key's own direction sorts it.

    Row 0 is the base. Row i + 1 is the witness of key i: it ties with the base before key i, and all keys
    after i disagree with key i about the two. Further rows, at least two, tie with the base on all keys but
    the last; the last two rows are equal.
    """
    signs = [rng.choice((-1.0, 1.0)) for _ in range(keys)]
    ranks = [[0.0, *[-s for s in signs[:key]], signs[key], *[0.0] * (count - key - 2)] for key in range(keys)]
    if keys:
        # The last key has no ties but that of the two equal rows; a fraction keeps each witness on its side
        # of the base.
        ranks[-1] = [0.0, *[sign * rng.uniform(0.6, 1.4) for sign in ranks[-1][1 : keys + 1]]]
        ranks[-1] += [rng.uniform(-2, 2) for _ in range(count - keys - 2)]
        ranks[-1].append(ranks[-1][-1])
    return ranks


def _ranked(rng: Random, column: Column, place: int, ranks: list[float]) -> list[Value]:
    """One value per rank: equal ranks give equal values, larger ranks larger ones."""
    levels = sorted(set(ranks))
    numbers = sorted(_numbers(rng, len(levels)))
    values = {level: _value(column, place, number) for level, number in zip(levels, numbers, strict=True)}
    return [values[rank] for rank in ranks]


def _insert_against(order: list[int], last_ranks: list[float], keys: int) -> None:
    """Put the witness of the last key on the wrong side of the base, whatever the other rows do."""
    base, witness = order.index(0), order.index(keys)
    if (last_ranks[keys] < 0) == (witness < base):
        order[base], order[witness] = order[witness], order[base]


def _is_sorted(values: list[Value]) -> bool:
    pairs = list(pairwise(values))
    # All values of a column have one type, which the checker cannot know.
    return all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs)  # type: ignore[operator]
