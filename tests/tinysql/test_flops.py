"""The arithmetic of a step: counted by hand, and by torch's own counter of matrix products."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tinysql.models.config import ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.batches import TrainingRows
from tinysql.training.config import TrainConfig
from tinysql.training.distributed import World
from tinysql.training.flops import body_flops, step_flops
from tinysql.training.loop import Log, Trainer, read_log
from tinysql.training.loss import losses

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


def test_attention_and_experts_by_hand() -> None:
    shape = ModelConfig(pattern="*", d_model=64, n_heads=2, n_kv_heads=1, d_head=24, d_vocab=50)
    projections = 64 * 24 * (2 + 1 + 1 + 2)
    assert body_flops(shape, 10.0) == 2 * (projections + 2 * 64) + 2 * 2 * 2 * 24 * 10
    moe = MoEConfig(n_experts=8, n_active=3, d_expert=16, d_shared=40, d_latent=32)
    shape = ModelConfig(pattern="E", d_model=64, d_vocab=50, moe=moe)
    weights = 64 * 8 + 3 * 2 * 32 * 16 + 2 * 64 * 40 + 2 * 64 * 32
    assert body_flops(shape, 10.0) == 2 * (weights + 2 * 64)


@pytest.mark.parametrize("bins", [None, [[0, 1], [2]], [[2, 1, 0]]])
def test_every_token_sees_its_document_up_to_itself(bins: list[list[int]] | None) -> None:
    lengths = np.array([10, 30, 60])
    rows = TrainingRows(
        np.arange(100, dtype=np.int32) % 50, np.concatenate([[0], lengths.cumsum()]), lengths // 2, 0
    )
    batch = rows.batch(range(3)) if bins is None else rows.packed(bins, 110)
    # Queries and keys, values; 2 blocks; 64 wide; without attention, the rest is the same per token.
    attention = 2 * (2 * 2 * 64) * sum(n * (n + 1) / 2 for n in lengths)
    head = len(batch.places) * 2 * 64 * 50
    assert step_flops(SHAPE, batch) == pytest.approx(3 * (100 * body_flops(SHAPE, 0.0) + attention + head))


def test_a_line_of_the_log_counts_every_step_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.training.loop.utilisation", lambda per_second: per_second)
    trainer = Trainer(HybridLM(SHAPE), TrainConfig(model=SHAPE), World())
    log = Log(tmp_path / "metrics.jsonl", trainer.state, (), active=True)
    long, short = ROWS.batch([0, 1]), ROWS.batch([1])
    for some in ((long, short), (short, long, short)):
        for batch in some:
            record = trainer.step(batch)
        trainer.state.seconds += 4.0
        trainer.waited += 1.0
        numbers = {name: record[name] for name in ("step", "flops")}
        log.write({**numbers, "waited": trainer.waited}, trainer.state)
    assert [one["waiting"] for one in read_log(tmp_path / "metrics.jsonl")] == [0.25, 0.25]
    found = [one["mfu"] for one in read_log(tmp_path / "metrics.jsonl")]
    one, two = step_flops(SHAPE, short), step_flops(SHAPE, long)
    assert found == pytest.approx([(two + one) / 4, (2 * one + two) / 4])


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
