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
    file = out.parent / "program.py"
    file.write_text(program)
    launcher = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    )
    command = [
        sys.executable,
        *launcher,
        str(file),
        "train",
        "tiny",
        "--out",
        str(out),
        "--resume",
        *settings,
    ]
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
def test_two_processes_have_the_losses_of_one_and_either_goes_on_from_the_other(
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


def test_what_the_first_process_is_refused_all_say(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("four years")
    ran = run(recipe, tmp_path / "out", 2)
    assert ran.returncode != 0
    # `torchrun` adds a traceback of its own; the other process must not add that of a lost connection.
    assert ran.stderr.count("out` is not empty\nhint: choose another --out") == 2
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
