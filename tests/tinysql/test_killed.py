"""`tinysql train` as a process that SIGKILL ends: what is resumed has the weights of a run that nobody killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tinysql.cli import main
from tinysql.training.checkpoints import load_tensors
from tinysql.training.loop import Trainer

COMMAND = ["train", "tiny", "--set=rows=200", "--set=train.hold_steps=30", "--set=train.decay_steps=10"]
# Wide enough for a checkpoint to take as long as the steps between two of them.
COMMAND += ["--set=train.model.d_model=128", "--set=train.checkpoint_every=2", "--set=train.average_last=5"]
STEPS = 40
SECONDS = 240
"""After which a process that never came to the moment has failed."""


def whole(checkpoints: Path) -> list[int]:
    """The steps of the checkpoints that are whole."""
    return sorted(int(folder.name[5:]) for folder in checkpoints.glob("step-*"))


def half_written(checkpoints: Path) -> list[Path]:
    """What a process has begun to write, and has not yet renamed."""
    return list(checkpoints.glob(".step-*.tmp"))


def behind_a_checkpoint(checkpoints: Path) -> bool:
    return bool(whole(checkpoints)) and not half_written(checkpoints)


def while_a_checkpoint_is_written(checkpoints: Path) -> bool:
    return bool(whole(checkpoints)) and bool(half_written(checkpoints))


def kill_at(moment: Callable[[Path], bool], run: Path) -> None:
    """Train in `run` until `moment`, and kill the process there.

    It is stopped first: so the moment is not over when the kill comes. Where it was over, the process goes on.
    """
    program = [sys.executable, "-m", "tinysql", *COMMAND, "--out", str(run)]
    with subprocess.Popen(
        program, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if not moment(run / "checkpoints"):
                time.sleep(0.0005)  # a checkpoint takes milliseconds
                continue
            process.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "it had ended before it was stopped"
            if moment(run / "checkpoints"):
                break
            process.send_signal(signal.SIGCONT)
        process.kill()
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same command, which nobody kills."""
    run = tmp_path_factory.mktemp("unharmed") / "run"
    assert main([*COMMAND, "--out", str(run)]) == 0
    return run


@pytest.mark.parametrize("moment", [behind_a_checkpoint, while_a_checkpoint_is_written])
def test_a_killed_process_is_resumed_to_the_same_bits(
    moment: Callable[[Path], bool], unharmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(moment, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert moment(checkpoints)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    newest = whole(checkpoints)[-1]
    assert 0 < newest < STEPS

    taken, step = [], Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self, batch: taken.append(self.state.step) or step(self, batch)
    )
    assert main([*COMMAND, "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert taken == list(range(newest, STEPS))
    expected, found = (load_tensors(run / "model.safetensors") for run in (unharmed, tmp_path / "run"))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert not checkpoints.exists()
