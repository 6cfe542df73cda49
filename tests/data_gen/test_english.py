"""Query + style -> English."""

import pytest

from data_gen.config import DataConfig
from data_gen.english import Style, write_english
from data_gen.example import make_example
from data_gen.phrases import SortPhrase, Template
from data_gen.query import OrderBy, Query, SelectItem
from data_gen.schema import Column, Schema, Table

SCHEMA = Schema(
    (Table("orders", (Column("price", "REAL"), Column("name", "TEXT"), Column("age", "INTEGER"))),)
)
LOWEST = SortPhrase.parse("[lowest] first", "[highest] first", ("REAL",))
IN_ORDER = SortPhrase.parse("in [ascending] order", "in [descending] order", ("TEXT",))


def query(*select, order_by=()):
    return Query(
        "cs2", SCHEMA, "orders", tuple(map(SelectItem, select)), tuple(OrderBy(*key) for key in order_by)
    )


@pytest.mark.parametrize(
    ("asked", "style", "english"),
    [
        (
            query("price"),
            Style(template=Template.parse("show the {columns} of {table}")),
            "show the price of orders",
        ),
        (
            query("name", "price"),
            Style(template=Template.parse("list {columns}")),
            "list name and price",
        ),
        (
            query("name", "price", "age"),
            Style(template=Template.parse("from {table}, list {columns}"), last_separator=","),
            "from orders, list name, price, age",
        ),
        (
            query("age", order_by=[("price", "DESC"), ("name", "ASC")]),
            Style(template=Template.parse("list {columns}"), phrases=(LOWEST, IN_ORDER)),
            "list age sorted by price highest first, then by name in ascending order",
        ),
        (
            query("age", order_by=[("price", "ASC"), ("name", "DESC")]),
            Style(
                template=Template.parse("list {columns}"), phrases=(LOWEST, IN_ORDER), opener="and sort by"
            ),
            "list age and sort by price lowest first, then by name in descending order",
        ),
    ],
)
def test_english_says_the_query(asked, style, english):
    assert write_english(asked, style).string == english


def test_the_direction_role_holds_exactly_the_word_that_says_it():
    style = Style(template=Template.parse("list {columns}"), phrases=(IN_ORDER,))
    pieces = write_english(query("age", order_by=[("name", "DESC")]), style).pieces()
    assert (" descending", "english.order_by.0.direction") in pieces
    assert (" in", "english.order_by.phrase") in pieces
    assert (" order", "english.order_by.phrase") in pieces


def test_every_sort_key_carries_a_phrase_of_its_own_that_suits_its_type():
    for index in range(300):
        example = make_example(DataConfig(command_sets=("cs2",)), index)
        table = example.query.schema.tables[0]
        assert len(example.style.phrases) == len(example.query.order_by)
        for key, phrase in zip(example.query.order_by, example.style.phrases, strict=True):
            assert table.column(key.column).type in phrase.types


def test_a_style_with_too_few_phrases_is_refused():
    with pytest.raises(ValueError, match="zip"):
        write_english(
            query("age", order_by=[("name", "DESC")]), Style(template=Template.parse("list {columns}"))
        )
