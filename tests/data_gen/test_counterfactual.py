"""Config + edit -> pairs: one span of the prompt differs, the SQL differs, both sides are valid examples."""

import pytest

from data_gen.config import DataConfig
from data_gen.counterfactual import counterfactuals, make_pair
from data_gen.edits import EDITS
from data_gen.errors import InputError
from data_gen.example import write_example
from data_gen.grade import grade
from data_gen.sampling import is_test_schema

CASES = [
    (edit, split, lexicon)
    for edit in EDITS
    for split, lexicon in [("test", "full"), ("train", "demo"), ("names", "full")]
]
every_case = pytest.mark.parametrize(("edit", "split", "lexicon"), CASES)


def pairs_of(edit, split, lexicon, n=60):
    config = DataConfig(command_sets=("cs2",), split=split, lexicon=lexicon, max_columns=8)
    return counterfactuals(config, edit=edit, n=n)


def differing(a, b):
    assert [span.role for span in a.spans] == [span.role for span in b.spans]
    return [(role, x, y) for (x, role), (y, _) in zip(a.pieces(), b.pieces(), strict=True) if x != y]


@every_case
def test_exactly_one_span_of_the_prompt_differs_and_it_is_the_edited_one(edit, split, lexicon):
    expected = {
        "schema.table": "schema.table",
        "select.0.column": "english.select.0.column",
        "order_by.0.direction": "english.order_by.0.direction",
    }
    for pair in pairs_of(edit, split, lexicon):
        [(role, clean, corrupt)] = differing(pair.clean.prompt, pair.corrupt.prompt)
        assert role == expected[edit]
        assert len(clean.split()) == len(corrupt.split()) == 1
        assert clean.count("_") == corrupt.count("_")


@every_case
def test_exactly_one_span_of_the_sql_differs(edit, split, lexicon):
    for pair in pairs_of(edit, split, lexicon):
        [(role, _, _)] = differing(pair.clean.sql, pair.corrupt.sql)
        assert role.removeprefix("sql.") == edit.removeprefix("schema.")


@every_case
def test_both_sides_are_valid_examples_of_their_split(edit, split, lexicon):
    for pair in pairs_of(edit, split, lexicon):
        for side in (pair.clean, pair.corrupt):
            assert write_example(side.index, side.query, side.style) == side
            if split != "names":
                assert is_test_schema(side.query.schema, 0.1) == (split == "test")


@pytest.mark.parametrize("edit", EDITS)
def test_each_side_is_right_for_itself_and_wrong_for_the_other(edit):
    for pair in pairs_of(edit, "test", "full", 25):
        for one, other in [(pair.clean, pair.corrupt), (pair.corrupt, pair.clean)]:
            assert grade(one, one.sql.string).execution
            assert not grade(one, other.sql.string).execution


def test_the_english_of_a_table_pair_does_not_name_the_table():
    for pair in pairs_of("schema.table", "test", "full"):
        assert not pair.clean.style.mentions_table
        assert pair.clean.english == pair.corrupt.english


def test_the_new_column_is_in_the_schema_and_was_neither_selected_nor_a_key():
    for pair in pairs_of("select.0.column", "test", "full"):
        query, new = pair.clean.query, pair.corrupt.query.select[0].column
        assert new in {column.name for column in query.schema.tables[0].columns}
        assert new not in {i.column for i in query.select} | {k.column for k in query.order_by}
        assert pair.clean.schema_text == pair.corrupt.schema_text


def test_pairs_depend_on_seed_and_index_alone():
    first = counterfactuals("cs2", edit="order_by.0.direction", n=8, seed=1)
    assert counterfactuals("cs2", edit="order_by.0.direction", n=4, seed=1) == first[:4]
    assert counterfactuals("cs2", edit="order_by.0.direction", n=4, seed=2) != first[:4]
    config = DataConfig(command_sets=("cs2",), split="test")
    assert make_pair(config, "order_by.0.direction", 3, 1) == first[3]


def test_pairs_never_have_random_names():
    config = DataConfig(command_sets=("cs1",), random_names=1.0)
    tables = {pair.clean.query.table for pair in counterfactuals(config, edit="schema.table", n=30)}
    assert any("_" not in table for table in tables)


def test_an_edit_that_needs_order_by_takes_only_sets_that_have_it():
    config = DataConfig(command_sets=("cs1", "cs2"), split="test")
    pairs = counterfactuals(config, edit="order_by.0.direction", n=6)
    assert {pair.clean.query.command_set for pair in pairs} == {"cs2"}


@pytest.mark.parametrize(
    ("config", "edit", "n", "reason"),
    [
        ("cs1", "order_by.0.direction", 1, "needs ORDER BY, which cs1 does not have"),
        ("cs2", "order_by.direction", 1, "did you mean `order_by.0.direction`"),
        ("cs3", "schema.table", 1, "no command set `cs3`"),
        ("cs2", "schema.table", 0, "n is 0"),
        (DataConfig(min_columns=1, max_columns=1), "select.0.column", 1, "no row in 1000 can be changed"),
    ],
)
def test_a_pair_that_cannot_be_made_is_one_sentence(config, edit, n, reason):
    with pytest.raises(InputError) as caught:
        counterfactuals(config, edit=edit, n=n)
    assert reason in caught.value.message
