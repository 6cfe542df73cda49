"""Query -> other spellings of it."""

import sqlite3
from pathlib import Path

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.query import COMMAND_SETS, ColumnRef, Condition, Join, OrderBy, Query, SelectItem
from data_gen.read.rewrites import QUERY_EDITS, rewrites
from data_gen.read.spellings import SPELLINGS, TABLE_ALIASES
from data_gen.schema import Column, Schema, Table, write_schema
from data_gen.sql import sql_string

PRICE = Column("price", "REAL")
SCHEMA = Schema(
    (
        Table(
            "orders", (PRICE, Column("name", "TEXT"), Column("paid", "BOOLEAN"), Column("shop_id", "INTEGER"))
        ),
        Table("shops", (Column("id", "INTEGER"), Column("city", "TEXT"))),
    )
)
QUERY = Query(
    command_set="cs7",
    schema=SCHEMA,
    table="orders",
    select=(SelectItem("name"), SelectItem("price", None, "SUM", alias="SUM_price")),
    joins=(Join(table="shops", left=ColumnRef("shop_id", "orders"), right=ColumnRef("id", "shops")),),
    where=(
        (
            Condition(column="price", operator="BETWEEN", values=(1, 9), negated=True),
            Condition(column="city", operator="IN", values=("a", "b")),
        ),
        (Condition(column="paid", operator="=", values=(True,)),),
    ),
    group_by=(ColumnRef("name"), ColumnRef("city")),
    order_by=(OrderBy("SUM_price", "ASC"), OrderBy("name", "DESC")),
)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "rewrites.sql"
EXPECTED = dict(
    block.removeprefix("-- ").split("\n") for block in FIXTURE.read_text().strip().split("\n\n")[1:]
)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_rewrite_is_what_its_name_says(name):
    assert dict(rewrites(QUERY))[name] == EXPECTED[name]


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_every_rewrite_runs_in_both_engines(name):
    duckdb = pytest.importorskip("duckdb")
    config = DataConfig(command_sets=(name,), seed=3)
    for index in range(3):
        query = make_example(config, index).query
        engines = (sqlite3.connect(":memory:"), duckdb.connect(":memory:"))
        for engine in engines:
            for statement in write_schema(query.schema).string.split(";"):
                engine.execute(statement)
            for _, sql in rewrites(query):
                engine.execute(f"EXPLAIN {sql}")
            engine.close()


def test_every_rewrite_applies_to_some_query():
    config = DataConfig(command_sets=tuple(COMMAND_SETS))
    seen = set()
    for index in range(400):
        query = make_example(config, index).query
        found = dict(rewrites(query))
        assert sql_string(query) not in found.values()
        seen |= found.keys()
    assert seen == {*QUERY_EDITS, *SPELLINGS, *TABLE_ALIASES, "all together"}
