"""Query -> SQL text and its roles."""

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.query import (
    COMMAND_SETS,
    ColumnRef,
    Compound,
    Condition,
    Cte,
    Join,
    OrderBy,
    Query,
    Select,
    SelectItem,
    Window,
)
from data_gen.schema import Column, Schema, Table
from data_gen.sql import sql_string, write_sql, write_value

ORDERS = Table("orders", (Column("price", "REAL"), Column("name", "TEXT"), Column("shop_id", "INTEGER")))
SHOPS = Table("shops", (Column("id", "INTEGER"), Column("city", "TEXT")))
SCHEMA = Schema((ORDERS, SHOPS))
PRICE, NAME = SelectItem("price"), SelectItem("name")
TOTAL = SelectItem("price", None, "SUM", alias="SUM_price")
ON = {"left": ColumnRef("shop_id", "orders"), "right": ColumnRef("id", "shops")}
ABOVE = Condition(column="price", operator=">", values=(5,))
ABOVE_TWO_ROWS = Condition(column="*", aggregate="COUNT", operator=">=", values=(2,))
EXISTS = Select(select=(SelectItem("1"),), table="shops")


def query(*items: SelectItem, **clauses: object) -> Query:
    return Query(command_set="cs9", schema=SCHEMA, select=items or (PRICE,), **{"table": "orders", **clauses})


@pytest.mark.parametrize(
    ("clauses", "written"),
    [
        ({}, ""),
        ({"order_by": (OrderBy("name", "DESC"), OrderBy("price", "ASC"))}, " ORDER BY name DESC, price ASC"),
        ({"where": ((ABOVE,),)}, " WHERE price > 5"),
        ({"where": ((ABOVE, ABOVE),)}, " WHERE price > 5 OR price > 5"),
        ({"where": ((ABOVE,), (ABOVE, ABOVE))}, " WHERE price > 5 AND (price > 5 OR price > 5)"),
        ({"group_by": (ColumnRef("name"), ColumnRef("price"))}, " GROUP BY name, price"),
        (
            {"having": (ABOVE_TWO_ROWS,)},
            " HAVING COUNT(*) >= 2",
        ),
        ({"limit": 3}, " LIMIT 3"),
        ({"joins": (Join(table="shops", **ON),)}, " JOIN shops ON orders.shop_id = shops.id"),
        (
            {"joins": (Join(table="orders", kind="LEFT", alias="other", **ON),)},
            " LEFT JOIN orders AS other ON orders.shop_id = shops.id",
        ),
        ({"joins": (Join(table="shops", kind="CROSS"),)}, " CROSS JOIN shops"),
        ({"compound": Compound("EXCEPT", EXISTS)}, " EXCEPT SELECT 1 FROM shops"),
    ],
)
def test_each_clause_is_written_in_one_way(clauses, written):
    assert sql_string(query(**clauses)) == f"SELECT price FROM orders{written}"


@pytest.mark.parametrize(
    ("condition", "written"),
    [
        ({"column": "price", "operator": "<>", "values": (2.5,)}, "price <> 2.5"),
        ({"column": "price", "operator": "=", "values": (True,), "table": "orders"}, "orders.price = TRUE"),
        ({"column": "name", "operator": "LIKE", "values": ("%a%",)}, "name LIKE '%a%'"),
        ({"column": "name", "operator": "LIKE", "values": ("a%",), "negated": True}, "name NOT LIKE 'a%'"),
        ({"column": "name", "operator": "IN", "values": ("x", "it's")}, "name IN ('x', 'it''s')"),
        ({"column": "price", "operator": "BETWEEN", "values": (1, 2)}, "price BETWEEN 1 AND 2"),
        ({"column": "name", "operator": "IS NULL"}, "name IS NULL"),
        ({"column": "name", "operator": "IS NULL", "negated": True}, "name IS NOT NULL"),
        ({"column": "name", "operator": "=", "other": ColumnRef("city", "shops")}, "name = shops.city"),
        ({"column": "price", "operator": "<", "subquery": EXISTS}, "price < (SELECT 1 FROM shops)"),
        (
            {"column": "price", "operator": "IN", "negated": True, "subquery": EXISTS},
            "price NOT IN (SELECT 1 FROM shops)",
        ),
        ({"operator": "EXISTS", "subquery": EXISTS}, "EXISTS (SELECT 1 FROM shops)"),
        ({"operator": "EXISTS", "negated": True, "subquery": EXISTS}, "NOT EXISTS (SELECT 1 FROM shops)"),
    ],
)
def test_each_condition_is_written_in_one_way(condition, written):
    assert sql_string(query(where=((Condition(**condition),),))).endswith(f" WHERE {written}")


