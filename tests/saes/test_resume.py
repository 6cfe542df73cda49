"""A killed training goes on bit for bit, refuses what is not its own, and stops at a loss that is not finite."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_gen.errors import InputError
from saes.activations import Activations
from saes.training import resume
from saes.training.config import SAEConfig
from saes.training.grids import train_grid
from saes.training.loop import Loop
from saes.training.resume import Clock, fingerprint, load_state, save_state
from saes.training.sae import train_sae

# Few of many latents at once, so that some are dead whenever training is cut off.
CONFIG = SAEConfig(d_sae=256, k=2, steps=60, batch_size=128, lr=5e-3, seed=1, dead_after=2)


def activations(n: int = 1000) -> Activations:
    zeros = torch.zeros(n, dtype=torch.long)
    values = torch.randn(n, 16, generator=torch.Generator().manual_seed(0)).abs()
    return Activations(
        hook="blocks.0.hook_resid_post",
        values=values,
        ids=zeros,
        roles=("r",) * n,
        example=zeros,
        position=zeros,
    )


class Killed(Exception):
    """Ends a training from within."""


def interrupted(config: SAEConfig, directory: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and be killed in step `after`."""
    advance = Loop.advance

    def until(loop: Loop, x: torch.Tensor) -> Any:
        if loop.step == after:
            raise Killed
        return advance(loop, x)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with pytest.raises(Killed):
            train_sae(activations(), config, directory=directory)


@pytest.mark.parametrize("architecture", ["topk", "matryoshka", "jumprelu"])
@pytest.mark.parametrize("after", [3, 31])
def test_going_on_gives_the_same_bits(
    architecture: Any, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, architecture=architecture)
    whole = train_sae(activations(), config, directory=tmp_path / "whole")
    interrupted(config, tmp_path / "cut", after, monkeypatch)
    resumed = train_sae(activations(), config, directory=tmp_path / "cut")
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(value, resumed.sae.state_dict()[name]), name
    assert resumed.record == whole.record
    logs = [(tmp_path / place / "metrics.jsonl").read_text() for place in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) == config.steps


