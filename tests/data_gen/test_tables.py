"""Config + row numbers -> a table: rows made in bulk are to the bit the rows that are made one by one."""

import pytest

from data_gen.bulk import drawing
from data_gen.bulk.drawing import suits
from data_gen.config import DataConfig
from data_gen.draw.splits import SPLITS
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.say.style import VARIANTS
from data_gen.store import tables
from data_gen.store.columns import COLUMNS, example_table
from data_gen.store.tables import rows_table

SETS = ("cs1", "cs2", "cs3", "cs4", "cs5", "cs5-aggregate", "cs3-order_by", "cs1+where", "cs1+join")
ROWS = range(2_000, 2_040)


def one_by_one(config, rows):
    return example_table(
        [make_example(config, index) for index in rows], seed=config.seed, split=config.split
    )


def same(config, rows):
    made, wanted = rows_table(config, rows), one_by_one(config, rows)
    # Row by row, so that a failure shows a row and not a table.
    for row, right in zip(made.to_pylist(), wanted.to_pylist(), strict=True):
        assert row == right
    assert made.schema == wanted.schema


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bulk_rows_are_the_rows_of_make_example(name, variant):
    config = DataConfig(command_sets=(name,), variant=variant, seed=11)
    assert suits(config, name) == (variant != "nat")
    same(config, range(1_000, 1_300))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["cs4", "cs5"])
def test_every_split_is_drawn_alike(split, name):
    same(DataConfig(command_sets=(name,), variant="syn", split=split), ROWS)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_columns": 1, "max_columns": 1},
        {"min_columns": 1, "max_columns": 3},
        {"min_columns": 20, "max_columns": 30},
        {"max_keys": 1},
        {"max_keys": 2, "seed": 2**63 - 1},
        {"lexicon": "demo", "max_columns": 9},
        {"test_fraction": 0.999, "split": "test"},
        {"test_fraction": 0.97},
        {"random_names": 0.5},
    ],
)
def test_every_setting_is_heeded(settings):
    for name in ("cs2", "cs5"):
        same(DataConfig(command_sets=(name,), **settings), ROWS)


@pytest.mark.parametrize(
    "rows", [range(0, 1), range(7, 60, 13), range(5, 50, 4), range(10**12, 10**12 + 9), range(3, 4)]
)
@pytest.mark.parametrize(
    "sets", [("cs5",), ("cs1", "cs6", "cs3"), ("cs4", "cs10"), ("cs1", "cs2", "cs3", "cs4", "cs5", "cs8")]
)
def test_sets_may_be_mixed_and_rows_left_out(sets, rows):
    same(DataConfig(command_sets=sets), rows)


def test_the_size_of_a_batch_makes_no_difference(monkeypatch):
    config = DataConfig(command_sets=("cs5",))
    whole = rows_table(config, range(50)).combine_chunks()
    monkeypatch.setattr(tables, "BATCH", 7)
    assert rows_table(config, range(50)).combine_chunks().equals(whole)


def test_columns_may_be_left_out():
    config = DataConfig(command_sets=("cs5", "cs9"), variant="syn")
    whole = rows_table(config, ROWS)
    for column in COLUMNS:
        assert rows_table(config, ROWS, [column]).to_pylist() == whole.select([column]).to_pylist()
    some = ("sql_statement", "index", "prompt")
    assert rows_table(config, ROWS, some).to_pylist() == whole.select(some).to_pylist()


def test_a_row_that_is_not_found_in_bulk_is_drawn_on_one_by_one(monkeypatch):
    config = DataConfig(command_sets=("cs5",), split="test")
    wanted = rows_table(config, ROWS).to_pylist()
    monkeypatch.setattr(drawing, "HANDS", 2)
    assert rows_table(config, ROWS).to_pylist() == wanted


def test_a_split_without_rows_is_the_sentence_of_make_example():
    config = DataConfig(command_sets=("cs2",), split="clauses")
    with pytest.raises(InputError, match="no query of `cs2` for split `clauses`"):
        rows_table(config, range(3))
