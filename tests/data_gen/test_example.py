"""Config + index -> example: purity, splits, spans, and no prompt with two right answers."""

import subprocess
import sys

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example, prompt_string
from data_gen.query import COMMAND_SETS, Query
from data_gen.sampling import is_test_schema

BOTH = ("cs1", "cs2")
TRAIN = DataConfig(command_sets=BOTH, random_names=0.3)
TEST = DataConfig(command_sets=BOTH, split="test")
NAMES = DataConfig(command_sets=BOTH, split="names")
DEMO = DataConfig(command_sets=BOTH, lexicon="demo", max_columns=6)
CONFIGS = [TRAIN, TEST, NAMES, DEMO]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=["train", "test", "names", "demo"])


def rows(config, n=300):
    return [make_example(config, index) for index in range(n)]


def contents(example):
    table = example.query.schema.tables[0]
    return table.name, frozenset(column.name for column in table.columns)


def names(example):
    table = example.query.schema.tables[0]
    return {table.name, *(column.name for column in table.columns)}


@every_config
def test_a_row_does_not_depend_on_other_rows(config):
    forwards = rows(config, 50)
    backwards = [make_example(config, index) for index in reversed(range(50))][::-1]
    assert forwards == backwards
    assert len({example.text.string for example in forwards}) > 45


def test_a_row_is_the_same_in_another_process():
    code = (
        "from data_gen.example import *; import sys;"
        "print(make_example(DataConfig(command_sets=('cs1', 'cs2'), random_names=0.3), 7).text.string)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "99"}
    )
    assert told.stdout.strip() == make_example(TRAIN, 7).text.string


def test_rows_are_what_they_were_when_this_test_was_written():
    assert make_example(DEMO, 1).text.string == (
        "### Instruction: find votes in hats ordered by votes in ascending order ### Context: CREATE TABLE hats "
        "( votes INTEGER, order_day DATE, weight REAL, fee REAL ) ### Response: "
        "SELECT votes FROM hats ORDER BY votes ASC"
    )


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "test"}, {"lexicon": "demo"}])
def test_seed_split_and_lexicon_each_give_other_rows(change):
    values = {**DataConfig().to_dict(), **change}
    assert rows(DataConfig(**values), 20) != rows(DataConfig(), 20)


@every_config
def test_command_sets_alternate_by_index(config):
    assert [example.query.command_set for example in rows(config, 4)] == ["cs1", "cs2", "cs1", "cs2"]


@every_config
def test_spans_cover_every_character_and_no_token_straddles_two(config):
    for example in rows(config, 100):
        text = example.text
        assert text.string == f"{example.prompt.string} {example.sql.string}"
        assert text.spans[0].start == 0
        assert text.spans[-1].end == len(text.string)
        for left, right in zip(text.spans, text.spans[1:], strict=False):
            assert left.end == right.start
            assert left.role != right.role
            # A span begins where a byte-level token begins: at a space or at a comma.
            assert text.string[right.start] in " ,"


@every_config
def test_a_named_role_holds_the_name_of_the_query(config):
    for example in rows(config, 100):
        query, table = example.query, example.query.schema.tables[0]
        pieces = {role: piece.strip() for piece, role in example.text.pieces()}
        assert pieces["schema.table"] == pieces["sql.table"] == query.table
        assert pieces.get("english.table", query.table) == query.table
        assert ("english.table" in pieces) == example.style.mentions_table
        for index, item in enumerate(query.select):
            assert (
                pieces[f"english.select.{index}.column"]
                == pieces[f"sql.select.{index}.column"]
                == item.column
            )
        for index, key in enumerate(query.order_by):
            assert (
                pieces[f"english.order_by.{index}.column"]
                == pieces[f"sql.order_by.{index}.column"]
                == key.column
            )
            assert pieces[f"sql.order_by.{index}.direction"] == key.direction
            assert pieces[f"english.order_by.{index}.direction"]
        for index, column in enumerate(table.columns):
            assert pieces[f"schema.columns.{index}.name"] == column.name
            assert pieces[f"schema.columns.{index}.type"] == column.type


@every_config
def test_english_is_one_line_with_single_spaces_and_no_question_mark(config):
    for example in rows(config):
        english = example.english.string
        assert english == " ".join(english.split())
        assert "?" not in english
        assert example.prompt.string == prompt_string(english, example.schema_text.string)


@every_config
def test_two_columns_of_a_schema_never_share_a_name(config):
    for example in rows(config):
        table = example.query.schema.tables[0]
        assert len(contents(example)[1]) == len(table.columns)
        assert config.min_columns <= len(table.columns) <= config.max_columns
        assert table.name not in contents(example)[1]


