"""Pairs on disk say where their sides differ, in characters and in tokens, and how to make them again."""

import argparse
import json
import shlex
from pathlib import Path

import pytest
import tokenizers

from data_gen.commands import add_arguments
from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.pairs.alignment import changed_stretch, encoder_of
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.query import Query
from data_gen.store.dataset import PAIR_COLUMNS, TOKEN_COLUMNS, read_dataset, write_pairs
from data_gen.text import Span, Text
from data_gen.vocabulary.lexicon import LEXICONS

SIDES = ("clean", "corrupt")
CONFIG = DataConfig(command_sets=("cs4", "cs6"), split="test", max_columns=5)
every_format = pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A byte-level tokenizer that has no token for most names."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([example.text.string for example in make_examples(CONFIG, 0, 40)], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


def call(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args([str(word) for word in words])
    arguments.call(arguments)


def around(text, change):
    """What stands before a changed span, in it, and behind it."""
    return text[: change["start"]], text[change["start"] : change["end"]], text[change["end"] :]


@every_format
@pytest.mark.parametrize("edit", ["where.0.value", "distinct", "select.0.aggregate", "schema.table"])
def test_a_row_says_where_prompts_and_answers_differ(tmp_path, form, edit):
    write_pairs(CONFIG, edit, 4, tmp_path / "d", form, shard_rows=3)
    for row in read_dataset(tmp_path / "d"):
        assert list(row) == list(PAIR_COLUMNS)
        for change, column in (("prompt_change", "prompt"), ("sql_change", "sql_statement")):
            clean, corrupt = (around(row[f"{side}_{column}"], row[f"{side}_{change}"]) for side in SIDES)
            assert (clean[0], clean[2]) == (corrupt[0], corrupt[2])
            assert clean[1] != corrupt[1]
        for side in SIDES:
            roles = {span["start"]: span["role"] for span in row[f"{side}_roles"]}
            behind = len(row[f"{side}_prompt"]) + 1
            for change, offset in (("prompt_change", 0), ("sql_change", behind)):
                start, end, role = row[f"{side}_{change}"].values()
                # Where the other side has more, this one has no characters, and so no role.
                assert role == (roles[offset + start] if start < end else "")


def test_the_changed_stretch_of_two_texts_is_what_a_person_would_mark():
    def text(*pieces):
        return Text.of([(piece, piece.strip().lower() or "space") for piece in pieces])

    short, long = text("SELECT", " a", " FROM", " t"), text("SELECT", " a", " FROM", " t", " LIMIT", " 3")
    other = text("SELECT", " bb", " FROM", " uu")
    # Behind the end of the shorter one, the longer has more.
    assert changed_stretch(short, long) == (Span(15, 15, ""), Span(15, 23, "limit"))
    # From the first difference to the last, whatever stands between.
    assert changed_stretch(short, other) == (Span(6, 15, "a"), Span(6, 17, "bb"))
    # No span is both the end of the common beginning and the beginning of the common end.
    twice, once = text("a", " b", "a", " b"), text("a", " b")
    assert changed_stretch(twice, once) == (Span(3, 6, "a"), Span(3, 3, ""))


@every_format
@pytest.mark.parametrize("edit", ["where.0.column", "order_by.0.direction", "where.0.value"])
def test_a_row_says_in_which_token_the_answers_part(tmp_path, form, edit, file):
    write_pairs(CONFIG, edit, 4, tmp_path / "d", form, tokenizer=file)
    backend, rows = tokenizers.Tokenizer.from_file(str(file)), list(read_dataset(tmp_path / "d"))
    assert len(rows) == 4
    for row in rows:
        assert list(row) == [*PAIR_COLUMNS, *TOKEN_COLUMNS]
        position = row["position"]
        whole = [backend.encode(f"{row[f'{s}_prompt']} {row[f'{s}_sql_statement']}").ids for s in SIDES]
        prompts = [backend.encode(row[f"{side}_prompt"]).ids for side in SIDES]
        assert [len(ids) for ids in prompts] == [row["prompt_tokens"]] * 2
        # The answers agree up to `position`, and differ in the token behind it.
        start = row["prompt_tokens"]
        assert start - 1 <= position
        assert whole[0][start : position + 1] == whole[1][start : position + 1]
        assert [ids[position + 1] for ids in whole] == [row[f"{side}_answer_id"] for side in SIDES]
        for side in SIDES:
            assert backend.token_to_id(row[f"{side}_answer_token"]) == row[f"{side}_answer_id"]
        assert row["clean_answer_token"] != row["corrupt_answer_token"]


def test_the_token_columns_are_those_of_the_pairs_in_memory(tmp_path, file):
    write_pairs(CONFIG, "where.0.operator", 5, tmp_path / "d", tokenizer=file, seed=2)
    encode = encoder_of(file)
    pairs = counterfactuals(CONFIG, edit="where.0.operator", n=5, seed=2, encode=encode)
    for row, pair in zip(read_dataset(tmp_path / "d"), pairs, strict=True):
        told = row["position"], row["clean_answer_id"], row["corrupt_answer_id"]
        assert told == tuple(pair.divergence(encode))
        for side in SIDES:
            assert Span(**row[f"{side}_prompt_change"]) == getattr(pair.change, side)
            assert Span(**row[f"{side}_sql_change"]) == getattr(pair.sql_change, side)


def test_the_seed_of_the_command_is_that_of_the_library(tmp_path):
    options = ("cs2", "--edit", "order_by.0.column", "--rows", 4, "--seed", 7, "--format", "jsonl")
    call("pairs", *options, "--out", tmp_path / "d")
    rows = list(read_dataset(tmp_path / "d"))
    pairs = counterfactuals("cs2", edit="order_by.0.column", n=4, seed=7)
    assert [Query.from_json(row["corrupt_query"]) for row in rows] == [pair.corrupt.query for pair in pairs]
    assert [row["seed"] for row in rows] == [7] * 4
    assert pairs != counterfactuals("cs2", edit="order_by.0.column", n=4)


def test_novel_pairs_have_a_name_that_training_never_sees(tmp_path):
    call("pairs", "cs2", "--edit", "select.0.column", "--rows", 4, "--novel", "--out", tmp_path / "d")
    words = LEXICONS["full"]
    for row in read_dataset(tmp_path / "d"):
        name = Query.from_json(row["corrupt_query"]).select[0].column
        assert name in words.unseen_names
        assert Query.from_json(row["clean_query"]).select[0].column not in words.unseen_names


@pytest.mark.parametrize("more", [{}, {"seed": 5}, {"novel": True}, {"tokenizer": True}])
def test_the_card_tells_how_to_make_the_pairs_again(tmp_path, file, more, monkeypatch):
    more = {**more, **({"tokenizer": file} if "tokenizer" in more else {})}
    config = DataConfig(command_sets=("cs2",), split="test", seed=3, max_columns=5)
    write_pairs(config, "select.0.column", 4, tmp_path / "d", **more)
    card = (tmp_path / "d" / "README.md").read_text()
    [line] = [line for line in card.splitlines() if line.startswith("tinysql data pairs")]
    assert f"seed {more.get('seed', 0)}." in card
    # The card names the file as it is called everywhere.
    monkeypatch.chdir(file.parent)
    call(*shlex.split(line.replace("DIR", str(tmp_path / "again")))[2:])
    first, again = (
        {path.name: path.read_bytes() for path in Path(tmp_path / name).iterdir()} for name in ("d", "again")
    )
    for found in (first, again):
        found["config.json"] = json.loads(found["config.json"]) | {"made_by": None}
    assert first == again
    assert ("`prompt_tokens`" in card) == ("tokenizer" in more)


def test_pairs_of_another_seed_do_not_resume_those_of_the_first(tmp_path):
    from data_gen.errors import InputError

    write_pairs(CONFIG, "where.0.value", 2, tmp_path / "d")
    with pytest.raises(InputError):
        write_pairs(CONFIG, "where.0.value", 2, tmp_path / "d", resume=True, seed=1)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow"])
def test_datasets_reads_the_columns_of_pairs(tmp_path, form, file):
    import datasets

    write_pairs(CONFIG, "where.0.value", 4, tmp_path / "d", form, shard_rows=3, tokenizer=file)
    if form == "arrow":
        loaded = datasets.load_from_disk(str(tmp_path / "d"))
    else:
        loaded = datasets.load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))["test"]
    assert list(loaded) == list(read_dataset(tmp_path / "d"))


def test_the_document_names_every_column_and_its_example_is_whole():
    document = (Path(__file__).parents[2] / "docs" / "pairs.md").read_text()
    for name in (*PAIR_COLUMNS, *TOKEN_COLUMNS):
        assert f"`{name}`" in document or name.startswith("corrupt_")
    [block] = [block for block in document.split("```text\n")[1:] if block.startswith("index")]
    row = dict(line.split(maxsplit=1) for line in block.partition("```")[0].splitlines())
    left_out = [f"{side}_{name}" for side in SIDES for name in ("query", "style", "roles")]
    assert list(row) == [name for name in (*PAIR_COLUMNS, *TOKEN_COLUMNS) if name not in left_out]
    for column, change in (("prompt", "prompt_change"), ("sql_statement", "sql_change")):
        spans = [json.loads(row[f"{side}_{change}"].replace("'", '"')) for side in SIDES]
        clean, corrupt = (around(row[f"{s}_{column}"], span) for s, span in zip(SIDES, spans, strict=True))
        assert (clean[0], clean[2]) == (corrupt[0], corrupt[2])
