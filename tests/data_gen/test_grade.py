"""Example + SQL -> grade: right answers pass in any spelling, every wrong one fails."""

from collections import Counter
from dataclasses import replace

import pytest

from data_gen.config import DataConfig
from data_gen.database import fill
from data_gen.english import Style
from data_gen.example import make_example, write_example
from data_gen.grade import grade
from data_gen.phrases import FULL_SORT_PHRASES, Template
from data_gen.query import OrderBy, Query, SelectItem
from data_gen.schema import Column, Schema, Table
from data_gen.sql import write_sql

COLUMNS = (*[Column(name, "INTEGER") for name in ("price", "age", "score")], Column("name", "TEXT"))
STYLE = Style(template=Template.parse("list {columns}"), phrases=FULL_SORT_PHRASES[:2])
SORTED = write_example(
    0,
    Query(
        "cs2",
        Schema((Table("orders", COLUMNS),)),
        "orders",
        (SelectItem("price"), SelectItem("name")),
        (OrderBy("age", "DESC"), OrderBy("name", "ASC")),
    ),
    STYLE,
)
UNSORTED = write_example(0, replace(SORTED.query, order_by=()), replace(STYLE, phrases=()))

# answer; valid, exact, tree, execution; clauses that are right
SORTED_TABLE = [
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC", "vxte", "select from order_by"),
    ("  SELECT price, name FROM orders ORDER BY age DESC, name ASC\n", "vxte", "select from order_by"),
    ("select price, name from orders order by age desc, name;", "v.te", "select from order_by"),
    ('SELECT "price", orders.name FROM orders ORDER BY age DESC, name', "v.te", "select from order_by"),
    ("SELECT price AS cost, name FROM orders ORDER BY age DESC, name ASC", "v..e", "from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC LIMIT 99", "v..e", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, 2", "v..e", "select from"),
    ("SELECT price, name FROM orders ORDER BY age ASC, name ASC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY name ASC, age DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY age DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY score DESC, name ASC", "v...", "select from"),
    ("SELECT price, name FROM orders", "v...", "select from"),
    ("SELECT DISTINCT price, name FROM orders ORDER BY age DESC, name ASC", "v...", "select from order_by"),
    ("SELECT name, price FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, age FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, name, age FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC LIMIT 3", "v...", "select from order_by"),
    ("SELECT price, name FROM order_s ORDER BY age DESC, name ASC", "....", "select order_by"),
    ("SELECT price, nam FROM orders ORDER BY age DESC, name ASC", "....", "from order_by"),
    ("SELECT price name FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC ASC", "....", ""),
    ("SELECT price, name, FROM orders ORDER BY age DESC, name ASC", "....", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC; SELECT 1", "....", ""),
    ("price, name", "....", ""),
    ("", "....", ""),
]
UNSORTED_TABLE = [
    ("SELECT price, name FROM orders", "vxte", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC", "v..e", "select from"),
    ("SELECT DISTINCT price, name FROM orders", "v...", "select from order_by"),
    ("SELECT name, price FROM orders", "v...", "from order_by"),
]


@pytest.mark.parametrize(
    ("example", "sql", "flags", "clauses"),
    [(SORTED, *case) for case in SORTED_TABLE] + [(UNSORTED, *case) for case in UNSORTED_TABLE],
)
def test_grade_table(example, sql, flags, clauses):
    result = grade(example, sql)
    given = [result.valid, result.exact, result.tree, result.execution]
    assert "".join(flag if is_so else "." for flag, is_so in zip("vxte", given, strict=True)) == flags
    assert " ".join(clause for clause, right in result.clauses.items() if right) == clauses
    if result.tree:
        assert result.error is None
    if not result.valid:
        assert result.error


def test_a_grade_says_why_an_answer_does_not_run():
    assert "no such column: nam" in grade(SORTED, "SELECT nam FROM orders").error
    assert "LIMIT" in grade(SORTED, "SELECT price FROM orders LIMIT 1").error
    assert "no column `prize`" in grade(SORTED, 'SELECT "prize" FROM orders').error
    assert grade(SORTED, SORTED.sql.string).error is None


def test_cs1_has_no_order_by_clause_to_grade():
    assert set(grade(make_example(DataConfig(), 0), "SELECT 1").clauses) == {"select", "from"}


@pytest.mark.parametrize("split", ["train", "test", "names"])
def test_gold_sql_is_right_in_every_way(split):
    config = DataConfig(command_sets=("cs1", "cs2"), split=split)
    for index in range(100):
        example = make_example(config, index)
        result = grade(example, example.sql.string)
        assert result.valid
        assert result.exact
        assert result.tree
        assert result.execution
        assert all(result.clauses.values())


def test_exact_implies_tree_and_tree_implies_execution():
    for index in range(60):
        example = make_example(DataConfig(command_sets=("cs2",)), index)
        words = example.sql.string.split(" ")
        for drop in range(len(words)):
            result = grade(example, " ".join(words[:drop] + words[drop + 1 :]))
            assert result.exact <= result.tree <= result.execution <= result.valid
            assert result.tree <= all(result.clauses.values())


def flipped(key):
    return OrderBy(key.column, "ASC" if key.direction == "DESC" else "DESC")


def mutations(query):
    """Every query that is one mistake away, with the name of the mistake."""
    select, keys = list(query.select), list(query.order_by)
    names = [column.name for column in query.schema.tables[0].columns]
    for i, key in enumerate(keys):
        yield "flip a direction", replace(query, order_by=(*keys[:i], flipped(key), *keys[i + 1 :]))
        yield "drop a key", replace(query, order_by=(*keys[:i], *keys[i + 1 :]))
        for name in sorted(set(names) - {key.column for key in keys})[:1]:
            wrong = OrderBy(name, key.direction)
            yield "sort by another column", replace(query, order_by=(*keys[:i], wrong, *keys[i + 1 :]))
        for j in range(i):
            swapped = keys.copy()
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield "swap two keys", replace(query, order_by=tuple(swapped))
    if keys:
        yield "drop ORDER BY", replace(query, order_by=())
    others = [SelectItem(name) for name in names if SelectItem(name) not in select]
    for i in range(len(select)):
        if len(select) > 1:
            yield "drop a column", replace(query, select=(*select[:i], *select[i + 1 :]))
        if others:
            yield "select another column", replace(query, select=(*select[:i], others[0], *select[i + 1 :]))
        for j in range(i):
            swapped = select.copy()
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield "swap two columns", replace(query, select=tuple(swapped))
    if others:
        yield "select one more column", replace(query, select=(*select, others[0]))


def merged(query):
    """SQL that gives equal rows once, with the name of the mistake."""
    sql = write_sql(query).string
    yield "add DISTINCT", sql.replace("SELECT ", "SELECT DISTINCT ", 1)
    groups = f"FROM {query.table} GROUP BY {', '.join(item.column for item in query.select)}"
    yield "add GROUP BY", sql.replace(f"FROM {query.table}", groups, 1)


def test_execution_catches_at_least_995_in_1000_of_every_single_mistake():
    made, missed = Counter(), Counter()
    for index in range(70):
        example = make_example(DataConfig(command_sets=("cs1", "cs2"), split="test", max_columns=8), index)
        for mistake, query in mutations(example.query):
            result = grade(example, write_sql(query).string)
            assert not result.tree
            assert not all(result.clauses.values())
            made[mistake] += 1
            missed[mistake] += result.execution
        for mistake, sql in merged(example.query):
            result = grade(example, sql)
            assert result.valid
            assert not result.tree
            made[mistake] += 1
            missed[mistake] += result.execution
    assert len(made) == 11
    assert missed.total() <= 0.005 * made.total(), missed
    assert all(missed[mistake] <= 0.005 * made[mistake] for mistake in made), missed


def test_an_answer_that_is_right_on_one_database_by_luck_is_caught_by_the_other():
    caught = 0
    for index in range(40):
        example = make_example(DataConfig(command_sets=("cs1", "cs2")), index)
        first, second = (len(fill(example.query, seed).rows[0]) for seed in (0, 1))
        for rows in {first, second} - {max(first, second)}:
            caught += rows == first
            assert not grade(example, f"{example.sql.string} LIMIT {rows}").execution
        assert grade(example, f"{example.sql.string} LIMIT {max(first, second)}").execution
    assert caught >= 5
