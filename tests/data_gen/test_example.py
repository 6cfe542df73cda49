"""Config + index -> example: purity, golden rows, and roles for every character."""

import os
import subprocess
import sys
from hashlib import sha256
from itertools import chain

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import CHUNK, make_example, make_examples, prompt_string, write_example
from data_gen.query import COMMAND_SETS
from data_gen.say.style import VARIANTS

SETS = tuple(COMMAND_SETS)
ALL = DataConfig(command_sets=SETS, random_names=0.3, max_columns=8)
CONFIGS = {
    "train": ALL,
    "test": DataConfig(command_sets=SETS, split="test", variant="syn"),
    "novel": DataConfig(command_sets=SETS, split="novel", variant="nat"),
    "demo": DataConfig(command_sets=SETS, lexicon="demo", max_columns=6),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
every_set = pytest.mark.parametrize("name", SETS)

GOLDEN: dict[str, str] = {
    "cs1 base": "fb4bc276f39393006e6e043e9e524332da1f3da35c4e7cbf49db0074e032d4c9",
    "cs1 syn": "0a7fc73bc36434824573baf40d97e35209707af4dc9fe1d5307c10f42d90bcbe",
    "cs1 nat": "3c08b79d20cdb6d3a232ee8fcc1d9ab517fcc1972d2f4cfc7c5eda6acf74cf4d",
    "cs2 base": "97731ee533a2f53015cf568bdbdc561a11359e1954fa068e90c0f151c43d833e",
    "cs2 syn": "eaf44e4e121addd1d284ea478e5a1371d586ffa6d2a88fe5507e753785c1272b",
    "cs2 nat": "b1ba0ddc552066cc6cb90caf586db8769569acbdd658d713543968d7e7d0ed7a",
    "cs3 base": "88353f143f245113acd9221d20e2879cf35ba3be318eef5d847ce4c895e63967",
    "cs3 syn": "c91f87efd5cd1d08307061af876387fb5a9610d5fb879a51a0b44409ad162edb",
    "cs3 nat": "01a508c5246c297722f96cffe1a199b5502b89aacf09b8b0acc60d77e90567d3",
    "cs4 base": "fae10f402983cd1ab6c1dec7ea113c592984b867777e8a11e67549c3bac707fc",
    "cs4 syn": "0ae3e12081bb49a125c7352b8ac383449c11c24c8464c6f328d1799380312a4f",
    "cs4 nat": "e29c4c7d8a3a85ef9b01d459dc37bd5150f5fd16931e42a0da92a7f3fddc5677",
    "cs5 base": "997d29b873fd2ccbd4681aabc6fcc36beade8db3e4d764880004bb7cc323c9be",
    "cs5 syn": "9924898b24eb083a5b1849d13db771b58cd7d99abf03ecf7bf4891508ce9d561",
    "cs5 nat": "9aa5bf38fb80031502ee2b00de7fd17a35f886b393675215f8d2eac2e18ef96e",
    "cs6 base": "38eb549251851c1062070480e5f4b94e47c8ce8310982bc23d9d437c6a2ecf24",
    "cs6 syn": "74dbbfa8d52b7d3592b3a45bfd79b63e7a0d1240f8fd75b1303ea6d7fc2a1c73",
    "cs6 nat": "baa15a55fbb8fa2aa6504c4090fcb683797d6eb5cb846a570f0aea9b8328ad20",
    "cs7 base": "5e5e5661331333d3acdb7fe3ffe049f4fad162ad071b1babf0c138a6d8f1d867",
    "cs7 syn": "dbec63566620a89120d2ac04fef14f2d39c21e8bff5dbc2a080c9af7cfa46017",
    "cs7 nat": "57c3ccdaabfe77bf204921e0db3a72cb65bd319d26b51b5d7f2ebfed8e73d07d",
    "cs8 base": "e421b1a725d6e8324fd329b0775477a6a438599b3ad959008923a5f678aca417",
    "cs8 syn": "6665c5553b6e5ff2c690721c64d945a067271db26b9c4b65aff9c2f54bef7908",
    "cs8 nat": "30a7885eea07dedc467fe2987b740e81d58d8cbf306752cd414f7aab36b63184",
    "cs9 base": "aaedb1ed0f2e6bafbb22a935705580ed016eb787e20fecc330bc83c734e2742e",
    "cs9 syn": "f457afa2e8226351d1db876f6ade41293429c67f5f1ece76b2b46e630f2bb220",
    "cs9 nat": "33bbb49dd6154ad0b3194461ec8eec7c53c4e61e22f6d251e137e5d2d5f7bc2e",
    "cs10 base": "027cb82c4e3c359f5657a712759f61dac33350c37bdc81ee301f8893ee9a6c3c",
    "cs10 syn": "c0838159eacfc1f61f540f1b36a396002a66df8467d5cd3fcc91153c30976d20",
    "cs10 nat": "7292cedc4564bc490d24140eef45960d98efee8629ad8073fbc8290283e9e26f",
}
"""Set and variant -> the SHA-256 of its first 200 rows. `python tests/data_gen/test_example.py` prints these lines
anew; a change of theirs is a change of every dataset, and belongs into the changelog."""


def row_hash(name, variant):
    digest = sha256()
    for example in make_examples(DataConfig(command_sets=(name,), variant=variant), 0, 200):
        digest.update(example.text.string.encode())
        digest.update(repr(example.text.spans).encode())
        digest.update(example.query.to_json().encode())
        digest.update(b"\n")
    return digest.hexdigest()


@pytest.mark.parametrize("variant", VARIANTS)
@every_set
def test_rows_are_what_they_were_when_the_hashes_were_written(name, variant):
    assert GOLDEN.get(f"{name} {variant}") == row_hash(name, variant), (
        "the rows have changed: if that was meant, write what `python tests/data_gen/test_example.py` prints"
    )


@every_config
def test_a_row_does_not_depend_on_other_rows(config):
    forwards = list(make_examples(config, 0, 60))
    assert [make_example(config, index) for index in reversed(range(60))][::-1] == forwards
    assert [example.index for example in forwards] == list(range(60))
    assert len({example.text.string for example in forwards}) > 55


@pytest.mark.parametrize("start", [0, 3, CHUNK - 1, CHUNK, 10**12])
@pytest.mark.parametrize("step", [1, 8])
def test_rows_are_the_same_from_any_start_and_in_any_step(start, step):
    stop = start + 5 * step
    alone = [make_example(ALL, index) for index in range(start, stop, step)]
    assert list(make_examples(ALL, start, stop, step)) == alone


def test_command_sets_made_with_one_seed_share_no_row():
    # A tenth of their rows is plain in each of these.
    rows = [
        {example.text.string for example in make_examples(DataConfig(command_sets=(name,)), 0, 200)}
        for name in ("cs4", "cs5", "cs8", "cs9", "cs10", "cs4+limit")
    ]
    assert len(set().union(*rows)) == sum(map(len, rows))


def test_rows_of_shards_are_those_of_one_process_also_beyond_a_chunk():
    whole = list(make_examples(ALL, 0, 2 * CHUNK + 40))
    shards = [list(make_examples(ALL, shard, 2 * CHUNK + 40, 3)) for shard in range(3)]
    assert sorted(chain.from_iterable(shards), key=lambda example: example.index) == whole


@pytest.mark.parametrize("chunk", [1, 7])
def test_how_many_rows_are_drawn_together_makes_no_difference(chunk, monkeypatch):
    whole = list(make_examples(ALL, 0, 40))
    monkeypatch.setattr("data_gen.example.CHUNK", chunk)
    assert list(make_examples(ALL, 0, 40)) == whole


def test_rows_are_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from data_gen.config import DataConfig; from data_gen.example import *; from data_gen.query import *\n"
        "config = DataConfig(command_sets=tuple(COMMAND_SETS), random_names=0.3, max_columns=8)\n"
        "for row in make_examples(config, 0, 30): print(row.text.string, row.text.spans, row.query.to_json())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "99")
    ]
    here = [
        f"{row.text.string} {row.text.spans} {row.query.to_json()}\n" for row in make_examples(ALL, 0, 30)
    ]
    assert told[0] == told[1] == "".join(here)


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "test"}, {"lexicon": "demo"}, {"variant": "syn"}])
def test_seed_split_lexicon_and_variant_each_give_other_rows(change):
    one, other = DataConfig(), DataConfig.from_dict({**DataConfig().to_dict(), **change})
    same = sum(
        a.query == b.query
        for a, b in zip(make_examples(one, 0, 50), make_examples(other, 0, 50), strict=True)
    )
    assert same == 0


