"""Text with roles -> HTML."""

import re
from html import unescape

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.pages import FAMILIES, family, legend_html, text_html
from data_gen.query import COMMAND_SETS
from data_gen.say.style import VARIANTS
from data_gen.text import Text

SETS = tuple(COMMAND_SETS)
EXAMPLES = [
    example
    for variant in VARIANTS
    for example in make_examples(DataConfig(command_sets=SETS, variant=variant, max_columns=6), 0, 1000)
]
ROLES = sorted({span.role for example in EXAMPLES for span in example.text.spans})


def test_the_page_says_the_text_and_names_every_role():
    for example in EXAMPLES[::50]:
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
        (["english.table", "schema.table", "sql.table", "schema.tables.1.table", "sql.cte.name"], "table"),
        (["sql.join.0.alias", "english.join.0.left.table", "schema.columns.1.references"], "table"),
        (
            ["english.select.0.column", "sql.select.11.column", "sql.where.1.subquery.select.0.column"],
            "column",
        ),
        (["sql.select.0.aggregate", "english.order_by.1.aggregate", "sql.having.0.aggregate"], "aggregate"),
        (["sql.select.2.function", "english.select.2.function"], "window"),
        (["sql.join.0.kind", "english.join.1.right.column", "sql.join.0.operator"], "join"),
        (["sql.where.0.1.column", "english.having.0.column", "sql.where.0.operator"], "condition"),
        (["sql.where.1.subquery.where.0.other.column", "english.cte.where.0.column"], "condition"),
        (["sql.where.0.value", "english.where.0.low", "sql.where.0.2.value", "sql.having.0.value"], "value"),
        (["sql.group_by.0.column", "english.select.1.partition_by.0.column"], "group"),
        (["english.order_by.0.column", "sql.order_by.3.column", "sql.select.1.order_by.0.column"], "key"),
        (["english.order_by.0.direction", "sql.select.1.order_by.0.direction"], "direction"),
        (["sql.limit.value", "english.limit.value", "sql.distinct", "english.distinct"], "limit"),
        (["english.where.0.subquery.phrase", "english.cte.phrase", "sql.compound.operator"], "subquery"),
        (["schema.columns.2.name", "schema.tables.1.columns.0.name"], "schema column"),
        (["schema.columns.2.type", "schema.columns.0.key"], "type"),
        (["english.order_by.phrase", "english.group_by.phrase", "english.limit.phrase"], "phrase"),
        (["sql.select.keyword", "schema.keyword", "sql.where.0.keyword", "english.where.keyword"], "keyword"),
        (["sql.select.separator", "sql.where.0.bracket", "sql.join.0.left.qualifier"], "separator"),
        (["prompt.markup"], "markup"),
        (["english.template", "something.else"], "template"),
    ],
)
def test_one_thing_has_one_colour_wherever_it_stands(roles, expected):
    assert {family(role) for role in roles} == {expected}


def test_every_role_of_every_set_and_variant_has_a_family_of_its_own():
    assert len(ROLES) > 400
    # Only the words of an instruction are a template: anything else would have been forgotten.
    assert [role for role in ROLES if family(role) == "template"] == ["english.template"]
    assert {family(role) for role in ROLES} == set(FAMILIES)


def test_a_slot_has_one_family_in_english_and_in_sql():
    words = {"keyword", "separator", "phrase", "operator"}
    for role in ROLES:
        kind, _, slot = role.partition(".")
        if kind == "english" and f"sql.{slot}" in ROLES and slot.split(".")[-1] not in words:
            assert family(role) == family(f"sql.{slot}")


def test_every_family_is_in_the_legend_and_has_colours_of_its_own():
    for title, ink, _ in FAMILIES.values():
        assert f">{title}<" in legend_html()
        assert ink in legend_html()
    assert len(set(FAMILIES.values())) == len(FAMILIES) <= 20
    coloured = [background for _, _, background in FAMILIES.values() if background != "transparent"]
    assert len(set(coloured)) == len(coloured) == 16


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_ink_stands_out_from_its_background(name):
    _, ink, background = FAMILIES[name]
    dark, light = _luminance(ink), _luminance("#ffffff" if background == "transparent" else background)
    # What WCAG asks for text of any size.
    assert (light + 0.05) / (dark + 0.05) >= 4.5
