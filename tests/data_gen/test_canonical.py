"""Query or reading -> a value that is the same for every spelling."""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.query import COMMAND_SETS
from data_gen.read.canonical import CLAUSES, canonical, clause_values
from data_gen.read.parse import SqlError, parse_sql, read_sql
from data_gen.read.reading import NEGATED
from data_gen.read.rewrites import rewrites
from data_gen.schema import Column, Schema, Table
from data_gen.sql import sql_string

ORDERS = Table(
    "orders",
    (
        Column("price", "REAL"),
        Column("name", "TEXT"),
        Column("paid", "BOOLEAN"),
        Column("shop_id", "INTEGER"),
    ),
)
SHOPS = Table("shops", (Column("id", "INTEGER"), Column("city", "TEXT"), Column("boss_id", "INTEGER")))
SCHEMA = Schema((ORDERS, SHOPS))


ROWS = """
CREATE TABLE orders (price REAL, name TEXT, paid BOOLEAN, shop_id INTEGER);
INSERT INTO orders VALUES (1, 'a', 1, 1), (5, 'b', 0, 2), (6, 'a', 0, 1), (9, 'c', 1, NULL), (NULL, 'c', 1, 2),
    (5, NULL, NULL, 2), (6, 'a', 0, 1), (0.5, 'b', 1, 9);
CREATE TABLE shops (id INTEGER, city TEXT, boss_id INTEGER);
INSERT INTO shops VALUES (1, 'x', 2), (2, 'y', NULL), (3, 'x', 1), (4, NULL, 4);
"""
FIXTURES = Path(__file__).parents[1] / "fixtures"


def blocks(name):
    """The blocks of lines of a fixture, behind its first line."""
    _, *found = (FIXTURES / name).read_text().strip().split("\n\n")
    return [block.splitlines() for block in found]


def value(sql):
    return canonical(read_sql(sql), SCHEMA)


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_every_rewrite_of_a_query_states_that_query(name):
    config = DataConfig(command_sets=(name,), seed=4)
    for index in range(12):
        query = make_example(config, index).query
        gold = canonical(query)
        # Every name of a right answer is found, and found once.
        assert "?" not in repr(gold)
        for rewrite, sql in rewrites(query):
            assert canonical(read_sql(sql), query.schema) == gold, sql
            # AND within OR is no query of ours.
            if rewrite != "bounds for BETWEEN":
                assert canonical(parse_sql(sql, query.schema, name)) == gold


def mutants(query):
    """Queries that differ from this one in one clause."""
    first = query.select[0]
    yield replace(query, distinct=not query.distinct)
    if query.compound is None:
        yield replace(query, limit=(query.limit or 0) + 1)
    yield replace(query, select=(*query.select, first))
    yield replace(
        query, select=(replace(first, aggregate="MIN" if first.aggregate == "MAX" else "MAX", window=None),)
    )
    if len(query.select) > 1 and query.select[0] != query.select[1]:
        yield replace(query, select=(query.select[1], query.select[0], *query.select[2:]))
    for index, key in enumerate(query.order_by):
        turned = replace(key, direction="ASC" if key.direction == "DESC" else "DESC")
        yield replace(query, order_by=(*query.order_by[:index], turned, *query.order_by[index + 1 :]))
        yield replace(query, order_by=(*query.order_by[:index], *query.order_by[index + 1 :]))
    for index, group in enumerate(query.where):
        yield replace(query, where=(*query.where[:index], *query.where[index + 1 :]))
        for condition in mutated(group[0]):
            changed = (condition, *group[1:])
            yield replace(query, where=(*query.where[:index], changed, *query.where[index + 1 :]))
    for index in range(len(query.group_by)):
        yield replace(query, group_by=(*query.group_by[:index], *query.group_by[index + 1 :]))
    for condition in query.having:
        yield replace(query, having=())
        for changed in mutated(condition):
            yield replace(query, having=(changed,))
    for join in query.joins:
        yield replace(query, joins=(replace(join, kind="LEFT" if join.kind == "INNER" else "INNER"),))
    if query.compound is not None:
        other = "UNION" if query.compound.operator == "EXCEPT" else "EXCEPT"
        yield replace(query, compound=None)
        yield replace(query, compound=replace(query.compound, operator=other))
    if query.cte is not None:
        yield replace(query, cte=replace(query.cte, select=replace(query.cte.select, where=())))


def mutated(condition):
    if condition.operator in NEGATED:
        yield replace(condition, operator=NEGATED[condition.operator])
        yield replace(condition, operator="<" if condition.operator == "<=" else "<=")
    else:
        yield replace(condition, negated=not condition.negated)
    for index, value in enumerate(condition.values):
        other = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
        yield replace(condition, values=(*condition.values[:index], other, *condition.values[index + 1 :]))
    if condition.subquery is not None and condition.subquery.where:
        yield replace(condition, subquery=replace(condition.subquery, where=()))


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_no_mutant_of_a_query_has_its_value(name):
    config = DataConfig(command_sets=(name,), seed=5)
    for index in range(25):
        query = make_example(config, index).query
        gold = canonical(query)
        for mutant in mutants(query):
            assert canonical(mutant) != gold, sql_string(mutant)


@pytest.mark.parametrize("block", blocks("same_queries.sql"), ids=lambda block: block[0])
def test_another_spelling_has_the_same_value(block):
    sql, *others = block
    database = sqlite3.connect(":memory:")
    database.executescript(ROWS)
    rows = Counter(database.execute(sql))
    for other in others:
        assert value(other) == value(sql), other
        assert hash(value(other)) == hash(value(sql))
        assert Counter(database.execute(other)) == rows, other
    database.close()
    assert rows


@pytest.mark.parametrize("block", blocks("different_queries.sql"), ids=lambda block: "\n".join(block[:2]))
def test_another_query_has_another_value_in_the_clause_that_differs(block):
    clause, sql, *others = block
    right = clause_values(read_sql(sql), SCHEMA)
    for other in others:
        given = clause_values(read_sql(other), SCHEMA)
        assert [name for name in CLAUSES if given[name] != right[name]] == [clause.removeprefix("-- ")], other
        assert value(other) != value(sql)


def test_a_clause_outside_the_grammar_is_none_and_leaves_the_others():
    right = clause_values(read_sql("SELECT price FROM orders WHERE name = 'a' ORDER BY price DESC"), SCHEMA)
    reading = read_sql("SELECT price FROM orders WHERE UPPER(name) = 'A' ORDER BY price DESC")
    given = clause_values(reading, SCHEMA)
    assert given == {**right, "where": None}
    with pytest.raises(SqlError, match="no canonical form"):
        canonical(reading, SCHEMA)


def test_a_missing_join_leaves_the_other_clauses_right():
    right = clause_values(
        read_sql("SELECT city FROM orders JOIN shops ON shop_id = id WHERE city = 'a' ORDER BY price"), SCHEMA
    )
    given = clause_values(read_sql("SELECT city FROM orders WHERE city = 'a' ORDER BY price"), SCHEMA)
    assert given == {**right, "join": ()}


def test_a_query_has_the_value_of_its_sql():
    sql = "SELECT name, SUM(price) AS total FROM orders WHERE paid = TRUE GROUP BY name ORDER BY total DESC"
    assert canonical(parse_sql(sql, SCHEMA, "cs4")) == value(sql)
    with pytest.raises(SqlError, match="no schema"):
        canonical(read_sql(sql))
