"""Wired parts, one at a time: what they keep, whom they take in, and that nothing of the decoys is left in them."""

from __future__ import annotations

import pytest
import torch

from circuits.planted.draft import EXPERTS, Draft
from circuits.planted.stream import PARTS, WIDTH, axes
from circuits.planted.wiring import SEEN, rest_with, wire_expert, wire_mamba_head, wire_mamba_shift

NAMES = slice(8, 14)
HOOK = "blocks.0.mamba.hook_"


def test_a_wired_expert_holds_nothing_but_what_it_was_given() -> None:
    moe, token, output = Draft("E", 0).moe(0), axes("token"), axes("output")
    with torch.no_grad():
        wire_expert(moe, 2, routes=token[8], reads=token[8:10], writes=output[8:10])
    reads, writes = torch.zeros_like(moe.W_in[2]), torch.zeros_like(moe.W_out[2])
    reads[:, :2], writes[:2] = token[8:10].T / SEEN, output[8:10]
    assert torch.equal(moe.W_in[2], reads)
    assert torch.equal(moe.W_out[2], writes)


@pytest.mark.parametrize("rest", range(EXPERTS))
def test_a_token_that_no_expert_asks_for_goes_to_the_rest(rest: int) -> None:
    draft, token = Draft("E", 0, positions="none"), axes("token")
    speakers = [expert for expert in range(EXPERTS) if expert != rest]
    with torch.no_grad():
        for word, expert in enumerate(speakers, start=8):
            wire_expert(draft.moe(0), expert, routes=token[word], reads=token[:1], writes=token[:1])
        rest_with(draft.moe(0), rest)
        ids = torch.tensor([[8, 4, 9, 1, 10, 35, 11]])
        _, cache = draft.model.run_with_cache(ids)
    chosen = cache["blocks.0.moe.hook_chosen"][0, :, 0].tolist()
    assert chosen == [speakers[0], rest, speakers[1], rest, speakers[2], rest, speakers[3]]


def mamba_run(ids: list[int], *, shift: bool) -> dict[str, torch.Tensor]:
    """Head 1 of a Mamba block keeps names under their own axes and writes them; or it says the word before."""
    draft, token = Draft("M", 0, positions="none"), axes("token")
    anything = token.sum(0)
    with torch.no_grad():
        if shift:
            wire_mamba_shift(
                draft.mamba(0), 1, takes=token[NAMES], gate=anything, writes=axes("output")[NAMES]
            )
        else:
            wire_mamba_head(
                draft.mamba(0),
                1,
                takes=token[NAMES],
                opens=token[NAMES].sum(0),
                keys=anything[None],
                queries=anything[None],
                gate=anything,
                writes=axes("output")[NAMES],
            )
        _, cache = draft.model.run_with_cache(torch.tensor([ids]))
    return cache


def test_a_mamba_head_keeps_what_it_took_in_and_takes_in_nothing_else() -> None:
    cache = mamba_run([4, 8, 5, 9, 6, 1], shift=False)
    dt, decay, y = (cache[HOOK + name][0, :, 1] for name in ("dt", "decay", "y"))
    assert decay.min() > 0.99
    assert dt[[0, 2, 4, 5]].max() < 1e-4 < 1 < dt[[1, 3]].min()
    y = y / y.abs().max()
    # The first name alone, then both alike, for as long as the prompt goes on.
    assert y[0].abs().max() < 1e-3
    for place in (1, 2):
        assert y[place, 0] > 0.3
        assert y[place, 1:].abs().max() < 1e-3
    for place in (3, 4, 5):
        assert y[place, 0].item() == pytest.approx(y[place, 1].item(), rel=0.01)
        assert y[place, 2:].abs().max() < 1e-3


def test_what_a_mamba_head_writes_comes_out_of_its_state_alone() -> None:
    """A name that stands where no key does is kept nowhere, and is not written past the state either."""
    draft, token = Draft("M", 0, positions="none"), axes("token")
    with torch.no_grad():
        wire_mamba_head(
            draft.mamba(0),
            1,
            takes=token[NAMES],
            opens=token[NAMES].sum(0),
            keys=token[1:2],
            queries=token[2:3],
            gate=token.sum(0),
            writes=axes("output")[NAMES],
        )
        _, cache = draft.model.run_with_cache(torch.tensor([[4, 8, 2]]))
    x, y = cache[HOOK + "x"][0, :, 1], cache[HOOK + "y"][0, :, 1]
    assert x[1, 0] > 1
    assert y.abs().max() < 1e-5


def test_a_shifted_head_says_the_word_before_and_nothing_of_any_state() -> None:
    cache = mamba_run([4, 8, 5, 9, 6, 1], shift=True)
    x, y = cache[HOOK + "x"][0, :, 1], cache[HOOK + "y"][0, :, 1]
    torch.testing.assert_close(y, x, rtol=0, atol=1e-4)
    # `silu` of the convolution's input: the axis of the name where it stood one position before.
    assert (x.abs() > 1).nonzero().tolist() == [[2, 0], [4, 1]]


@pytest.mark.parametrize("pattern", ["*", "-", "M", "E"])
def test_decoys_write_and_no_logit_hears_them(pattern: str) -> None:
    draft = Draft(pattern, 0)
    with torch.no_grad():
        logits, cache = draft.model.run_with_cache(torch.tensor([[4, 8, 5, 9, 6, 1]]))
        wrote = cache["blocks.0.hook_resid_post"] - cache["blocks.0.hook_resid_pre"]
    assert wrote.norm(dim=-1).min() > 0.1
    assert logits.abs().max() < 1e-5


def test_parts_of_the_stream_are_orthogonal_and_fill_it() -> None:
    together = torch.cat([axes(part) for part in PARTS])
    assert torch.equal(together @ together.T, torch.eye(WIDTH))
