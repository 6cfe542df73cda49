"""Tokens of two tokenizers are partners where they end at the same character."""

import pytest
import tokenizers
import torch
from tokenizers.models import WordLevel

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.text import Text
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer
from transfer.alignment import match_positions, match_spans, read
from transfer.pairing import Side, points_at, record_pairs, stream_pairs


def cutting(*words: str) -> Tokenizer:
    """A tokenizer whose tokens are these words."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<end>", *words])}
    backend = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    pattern = tokenizers.Regex("|".join(sorted(words, key=len, reverse=True)))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "isolated")
    return Tokenizer(backend)


TEXTS = [
    example.text for example in make_examples(DataConfig(command_sets=("cs1", "cs2"), lexicon="demo"), 0, 40)
]


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.train((text.string for text in TEXTS), vocab_size=300)


@pytest.fixture(scope="module")
def large() -> Tokenizer:
    return Tokenizer.train((text.string for text in TEXTS), vocab_size=600)


def test_partners_worked_by_hand() -> None:
    text = [Text.of([("abcde", "sql.table")])]
    matches = match_spans(read(cutting("ab", "cd", "e"), text), read(cutting("abcd", "e"), text))
    # ab|cd|e|<end> and abcd|e|<end>.
    assert list(zip(matches.source.tolist(), matches.target.tolist(), strict=True)) == [
        (1, 0),
        (2, 1),
        (3, 2),
    ]
    assert matches.coverage == 1
    back = match_spans(read(cutting("abcd", "e"), text), read(cutting("ab", "cd", "e"), text))
    assert list(zip(back.source.tolist(), back.target.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 3)]
    assert back.coverage == 0.75


def test_one_tokenizer_matches_itself_token_for_token(small: Tokenizer) -> None:
    reading = read(small, TEXTS)
    matches = match_spans(reading, reading)
    assert torch.equal(matches.source, matches.target)
    assert len(matches) == int(reading.tokens.mask.sum())
    assert matches.coverage == 1


def test_partners_have_read_the_same_text(small: Tokenizer, large: Tokenizer) -> None:
    source, target = read(small, TEXTS), read(large, TEXTS)
    matches = match_spans(source, target)
    assert len(matches) > 500
    for row, i, j in zip(
        *(t.tolist() for t in (matches.example, matches.source, matches.target)), strict=True
    ):
        assert small.decode(source.tokens.ids[row, : i + 1].tolist()) == large.decode(
            target.tokens.ids[row, : j + 1].tolist()
        )


def test_of_the_bytes_of_one_character_the_last_counts() -> None:
    text = [Text.of([("é", "sql.table"), (" é", "sql.where")])]
    bytewise = Tokenizer.train([], vocab_size=258)
    whole = Tokenizer.train(["é é é é é é"], vocab_size=264)
    matches = match_spans(read(bytewise, text), read(whole, text))
    assert bytewise.encode_text("é é").__len__() == 5
    assert matches.source.tolist() == [1, 4, 5]
    assert matches.target.tolist()[-1] == len(whole.encode_text("é é"))


def test_raw_positions_pair_unlike_tokens_and_padding(small: Tokenizer, large: Tokenizer) -> None:
    source, target = read(small, TEXTS), read(large, TEXTS)
    raw = match_positions(source, target)
    assert torch.equal(raw.source, raw.target)
    wrong = source.ends[raw.example, raw.source] != target.ends[raw.example, raw.target]
    assert wrong.float().mean() > 0.9
    assert bool((target.ends[raw.example, raw.target] == -1).any())


def test_reading_keeps_roles_and_finds_the_answer(small: Tokenizer) -> None:
    examples = list(make_examples(DataConfig(command_sets=("cs1", "cs2"), lexicon="demo"), 0, 40))
    found, known = read(small, TEXTS).tokens, small.encode(examples)
    assert torch.equal(found.ids, known.ids)
    assert torch.equal(found.mask, known.mask)
    assert found.roles == known.roles
    assert torch.equal(found.answer_start, known.answer_start)


def model(d_model: int, vocabulary: int, seed: int) -> HybridLM:
    shape = ModelConfig(pattern="*-*-", d_model=d_model, n_heads=2, d_vocab=vocabulary, n_ctx=400)
    return HybridLM(shape, seed=seed).eval()


def test_recorded_pairs_are_the_two_models_activations(small: Tokenizer, large: Tokenizer) -> None:
    hooks = ("blocks.1.hook_resid_post", "blocks.2.hook_resid_post")
    models = [model(16, small.vocab_size, 1), model(24, large.vocab_size, 2)]
    readings = [read(small, TEXTS[:9]), read(large, TEXTS[:9])]
    sides = [Side(model=m, hook=h, reading=r) for m, h, r in zip(models, hooks, readings, strict=True)]
    matches = match_spans(*readings)
    pairs = record_pairs(*sides, matches, batch_size=4)
    assert len(pairs) == len(matches)
    for side, points, places in zip(
        sides, (pairs.source, pairs.target), (matches.source, matches.target), strict=True
    ):
        values = side.model.run_with_cache(side.reading.tokens.ids)[1][side.hook].detach()
        torch.testing.assert_close(points.values, values[matches.example, places], rtol=1e-4, atol=1e-5)
        assert torch.equal(points.ids, side.reading.tokens.ids[matches.example, places])
        # In any order of asking.
        order = torch.randperm(len(matches), generator=torch.Generator().manual_seed(0))
        asked = points_at(side, matches.example[order], places[order], batch_size=3)
        torch.testing.assert_close(asked.values, points.values[order], rtol=1e-4, atol=1e-5)
    assert sum(len(part) for part in stream_pairs(*sides, matches, batch_size=2)) == len(matches)


def test_models_without_a_common_text_are_refused(small: Tokenizer, large: Tokenizer) -> None:
    with pytest.raises(InputError, match="not read the same texts: text 1 differs"):
        match_spans(read(small, TEXTS[:2]), read(large, [TEXTS[0], TEXTS[2]]))
    with pytest.raises(InputError, match="2 texts and 1"):
        match_positions(read(small, TEXTS[:2]), read(large, TEXTS[:1]))
    with pytest.raises(InputError, match="no text to read"):
        read(small, [])
