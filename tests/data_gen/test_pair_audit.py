"""Pairs -> what is wrong with them: nothing with ours, and every planted defect is found in its pair."""

import json

import pytest
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.example import write_example
from data_gen.pairs.counterfactual import CounterfactualPair, make_pair
from data_gen.pairs.edits import EDITS, sets_with
from data_gen.query import Query
from data_gen.read.parse import parse_sql
from data_gen.review.audit import audit_rows
from data_gen.review.findings import PAIR_PROPERTIES, PROPERTIES
from data_gen.review.pairs import pair_problems
from data_gen.review.rebuilt import read_style
from data_gen.say.style import PRIME, Style
from data_gen.schema import Column, Schema, parse_schema
from data_gen.store.columns import example_table
from data_gen.store.pair_columns import pair_table

OPEN = parse_schema("CREATE TABLE orders ( price INTEGER, name TEXT, open BOOLEAN )")


def pairs_of(edit, n=2, name=None):
    config = DataConfig(command_sets=(name or sets_with(EDITS[edit])[0],), split="test", max_columns=6)
    return pair_table(
        [make_pair(config, edit, i) for i in range(n)], seed=0, split="test", tokenizer=None
    ).to_pylist()


@pytest.mark.parametrize("edit", EDITS)
def test_pairs_of_every_edit_keep_their_promises(edit):
    config = DataConfig(command_sets=(sets_with(EDITS[edit])[0],), split="test")
    for index in range(2):
        pair = make_pair(config, edit, index)
        row = pair_table([pair], seed=0, split="test", tokenizer=None).to_pylist()[0]
        found = dict(pair_problems(row, pair.clean, pair.corrupt, None))
        assert found == dict.fromkeys(set(PAIR_PROPERTIES) - {"tokens located"})


def test_both_sides_of_a_pair_are_audited_as_rows():
    audit = audit_rows(pairs_of("where.0.value"))
    assert audit.is_clean, audit.findings
    assert (audit.pairs, audit.rows) == (2, 4)
    assert {name for name in PROPERTIES if audit.checked[name] != 4} == {"databases"}
    assert {name for name in PAIR_PROPERTIES if audit.checked[name] != 2} == {"tokens located"}
    assert str(audit).startswith("2 pairs, 4 sides")
    json.dumps(audit.to_json())


def corrupt_says(sql, **columns):
    """A plant that has the corrupt side say something else, in texts and columns that fit it."""

    def plant(row):
        schema, style = Query.from_json(row["clean_query"]).schema, read_style(row["clean_style"])
        query = parse_sql(sql(row["clean_sql_statement"]), schema, row["command_set"])
        other = example_table([write_example(0, query, style)], seed=0, split="test").to_pylist()[0]
        row.update({f"corrupt_{name}": other[name] for name in ("prompt", "sql_statement", "query", "roles")})
        row.update(columns)

    return plant


def the_other_style(row):
    style = json.loads(row["corrupt_style"])
    style["number"] = style.get("number", 0) + 1
    query = Query.from_json(row["corrupt_query"])
    example = write_example(0, query, read_style(json.dumps(style)))
    row.update(corrupt_style=json.dumps(style), corrupt_prompt=example.prompt.string)


def a_column_more(row):
    query = Query.from_json(row["corrupt_query"])
    [table] = query.schema.tables
    wider = replace(table, columns=(*table.columns, Column("bay", "TEXT")))
    query = replace(query, schema=Schema((wider,)))
    other = example_table([write_example(0, query, read_style(row["corrupt_style"]))], seed=0, split="test")
    row.update({f"corrupt_{name}": other[name][0].as_py() for name in ("prompt", "query", "roles")})


def swap(sql):
    return sql.replace(" ASC", " X").replace(" DESC", " ASC").replace(" X", " DESC")


def without_order(sql):
    return sql.split(" ORDER BY")[0]


PAIR_DEFECTS = {
    "a prompt of nobody": (lambda row: row.update(corrupt_prompt="sort it"), "rows have their columns"),
    "another word in one prompt": (
        lambda row: row.update(
            clean_prompt=row["clean_prompt"].replace("Instruction:", "Instruction: please", 1)
        ),
        "rendered",
    ),
    "shifted roles": (lambda row: row["corrupt_roles"][2].update(end=1), "rendered"),
    "an answer turned round": (
        lambda row: row.update(corrupt_sql_statement=swap(row["corrupt_sql_statement"])),
        "round trip",
    ),
    "a query of nobody": (lambda row: row.update(clean_query="{}"), "round trip"),
    "a null style": (lambda row: row.update(clean_style=None), "rendered"),
    "another set": (lambda row: row.update(command_set="cs7"), "round trip"),
    "another variant": (lambda row: row.update(variant="nat"), "columns agree"),
    "another split": (lambda row: row.update(split="nowhere"), "columns agree"),
    "two sides alike": (corrupt_says(lambda sql: sql), "one edit"),
    "another edit": (lambda row: row.update(edit="select.0.column"), "one edit"),
    "no edit": (lambda row: row.update(edit=None), "one edit"),
    "a second change": (corrupt_says(without_order), "one edit"),
    "another style": (the_other_style, "one edit"),
    "another schema": (a_column_more, "one schema"),
    "an order with ties": (
        corrupt_says(lambda sql: f"{without_order(sql)} ORDER BY open ASC", edit="order_by.0.column"),
        "sides are sound",
    ),
    "a change elsewhere": (lambda row: row["clean_prompt_change"].update(start=0), "change located"),
    "a change of the answer elsewhere": (
        lambda row: row["corrupt_sql_change"].update(end=999),
        "change located",
    ),
    "no change": (lambda row: row.update(corrupt_prompt_change=None), "change located"),
}


def test_every_promise_of_pairs_has_a_planted_defect():
    assert {expected for _, expected in PAIR_DEFECTS.values()} >= set(PAIR_PROPERTIES) - {"tokens located"}


@pytest.mark.parametrize("defect", PAIR_DEFECTS)
def test_a_defect_planted_in_a_pair_is_found(defect):
    plant, expected = PAIR_DEFECTS[defect]
    table = pairs_of("order_by.0.direction")
    if defect == "an order with ties":
        clean, corrupt = (
            write_example(
                1, parse_sql(f"SELECT price, name FROM orders ORDER BY price {way}", OPEN, "cs2"), Style()
            )
            for way in ("ASC", "DESC")
        )
        pair = CounterfactualPair(edit="order_by.0.direction", clean=clean, corrupt=corrupt)
        table[1] = pair_table([pair], seed=0, split="test", tokenizer=None).to_pylist()[0]
        assert audit_rows(table, duckdb=False).is_clean
    plant(table[1])
    audit = audit_rows(table, duckdb=False)
    assert not audit.is_clean
    assert audit.failed[expected] >= 1
    assert all(finding.startswith("pair 1") for found in audit.findings.values() for finding in found)


def test_two_styles_and_two_equal_answers_are_named():
    up, down = (
        parse_sql(f"SELECT price, name FROM orders ORDER BY price {way}", OPEN, "cs2")
        for way in ("ASC", "DESC")
    )
    clean, alike = write_example(0, up, Style()), write_example(0, down, Style(number=PRIME))
    assert alike.prompt == write_example(0, down, Style()).prompt
    edit = {"edit": "order_by.0.direction"}
    assert dict(pair_problems(edit, clean, alike, None))["one edit"] == "the sides are said in two styles"
    assert "both sides have the answer" in (dict(pair_problems(edit, clean, clean, None))["one edit"] or "")
