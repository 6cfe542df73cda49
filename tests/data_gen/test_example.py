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
    "cs1 base": "73ca14b8ae33735c40afee29f33840cddb0806544e5e8e784f6735737609c98e",
    "cs1 syn": "ff4d1e858f4519d2947f0148968d692bcab477a7e4bc83390acb272b6414814d",
    "cs1 nat": "84f2a48938e0414dfd30172d0c7a8a085130c2539ba54cc4f840bbd8756382bc",
    "cs2 base": "acdf07959fa3985b93a68fe9f5952617a13ab0760204b3f3cf16f352af2c48af",
    "cs2 syn": "0e9e9d6ba73ab4ed57193bcc94e56242fd85152f19b7e01bc253df340ee765f8",
    "cs2 nat": "1ea7715a9c62df09f177ecedf0b14ac885978d055f6efa25b40ef02658cb761d",
    "cs3 base": "336c1cf895e8280ca732270a51f29c51479b215301d217e8f72b8b180ba08af7",
    "cs3 syn": "486b213dd93d2b73cf37ec19df760ba1675d2ba03d20319ec82bac74a6514f64",
    "cs3 nat": "f72c2e6151a175b4aec3cdb44f0b495b04fc3df53f458aafb1666ca5421659e3",
    "cs4 base": "55ad99dbf9c7e4b6fc1bff5c0540d8228f9a02fefcbf4dd6c5aba1a311bcafd3",
    "cs4 syn": "b7fe1ab8ae1d5a19eaffbfa6a5b314e95af2e6796202099ff3d828c0970b93cf",
    "cs4 nat": "648dda24d7ce410b75c146c25eb100e51c2f15485e2deeed00d3d0abfa091d43",
    "cs5 base": "eeac1e3a98682466cf65f80d07410441f4616fc7aa00a2838bd86c3fed53cd16",
    "cs5 syn": "93341ffd591fb09242fa6be6889a9f52cfe38a4dab434064f9fd72c9beadca9b",
    "cs5 nat": "50bc8bc804647c7d701a93dd220d2b571f34feb055de90e6f0b9e17857f1191e",
    "cs6 base": "192f8e838fe23f225a67e70abdce1d034be9bbaa1aaf8cea5333d7fd96ed9821",
    "cs6 syn": "154459fcf2e36a2b0b8941aaecc037ec30fb6cdd9e6742b53d61eacfe99f8a03",
    "cs6 nat": "e30df428aa54db765fd2f130059ff14a0a27c24c6d0234a089544a4c4141d4bf",
    "cs7 base": "0f76046a871a36921247edfad1f8d112a4d4e8ee438aeb163e4dbda37cd938e1",
    "cs7 syn": "2332b66e131a4e9ece3e6a69fec441a2deaa089d5971eecdf66d2b7ff0bbf23d",
    "cs7 nat": "86fc86eec72317a60d6bf7111a475990a22d235f3603b209e9d4bd4b3a0b4bee",
    "cs8 base": "bb9f1e82f213e4b72fcdb2af2e90119215ff03f91ddea8fc8b9573b925ce929b",
    "cs8 syn": "5963306ef6c8ec17c6dcd8185efe6472fdc08d022e6369e21854ce98315f1b2b",
    "cs8 nat": "6db6d91d29cd96ff85ec8fd29063781a0b4fcc2c068437bf86c653ee865d1c18",
    "cs9 base": "07b5cc80484d7d88b07c013f9e1ea0692c6372be4f2c7a17b9ee0699f8c2807f",
    "cs9 syn": "f79caa66dca8ba127c6a434525d3b518e7e976b6378df2c8fd81662516fe0213",
    "cs9 nat": "07cdc54ace9e5600031edfe64f05bb0b8b65bb7143641fe9e2b3c5b5cecddf46",
    "cs10 base": "bc17076c1f6c954d094b98aca7ecf5bcb5861fc0e5053875437c00bb05f24aae",
    "cs10 syn": "62c3c07bd13aae695c3ecfd4436242d9b9b015d46cb2ab99a5e203a8fd520010",
    "cs10 nat": "4d140ccba222eebe21904ee43e008691b91dd7176d735a5f824575049813f40a",
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
