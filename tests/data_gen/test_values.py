"""Conditions -> values that meet them and values that miss them: SQLite is the judge."""

import sqlite3
from random import Random

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.query import Condition
from data_gen.run.values import is_day, make_pool, meets, near_misses, next_value, rare_values
from data_gen.schema import Column
from data_gen.sql import write_value

WORDS = ("amber", "cedar", "maple", "onyx", "paris", "ruby", "tango", "velvet", "walnut")


def conditions():
    """Every condition on one column that the rows of CS4 and CS7 have, with the column."""
    for example in make_examples(DataConfig(command_sets=("cs4", "cs7"), max_columns=6), 0, 300):
        (table,) = example.query.schema.tables
        for group in example.query.where:
            for condition in group:
                yield table.column(condition.column), condition


CASES = list(conditions())


def sqlite_meets(column, condition, value):
    from data_gen.query import Query, SelectItem
    from data_gen.schema import Schema, Table
    from data_gen.sql import sql_string

    query = Query(
        command_set="cs7",
        schema=Schema((Table("t", (column,)),)),
        select=(SelectItem(column.name),),
        table="t",
        where=((condition,),),
    )
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t ({column.name} {column.type})")
    connection.execute("INSERT INTO t VALUES (?)", (value,))
    found = connection.execute(sql_string(query)).fetchall()
    connection.close()
    return bool(found)


def test_the_cases_cover_every_operator():
    found = {(condition.operator, condition.negated) for _, condition in CASES}
    assert {
        (op, False) for op in ("=", "<>", ">", "<", ">=", "<=", "LIKE", "IN", "BETWEEN", "IS NULL")
    } <= found
    assert {(op, True) for op in ("LIKE", "IN", "BETWEEN", "IS NULL")} <= found


def test_meets_agrees_with_sqlite_on_every_value_of_a_pool():
    for number, (column, condition) in enumerate(CASES):
        pool = make_pool(Random(number), column, [condition], (), WORDS, 8)
        for value in {*pool.good, *pool.bad, None}:
            assert meets(condition, value) == sqlite_meets(column, condition, value), (condition, value)


def test_a_pool_has_values_on_both_sides_of_every_condition():
    for number, (column, condition) in enumerate(CASES):
        pool = make_pool(Random(number), column, [condition], (), WORDS, 16)
        assert all(meets(condition, value) for value in pool.good), condition
        assert not any(meets(condition, value) for value in pool.bad), condition


@pytest.mark.parametrize(
    ("kind", "literal", "near"),
    [
        ("INTEGER", 5, {4, 5, 6}),
        ("REAL", 2.5, {1.5, 2.5, 3.5}),
        ("DATE", "2020-03-01", {"2020-02-29", "2020-03-02"}),
    ],
)
def test_values_next_to_a_literal_are_in_the_pool(kind, literal, near):
    condition = Condition(column="a", operator=">", values=(literal,))
    pool = make_pool(Random(0), Column("a", kind), [condition], (), WORDS, 4)
    assert near <= {*pool.good, *pool.bad}


def test_rare_values_lie_beyond_all_good_ones_of_a_column_without_conditions():
    for kind in ("INTEGER", "REAL", "TEXT", "DATE"):
        pool = make_pool(Random(1), Column("a", kind), [], (), WORDS, 16)
        low, high = rare_values(pool.good, [])
        assert low < min(pool.good)
        assert high > max(pool.good)


def test_literals_are_written_as_both_engines_read_them():
    assert [write_value(v) for v in (5, 2.5, True, "o'hara", "2020-01-02")] == [
        "5", "2.5", "TRUE", "'o''hara'", "'2020-01-02'",
    ]  # fmt: skip


def test_near_misses_of_a_pattern_have_its_letters_or_the_first_alone():
    assert near_misses(["in%", "%in", "%in%"]) == ["inq", "iq", "qin", "qi", "qinq", "qiq"]
    assert near_misses([5, "amber", True]) == [5, 6, 4, "amber", "ambers", True, False]


@pytest.mark.parametrize(
    "text", ["2 rooms", "2020", "2020-02-30", "20200229", "2020-W01-1", "2020-01-01 ", "", "\u0662"]
)
def test_a_text_that_begins_with_a_digit_is_no_date(text):
    assert not is_day(text)
    assert near_misses([text])[0] == text
    assert next_value(text, 1) == f"{text}s"
    pool = make_pool(
        Random(0), Column("a", "TEXT"), [Condition(column="a", operator="=", values=(text,))], (), WORDS, 8
    )
    assert pool.good == [text]
    low, high = rare_values([text, *WORDS], [])
    assert low <= text
    assert high > max(WORDS)


def test_rare_texts_lie_beyond_those_that_sort_before_or_behind_words():
    low, high = rare_values(["2 rooms", "2020-01-02", "\u00e9tage"], [])
    assert low < "2 rooms"
    assert high > "\u00e9tage"


def test_a_pattern_that_begins_with_a_digit_has_texts_around_it():
    condition = Condition(column="a", operator="LIKE", values=("2%",))
    pool = make_pool(Random(0), Column("a", "TEXT"), [condition], (), WORDS, 8)
    assert len({value for value in pool.good if value[1:] in WORDS}) > 3
