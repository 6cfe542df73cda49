"""Rows -> what is wrong with them: nothing with ours, and every planted defect is found."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples, write_example
from data_gen.query import COMMAND_SETS
from data_gen.read.parse import parse_sql
from data_gen.review.audit import Auditor, audit_rows
from data_gen.review.findings import PROPERTIES
from data_gen.review.rebuilt import read_style
from data_gen.review.rows import read_rows
from data_gen.say.style import Style
from data_gen.schema import parse_schema
from data_gen.store.columns import COLUMNS, PUBLISHED, example_table, published_table
from data_gen.store.published import import_rows
from data_gen.vocabulary.lexicon import LEXICONS

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
    assert set(PROPERTIES) - set(audit.checked) == {"databases"}
    assert all(audit.checked[name] == ROWS for name in audit.checked)


def test_rows_with_the_published_columns_alone_are_checked_as_far_as_they_go():
    audit = audit_rows(rows("cs4", columns=PUBLISHED))
    assert audit.is_clean, audit.findings
    unchecked = {"rendered", "one meaning per name", "phrases suit", "databases"}
    assert set(PROPERTIES) - set(audit.checked) == unchecked
    told = audit.to_json()
    assert {
        name: one["unchecked"] for name, one in told["properties"].items() if one["unchecked"]
    } == dict.fromkeys(unchecked, ROWS)
    assert told["absent columns"] == dict.fromkeys(set(COLUMNS) - set(PUBLISHED), ROWS)
    assert f"rendered                   could be checked on none of {ROWS}" in str(audit)
    assert f"style, on {ROWS} rows" in str(audit)


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_rows_that_were_exported_with_the_number_of_their_set_are_clean(name):
    config = DataConfig(command_sets=(name,), variant="syn")
    table = published_table(example_table(make_examples(config, 0, 3), seed=0, split="train")).to_pylist()
    audit = audit_rows(table, duckdb=False)
    assert audit.is_clean, audit.findings
    table[1]["select"] = "[]"
    assert audit_rows(table, duckdb=False).failed["columns agree"] == 1


@pytest.mark.parametrize("name", sorted({*COLUMNS} - {"order_by", "table_name_synonym"}))
def test_a_null_is_no_column_that_is_not_there(name):
    table = rows("cs2", 3)
    table[1][name] = None
    audit = audit_rows(table, duckdb=False)
    assert not audit.is_clean
    assert all(found[0].startswith("row 1: ") for found in audit.findings.values())
    del table[1][name]
    audit = audit_rows(table, duckdb=False)
    assert audit.absent[name] == 1
    assert audit.is_clean == (
        name not in ("command_set", "create_statement", "english_prompt", "sql_statement")
    )


@pytest.mark.parametrize(
    "style",
    ["", "7", '{"lexicon": 7}', '{"template": 1e9}', '{"a": ' + "[" * 100_000, '{"number": "\ud800"}'],
)
def test_a_style_that_cannot_be_read_is_a_finding(style):
    if style != '{"template": 1000}':
        with pytest.raises(InputError, match="not the JSON of a style"):
            read_style(style)
    table = rows("cs1", 2)
    table[1]["style"] = style
    assert audit_rows(table, duckdb=False).failed["rendered"] == 1


@pytest.mark.parametrize(("name", "expected"), [("query", "round trip"), ("prompt", "columns agree")])
def test_a_null_is_found_where_no_style_is_there_to_compare_with(name, expected):
    table = rows("cs2", 2, columns=(*PUBLISHED, "query", "prompt"))
    assert audit_rows(table, duckdb=False).is_clean
    table[1][name] = None
    assert audit_rows(table, duckdb=False).findings[expected] == [f"row 1: `{name}` is null"]


def test_rows_that_were_imported_are_held_against_their_query_alone(tmp_path):
    given = published_table(
        example_table(make_examples(DataConfig(), 0, 3), seed=0, split="train")
    ).to_pylist()
    path = tmp_path / "published.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    import_rows(path, tmp_path / "ours.parquet")
    table = list(read_rows(tmp_path / "ours.parquet"))
    audit = audit_rows(table, duckdb=False)
    assert audit.is_clean, audit.findings
    assert audit.checked["rendered"] == audit.checked["columns agree"] == 3
    assert not audit.checked["phrases suit"]
    for name in ("prompt", "roles", "query", "table_name"):
        assert not audit_rows([table[0], {**table[1], name: table[2][name]}], duckdb=False).is_clean
        assert not audit_rows([table[0], {**table[1], name: None}], duckdb=False).is_clean


def flip(row, table):
    sql = row["sql_statement"]
    row["sql_statement"] = sql.replace(" ASC", " DESC") if " ASC" in sql else sql.replace(" DESC", " ASC")


def only_one_create(row, table):
    row["create_statement"] = row["create_statement"].split(";")[0]


def reserved_name(row, table):
    for column in ("create_statement", "sql_statement"):
        row[column] = row[column].replace(f" {row['table_name']} ", " select ", 1)


def unknown_type(row, table):
    row["create_statement"] = row["create_statement"].removesuffix(" )") + ", place POINT )"


def second_answer(row, table):
    row |= {name: table[0][name] for name in ("english_prompt", "create_statement")}
    row["sql_statement"] = table[0]["sql_statement"].replace("SELECT ", "SELECT DISTINCT ")


def other_databases(row, table):
    row["databases"] = [["INSERT INTO harbors VALUES (1)"]]


def holds(sql, name, create=None, **style):
    """A plant that puts another whole row of ours there, which says what it should but is no good."""
    create = (
        create or "CREATE TABLE orders ( price INTEGER, name TEXT, day DATE, weight DECIMAL, open BOOLEAN )"
    )

    def plant(row, table):
        query = parse_sql(sql, parse_schema(create), name)
        row.clear()
        row.update(
            example_table([write_example(0, query, Style(**style))], seed=0, split="train").to_pylist()[0]
        )

    return plant


def a_name_and_its_synonym():
    """Two columns, of which one is called in words what the English may call the other."""
    words = LEXICONS["full"]
    name = next(name for name in words.columns if words.synonyms.get(name))
    synonym = words.synonyms[name][0].replace(" ", "_")
    return f"CREATE TABLE orders ( {name} INTEGER, {synonym} INTEGER )", synonym


CREATE, SYNONYM = a_name_and_its_synonym()


def lost_comma(row, table):
    row["sql_statement"] = row["sql_statement"].replace(",", "", 1)


def broken_sql(row, table):
    row["sql_statement"] = row["sql_statement"].replace(" FROM ", " FORM ", 1)


def shifted_roles(row, table):
    row["roles"][3]["end"] += 1
    row["roles"][4]["start"] += 1


def swapped_roles(row, table):
    first, second = row["roles"][1], row["roles"][2]
    first["role"], second["role"] = second["role"], first["role"]


def other_english(row, table):
    row["english_prompt"] = row["english_prompt"] + " grouped by nothing"


def empty_prompt(row, table):
    row["english_prompt"] = ""


def no_sql(row, table):
    del row["sql_statement"]


def other_query(row, table):
    query = json.loads(row["query"])
    query["select"] = query["select"][::-1] + query["select"][:1]
    row["query"] = json.dumps(query)


def damaged_query(row, table):
    row["query"] = row["query"][:-5]


WRONG = {
    "command_set": "cs4",
    "table_name": "harbors",
    "table_name_synonym": "ports",
    "table_name_use_synonym": True,
    "table_fields": "[]",
    "select": '[{"name": "fee", "aggregate": ""}]',
    "order_by": "[]",
    "index": -1,
    "seed": "7",
    "split": "nowhere",
    "variant": "nat",
}
"""Column -> a value that is wrong in every row of CS2 of variant base."""


def stated(name, value):
    def plant(row, table):
        row[name] = value

    return plant


DEFECTS: dict[str, tuple[Callable[..., None], str, str]] = {
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
    "a reserved word": (reserved_name, "cs1", "no reserved word"),
    "a type that nobody has": (unknown_type, "cs1", "schema parses"),
    "a column that is another's synonym": (
        holds(f"SELECT {SYNONYM} FROM orders", "cs1", CREATE, variant="nat"),
        "cs1",
        "one meaning per name",
    ),
    "a list of phrases for other columns": (
        holds("SELECT price FROM orders ORDER BY price ASC", "cs2", lexicon="wrong"),
        "cs2",
        "phrases suit",
    ),
    "halves of unequal width": (
        holds(
            "SELECT name, price FROM orders WHERE price > 3 UNION SELECT name FROM orders WHERE price > 5",
            "cs9",
        ),
        "cs1",
        "SQLite executes",
    ),
    "a literal of another type": (
        holds("SELECT name FROM orders WHERE day > 'amber'", "cs4"),
        "cs1",
        "SQLite executes",
    ),
    "an aggregate beside a bare column": (
        holds("SELECT name, SUM(price) AS SUM_price FROM orders", "cs3"),
        "cs1",
        "DuckDB executes",
    ),
    "more decimals than DuckDB keeps": (
        holds("SELECT name FROM orders WHERE weight > 1.23456", "cs4"),
        "cs1",
        "engines agree",
    ),
    "an order that leaves ties": (
        holds("SELECT name, price FROM orders ORDER BY open ASC", "cs2"),
        "cs1",
        "order is settled",
    ),
    "a condition too many": (
        holds("SELECT name FROM orders WHERE price > 3 AND price > 1", "cs4"),
        "cs1",
        "discriminating",
    ),
    "a limit of groups in no order": (
        holds("SELECT name, day, COUNT(price) AS COUNT_price FROM orders GROUP BY name, day LIMIT 2", "cs6"),
        "cs1",
        "rewrites accepted",
    ),
    "two answers to one question": (second_answer, "cs1", "one right answer"),
    "databases of another row": (other_databases, "cs1", "databases"),
    **{f"another {name}": (stated(name, value), "cs2", "columns agree") for name, value in WRONG.items()},
}


def test_every_property_has_a_planted_defect():
    assert {expected for _, _, expected in DEFECTS.values()} == set(PROPERTIES)


@pytest.fixture
def wrong_lexicon(monkeypatch):
    """A lexicon that says of numbers what it should say of dates."""
    full = LEXICONS["full"]
    phrases = {**full.wording.sort_phrases, "number": full.wording.sort_phrases["date"]}
    phrases["number"] = tuple(one for one in phrases["number"] if "newest" in str(one))
    wording = replace(full.wording, sort_phrases=phrases)
    monkeypatch.setitem(LEXICONS, "wrong", replace(full, wording=wording))


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_in_its_row(defect, wrong_lexicon):
    plant, name, expected = DEFECTS[defect]
    table = rows(name)
    victim = next(
        i
        for i, row in enumerate(table)
        if i > 0
        and "," in row["sql_statement"]
        and (name != "cs2" or "ORDER BY" in row["sql_statement"])
        and (name != "cs5" or "JOIN" in row["sql_statement"])
    )
    plant(table[victim], table)
    audit = audit_rows(table)
    assert not audit.is_clean
    assert audit.failed[expected] == 1
    assert audit.findings[expected][0].startswith(f"row {victim}: ")


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
    broken_sql(table[1], table)
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
