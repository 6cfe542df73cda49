"""Two processes train what one would: the same losses, and checkpoints that either can go on from."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from tinysql.config import to_json
from tinysql.models.config import MambaConfig, MoEConfig
from tinysql.recipes import Recipe, find_recipe
from tinysql.training.checkpoints import load_tensors


@pytest.fixture
def recipe() -> Recipe:
    tiny = find_recipe("tiny")
    shape = replace(
        tiny.train.model,
        pattern="ME*",
        n_kv_heads=1,  # fewer than processes, so one of them keeps nothing of W_K
        mamba=MambaConfig(d_head=16, d_state=8),
        moe=MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16),
    )
    train = replace(tiny.train, model=shape, hold_steps=20, decay_steps=20, average_last=5, balance_loss=0.01)
    return replace(tiny, rows=300, train=replace(train, checkpoint_every=10))


def run(
    recipe: Recipe, out: Path, processes: int, *, stop: int | None = None, first: str = ""
) -> subprocess.CompletedProcess[str]:
    """Train as the command line does, `first` run before; with `stop`, die without a word at that step."""
    settings = [
        f"--set={name}={value}" for name, value in flat(to_json(recipe), to_json(find_recipe("tiny"))).items()
    ]
    program = f"{first}\nimport sys; from tinysql.cli import main; sys.exit(main(sys.argv[1:]))"
    if stop is not None:
        program = f"""
