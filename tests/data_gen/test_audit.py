"""Rows -> what is wrong with them: nothing with ours, and every planted defect is found."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.query import COMMAND_SETS
from data_gen.review.audit import PROPERTIES, Auditor, audit_rows
from data_gen.store.columns import COLUMNS, PUBLISHED, example_table

ROWS = 8


def rows(name="cs5", n=ROWS, variant="base", columns=COLUMNS, split="train"):
    config = DataConfig(command_sets=(name,), variant=variant, split=split, max_columns=6)
    table = example_table(make_examples(config, 0, n), seed=0, split=split)
    return table.select(list(columns)).to_pylist()


@pytest.mark.parametrize("variant", ["base", "syn", "nat"])
@pytest.mark.parametrize("name", COMMAND_SETS)
def test_our_rows_have_every_property(name, variant):
    audit = audit_rows(rows(name, variant=variant))
    assert audit.is_clean, audit.findings
    assert set(audit.checked) == set(PROPERTIES)
    assert all(audit.checked[name] == ROWS for name in PROPERTIES)


def test_rows_with_the_published_columns_alone_are_checked_as_far_as_they_go():
    audit = audit_rows(rows("cs4", columns=PUBLISHED))
    assert audit.is_clean, audit.findings
    assert set(PROPERTIES) - set(audit.checked) == {"rendered", "one meaning per name", "phrases suit"}


def flip(row):
    sql = row["sql_statement"]
    row["sql_statement"] = sql.replace(" ASC", " DESC") if " ASC" in sql else sql.replace(" DESC", " ASC")


def only_one_create(row):
    row["create_statement"] = row["create_statement"].split(";")[0]


def reserved_name(row):
    name = row["table_name"]
    for column in ("create_statement", "sql_statement", "english_prompt", "prompt", "query"):
        row[column] = row[column].replace(name, "select")


def lost_comma(row):
    row["sql_statement"] = row["sql_statement"].replace(",", "", 1)


def broken_sql(row):
    row["sql_statement"] = row["sql_statement"].replace(" FROM ", " FORM ", 1)


def shifted_roles(row):
    row["roles"][3]["end"] += 1
    row["roles"][4]["start"] += 1


def swapped_roles(row):
    first, second = row["roles"][1], row["roles"][2]
    first["role"], second["role"] = second["role"], first["role"]


def other_english(row):
    row["english_prompt"] = row["english_prompt"] + " grouped by nothing"


def empty_prompt(row):
    row["english_prompt"] = ""


def no_sql(row):
    del row["sql_statement"]


def other_query(row):
    query = json.loads(row["query"])
    query["select"] = query["select"][::-1] + query["select"][:1]
    row["query"] = json.dumps(query)


def damaged_query(row):
    row["query"] = row["query"][:-5]


DEFECTS: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "a flipped direction": (flip, "cs2", "round trip"),
    "a missing CREATE of the joined table": (only_one_create, "cs5", "round trip"),
    "a comma too few": (lost_comma, "cs1", "round trip"),
    "SQL that is none": (broken_sql, "cs1", "SQL parses"),
    "roles that are shifted": (shifted_roles, "cs1", "rendered"),
    "roles that are exchanged": (swapped_roles, "cs1", "rendered"),
    "English that says more": (other_english, "cs1", "rendered"),
    "an empty question": (empty_prompt, "cs1", "rows have their columns"),
    "no SQL at all": (no_sql, "cs1", "rows have their columns"),
    "another query in JSON": (other_query, "cs1", "round trip"),
    "damaged JSON": (damaged_query, "cs1", "round trip"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_in_its_row(defect):
    plant, name, expected = DEFECTS[defect]
    table = rows(name)
    victim = next(
        i
        for i, row in enumerate(table)
        if "," in row["sql_statement"]
        and (name != "cs2" or "ORDER BY" in row["sql_statement"])
        and (name != "cs5" or "JOIN" in row["sql_statement"])
    )
    plant(table[victim])
    audit = audit_rows(table)
    assert not audit.is_clean
    assert audit.failed[expected] == 1
    assert audit.findings[expected][0].startswith(f"row {victim}: ")


def test_a_reserved_word_as_a_name_is_found():
    table = rows("cs1")
    for column in ("create_statement", "sql_statement"):
        table[2][column] = table[2][column].replace(f" {table[2]['table_name']} ", " select ", 1)
    audit = audit_rows(table)
    assert audit.findings["no reserved word"] == ["row 2: `select` is a reserved word"]


@pytest.mark.parametrize("word", ["group", "order", "values", "table"])
def test_a_reserved_word_as_a_column_is_found_and_nothing_is_executed(word):
    table = rows("cs1")
    name = json.loads(table[2]["table_fields"])[0]["name"]
    for column in ("create_statement", "sql_statement", "query"):
        table[2][column] = table[2][column].replace(name, word)
    audit = audit_rows(table)
    assert not audit.is_clean
    assert audit.failed["no reserved word"] + audit.failed["SQL parses"] >= 1


def test_two_answers_to_one_prompt_are_found():
    table = rows("cs2")
    table.append({**table[0], "sql_statement": table[1]["sql_statement"]})
    audit = audit_rows(table)
    assert audit.failed["one right answer"] == 1
    assert audit.findings["one right answer"][0].startswith(f"row {ROWS}: ")


def test_the_same_row_twice_is_no_second_answer():
    table = rows("cs1")
    assert audit_rows([*table, *table]).failed["one right answer"] == 0


def test_an_audit_without_duckdb_says_nothing_of_it():
    auditor = Auditor(duckdb=False)
    for number, row in enumerate(rows("cs1", 3)):
        auditor.add(row, number)
    assert auditor.audit.is_clean
    assert not auditor.audit.checked["DuckDB executes"]


def test_an_audit_as_json_has_counts_and_findings():
    table = rows("cs1")
    broken_sql(table[1])
    told = audit_rows(table).to_json()
    assert told["rows"] == ROWS
    assert told["clean"] is False
    assert told["properties"]["SQL parses"]["failed"] == 1
    assert told["properties"]["SQL parses"]["findings"]
    json.dumps(told)


def test_a_phrase_of_another_kind_or_direction_is_found():
    from data_gen.review.wordcheck import misused_phrases

    @dataclass
    class Said:
        query: Any
        english: Any

    found = 0
    for example in make_examples(DataConfig(command_sets=("cs2",)), 0, 60):
        if not example.query.order_by:
            continue
        assert not list(misused_phrases(example))
        key = example.query.order_by[0]
        kind = {c.name: c.kind for c in example.query.schema.tables[0].columns}[key.column]
        pieces = [
            (" alphabetically" if role == "english.order_by.0.direction" else piece, role)
            for piece, role in example.english.pieces()
        ]
        wrong = Said(example.query, type(example.english).of(pieces))
        if kind in ("number", "date"):
            assert any("is said of a column" in problem for problem in misused_phrases(wrong))
            found += 1
        grouped = [
            (" grouped by" if role == "english.order_by.phrase" else piece, role)
            for piece, role in example.english.pieces()
        ]
        wrong = Said(example.query, type(example.english).of(grouped))
        assert any("speaks of groups" in problem for problem in misused_phrases(wrong))
        said = "descending" if key.direction == "ASC" else "ascending"
        turned = [
            (f" {said}" if role == "english.order_by.0.direction" else piece, role)
            for piece, role in example.english.pieces()
        ]
        wrong = Said(example.query, type(example.english).of(turned))
        assert any("does not say" in problem for problem in misused_phrases(wrong))
    assert found > 10
