"""Swapped names: aligned pairs, and the first depth against prompts whose tokens are swapped by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from circuits.looking.by_role import part
from circuits.looking.patching import Direction, PatchEffects
from circuits.looking.swaps import SwapTest, swap_pairs, swap_test
from circuits.metrics import logit_diff
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", min_columns=2, max_columns=3, split="test")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    rows = (make_example(replace(DATA, split="train"), index) for index in range(200))
    return Tokenizer.train((row.text.string for row in rows), vocab_size=600)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridLM:
    shape = ModelConfig(
        pattern="M*-",
        d_model=16,
        n_heads=2,
        d_vocab=tokenizer.vocab_size,
        n_ctx=160,
        mamba=MambaConfig(d_head=8, d_state=4),
    )
    return HybridLM(shape, seed=0)


@pytest.mark.parametrize("slot", ["table", "column"])
def test_a_pair_differs_in_one_name_in_both_places(tokenizer: Tokenizer, slot: str) -> None:
    pairs = swap_pairs(tokenizer, DATA, slot, 6)
    roles = {"table": {"english.table", "schema.table"}, "column": {"english.select", "schema.columns"}}
    for i in range(6):
        clean, corrupt = pairs.clean.ids[i], pairs.corrupt.ids[i]
        apart = (clean != corrupt).nonzero()[:, 0].tolist()
        found = {".".join(pairs.clean.roles[i][j].split(".")[:2]) for j in apart}
        assert found == roles[slot]
        assert pairs.position[i] >= pairs.clean.answer_start[i] - 1
        assert pairs.clean_answer[i] != pairs.corrupt_answer[i]
    assert pairs.clean.roles == pairs.corrupt.roles
    assert torch.equal(pairs.clean.mask.sum(1), pairs.position + 1)


def test_the_same_seed_draws_the_same_pairs(tokenizer: Tokenizer) -> None:
    first, again, other = (swap_pairs(tokenizer, DATA, "table", 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.clean.ids, again.clean.ids)
    assert first.clean.ids.tolist() != other.clean.ids.tolist()


def test_at_the_first_depth_a_swap_is_a_swap_of_tokens(tokenizer: Tokenizer, model: HybridLM) -> None:
    pairs = swap_pairs(tokenizer, DATA, "table", 5)
    found = swap_test(model, pairs)
    at = torch.arange(5), pairs.position
    for place in ("english", "schema"):
        is_place = torch.tensor([[part(role) == place for role in row] for row in pairs.clean.roles])
        for effects, base, other in (
            (found.needed, pairs.clean.ids, pairs.corrupt.ids),
            (found.enough, pairs.corrupt.ids, pairs.clean.ids),
        ):
            logits = model(torch.where(is_place, other, base)).detach()[at]
            column = effects.sets.index(place)
            torch.testing.assert_close(effects.values[:, 0, column], logit_diff(logits, pairs))
        follows = found.follows[:, ("english", "schema").index(place)]
        assert torch.equal(follows, found.needed.values[:, 0, found.needed.sets.index(place)] < 0)
    assert found.to_json()["follows"]["schema"]["value"] == pytest.approx(
        float(found.follows[:, 1].float().mean())
    )


def test_pairs_that_differ_in_one_place_are_refused(tokenizer: Tokenizer, model: HybridLM) -> None:
    pairs = swap_pairs(tokenizer, DATA, "table", 3)
    is_english = torch.tensor([[part(role) == "english" for role in row] for row in pairs.clean.roles])
    ids = torch.where(is_english, pairs.clean.ids, pairs.corrupt.ids)
    half = replace(pairs, corrupt=replace(pairs.corrupt, ids=ids))
    with pytest.raises(
        InputError, match="differ in schema, expected a name in the instruction and in the schema"
    ):
        swap_test(model, half)
    with pytest.raises(InputError, match="n is 0"):
        swap_pairs(tokenizer, DATA, "table", 0)


def test_shares_that_follow_by_hand() -> None:
    """Of four pairs, one has the new name's sign with the English alone, three with the schema alone."""
    values = torch.tensor([[[-1.0, 9.0, -1.0]], [[1.0, 9.0, -1.0]], [[1.0, 9.0, -2.0]], [[1.0, 9.0, 3.0]]])
    effects = PatchEffects(
        hooks=("blocks.0.hook_resid_pre",),
        sets=("english", "prompt", "schema"),
        direction=Direction.NOISE,
        metric="m",
        edit="e",
        values=values,
        base=torch.ones(4),
        other=-torch.ones(4),
        roles=((),) * 4,
    )
    found = SwapTest(needed=effects, enough=effects)
    assert found.follows.tolist() == [[True, True], [False, True], [False, True], [False, False]]
    written = found.to_json()["follows"]
    assert {place: line["value"] for place, line in written.items()} == {"english": 0.25, "schema": 0.75}
    assert written["english"]["low"] == 0 < written["english"]["high"] < 1
    assert 0 < written["schema"]["low"] < written["schema"]["high"] == 1
