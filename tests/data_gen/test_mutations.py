"""Query -> mistakes: each is one, each runs, and none is the query in another spelling."""

from collections import Counter

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.query import COMMAND_SETS, ColumnRef, Condition, OrderBy, Query, Select, SelectItem
from data_gen.read.canonical import canonical
from data_gen.read.parse import parse_sql
from data_gen.run.discriminating import databases
from data_gen.run.duck import Duck
from data_gen.run.mutations import mutants
from data_gen.schema import Column, Schema, Table, write_schema
from data_gen.sql import sql_string

SCHEMA = Schema(
    (Table("orders", (Column("price", "INTEGER"), Column("city", "TEXT"), Column("age", "INTEGER"))),)
)
every_set = pytest.mark.parametrize("name", COMMAND_SETS)


def rows(name, n=40):
    return [example.query for example in make_examples(DataConfig(command_sets=(name,), max_columns=7), 0, n)]


def mistakes(query):
    return [(mutant.mistake, sql_string(mutant.query)) for mutant in mutants(query)]


def test_every_mistake_of_a_small_query():
    query = Query(
        command_set="cs4",
        schema=SCHEMA,
        select=(SelectItem("city"), SelectItem("price")),
        table="orders",
        where=((Condition(column="price", operator=">", values=(5,)),),),
        order_by=(OrderBy("age", "DESC"),),
    )
    rest = "FROM orders WHERE price > 5 ORDER BY age DESC"
    assert mistakes(query) == [
        ("drop one column", f"SELECT price {rest}"),
        ("drop one column", f"SELECT city {rest}"),
        ("select one more column", f"SELECT city, price, age {rest}"),
        ("select another column", f"SELECT age, price {rest}"),
        ("swap two columns", f"SELECT price, city {rest}"),
        ("drop ORDER BY", "SELECT city, price FROM orders WHERE price > 5"),
        ("flip a direction", "SELECT city, price FROM orders WHERE price > 5 ORDER BY age ASC"),
        ("sort by another column", "SELECT city, price FROM orders WHERE price > 5 ORDER BY price DESC"),
        ("drop a condition", "SELECT city, price FROM orders ORDER BY age DESC"),
        *[
            ("change an operator", f"SELECT city, price FROM orders WHERE price {one} 5 ORDER BY age DESC")
            for one in ("=", "<>", "<", ">=", "<=")
        ],
        ("change a literal", "SELECT city, price FROM orders WHERE price > 6 ORDER BY age DESC"),
        ("change a literal", "SELECT city, price FROM orders WHERE price > 4 ORDER BY age DESC"),
        ("filter another column", "SELECT city, price FROM orders WHERE age > 5 ORDER BY age DESC"),
    ]


def grouped(condition, **changes):
    return Query(
        command_set="cs6",
        schema=SCHEMA,
        select=(SelectItem("city"), SelectItem("age", aggregate="SUM", alias="SUM_age")),
        table="orders",
        group_by=(ColumnRef("city"),),
        having=(condition,),
        **changes,
    )


def having(query):
    return {
        sql.split("HAVING ")[1]
        for mistake, sql in mistakes(query)
        if mistake.startswith("HAVING")  # Not "drop HAVING".
    }


def test_mistakes_of_having():
    query = grouped(Condition(column="price", operator=">", values=(5,), aggregate="MIN"))
    assert having(query) == {
        *[f"MIN(price) {one} 5" for one in ("=", "<>", "<", ">=", "<=")],
        *[f"{one}(price) > 5" for one in ("SUM", "AVG", "MAX", "COUNT")],
        "MIN(age) > 5",
        "MIN(price) > 6",
        "MIN(price) > 4",
    }


def test_a_count_has_no_mistake_that_no_data_could_show():
    # Every group has a row, so that `<> 1` would be `> 1`.
    query = grouped(Condition(column="*", operator=">", values=(1,), aggregate="COUNT"))
    assert "COUNT(*) <> 1" not in having(query)
    assert "COUNT(*) = 1" in having(query)


