"""Text with roles -> HTML."""

import re
from html import unescape

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.pages import FAMILIES, family, legend_html, text_html
from data_gen.text import Text

EXAMPLES = [make_example(DataConfig(command_sets=("cs1", "cs2")), index) for index in range(30)]


def test_the_page_says_the_text_and_names_every_role():
    for example in EXAMPLES:
        page = text_html(example.text)
        assert unescape(re.sub("<[^>]+>", "", page)) == example.text.string
        assert re.findall('title="([^"]+)"', page) == [span.role for span in example.text.spans]


def test_text_cannot_break_out_of_the_page():
    page = text_html(Text.of([("<script>alert('&')</script>", 'a"b')]))
    assert "<script>" not in page
    assert 'title="a&quot;b"' in page


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["english.table", "schema.table", "sql.table", "schema.tables.1.table"], "table"),
        (["english.select.0.column", "sql.select.11.column"], "column"),
        (["english.order_by.0.column", "sql.order_by.3.column"], "key"),
        (["english.order_by.0.direction", "sql.order_by.3.direction"], "direction"),
        (["schema.columns.2.name"], "schema column"),
        (["schema.columns.2.type"], "type"),
        (["english.order_by.phrase"], "phrase"),
        (["sql.select.keyword", "schema.keyword", "sql.from.keyword", "sql.order_by.keyword"], "keyword"),
        (["sql.select.separator", "english.order_by.separator", "schema.separator"], "separator"),
        (["prompt.markup"], "markup"),
        (["english.template", "something.else"], "template"),
    ],
)
def test_one_thing_has_one_colour_wherever_it_stands(roles, expected):
    assert {family(role) for role in roles} == {expected}


def test_every_family_is_in_the_legend_and_has_colours_of_its_own():
    for title, ink, _ in FAMILIES.values():
        assert title in legend_html()
        assert ink in legend_html()
    assert len(set(FAMILIES.values())) == len(FAMILIES)
