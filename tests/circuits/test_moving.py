"""One slot at a time reads something else: many at once give what each gives alone, and no more is run than that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from circuits.engine.mixers import mixers_of
from circuits.engine.ports import Parts
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM

MAMBA = MambaConfig(n_heads=6, d_head=4, d_state=5, n_groups=2, chunk=4)
MOE = MoEConfig(n_experts=5, n_active=2, d_expert=8, d_shared=8, d_latent=6)


@pytest.fixture
def case() -> Callable[..., tuple[HybridLM, Parts, Parts]]:
    """A model of one block, and what its ports read in two runs."""

    def make(
        pattern: str, dtype: torch.dtype = torch.float64, mamba: MambaConfig = MAMBA
    ) -> tuple[HybridLM, Parts, Parts]:
        config = ModelConfig(pattern=pattern, d_model=24, n_heads=3, d_vocab=8, mamba=mamba, moe=MOE)
        model = HybridLM(config, seed=3).to(dtype).requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("norm_weight"):
                    weight.copy_(0.5 + torch.rand(weight.shape, generator=generator))
        (mixer,) = mixers_of(model)
        streams = (torch.randn(2, 9, 24, generator=generator, dtype=torch.float64).to(dtype) for _ in "ab")
        first, second = (tuple(port.read(stream) for port in mixer.reads) for stream in streams)
        return model, first, second

    return make


def keep(x: Tensor) -> Tensor:
    return x[:, 3:]


SHAPES = {
    "all heads in one group": replace(MAMBA, n_groups=1),
    "each head its own group": replace(MAMBA, n_groups=6),
    "one head": replace(MAMBA, n_heads=1, n_groups=1),
    "heads one wide": replace(MAMBA, d_head=1),
}


@pytest.mark.parametrize(
    ("pattern", "mamba"),
    [
        *((pattern, MAMBA) for pattern in "ME*-"),
        *(pytest.param("M", SHAPES[name], id=name) for name in SHAPES),
    ],
)
def test_every_slot_gives_what_it_gives_alone(case, pattern: str, mamba: MambaConfig) -> None:
    model, reads, other = case(pattern, mamba=mamba)
    (mixer,) = mixers_of(model)
    latents = mixer.latents(reads)
    moving = mixer.moving(reads, latents, keep)
    for place, port in enumerate(mixer.reads):
        found = moving(place, other[place])
        assert len(found) == port.slots
        for slot in range(port.slots):
            one = reads[place].clone()
            one[:, :, slot] = other[place][:, :, slot]
            patched = mixer.latents((*reads[:place], one, *reads[place + 1 :]))
            alone = mixer.total(tuple(new - old for new, old in zip(patched, latents, strict=True)))
            assert alone.abs().max() > 1e-3
            torch.testing.assert_close(found[slot], keep(alone))


def test_a_mamba_block_is_scanned_once_for_all_heads(case, monkeypatch) -> None:
    model, reads, other = case("M")
    (mixer,) = mixers_of(model)
    moving, scans = mixer.moving(reads, mixer.latents(reads), keep), []
    scan = model.blocks[0].mamba.scan
    monkeypatch.setattr(model.blocks[0].mamba, "scan", lambda *inputs: scans.append(1) or scan(*inputs))
    counts = []
    for place, read in enumerate(other):
        scans.clear()
        moving(place, read)
        counts.append(len(scans))
    assert counts == [0, 1, 1, 1, 1]


def test_a_head_that_outweighs_its_group_is_taken_out_without_cancelling(case) -> None:
    """What is left of the group is a ten-thousandth of it: its squares are a hundred-millionth of all."""
    wide, reads, other = case("M")
    reads, other = list(reads), list(other)
    reads[0] = reads[0].clone()
    reads[0][:, :, 1], other[0] = 20.0, -100.0 + 0 * other[0]
    reads[1] = reads[1].clone()
    reads[1][:, :, 1] *= 1e4
    narrow = case("M", torch.float32)[0]
    found = []
    for model in (wide, narrow):
        (mixer,) = mixers_of(model)
        mine, theirs = (tuple(x.to(model.embed.W_E.dtype) for x in some) for some in (reads, other))
        found.append(mixer.moving(mine, mixer.latents(mine), keep)(0, theirs[0])[1].double())
    assert found[0].abs().max() > 1e-2
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
