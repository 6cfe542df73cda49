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
    "cs1 syn": "967b723a5f7a80074d84fdacf75b5e2848cf0aceda6419dccc79d116ecaa0a84",
    "cs1 nat": "d83476bdb995da769be7d6619870161fb3fe030146a88bebc3de5bbda6686ded",
    "cs2 base": "97731ee533a2f53015cf568bdbdc561a11359e1954fa068e90c0f151c43d833e",
    "cs2 syn": "6252274c07da923b550572cd5496076c3e7934f694f748e698a8e57c33a0735a",
    "cs2 nat": "015928b14ce1671d45f61fa9c7056e8eba0985d52b46b3b455153bbe0e229a0c",
    "cs3 base": "15273323885481218508f174922522853f9fb36a435cafac1296347c5a710389",
    "cs3 syn": "3a4c26f2c25c4c15b54030bfc7d35869303145745e0e718fb48d7288c09e96b5",
    "cs3 nat": "155569a0e597d7051a2581115822ae20e8480188cbe1586d8cc9aeba4af01260",
    "cs4 base": "d1c3e0d8dd48bb4de2df463734b9e6a949b8f4dd19e0ebf7d81f75f266f131a0",
    "cs4 syn": "45dc7cf8841046027fe30d28a0b5b2625bb733a71be5eb3030de54d706e8dc98",
    "cs4 nat": "d39d349d537879f3be4e11f458f4c8ec48798f09e96a0c1c11dc0fea57c834dc",
    "cs5 base": "1fc8933ecbf917b66f8e616b1a16f03ce47967e430c41a1a2c1cd7b595f5b4b2",
    "cs5 syn": "d8fea33c88938fe0d1b15f90bbdf33563704d555951c906e9cf4dfb9eb205920",
    "cs5 nat": "8bb99d443c12fea9241459b900104a1dbb48656bcdfc9ce85f27d29c2777e2c0",
    "cs6 base": "b589f19ddfe9125a8a0a280ea33c751b25bd0191864d404d1a1166ff7637c1e3",
    "cs6 syn": "6335bce428e7c7f1cd9af7ccd7dc46b3018eb5e432e47a6d99f07d60902eb536",
    "cs6 nat": "85e411691cfa24713e69da709d23a18094c40e5b0beaa9f8ad26dc33cfb009b0",
    "cs7 base": "3d2606ad14d40342bee9cbdc6a5e3cd7f1f263659b67275815625f067285a3dd",
    "cs7 syn": "640b9a3d54d93c8e2bb3470df62b723b76d93aff768c3c82d0e4a5f8ca65d316",
    "cs7 nat": "5f90ee345fc7828a5c1984e04cfd9baafedd5073bd014d7b845db1d3fa8459ea",
    "cs8 base": "b65d7bef1863520a42ff109ba8f24867754c9736e0b169e0a425dec45db36b0e",
    "cs8 syn": "27a92707080b175aa4a243ddc9ee2a7a6fa86111af0d7134aadefc11496411ec",
    "cs8 nat": "91b9f4998447ce13e07430f30933cc06b91275231a65371c04146d03af42856f",
    "cs9 base": "114ceeed98d73c45de278ab9bd460529b6b3c960497eecd150da6b0768b2e2c0",
    "cs9 syn": "b1122c5a87d833ee810d346472c2d38f00ae846f33d73aa1ad9f811af99b7f76",
    "cs9 nat": "db7f2ec8119d0d28629538e52507b0fbce4d5e8d85c7d8fc2a5dbda575d61392",
    "cs10 base": "5a989c66233a70a9f68f6d2ec83bc7b3e8df2c4b2c270cf2503ef5fc621e0327",
    "cs10 syn": "d02e67b71761063bf6a5c6fc1d20675bff85416ae80276c390e6dc1c6a62548f",
    "cs10 nat": "da17b3b31fbdc4575197e1323919dca74e2abbab85e36c7e4c370ee368b161aa",
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
