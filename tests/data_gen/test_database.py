"""Query -> databases in which wrong answers differ."""

from dataclasses import replace
from itertools import pairwise

import pytest

from data_gen.config import DataConfig
from data_gen.database import fill, run_sql
from data_gen.example import make_example
from data_gen.query import OrderBy, Query, SelectItem
from data_gen.schema import Column, Schema, Table
from data_gen.sql import write_sql

QUERIES = [make_example(DataConfig(command_sets=("cs2",), split="test"), index).query for index in range(200)]


def columns_of(query, seed=0):
    [rows] = fill(query, seed).rows
    names = [column.name for column in query.schema.tables[0].columns]
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def test_a_database_is_a_function_of_query_and_seed():
    assert fill(QUERIES[0], 0) == fill(QUERIES[0], 0)
    assert fill(QUERIES[0], 0) != fill(QUERIES[0], 1)
    assert fill(QUERIES[0], 0) != fill(QUERIES[1], 0)


def test_a_table_has_eight_to_twelve_rows_or_three_more_than_keys():
    for query in QUERIES:
        [rows] = fill(query, 0).rows
        assert 8 <= len(rows) <= max(12, len(query.order_by) + 3)


def test_values_of_different_columns_never_coincide():
    for query in QUERIES:
        values = [set(column) for column in columns_of(query).values()]
        assert sum(map(len, values)) == len(set.union(*values))


def test_no_column_is_sorted_as_inserted():
    for query in QUERIES:
        for column in columns_of(query).values():
            assert not all(a <= b for a, b in pairwise(column))
            assert not all(a >= b for a, b in pairwise(column))


def test_prefixes_of_the_key_have_ties_and_the_whole_key_has_none_but_of_equal_rows():
    for query in QUERIES:
        names = [column.name for column in query.schema.tables[0].columns]
        columns = dict(zip(names, zip(*set(fill(query, 0).rows[0]), strict=True), strict=True))
        keys = [columns[key.column] for key in query.order_by]
        for length in range(1, len(keys) + 1):
            tuples = list(zip(*keys[:length], strict=True))
            assert (len(set(tuples)) == len(tuples)) == (length == len(keys))


def test_each_database_alone_shows_a_dropped_flipped_or_swapped_key():
    for query in QUERIES:
        keys = list(query.order_by)
        wrong = [keys[:i] + keys[i + 1 :] for i in range(len(keys))]
        for i, key in enumerate(keys):
            flipped = OrderBy(key.column, "ASC" if key.direction == "DESC" else "DESC")
            wrong.append([*keys[:i], flipped, *keys[i + 1 :]])
        if len(keys) > 1:
            wrong.append([*keys[:-2], keys[-1], keys[-2]])
        database = fill(query, len(keys))
        right = run_sql(database, write_sql(query).string).rows
        for order_by in wrong:
            sql = write_sql(replace(query, order_by=tuple(order_by))).string
            assert run_sql(database, sql).rows != right, sql


def test_one_row_occurs_twice():
    for query in QUERIES:
        for seed in range(3):
            [rows] = fill(query, seed).rows
            assert len(set(rows)) == len(rows) - 1


@pytest.mark.parametrize("kind", ["INTEGER", "REAL", "TEXT", "DATE"])
def test_sqlite_sorts_values_of_every_type_as_python_does(kind):
    schema = Schema((Table("t", (Column("a", kind), Column("b", kind))),))
    query = Query("cs2", schema, "t", (SelectItem("b"),), (OrderBy("a", "ASC"),))
    for seed in range(20):
        database = fill(query, seed)
        [rows] = database.rows
        assert run_sql(database, "SELECT * FROM t ORDER BY a").rows == tuple(sorted(rows))


def test_gold_sql_runs_and_sorts():
    for index in range(100):
        example = make_example(DataConfig(command_sets=("cs1", "cs2")), index)
        database = fill(example.query, 0)
        result = run_sql(database, example.sql.string)
        assert result.error is None
        assert len(result.rows) == len(database.rows[0])
        assert len(result.rows[0]) == len(example.query.select)


def test_dates_are_iso_text():
    schema = Schema((Table("t", (Column("a", "DATE"),)),))
    [rows] = fill(Query("cs1", schema, "t", (SelectItem("a"),)), 0).rows
    assert all(len(value) == 10 and value[4] == value[7] == "-" for (value,) in rows)
