"""The statistics of rows are those that a person counts by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.read.parse import parse_sql
from data_gen.review.outline import CLAUSES, clauses
from data_gen.review.stats import Stats, lexical_density, mean, reading_ease, stats, syllables
from data_gen.schema import parse_schema
from data_gen.store.columns import example_table

SETS = tuple(f"cs{number}" for number in range(1, 11))
SCHEMA = parse_schema("CREATE TABLE orders ( price INTEGER, name TEXT, day DATE )")
SQL = {
    "SELECT name, price FROM orders": [],
    "SELECT price FROM orders WHERE price > 3 AND name LIKE '%a%' ORDER BY day DESC, price ASC": [
        "WHERE",
        "ORDER BY",
    ],
    "SELECT name, SUM(price) AS SUM_price FROM orders GROUP BY name ORDER BY name ASC": [
        "GROUP BY",
        "ORDER BY",
    ],
}


def by_hand() -> list[dict[str, Any]]:
    """One row per entry of `SQL`, all of CS4."""
    [example] = make_examples(DataConfig(command_sets=("cs4",)), 0, 1)
    queries = [parse_sql(sql, SCHEMA, "cs4") for sql in SQL]
    made = [Example(index=i, query=query, style=example.style) for i, query in enumerate(queries)]
    rows: list[dict[str, Any]] = example_table(made, seed=0, split="train").to_pylist()
    return rows


@pytest.mark.parametrize("sql", SQL)
def test_the_clauses_of_a_query_are_named(sql: str) -> None:
    assert clauses(parse_sql(sql, SCHEMA, "cs4")) == SQL[sql]


def test_counts_agree_with_a_count_by_hand() -> None:
    found = stats(by_hand()).sets["cs4"]
    assert found.rows == 3
    assert found.clauses == {"ORDER BY": 2, "WHERE": 1, "GROUP BY": 1}
    assert found.share("WHERE") == pytest.approx(1 / 3)
    assert found.operators == {">": 1, "LIKE": 1}
    assert found.functions == {"SUM": 1}
    assert found.directions == {"ASC": 2, "DESC": 1, "mixed": 1}
    assert found.columns == {3: 3}
    assert found.selected == {1: 1, 2: 2}
    assert found.keys == {0: 1, 1: 1, 2: 1}
    assert found.conditions == {0: 2, 2: 1}
    assert found.distinct == {"prompt": 3, "sql": 3, "skeleton": 3}


def test_lengths_are_those_of_the_texts() -> None:
    rows = by_hand()
    found = stats(rows).sets["cs4"]
    assert sorted(found.characters["sql"]) == sorted(map(len, SQL))
    assert mean(found.words["sql"]) == pytest.approx(sum(len(sql.split()) for sql in SQL) / 3)
    assert found.bytes == sum(len((row["prompt"] + row["sql_statement"]).encode()) for row in rows)


def test_every_character_of_prompt_and_sql_has_one_role() -> None:
    rows = by_hand()
    found = stats(rows).sets["cs4"]
    assert found.roles.total() == sum(len(row["prompt"]) + 1 + len(row["sql_statement"]) for row in rows)
    assert found.roles["sql.where.operator"] == len(" > LIKE")
    assert not any(part.isdigit() for role in found.roles for part in role.split("."))


def test_sets_come_in_their_order_and_repeated_rows_count_once_as_distinct() -> None:
    config = DataConfig(command_sets=("cs10", "cs2", "cs4-where"))
    rows = example_table(make_examples(config, 0, 30), seed=0, split="train").to_pylist()
    found = stats(rows + rows)
    assert list(found.sets) == ["cs2", "cs10", "cs4-where"]
    assert found.sets["cs2"].rows == 20
    assert found.sets["cs2"].distinct["prompt"] == 10


def test_the_table_names_what_occurs_and_json_holds_all() -> None:
    rows = example_table(
        make_examples(DataConfig(command_sets=SETS), 0, 300), seed=0, split="train"
    ).to_pylist()
    found = stats(rows)
    table = str(found)
    assert {clause for one in found.sets.values() for clause in one.clauses} == set(CLAUSES)
    assert {line[:18].strip() for line in table.splitlines()} >= set(CLAUSES)
    assert all(len(line) == len(table.splitlines()[0]) for line in table.splitlines())
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["cs6"]["clauses"]["HAVING"] == found.sets["cs6"].clauses["HAVING"] > 0


def test_columns_of_the_table_stand_apart_however_wide_numbers_are() -> None:
    one = stats(by_hand()).sets["cs4"]
    sets = {name: replace(one, bytes=10**12) for name in ("cs1", "cs2+where-order_by+limit")}
    lines = str(Stats(sets=sets)).splitlines()
    assert lines[0].split() == list(sets)
    [told] = [line for line in lines if line.startswith("bytes")]
    assert told.split() == ["bytes", "1,000,000,000,000", "1,000,000,000,000"]
    assert {len(line) for line in lines} == {len(told)}
    assert str(Stats(sets={}))


def test_no_rows_have_no_statistics() -> None:
    assert stats([]).sets == {}


def test_rows_without_our_columns_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="row 0 has no column 'prompt'"):
        stats([{"command_set": "cs1", "sql_statement": "SELECT price FROM orders"}])


@pytest.mark.parametrize("column", ["prompt", "english_prompt", "sql_statement", "query", "roles"])
def test_a_row_with_a_null_or_with_something_else_is_refused_by_its_number(column: str) -> None:
    one, two, _ = by_hand()
    for wrong in (None, 7, ["{}"], *(["\ud800"] if column == "prompt" else [])):
        with pytest.raises(InputError, match="row 1"):
            stats([one, {**two, column: wrong}])


@pytest.mark.parametrize(
    ("word", "count"), [("price", 1), ("table", 2), ("category", 4), ("the", 1), ("order", 2), ("age", 1)]
)
def test_syllables_are_counted_by_the_stated_rule(word: str, count: int) -> None:
    assert syllables(word) == count


def test_reading_ease_is_flesch_s_formula() -> None:
    # Six words, one sentence, seven syllables: show the price of all or-ders.
    assert reading_ease("show the price of all orders") == pytest.approx(206.835 - 1.015 * 6 - 84.6 * 7 / 6)
    # Two sentences of two words each, four syllables.
    assert reading_ease("show me. that price?") == pytest.approx(206.835 - 1.015 * 2 - 84.6)
    assert reading_ease("") == 0.0


def test_lexical_density_is_the_share_of_words_with_a_meaning() -> None:
    assert lexical_density("show the price of all orders") == pytest.approx(3 / 6)
    assert lexical_density("") == 0.0
