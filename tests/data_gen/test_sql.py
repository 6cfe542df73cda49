"""Query -> SQL text, and back."""

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.query import OrderBy, Query, SelectItem
from data_gen.schema import Column, Schema, Table
from data_gen.sql import MAX_CHARS, SqlError, parse_sql, write_sql

SCHEMA = Schema((Table("orders", (Column("price", "REAL"), Column("name", "TEXT"))),))
SORTED = Query(
    "cs2",
    SCHEMA,
    "orders",
    (SelectItem("price"), SelectItem("name")),
    (OrderBy("name", "DESC"), OrderBy("price", "ASC")),
)


def test_sql_is_written_in_one_way():
    text = write_sql(SORTED)
    assert text.string == "SELECT price, name FROM orders ORDER BY name DESC, price ASC"
    assert text.pieces()[0] == ("SELECT", "sql.select.keyword")


@pytest.mark.parametrize("split", ["train", "test", "names"])
def test_reading_undoes_writing(split):
    config = DataConfig(command_sets=("cs1", "cs2"), split=split)
    for index in range(150):
        query = make_example(config, index).query
        assert parse_sql(write_sql(query).string, query.schema, query.command_set) == query


@pytest.mark.parametrize(
    "sql",
    [
        "select price, name from orders order by name desc, price asc",
        "SELECT price,name\n FROM orders\tORDER BY name DESC,price",
        "SELECT PRICE, Name FROM Orders ORDER BY NAME DESC, price ASC;",
        'SELECT "price", `name` FROM [orders] ORDER BY name DESC, price',
        "SELECT orders.price, orders.name FROM orders ORDER BY orders.name DESC, price",
        "SELECT price, name /* both */ FROM orders ORDER BY name DESC, price -- done",
        "SELECT price, name FROM orders ORDER BY name DESC NULLS LAST, price NULLS FIRST",
    ],
)
def test_another_spelling_of_a_query_reads_as_that_query(sql):
    assert parse_sql(sql, SCHEMA, "cs2") == SORTED


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "expected SELECT"),
        ("DROP TABLE orders", "expected SELECT"),
        ("FROM orders SELECT price", "expected SELECT"),
        ("SELECT price FROM orders; SELECT 1", "more than one statement"),
        ("SELECT price FROM orders;;", "more than one statement"),
        ("SELECT price FROM", "does not parse"),
        ("SELECT FROM orders", "nothing is selected"),
        ("SELECT", "FROM does not name a table"),
        ("SELECT price, FROM orders", "comma"),
        ("SELECT price FROM orders ORDER BY name,", "comma"),
        ("SELECT prize FROM orders", "no column `prize` in table `orders`"),
        ("SELECT price FROM order_s", "no table `order_s`"),
        ("SELECT price FROM orders ORDER BY nam", "no column `nam`"),
        ("SELECT * FROM orders", "Star"),
        ("SELECT orders.* FROM orders", "outside the grammar"),
        ("SELECT price AS p FROM orders", "Alias"),
        ("SELECT price p FROM orders", "Alias"),
        ("SELECT price + 1 FROM orders", "outside the grammar"),
        ("SELECT max(price) FROM orders", "Max"),
        ("SELECT (price) FROM orders", "Paren"),
        ("SELECT 'price' FROM orders", "Literal"),
        ("SELECT DISTINCT price FROM orders", "DISTINCT"),
        ("SELECT price FROM orders LIMIT 3", "LIMIT"),
        ("SELECT price FROM orders WHERE price > 1", "WHERE"),
        ("SELECT price FROM orders GROUP BY price", "GROUP"),
        ("SELECT price FROM orders, orders", "JOINS"),
        ("SELECT price FROM orders o", "ALIAS"),
        ("SELECT o.price FROM orders", "qualified by `o`"),
        ("SELECT price FROM main.orders", "DB"),
        ("SELECT price FROM (SELECT price FROM orders)", "FROM does not name a table"),
        ("WITH o AS (SELECT 1) SELECT price FROM orders", "expected SELECT"),
        ("SELECT price FROM orders UNION SELECT 1", "not a plain SELECT"),
        ("SELECT price FROM orders ORDER BY 1", "Literal"),
        ("SELECT price FROM orders ORDER BY price COLLATE NOCASE", "Collate"),
        ("SELECT price FROM orders ORDER BY price NULLS LAST", "NULLS"),
        ("SELECT price\x00 FROM orders", "control character"),
        ("SELECT " + "NOT " * 450 + "price FROM orders", "nested too deeply"),
        ("SELECT " + "price, " * 300 + "price FROM orders", "tokens"),
        ("S" * (MAX_CHARS + 1), "characters"),
    ],
)
def test_what_is_outside_the_grammar_is_refused_with_the_reason(sql, reason):
    with pytest.raises(SqlError) as caught:
        parse_sql(sql, SCHEMA, "cs2")
    assert reason in caught.value.message


def test_cs1_has_no_order_by():
    with pytest.raises(SqlError, match="it has ORDER BY"):
        parse_sql("SELECT price FROM orders ORDER BY price", SCHEMA, "cs1")
