"""Shortcut rows: one name is swapped where the variant says so and nowhere else, and each hypothesis has its SQL."""

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.pairs.shortcuts import SHORTCUTS, make_shortcuts
from data_gen.vocabulary.lexicon import LEXICONS

CASES = [("cs1", "base", "test"), ("cs4", "nat", "train"), ("cs9", "syn", "train"), ("cs2", "base", "names")]


def rows_of(command_set, variant, split, n=25):
    config = DataConfig(command_sets=(command_set,), variant=variant, split=split, max_columns=6)
    return [{row.variant: row for row in make_shortcuts(config, index)} for index in range(n)]


@pytest.mark.parametrize(("command_set", "variant", "split"), CASES)
def test_a_name_is_swapped_where_the_variant_says_and_nowhere_else(command_set, variant, split):
    for rows in rows_of(command_set, variant, split):
        assert tuple(rows) == SHORTCUTS
        for slot in ("table", "column"):
            clean = rows[f"{slot}.clean"].example
            for where in ("schema", "english", "both"):
                other = rows[f"{slot}.{where}"].example
                assert (other.english == clean.english) == (where == "schema")
                assert (other.schema_text == clean.schema_text) == (where == "english")
                assert other.style == clean.style
            roles = {"table": "english.table", "column": "english.select.0.column"}
            swapped = rows[f"{slot}.english"].example.english
            assert [
                role
                for (one, role), (two, _) in zip(clean.english.pieces(), swapped.pieces(), strict=True)
                if one != two
            ] == [roles[slot]]


@pytest.mark.parametrize(("command_set", "variant", "split"), CASES)
def test_each_hypothesis_has_its_answers_and_follows_reads_them(command_set, variant, split):
    for rows in rows_of(command_set, variant, split):
        for name, row in rows.items():
            agree = name.endswith((".clean", ".both"))
            assert row.follows(row.english_answer) == ("both" if agree else "english")
            assert {row.follows(sql) for sql in row.schema_answers} == {"both" if agree else "schema"}
            assert (row.schema_answers == (row.english_answer,)) == agree
            assert row.follows("SELECT nothing_of_the_kind FROM nowhere") == "neither"
            assert row.follows("SELECT ,") == "neither"


def test_the_clean_row_is_right_and_the_swapped_schema_has_only_the_new_name():
    for rows in rows_of("cs2", "base", "test"):
        clean = rows["table.clean"].example
        assert rows["column.clean"].example == clean
        [table] = clean.query.schema.tables
        [renamed] = rows["table.schema"].example.query.schema.tables
        assert (renamed.columns, renamed.name != table.name) == (table.columns, True)
        [swapped] = rows["column.schema"].example.query.schema.tables
        old, new = clean.query.select[0].column, rows["column.both"].english_name
        assert [c.name for c in swapped.columns] == [new if c.name == old else c.name for c in table.columns]
        assert [c.type for c in swapped.columns] == [c.type for c in table.columns]


def test_where_the_column_is_missing_any_other_column_counts_as_the_schemas():
    for rows in rows_of("cs1", "base", "test"):
        row, clean = rows["column.missing"], rows["column.clean"]
        kept = {column.name for column in row.example.query.schema.tables[0].columns}
        assert kept == row.schema_names
        asked = clean.example.query.select[0].column
        assert kept | {asked} == {c.name for c in clean.example.query.schema.tables[0].columns}
        assert asked not in kept
        assert row.example.english == clean.example.english


def test_new_names_are_of_the_split():
    words = LEXICONS["full"]
    for rows in rows_of("cs2", "base", "names"):
        new = {rows["table.both"].english_name, rows["column.both"].english_name}
        assert new <= words.unseen_names
    for rows in rows_of("cs2", "base", "test"):
        new = {rows["table.both"].english_name, rows["column.both"].english_name}
        assert not new & words.unseen_names


def test_rows_depend_on_config_seed_and_index_alone():
    config = DataConfig(command_sets=("cs1", "cs4"), split="test")
    assert make_shortcuts(config, 7) == make_shortcuts(config, 7)
    assert make_shortcuts(config, 7) != make_shortcuts(config, 7, seed=1)
    assert make_shortcuts(config, 7)[0].example.query.command_set == "cs4"


def test_a_table_of_one_column_has_no_such_row():
    with pytest.raises(InputError, match="no row of `cs1` in 5,000 asks one table"):
        make_shortcuts(DataConfig(min_columns=1, max_columns=1), 0)
