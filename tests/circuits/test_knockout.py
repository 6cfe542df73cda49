"""Knocked-out entries: what the head carries there is gone, everything else stays."""

from __future__ import annotations

import pytest
import torch
from einops import einsum

from circuits.looking.knockout import knocked_out
from circuits.looking.patterns import effective_attention
from circuits.metrics import logit_diff
from circuits.planted.cases import planted
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig

MAMBA = MambaConfig(n_heads=4, d_head=4, d_state=5, n_groups=2, chunk=4)


def entries(length: int, *pairs: tuple[int, int]) -> torch.Tensor:
    found = torch.zeros(length, length, dtype=torch.bool)
    for query, key in pairs:
        found[query, key] = True
    return found


def test_an_attention_head_loses_what_its_pattern_had_there(random_case) -> None:
    case = random_case("*")
    ids = case.pairs.clean.ids
    gone = entries(ids.shape[1], (5, 2), (7, 7))
    with torch.no_grad():
        _, cache = case.model.run_with_cache(ids)
        pattern = cache["blocks.0.attn.hook_pattern"].clone()
        pattern[:, 1][:, gone] = 0
        z = einsum(pattern, cache["blocks.0.attn.hook_v"], "b h q k, b k h d -> b q h d")
        with knocked_out(case.model, "blocks.0.attn.head.1", gone):
            _, found = case.model.run_with_cache(ids)
    torch.testing.assert_close(found["blocks.0.attn.hook_z"], z)
    assert (z - cache["blocks.0.attn.hook_z"]).abs().max() > 1e-3


@pytest.mark.parametrize("head", range(4))
def test_a_mamba_head_loses_what_its_scan_had_there(random_case, head: int) -> None:
    case = random_case("M", mamba=MAMBA)
    ids, name = case.pairs.clean.ids, "blocks.0.mamba.hook_"
    gone = entries(ids.shape[1], (5, 2), (7, 7), (10, 0))
    with torch.no_grad():
        _, cache = case.model.run_with_cache(ids)
        x, dt, decay = (cache[name + port] for port in ("x", "dt", "decay"))
        mixing = effective_attention(cache[name + "B"], cache[name + "C"], decay)
        mixing[:, head][:, gone] = 0
        expected = einsum(mixing, dt[..., None] * x, "b h q k, b k h d -> b q h d")
        expected = expected + case.model.blocks[0].mamba.D[:, None] * x
        with knocked_out(case.model, f"blocks.0.mamba.head.{head}", gone):
            _, found = case.model.run_with_cache(ids)
    torch.testing.assert_close(found[name + "y"], expected)
    assert (expected - cache[name + "y"]).abs().max() > 1e-4


def test_entries_may_differ_between_prompts_and_gradients_go_through(random_case) -> None:
    case = random_case("M", mamba=MAMBA)
    ids = case.pairs.clean.ids[:2]
    each = torch.stack([entries(ids.shape[1], (5, 2)), entries(ids.shape[1])])
    with knocked_out(case.model, "blocks.0.mamba.head.0", each):
        found = case.model(ids)
    plain = case.model(ids)
    assert (found[0] - plain[0]).abs().max() > 1e-6
    torch.testing.assert_close(found[1], plain[1])
    found.sum().backward()
    assert case.model.blocks[0].mamba.W_x.grad.abs().max() > 0


@pytest.mark.parametrize("mixer", ["attention", "mamba"])
def test_a_planted_copy_is_lost_without_the_look_at_the_name(mixer: str) -> None:
    case = planted(f"copy-{mixer}-name", seed=0)
    pairs, ids = case.pairs, case.pairs.clean.ids
    heads = [edge.writer for edge in case.edges if edge.reader == "logits"]
    changed = pairs.clean.ids != pairs.corrupt.ids
    gone = torch.zeros(len(ids), ids.shape[1], ids.shape[1], dtype=torch.bool)
    for row, position in enumerate(pairs.position.tolist()):
        # The convolution carries the name to the next positions too.
        where = changed[row].nonzero().flatten()
        for shift in range(4 if mixer == "mamba" else 1):
            gone[row, position, (where + shift).clamp_max(ids.shape[1] - 1)] = True
    rows = torch.arange(len(ids))
    with torch.no_grad():
        before = logit_diff(case.model(ids)[rows, pairs.position], pairs)
        (head,) = heads
        with knocked_out(case.model, head, gone):
            after = logit_diff(case.model(ids)[rows, pairs.position], pairs)
    assert (after.abs() < 0.2 * before).all()


def test_a_head_that_is_none_and_entries_of_another_length_are_refused(random_case) -> None:
    case = random_case("*")
    with (
        pytest.raises(InputError, match="no head `blocks.0.attn.head.7`"),
        knocked_out(case.model, "blocks.0.attn.head.7", entries(11)),
    ):
        pass
    with (
        knocked_out(case.model, "blocks.0.attn.head.1", entries(4)),
        pytest.raises(InputError, match="entries have shape"),
    ):
        case.model(case.pairs.clean.ids)
    one = entries(11)[None]
    with (
        knocked_out(case.model, "blocks.0.attn.head.1", one),
        pytest.raises(InputError, match=r"entries have shape \[1, 11, 11\], the prompts \[5, 11, 11\]"),
    ):
        case.model(case.pairs.clean.ids)