@every_config
def test_command_sets_alternate_by_index(config):
    found = [example.query.command_set for example in make_examples(config, 0, 25)]
    assert found == [SETS[index % len(SETS)] for index in range(25)]


@every_config
def test_every_character_has_a_role_and_the_text_is_the_prompt_and_the_answer(config):
    for example in make_examples(config, 0, 100):
        text = example.text
        assert text.string == f"{example.prompt.string} {example.sql.string}"
        assert example.prompt.string == prompt_string(example.english.string, example.schema_text.string)
        assert text.spans[0].start == 0
        assert text.spans[-1].end == len(text.string)
        for left, right in zip(text.spans, text.spans[1:], strict=False):
            assert left.end == right.start
            assert left.role != right.role


@every_config
def test_the_parts_of_the_text_have_the_roles_that_they_have_alone(config):
    for example in make_examples(config, 0, 50):
        for part, before in (
            (example.english, "english."),
            (example.schema_text, "schema."),
            (example.sql, "sql."),
        ):
            inside = [
                (piece.strip(), role) for piece, role in example.text.pieces() if role.startswith(before)
            ]
            assert inside == [(piece.strip(), role) for piece, role in part.pieces()]
        assert {role for _, role in example.text.pieces() if "." in role and role.startswith("prompt")} == {
            "prompt.markup"
        }


@every_config
def test_a_name_of_the_schema_stands_where_its_role_says(config):
    for example in make_examples(config, 0, 100):
        pieces = {role: piece.strip() for piece, role in example.text.pieces()}
        for number, table in enumerate(example.query.schema.tables):
            place = f"schema.tables.{number}" if number else "schema"
            assert pieces[f"{place}.table"] == table.name
            for index, column in enumerate(table.columns):
                assert pieces[f"{place}.columns.{index}.name"] == column.name
                assert pieces[f"{place}.columns.{index}.type"] == column.type
        assert pieces["sql.table"] == example.query.table
        assert ("english.table" in pieces) == example.style.mentions_table


def test_an_example_is_what_its_query_and_style_say():
    example = make_example(ALL, 8)
    assert write_example(8, example.query, example.style) == example
    assert write_example(8, example.query, example.style).text == example.text
    assert make_example(ALL, 9) != example


def test_a_negative_index_is_one_sentence():
    with pytest.raises(InputError, match="row index is -1, expected 0 or more"):
        make_example(ALL, -1)
    with pytest.raises(InputError, match="row index is -5, expected 0 or more"):
        list(make_examples(ALL, -5, 3))
    assert list(make_examples(ALL, 5, 5)) == []


if __name__ == "__main__":
    for command_set in SETS:
        for said in VARIANTS:
            print(f'    "{command_set} {said}": "{row_hash(command_set, said)}",')