def test_no_schema_of_test_is_in_train_for_any_seed_or_size():
    few = {"lexicon": "demo", "max_columns": 2}
    test = {contents(e) for s in range(3) for e in rows(DataConfig(split="test", seed=s, **few), 700)}
    train = {contents(e) for s in range(3) for e in rows(DataConfig(seed=s, **few), 2000)}
    assert len(test) > 1000
    assert not test & train


def test_the_order_of_columns_does_not_change_the_split():
    from data_gen.schema import Schema, Table

    for example in rows(TEST, 100):
        table = example.query.schema.tables[0]
        turned = Schema((Table(table.name, table.columns[::-1]),))
        assert is_test_schema(turned, 0.1)
        assert is_test_schema(example.query.schema, 0.1)


def test_the_share_of_test_schemas_is_the_test_fraction():
    schemas = [example.query.schema for config in (TRAIN, TEST) for example in rows(config)]
    assert 250 < sum(is_test_schema(schema, 0.5) for schema in schemas[:300]) * 2 < 350
    assert all(is_test_schema(schema, 0.2) for schema in schemas[300:])


@pytest.mark.parametrize("lexicon", ["full", "demo"])
def test_names_of_the_names_split_never_occur_in_train_or_test(lexicon):
    shared = {"lexicon": lexicon, "command_sets": BOTH}
    held = {n for e in rows(DataConfig(split="names", **shared)) for n in names(e)}
    train = {n for e in rows(DataConfig(random_names=0.9, **shared), 2000) for n in names(e)}
    test = {n for e in rows(DataConfig(split="test", **shared)) for n in names(e)}
    assert len(held) > 15
    assert not held & (train | test)


@pytest.mark.parametrize("lexicon", ["full", "demo"])
def test_pieces_of_held_out_names_occur_in_train_at_the_same_place(lexicon):
    train = {n for e in rows(DataConfig(lexicon=lexicon), 3000) for n in names(e)}
    firsts = {name.split("_")[0] for name in train}
    lasts = {name.split("_")[1] for name in train if "_" in name}
    for example in rows(DataConfig(lexicon=lexicon, split="names")):
        for name in names(example):
            first, last = name.split("_")
            assert first in firsts
            assert last in lasts


def test_random_names_make_up_their_share_of_training_rows_only():
    def share(config):
        return sum(all("_" in name for name in names(e)) for e in rows(config, 1000)) / 1000

    assert 0.25 < share(DataConfig(random_names=0.3)) < 0.37
    assert share(DataConfig()) < 0.03
    assert share(DataConfig(random_names=0.9, split="test")) < 0.03


def test_nine_in_ten_rows_of_cs2_are_sorted_and_none_of_cs1():
    cs2 = rows(DataConfig(command_sets=("cs2",)), 2000)
    assert 0.88 < sum(bool(e.query.order_by) for e in cs2) / 2000 < 0.92
    assert not any(e.query.order_by for e in rows(DataConfig(), 200))
    assert not COMMAND_SETS["cs1"].orders


def test_directions_are_mixed_and_keys_need_not_be_selected():
    sorted_rows = [e.query for e in rows(DataConfig(command_sets=("cs2",)), 500) if e.query.order_by]
    assert any(len({key.direction for key in q.order_by}) == 2 for q in sorted_rows)
    outside = sum(not {k.column for k in q.order_by} <= {i.column for i in q.select} for q in sorted_rows)
    assert 0.3 < outside / len(sorted_rows) < 0.8
    directions = [key.direction for q in sorted_rows for key in q.order_by]
    assert 0.45 < directions.count("ASC") / len(directions) < 0.55


def test_a_key_that_nobody_could_see_is_never_asked_for():
    for example in rows(DataConfig(command_sets=("cs2",), max_columns=3), 500):
        before = {key.column for key in example.query.order_by[:-1]}
        assert not {item.column for item in example.query.select} <= before


def test_max_keys_bounds_the_sort_keys():
    config = DataConfig(command_sets=("cs2",), max_keys=2)
    assert {len(e.query.order_by) for e in rows(config)} == {0, 1, 2}


def test_a_query_survives_json():
    for example in rows(TRAIN, 100):
        assert Query.from_json(example.query.to_json()) == example.query


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "nonsense", '{"schema": 1}', '{"schema": {"t": {"a": "X"}}}']
)
def test_json_of_no_query_is_one_sentence(text):
    with pytest.raises(ValueError, match="not the JSON of a query"):
        Query.from_json(text)


def test_a_negative_index_and_an_empty_split_are_one_sentence():
    with pytest.raises(ValueError, match="row index is -1"):
        make_example(TRAIN, -1)
    with pytest.raises(ValueError, match="no schema of split `test`"):
        make_example(DataConfig(split="test", test_fraction=1e-12), 0)