class FakeClock:
    """Seconds that pass when a test says so: some per step, and some per state written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, a_step: float, a_state: float = 0) -> None:
        self.now, self.states = 0.0, list[int]()
        advance, save = Loop.advance, resume.save_tensors

        def stepping(loop: Loop, *given: Any) -> Any:
            self.now += a_step
            return advance(loop, *given)

        def saving(*given: Any) -> None:
            self.now += a_state
            self.states.append(int(given[0].parent.name.split("-")[1][:8]))
            save(*given)

        monkeypatch.setattr(resume, "monotonic", lambda: self.now)
        monkeypatch.setattr(Loop, "advance", stepping)
        monkeypatch.setattr(resume, "save_tensors", saving)


LONG = replace(CONFIG, steps=120)
"""A training whose tenths are far from each other."""


def test_between_two_tenths_a_state_is_saved_by_the_clock_and_gone_on_from_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_sae(activations(), LONG, directory=tmp_path / "whole")
    with monkeypatch.context() as patch:
        FakeClock(patch, a_step=12.5)
        interrupted(LONG, tmp_path / "cut", 58, monkeypatch)
    assert [path.name for path in (tmp_path / "cut").glob("step-*")] == ["step-00000055"]
    resumed = train_sae(activations(), LONG, directory=tmp_path / "cut")
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(value, resumed.sae.state_dict()[name]), name
    assert resumed.record == whole.record
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_bytes()


def test_members_of_a_grid_are_saved_by_one_clock_at_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name: replace(LONG, k=k) for name, k in (("two", 2), ("four", 4))}
    whole = train_grid(activations(), members)
    with monkeypatch.context() as patch:
        FakeClock(patch, a_step=10)
        advance = Loop.advance

        def until(loop: Loop, x: torch.Tensor) -> Any:
            if loop.step == 21:
                raise Killed
            return advance(loop, x)

        patch.setattr(Loop, "advance", until)
        with pytest.raises(Killed):
            train_grid(activations(), members, directory=tmp_path)
    for name in members:
        assert [path.name for path in (tmp_path / name).glob("step-*")] == ["step-00000021"]
    resumed = train_grid(activations(), members, directory=tmp_path)
    assert {name: one.record for name, one in resumed.items()} == {
        name: one.record for name, one in whole.items()
    }


def test_states_that_take_long_to_write_take_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(monkeypatch, a_step=20, a_state=10)
    train_sae(activations(), replace(CONFIG, steps=400), directory=tmp_path)
    by_clock = [step for step in clock.states if step % 40]
    assert len(by_clock) > 20
    between = clock.now - 10 * len(clock.states)
    assert 10 * len(by_clock) <= 0.05 * (between + 10 * len(clock.states))


def test_a_state_is_due_every_minute_and_more_rarely_where_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(resume, "monotonic", lambda: now)
    clock = Clock()
    for took, free in ((0.1, 60), (4, 76), (1, 60)):
        with clock.writing():
            now += took
        now += free - 0.1
        assert not clock.is_due()
        now += 0.2
        assert clock.is_due()


def test_the_directory_changes_nothing(tmp_path: Path) -> None:
    assert (
        train_sae(activations(), CONFIG).record == train_sae(activations(), CONFIG, directory=tmp_path).record
    )


def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=400)
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_resume as t\n"
        "from dataclasses import replace\n"
        "t.train_sae(t.activations(), replace(t.CONFIG, steps=400), directory=Path(sys.argv[2]))"
    )
    folder = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", program, folder, str(tmp_path)], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("step-*/state.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = load_state(tmp_path, config, fingerprint(activations().values))
    assert saved is not None
    assert 0 < saved.step <= 400
    assert (
        train_sae(activations(), config, directory=tmp_path).record == train_sae(activations(), config).record
    )


def test_a_half_written_line_of_the_log_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(CONFIG, tmp_path, 20, monkeypatch)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')
    train_sae(activations(), CONFIG, directory=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(CONFIG.steps))
    assert {"loss", "l0", "dead", "lr", "reconstruction"} <= set(lines[0])


def test_a_whole_line_of_the_log_that_is_none_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(CONFIG, tmp_path, 20, monkeypatch)
    for line in ("{junk", "[]", '{"loss": 1}', '{"step": null}'):
        (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
        with pytest.raises(InputError, match="holds a line that is no step's metrics"):
            train_sae(activations(), CONFIG, directory=tmp_path)


def test_another_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(CONFIG, tmp_path, 20, monkeypatch)
    assert CONFIG.order_seed is None
    with pytest.raises(
        InputError,
        match="other configuration: lr was 0.005, not 0.001, order_seed was left to be derived, not 4",
    ):
        train_sae(activations(), replace(CONFIG, lr=1e-3, order_seed=4), directory=tmp_path)
    other = activations()
    other.values.add_(1)
    with pytest.raises(InputError, match="other activations"):
        train_sae(other, CONFIG, directory=tmp_path)


def test_a_damaged_state_is_a_sentence(tmp_path: Path) -> None:
    train_sae(activations(), CONFIG, directory=tmp_path)
    (file,) = tmp_path.glob("step-*/state.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        train_sae(activations(), CONFIG, directory=tmp_path)


def test_only_the_newest_state_is_kept(tmp_path: Path) -> None:
    data = "d"
    for step in (5, 10):
        save_state(tmp_path, CONFIG, data, step=step, tensors={"a": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]
    assert load_state(tmp_path, CONFIG, data).step == 10
    assert load_state(tmp_path / "empty", CONFIG, data) is None


def test_training_stops_at_a_loss_that_is_not_finite_and_keeps_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, steps=600)  # the loss is looked at every third step
    advance, before = Loop.advance, {}

    def poisoned(loop: Loop, x: torch.Tensor) -> Any:
        if loop.step == 16:
            before.update({name: value.clone() for name, value in loop.state().items()})
            x = torch.full_like(x, torch.inf)
        return advance(loop, x)

    monkeypatch.setattr(Loop, "advance", poisoned)
    with pytest.raises(InputError, match="the gradient of step 16 is not finite"):
        train_sae(activations(), config, directory=tmp_path)
    saved = load_state(tmp_path, config, fingerprint(activations().values))
    assert saved is not None
    assert saved.step == 16
    # How many may be dead was looked up again, from the same counters.
    for name in before.keys() - {"room"}:
        assert torch.equal(saved.tensors[name], before[name]), name
