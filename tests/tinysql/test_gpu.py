"""On a GPU: the same logits as on a CPU, packed attention, grouped experts, one compiled graph."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tinysql.answering.generation import generate
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.batches import Batch, TrainingRows, packed_batches
from tinysql.training.config import TrainConfig
from tinysql.training.distributed import World
from tinysql.training.loop import Trainer
from tinysql.training.loss import losses

pytestmark = pytest.mark.gpu

VOCABULARY = 64


def shape(pattern: str) -> ModelConfig:
    return ModelConfig(
        pattern=pattern,
        d_model=128,
        n_heads=4,
        n_kv_heads=2,
        d_head=32,
        attention_scale=0.3,
        d_vocab=VOCABULARY,
        n_ctx=128,
        mamba=MambaConfig(n_heads=4, d_head=32, d_state=32, n_groups=2, chunk=32),
        moe=MoEConfig(n_experts=8, n_active=2, d_expert=64, d_shared=64),
    )


def batch(seed: int, packed: bool = True) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 60, 60)
    rows = TrainingRows(
        rng.integers(0, VOCABULARY, lengths.sum()).astype(np.int32),
        np.concatenate([[0], lengths.cumsum()]),
        lengths // 2,
        0,
    )
    if packed:
        return next(packed_batches(rows, width=128, batch_size=8, seed=[seed], prompt_loss=0.0))
    return rows.batch(range(8))


@pytest.mark.parametrize("pattern", ["*-*-", "MM", "M*-M"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_gpu_gives_the_losses_of_a_cpu(pattern: str, packed: bool) -> None:
    model, one = HybridLM(shape(pattern)), batch(0, packed)
    expected = losses(model, one).total
    found = losses(model.cuda(), one.to("cuda"))
    torch.testing.assert_close(found.total.cpu(), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cuda", torch.bfloat16):
        rounded = losses(model.cuda(), one.to("cuda"))
    torch.testing.assert_close(rounded.total.float().cpu(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("d_expert", [64, 60])  # rows of 60 are no multiple of 16 bytes: one expert at a time
def test_grouped_experts_give_the_losses_of_the_loop(d_expert: int) -> None:
    experts = replace(shape("E*E").moe, d_expert=d_expert)
    model, one = HybridLM(replace(shape("E*E"), moe=experts)), batch(0, packed=False)
    expected = losses(model, one)
    with torch.autocast("cuda", torch.bfloat16):
        found = losses(model.cuda(), one.to("cuda"))
    torch.testing.assert_close(found.total.float().cpu(), expected.total, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("pattern", ["*-*-", "MEM*EME"])
def test_the_step_is_one_graph_that_serves_every_batch(pattern: str) -> None:
    # In a process of its own: the compiler cannot look through the type checks of the tests.
    done = subprocess.run(
        [sys.executable, __file__, pattern, "cuda"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["graphs"] <= 2
    assert found["losses"][-1] < found["losses"][0] + 1


def compiled_steps(pattern: str, device: str) -> None:
    """Print how many graphs six batches of different sizes took, and the loss of each."""
    model = HybridLM(shape(pattern)).to(device)
    trainer = Trainer(model, TrainConfig(model=model.cfg, lr=1e-3, batch_size=8), World())
    trainer.losses = torch.compile(losses, fullgraph=True)
    values = [float(trainer.step(batch(seed))["loss"]) for seed in range(6)]
    print(json.dumps({"graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"], "losses": values}))


def test_training_on_a_gpu_lowers_the_loss() -> None:
    model = HybridLM(shape("MEM*E")).cuda()
    trainer = Trainer(model, TrainConfig(model=model.cfg, lr=3e-3, batch_size=8, compile=False), World())
    values = [float(trainer.step(batch(0))["loss"]) for _ in range(60)]
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize(("pattern", "alike"), [("*-*-", 30), ("M*-M", 30), ("ME*E", 20)])
def test_recorded_steps_give_the_answers_of_steps_that_are_not(
    pattern: str, alike: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.models.attention.ROOM", 16)
    model = HybridLM(shape(pattern), seed=3).cuda().eval()
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCABULARY, n).tolist() for n in rng.integers(10, 40, 30)]

    def answers() -> list[list[int]]:
        found: list[list[int]] = [[] for _ in prompts]
        # Experts are recorded in bfloat16 alone; there a row goes its own way from its first near tie on.
        with torch.autocast("cuda", torch.bfloat16, enabled="E" in pattern):
            for rows, tokens in generate(model, prompts, end_id=1, longest=60):
                for row, token in zip(rows, tokens, strict=True):
                    found[row].append(token)
        return found

    recorded = answers()
    monkeypatch.setattr("tinysql.answering.decoding._is_recordable", lambda model: False)
    plain = answers()
    assert sum(one == other for one, other in zip(recorded, plain, strict=True)) >= alike
    assert max(map(len, recorded)) == 60


if __name__ == "__main__":
    compiled_steps(*sys.argv[1:])