@pytest.mark.parametrize(
    ("item", "written"),
    [
        (SelectItem("price", "orders"), "orders.price"),
        (TOTAL, "SUM(price) AS SUM_price"),
        (SelectItem("price", "orders", "MAX", alias="top"), "MAX(orders.price) AS top"),
        (
            SelectItem("*", window=Window("RANK", (OrderBy("price", "DESC"),)), alias="place"),
            "RANK() OVER (ORDER BY price DESC) AS place",
        ),
        (
            SelectItem(
                "price",
                window=Window("SUM", (OrderBy("name", "ASC"),), (ColumnRef("shop_id"),)),
                alias="so_far",
            ),
            "SUM(price) OVER (PARTITION BY shop_id ORDER BY name ASC) AS so_far",
        ),
    ],
)
def test_each_item_is_written_in_one_way(item, written):
    assert sql_string(query(NAME, item, distinct=True)) == f"SELECT DISTINCT name, {written} FROM orders"


def test_with_stands_before_the_select():
    cte = Cte("kept", Select(select=(PRICE,), table="orders", where=((ABOVE,),)))
    written = "WITH kept AS (SELECT price FROM orders WHERE price > 5) SELECT price FROM kept"
    assert sql_string(query(table="kept", cte=cte)) == written


@pytest.mark.parametrize(
    ("value", "written"), [(5, "5"), (-2.5, "-2.5"), (True, "TRUE"), (False, "FALSE"), ("o'k", "'o''k'")]
)
def test_values_are_written_as_sql_literals(value, written):
    assert write_value(value) == written


def test_every_piece_has_its_role():
    subquery = Select(select=(SelectItem("id"),), table="shops")
    member = Condition(column="shop_id", operator="IN", subquery=subquery)
    text = write_sql(
        query(
            NAME, TOTAL, where=((member,),), group_by=(ColumnRef("name"),), order_by=(OrderBy("name", "ASC"),)
        )
    )
    assert text.pieces() == [
        ("SELECT", "sql.select.keyword"),
        (" name", "sql.select.0.column"),
        (",", "sql.select.separator"),
        (" SUM", "sql.select.1.aggregate"),
        ("(", "sql.select.1.bracket"),
        ("price", "sql.select.1.column"),
        (")", "sql.select.1.bracket"),
        (" AS", "sql.select.1.keyword"),
        (" SUM_price", "sql.select.1.alias"),
        (" FROM", "sql.from.keyword"),
        (" orders", "sql.table"),
        (" WHERE", "sql.where.keyword"),
        (" shop_id", "sql.where.0.column"),
        (" IN", "sql.where.0.operator"),
        (" (", "sql.where.0.bracket"),
        ("SELECT", "sql.where.0.subquery.select.keyword"),
        (" id", "sql.where.0.subquery.select.0.column"),
        (" FROM", "sql.where.0.subquery.from.keyword"),
        (" shops", "sql.where.0.subquery.table"),
        (")", "sql.where.0.bracket"),
        (" GROUP BY", "sql.group_by.keyword"),
        (" name", "sql.group_by.0.column"),
        (" ORDER BY", "sql.order_by.keyword"),
        (" name", "sql.order_by.0.column"),
        (" ASC", "sql.order_by.0.direction"),
    ]


def test_every_piece_of_having_has_its_role():
    condition = Condition(column="price", table="orders", aggregate="SUM", operator=">", values=(5,))
    text = write_sql(query(NAME, group_by=(ColumnRef("name"),), having=(condition, ABOVE_TWO_ROWS)))
    pieces = text.pieces()
    start = next(place for place, (piece, _) in enumerate(pieces) if piece == " HAVING")
    assert pieces[start:] == [
        (" HAVING", "sql.having.keyword"),
        (" SUM", "sql.having.0.aggregate"),
        ("(", "sql.having.0.bracket"),
        ("orders", "sql.having.0.table"),
        (".", "sql.having.0.qualifier"),
        ("price", "sql.having.0.column"),
        (")", "sql.having.0.bracket"),
        (" >", "sql.having.0.operator"),
        (" 5", "sql.having.0.value"),
        (" AND", "sql.having.keyword"),
        (" COUNT", "sql.having.1.aggregate"),
        ("(", "sql.having.1.bracket"),
        ("*", "sql.having.1.column"),
        (")", "sql.having.1.bracket"),
        (" >=", "sql.having.1.operator"),
        (" 2", "sql.having.1.value"),
    ]


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_the_string_without_roles_is_the_string_with_them(name):
    config = DataConfig(command_sets=(name,))
    for index in range(30):
        row = make_example(config, index).query
        assert sql_string(row) == write_sql(row).string