def test_a_text_that_begins_with_a_digit_has_one_neighbour():
    query = Query(
        command_set="cs4",
        schema=SCHEMA,
        select=(SelectItem("price"),),
        table="orders",
        where=((Condition(column="city", operator="=", values=("2 rooms",)),),),
    )
    found = [
        mutant.query.where[0][0].values for mutant in mutants(query) if mutant.mistake == "change a literal"
    ]
    assert found == [("2 roomss",)]


@pytest.mark.parametrize(
    "condition",
    [
        Condition(column="price", operator="IS NULL", aggregate="SUM"),
        Condition(column="price", operator="IN", values=(5, 7), aggregate="SUM"),
        Condition(column="price", operator="=", values=("a",), aggregate="SUM"),
        Condition(
            column="price",
            operator=">",
            aggregate="SUM",
            subquery=Select(select=(SelectItem("age", aggregate="AVG", alias="x"),), table="orders"),
        ),
    ],
    ids=["null", "list", "text", "subquery"],
)
def test_any_measure_of_having_has_databases(condition):
    assert len(databases(grouped(condition))) >= 3


def test_limit_is_off_by_one_in_both_directions():
    condition = Condition(column="price", operator=">", values=(5,), aggregate="MIN")
    query = grouped(condition, limit=3, order_by=(OrderBy("city", "ASC"),))
    found = [sql for mistake, sql in mistakes(query) if mistake == "LIMIT off by one"]
    assert [sql.split("LIMIT ")[1] for sql in found] == ["4", "2"]


@pytest.mark.parametrize(
    ("operator", "value", "others"),
    [
        ("=", 5, {"<>", ">", "<", ">=", "<="}),
        ("=", "2020-01-02", {"<>", ">", "<", ">=", "<="}),
        ("=", "amber", {"<>", ">"}),
        ("=", "2 rooms", {"<>", ">"}),
        ("=", True, {"<>"}),
        ("<>", True, {"="}),
    ],
)
def test_operators_are_mistaken_for_those_that_a_column_of_the_kind_may_have(operator, value, others):
    query = Query(
        command_set="cs7",
        schema=SCHEMA,
        select=(SelectItem("city"),),
        table="orders",
        where=((Condition(column="price", operator=operator, values=(value,)),),),
    )
    found = [m.query.where[0][0].operator for m in mutants(query) if m.mistake == "change an operator"]
    assert set(found) == others
    assert len(found) == len(others)


def test_the_mistakes_that_the_data_has_to_show_all_occur():
    seen = Counter(
        mutant.mistake for name in COMMAND_SETS for query in rows(name) for mutant in mutants(query)
    )
    wanted = """flip a direction/drop ORDER BY/drop a condition/filter another column/change an operator
        change a literal/swap an aggregate/drop a join key/LEFT for INNER/INNER for LEFT/drop DISTINCT
        drop one column/swap two columns/HAVING off by one/drop HAVING/LIMIT off by one/drop LIMIT/drop a sort key
        swap two sort keys/sort by another column/OR for AND/AND for OR/drop a value of IN/drop PARTITION BY
        flip a direction of the window/change the window function/change the set operation/drop a group
        HAVING: swap an aggregate/HAVING: another column
        drop a condition of the CTE/drop a condition of the subquery/swap an aggregate of the subquery"""
    missing = [
        one.strip() for line in wanted.splitlines() for one in line.split("/") if one.strip() not in seen
    ]
    assert not missing


@every_set
def test_no_mistake_is_the_query_in_another_spelling(name):
    for query in rows(name):
        gold = canonical(query)
        texts = [sql for _, sql in mistakes(query)]
        assert sql_string(query) not in texts
        for mutant in mutants(query):
            assert canonical(mutant.query) != gold, sql_string(mutant.query)


@every_set
def test_every_mistake_runs_in_both_engines(name):
    duck = Duck()
    for query in rows(name, 12):
        database, create = databases(query)[0], write_schema(query.schema).string
        for mistake, sql in mistakes(query):
            result = duck.run(create, database, sql)
            assert result.error is None, f"{mistake}: {sql}: {result.error}"
    duck.close()


def test_a_mistake_without_a_foreign_clause_is_a_query_that_can_be_read():
    for query in rows("cs4"):
        for mutant in mutants(query):
            if mutant.mistake != "add DISTINCT":
                assert parse_sql(sql_string(mutant.query), query.schema, "cs6+not+or") is not None
