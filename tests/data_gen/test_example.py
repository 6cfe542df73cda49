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
    "cs1 syn": "90af7e82982c2403971cd1107ec0fc7e4f61e8e42d775d0422404b29c65b9a14",
    "cs1 nat": "be3d3cc1ea675bc649726f8d2552790fd75e5f1340d5068927c681511707bb4a",
    "cs2 base": "97731ee533a2f53015cf568bdbdc561a11359e1954fa068e90c0f151c43d833e",
    "cs2 syn": "998c39c485e0ae93c509d85d3ca5968de586f624b021445382b48b21aecc1cfa",
    "cs2 nat": "a7cf0eaac886a77d6fdf7c4a5d6969faaad89870c2621d27d4e22b4e4f40fb46",
    "cs3 base": "88353f143f245113acd9221d20e2879cf35ba3be318eef5d847ce4c895e63967",
    "cs3 syn": "fced0c1a9ef5e76f462735698f183c6e454854dbb134997ea4ac90510f7820d9",
    "cs3 nat": "0718c77e54dbdeef774bfffb6b7ccd1c6c8ca8ba7294ef817b2f402392f7b740",
    "cs4 base": "fae10f402983cd1ab6c1dec7ea113c592984b867777e8a11e67549c3bac707fc",
    "cs4 syn": "da95913326eefa6c310db3ccbc9714d44a78d4fc165c5257a5c78cd2692e4d53",
    "cs4 nat": "ed806bdff2daf6f99becb856b2fc83e610681b29a553f0ed0c5e70c80fe8d0cc",
    "cs5 base": "997d29b873fd2ccbd4681aabc6fcc36beade8db3e4d764880004bb7cc323c9be",
    "cs5 syn": "7016cf7b14ad31d50ef872ccc2abc91d53250ca9a5b334e492a1df0c93468096",
    "cs5 nat": "b08d3169eab1ea4ee9b7ced817830fc23706f4fc32b52e94645c19fa7c2554c5",
    "cs6 base": "38eb549251851c1062070480e5f4b94e47c8ce8310982bc23d9d437c6a2ecf24",
    "cs6 syn": "9719ed4545de22d3524bb3e86af8cdda7f271368789e464ea80801f1c22f659f",
    "cs6 nat": "d918a4d421654eaeaa579e27b0334ced0a663daa150563f5bb9f7c0052c3c2e2",
    "cs7 base": "5e5e5661331333d3acdb7fe3ffe049f4fad162ad071b1babf0c138a6d8f1d867",
    "cs7 syn": "a0071c4293b18c7b86388a0addc29f78f48aa164c8805fbff9102fe688e23a69",
    "cs7 nat": "13b4e5ee775ab3c0a2eac72a46aea7732b2cb52f971c989fb3e4b5fa310680e7",
    "cs8 base": "e421b1a725d6e8324fd329b0775477a6a438599b3ad959008923a5f678aca417",
    "cs8 syn": "24599fb023ab8409d5f25b5ae6a97230e3449ccf36e7af89d09cd06b91eb495a",
    "cs8 nat": "c35cd97453cd7046527fc79d99e8882f7b2f08aa7c03ee59665f248abf3ab8ca",
    "cs9 base": "aaedb1ed0f2e6bafbb22a935705580ed016eb787e20fecc330bc83c734e2742e",
    "cs9 syn": "fe1094e7b58df842da83732cb05214378b76f8bc80eace143b7e22709efd797c",
    "cs9 nat": "7d73a3927f81a8e048edb6788790d36791f7bfdd08967173a185a0540f6a33f1",
    "cs10 base": "027cb82c4e3c359f5657a712759f61dac33350c37bdc81ee301f8893ee9a6c3c",
    "cs10 syn": "1c40c35c1824f613213eff2f10fc2310c2000ec0de4d75e606143567624371cd",
    "cs10 nat": "052d421ac19265fe150f9dc46377cbbba54e34979c414ac8bbb9695a370ae8f3",
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