import os, sys
from tinysql.training.loop import Trainer
real = Trainer.step
Trainer.step = lambda self, batch: os._exit(9) if self.state.step == {stop} else real(self, batch)
{program}"""
    return launched(program, out.parent, processes, "train", "tiny", "--out", str(out), "--resume", *settings)


def launched(program: str, folder: Path, processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program as so many processes of one world."""
    file = folder / "program.py"
    file.write_text(program)
    launcher = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    )
    command = [sys.executable, *launcher, str(file), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def flat(values: dict, base: dict, prefix: str = "") -> dict[str, object]:
    """The settings that make `values` of `base`."""
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            found |= flat(value, base[key], f"{prefix}{key}.")
        elif value != base.get(key):
            found[prefix + key] = value
    return found


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_have_the_losses_of_one_which_goes_on_from_their_checkpoint(
    recipe: Recipe, tmp_path: Path, optimizer: Literal["adamw", "muon"]
) -> None:
    recipe = replace(recipe, train=replace(recipe.train, optimizer=optimizer))
    alone = run(recipe, tmp_path / "alone", 1)
    assert alone.returncode == 0, alone.stderr
    # Two processes die behind their first checkpoint; one process goes on from it.
    killed = run(recipe, tmp_path / "two", 2, stop=15)
    assert killed.returncode != 0
    assert (tmp_path / "two" / "checkpoints" / "step-00000010").exists()
    finished = run(recipe, tmp_path / "two", 1)
    assert finished.returncode == 0, finished.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    expected, found = (load_tensors(tmp_path / name / "model.safetensors") for name in ("alone", "two"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def test_what_the_first_process_is_refused_it_says_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("four years")
    ran = run(recipe, tmp_path / "out", 2)
    assert ran.returncode != 0
    # `torchrun` adds a traceback of its own, with what each was refused; the other process must not add that of a
    # lost connection.
    ours, _, summary = ran.stderr.partition("Traceback")
    assert ours.count("out` is not empty\nhint: choose another output") == 1
    assert "out` is not empty\nhint: choose another output" in summary
    assert "world.wait" not in ran.stderr
    assert (tmp_path / "out" / "thesis.txt").read_text() == "four years"


GRADES_OF_ITS_OWN = """
import os
from tinysql.training import fit
grades = iter([0.2, 0.6, 0.1, 0.0] if os.environ["RANK"] == "0" else [0.2, 0.0, 0.3, 0.0])
fit._grader = lambda recipe, tokenizer: lambda model: next(grades)
"""


def test_processes_that_would_grade_otherwise_agree_on_the_best_weights(
    recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, train=replace(recipe.train, grade_every=10))
    ran = run(recipe, tmp_path / "two", 2, first=GRADES_OF_ITS_OWN)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["grade"] for line in lines if "grade" in line] == pytest.approx([0.2, 0.3, 0.2, 0.0])
    assert (tmp_path / "two" / "best.safetensors").exists()


ENDS = """
# As torch takes gloo's threads apart, a process of three was aborted in two of 23 runs; all was said before.
import os, sys
sys.stdout.flush()
os._exit(0)
"""

EXCHANGES = """
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from tinysql.training.distributed import divided, join_world, own_part, part_of, shared_as, whole, wholes

with join_world(torch.device("cpu")) as world:
    mesh = init_device_mesh("cpu", (world.size,))
    full = [torch.arange(4.0 * rows).reshape(rows, 2, 2) for rows in range(1, 8)] + [torch.arange(5.0)]
    shared = [distribute_tensor(tensor, mesh, [Shard(0)]) for tensor in full]
    # Some processes keep fewer rows than others, or none.
    found = wholes(shared, [2 * own_part(tensor) for tensor in shared])
    for given, one, doubled in zip(full, shared, found, strict=True):
        assert torch.equal(doubled, 2 * given)
        assert torch.equal(part_of(given, one), own_part(one))
        again = shared_as(one, given)
        assert torch.equal(own_part(again), own_part(one)) and torch.equal(whole(again), given)
        # Nothing is sent: each process keeps a part of what it has itself.
        assert torch.equal(own_part(shared_as(one, given + world.rank)), own_part(one) + world.rank)
        assert part_of(given, given) is given and own_part(given) is given and shared_as(given, given) is given
        own_part(one).add_(1)
        assert torch.equal(whole(one), given + 1)
    assert wholes(full, found) == found
    for n in range(1, 8):
        items, taken = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(n)), []
        result = divided(lambda part: taken.append(len(part)) or part.cumsum(1) + 1, items)
        assert torch.equal(result, items.cumsum(1) + 1)
        assert taken == [-(-n // world.size)]
    print("exchanged")
    world.wait()
"""


def test_three_processes_put_together_what_they_share_unevenly(tmp_path: Path) -> None:
    ran = launched(EXCHANGES + ENDS, tmp_path, 3)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("exchanged") == 3


SEVEN_BLOCKS = """
import torch
from torch.distributed.fsdp import FSDPModule
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.distributed import join_world, whole
from tinysql.training.optimizer import make_optimizer

shape = ModelConfig(
    pattern="M*EME*-", d_model=32, n_heads=4, n_kv_heads=2, d_vocab=40, n_ctx=16, biases=("qkv", "mlp"),
    mamba=MambaConfig(d_head=16, d_state=8),
    moe=MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16, d_latent=8),
)
ids = torch.arange(42).reshape(6, 7) % 40


def trained(model, rows):
    optimizer = make_optimizer(model, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, muon=True)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(rows, recompute=True)[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten()).backward()
        optimizer.step()
        with torch.no_grad():
            model(rows)
    return {name: whole(tensor.detach()) for name, tensor in model.named_parameters()}


expected = trained(HybridLM(shape, seed=0), ids)
with join_world(torch.device("cpu")) as world:
    model = world.shard(HybridLM(shape, seed=0))
    assert all(isinstance(block, FSDPModule) for block in model.blocks)
    assert all(len(block.ln1.w.to_local()) <= 11 for block in model.blocks)
    found = trained(model, ids[world.rank :: world.size])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    print("trained")
"""


def test_blocks_that_are_sent_by_fours_are_trained_and_recomputed_as_on_one_process(tmp_path: Path) -> None:
    ran = launched(SEVEN_BLOCKS + ENDS, tmp_path, 3)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("trained") == 3


def test_what_both_processes_are_refused_one_says_and_no_directory_is_left(
    recipe: Recipe, tmp_path: Path
) -> None:
    short = replace(recipe, train=replace(recipe.train, model=replace(recipe.train.model, n_ctx=20)))
    done = run(short, tmp_path / "run", 2)
    assert done.returncode != 0
    ours, _, summary = done.stderr.partition("Traceback")  # torchrun's own
    assert ours.count("tokens and the model's context is 20") == 1
    assert "training rows do not fit" in summary
    assert not (tmp_path / "run").exists()
