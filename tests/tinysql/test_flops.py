"""The arithmetic of a step: counted by hand, and by torch's own counter of matrix products."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tinysql.batches import TrainingRows
from tinysql.distributed import World
from tinysql.flops import body_flops, step_flops
from tinysql.loss import losses
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training import Trainer
from tinysql.training_config import TrainConfig

SHAPE = ModelConfig(pattern="*-*-", d_model=64, n_heads=2, n_kv_heads=1, d_vocab=50, n_ctx=256, gated=True)
ROWS = TrainingRows(np.arange(512, dtype=np.int32) % 50, np.array([0, 256, 512]), np.array([128, 128]), 0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_matrix_products_are_those_that_torch_counts(positions: str, tied: bool) -> None:
    shape = replace(SHAPE, positions=positions, tied=tied)
    model, batch = HybridLM(shape), ROWS.batch([0, 1])
    # Scores in the open: torch counts the whole square, of which the lower triangle is needed.
    for block in (model.blocks[0], model.blocks[2]):
        block.attn.hook_pattern.add_hook(lambda pattern, hook: pattern)
    with FlopCounterMode(display=False) as counter:
        losses(model, batch).total.backward()
    upper = 3 * 2 * (2 * 2 * 64 * 256 / 2) * batch.tokens
    # Norms and rotations are no matrix products, though their weights are counted: a percent.
    assert step_flops(shape, batch) == pytest.approx(counter.get_total_flops() - upper, rel=0.01)


def test_a_mamba_block_by_hand() -> None:
    shape = ModelConfig(pattern="M", d_model=64, d_vocab=50)
    inner, state, chunk = 128, 128, 64
    projections = 64 * (2 * inner + 2 * state + 2) + inner * 64
    small = 5 * (inner + 2 * state) + 3 * 2 + inner + 2 * 64
    scan = chunk * (state + inner) + 4 * inner * state
    assert body_flops(shape, 100.0) == 2 * (projections + small) + scan


class Second(World):
    """The view of one of two processes on its own, which adds nothing up."""

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return value


def test_a_process_counts_its_own_share() -> None:
    config, batch = TrainConfig(model=SHAPE), ROWS.batch([0, 1])
    found = [
        Trainer(HybridLM(SHAPE), config, world).step(batch)["flops"]
        for world in (World(), Second(rank=1, size=2))
    ]
    assert found[1] == found[0] / 2
