"""Every token has the role of the characters it came from, and pairs are aligned or refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from data_gen.counterfactual import counterfactuals
from data_gen.edits import EDITS
from data_gen.errors import InputError
from data_gen.example import DataConfig, Example, make_example, write_example
from tinysql.tokens import END_ROLE, Tokenizer

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=5)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [make_example(DATA, index) for index in range(1500)]


@pytest.fixture(scope="module")
def tokenizer(examples: list[Example]) -> Tokenizer:
    return Tokenizer.train((example.text.string for example in examples), vocab_size=900)


def test_tokens_spell_the_text_and_end(tokenizer: Tokenizer, examples: list[Example]) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, example in enumerate(examples[:50]):
        ids = tokens.ids[row][tokens.mask[row]].tolist()
        assert ids[-1] == tokenizer.end_id
        assert tokenizer.decode(ids) == example.text.string


def test_each_token_has_the_role_of_its_characters(tokenizer: Tokenizer, examples: list[Example]) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, example in enumerate(examples[:50]):
        place = 0
        for token, role in zip(tokens.ids[row].tolist(), tokens.roles[row], strict=True):
            if token in (tokenizer.end_id, tokenizer.pad_id):
                assert role == (END_ROLE if token == tokenizer.end_id else "")
                continue
            piece = tokenizer.decode([token])
            # A leading space belongs to the word behind it; a token that is a space alone stands for itself.
            letters = [i for i, char in enumerate(piece) if char != " "] or [0]
            roles = {example.text.role_at(place + i) for i in letters}
            assert roles == {role}
            place += len(piece)


def test_the_answer_starts_at_select(tokenizer: Tokenizer, examples: list[Example]) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, start in enumerate(tokens.answer_start.tolist()):
        assert tokens.roles[row][start] == "sql.select.keyword"
        assert tokens.roles[row][start - 1] == "prompt.markup"


def test_the_tokens_of_a_prompt_do_not_depend_on_its_answer(
    tokenizer: Tokenizer, examples: list[Example]
) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, example in enumerate(examples[:50]):
        start = int(tokens.answer_start[row])
        assert tokens.ids[row, :start].tolist() == tokenizer.encode_text(example.prompt.string)


def test_tokens_do_not_depend_on_their_neighbours(tokenizer: Tokenizer, examples: list[Example]) -> None:
    together, alone = tokenizer.encode(examples[:20]), tokenizer.encode(examples[7:8])
    width = alone.ids.shape[1]
    assert torch.equal(together.ids[7, :width], alone.ids[0])
    assert not together.mask[7, width:].any()


@pytest.mark.parametrize("edit", EDITS)
def test_pairs_differ_in_one_role_and_part_at_their_position(tokenizer: Tokenizer, edit: str) -> None:
    found = counterfactuals(replace(DATA, split="test"), edit=edit, n=60, seed=1)
    pairs = tokenizer.encode_pairs(found, drop_misaligned=True)
    assert len(pairs) + len(pairs.refused) == 60
    assert len(pairs) >= 40
    assert torch.equal(pairs.clean.mask, pairs.corrupt.mask)
    assert torch.equal(pairs.clean.answer_start, pairs.corrupt.answer_start)
    assert bool((pairs.clean_answer != pairs.corrupt_answer).all())
    for row in range(len(pairs)):
        position, start = int(pairs.position[row]), int(pairs.clean.answer_start[row])
        differs = pairs.clean.ids[row] != pairs.corrupt.ids[row]
        assert {pairs.clean.roles[row][i] for i in differs.nonzero().flatten().tolist()} <= {
            f"schema.{edit.removeprefix('schema.')}",
            f"english.{edit}",
        }
        assert bool(differs[:start].any())
        assert not bool(differs[start:].any())
        assert int(pairs.clean.mask[row].sum()) == position + 1


def test_misaligned_pairs_are_refused_with_the_reason(tokenizer: Tokenizer) -> None:
    [pair] = counterfactuals(replace(DATA, split="test"), edit="select.0.column", n=1, seed=0)
    other = make_example(replace(DATA, split="test"), 12345)
    with pytest.raises(
        InputError, match="1 of 1 pairs of edit `select.0.column` are not aligned; pair 0: the prompts"
    ):
        tokenizer.encode_pairs([replace(pair, corrupt=other)])
    kept = tokenizer.encode_pairs([pair, replace(pair, corrupt=other)], drop_misaligned=True)
    assert (len(kept), len(kept.refused)) == (1, 1)


def test_a_pair_that_differs_in_two_roles_is_refused(tokenizer: Tokenizer) -> None:
    [pair] = counterfactuals(replace(DATA, split="test"), edit="order_by.0.direction", n=1, seed=0)
    # The same question with another table besides: as many tokens, but two spans differ.
    query = pair.corrupt.query
    [table] = query.schema.tables
    name = next(
        n
        for n in ("toys", "maps", "coins", "books")
        if n not in (table.name, *pair.corrupt.english.string.split())
    )
    moved = replace(query, table=name, schema=replace(query.schema, tables=(replace(table, name=name),)))
    other = write_example(0, moved, pair.corrupt.style)
    with pytest.raises(InputError, match="the prompts differ in the roles"):
        tokenizer.encode_pairs([replace(pair, corrupt=other)])


def test_transformers_reads_the_same_tokenizer(
    tokenizer: Tokenizer, examples: list[Example], tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    for example in examples[:20]:
        expected = tokenizer.encode_text(example.text.string)
        assert fast(example.text.string)["input_ids"] == expected
        assert again.encode_text(example.text.string) == expected


@pytest.mark.parametrize("content", ["", '{"version": "1.0", "mod'])
def test_a_tokenizer_file_cut_short_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="not a whole tokenizer file"):
        Tokenizer.load(tmp_path / "tokenizer.json")
