"""Training: it learns, it masks the prompt, it resumes exactly, it says what is wrong."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tinysql.training.loop as training
from data_gen.errors import InputError
from tinysql.config import override
from tinysql.devices import compiled
from tinysql.models.config import ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe, find_recipe
from tinysql.runs import open_run
from tinysql.training.batches import Batch, TrainingRows
from tinysql.training.checkpoints import (
    load_tensors,
    load_training,
    load_weights,
    save_tensors,
    save_training,
)
from tinysql.training.config import TrainConfig, TrainState, learning_rate, maybe_decay
from tinysql.training.distributed import World
from tinysql.training.feed import Bucketed, Place
from tinysql.training.fit import fit
from tinysql.training.loop import Trainer, greedy_accuracy
from tinysql.training.loss import losses
from tinysql.training.optimizer import make_optimizer
from tinysql.training.tracking import StopTraining

Killer = Callable[[int], AbstractContextManager[None]]
CONFIG = TrainConfig(warmup_steps=10, hold_steps=50, max_hold_steps=200, decay_steps=20, lr=1.0)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return find_recipe("tiny")


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(recipe, tmp_path_factory.mktemp("whole") / "run").path


@pytest.mark.parametrize("at", [3, 10, 17, 25])
def test_a_resumed_run_ends_with_the_same_bits(
    recipe: Recipe,
    whole: Path,
    tmp_path: Path,
    at: int,
    killed_at: Killer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with killed_at(at):
        fit(recipe, tmp_path / "run")
    capsys.readouterr()
    # As a kill does, leave a line half written.
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2')
    run = fit(recipe, tmp_path / "run", resume=True).path
    kept, said = at // 10 * 10, capsys.readouterr().err
    assert ("going on from" in said) == bool(kept)
    assert f"going on from the checkpoint of step {kept}" in said or not kept
    expected, found = load_tensors(whole / "model.safetensors"), load_tensors(run / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    losses = [
        [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (whole, run)
    ]
    assert losses[0] == losses[1]


def test_training_says_when_the_rate_begins_to_fall(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = override(recipe, ["train.hold_steps=10", "train.max_hold_steps=40", "train.probe_target=0.99"])
    fit(waiting, tmp_path / "run")
    assert "the learning rate falls from step 40: 60 steps in all" in capsys.readouterr().err


def test_a_run_with_muon_is_resumed_to_the_same_bits(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    recipe = replace(recipe, train=replace(recipe.train, optimizer="muon", hold_steps=25))
    whole = fit(recipe, tmp_path / "whole").path
    with killed_at(17):
        fit(recipe, tmp_path / "run")
    run = fit(recipe, tmp_path / "run", resume=True).path
    expected, found = load_tensors(whole / "model.safetensors"), load_tensors(run / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_training_lowers_the_loss(whole: Path) -> None:
    losses = [json.loads(line)["loss"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0]


def test_training_follows_the_seed(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    same = load_tensors(fit(recipe, tmp_path / "same").path / "model.safetensors")
    other = load_tensors(fit(recipe.with_seed(1), tmp_path / "other").path / "model.safetensors")
    expected = load_tensors(whole / "model.safetensors")
    assert all(torch.equal(expected[name], same[name]) for name in expected)
    assert not torch.equal(expected["unembed.W_U"], other["unembed.W_U"])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_trainer_s_step_is_that_of_its_configuration(optimizer: str) -> None:
    """One step, made here by hand, with the moments and the decay that the configuration names."""
    shape = ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16)
    rows = TrainingRows(np.arange(64, dtype=np.int32) % 50, np.arange(0, 65, 16), np.full(4, 8), 0)
    config = TrainConfig(
        model=shape,
        optimizer=optimizer,
        lr=0.5,
        warmup_steps=5,
        betas=(0.5, 0.6),
        weight_decay=0.3,
        clip=0.01,
    )
    trained, model = HybridLM(shape), HybridLM(shape)
    trainer = Trainer(trained, config, World())
    expected = make_optimizer(model, lr=1.0, betas=(0.5, 0.6), weight_decay=0.3, muon=optimizer == "muon")
    for step in range(2):
        batch = rows.batch([step, step + 1])
        trainer.step(batch)
        for group in expected.param_groups:
            group["lr"] = 0.5 * (step + 1) / 5
        expected.zero_grad()
        losses(model, batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        expected.step()
    assert type(trainer.optimizer) is type(expected)
    for found, wanted in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("slow", [False, True])
def test_the_log_says_what_share_of_the_time_there_was_no_batch(
    recipe: Recipe, tmp_path: Path, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bucketed.batches

    def batches(feed: Bucketed, place: Place) -> Iterator[tuple[Batch, Place]]:
        for found in real(feed, place):
            time.sleep(0.3 if slow else 0.0)
            yield found

    monkeypatch.setattr(Bucketed, "batches", batches)
    settings = ["train.hold_steps=2", "train.decay_steps=1", "train.probe_every=1"]
    path = fit(override(recipe, settings), tmp_path / "run").path
    waiting = [line["waiting"] for line in training.read_log(path / "metrics.jsonl")]
    assert len(waiting) == 3
    assert all(share > 0.5 if slow else share < 0.5 for share in waiting)


def test_a_line_is_forgotten_when_its_step_lies_behind_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (8, 9, 10, 13)) + '{"step": 1')
    # A checkpoint of ten steps holds those numbered 0 to 9.
    training.Log(path, TrainState(step=10), (), active=False)
    assert len(training.read_log(path)) == 4
    training.Log(path, TrainState(step=10), (), active=True)
    assert path.read_text() == '{"step": 8}\n{"step": 9}\n'


def test_only_answer_tokens_carry_loss() -> None:
    model = HybridLM(ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=11, n_ctx=8))
    rows = TrainingRows(np.array([1, 2, 3, 4, 5], dtype=np.int32), np.array([0, 5]), np.array([3]), 0)
    config = TrainConfig(model=model.cfg, clip=1e9)
    Trainer(model, config, World()).step(rows.batch([0]))
    # Without attention, token 1 at position 0 only predicts prompt tokens, tokens 3 and 4 the answer.
    touched = model.embed.W_E.grad.abs().sum(-1).nonzero().flatten().tolist()
    assert touched == [3, 4]
    Trainer(model, config, World()).step(rows.batch([0], prompt_loss=0.5))
    assert model.embed.W_E.grad.abs().sum(-1).nonzero().flatten().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("step", "decay_start", "rate"),
    [
        (0, None, 0.1),
        (4, None, 0.5),
        (9, None, 1.0),
        (150, None, 1.0),
        (300, None, 1.0),
        (60, 60, 1.0),
        (70, 60, 0.5),
        (80, 60, 0.0),
    ],
)
def test_the_learning_rate_warms_up_holds_and_decays(step: int, decay_start: int | None, rate: float) -> None:
    assert learning_rate(CONFIG, TrainState(step=step, decay_start=decay_start)) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("step", "accuracy", "decays"),
    [
        (40, 1.0, False),
        (50, 1.0, True),
        (50, None, False),
        (150, 0.5, False),
        (200, 0.0, True),
        (200, None, True),
    ],
)
def test_decay_waits_for_the_probe_between_its_bounds(
    step: int, accuracy: float | None, decays: bool
) -> None:
    state = TrainState(step=step)
    maybe_decay(CONFIG, state, accuracy)
    assert (state.decay_start == step) is decays


def test_decay_begins_with_the_hold_s_end_though_no_probe_falls_there(tmp_path: Path) -> None:
    recipe = override(
        find_recipe("tiny"), ["train.hold_steps=13", "train.probe_every=7", "train.decay_steps=20"]
    )
    fit(recipe, tmp_path / "run")
    rates = {r["step"]: r["lr"] for r in training.read_log(tmp_path / "run" / "metrics.jsonl")}
    peak = recipe.train.lr
    assert {step: rates[step] / peak for step in (6, 9, 19, 29)} == pytest.approx(
        {6: 1, 9: 1, 19: 0.7, 29: 0.2}
    )
    assert max(rates) == 32 - 32 % 10 - 1


def test_greedy_accuracy_counts_rows_wholly_right() -> None:
    # A model that predicts, behind every token, the next number: what it reads is one-hot, the MLP writes nothing.
    model = HybridLM(ModelConfig(pattern="-", d_model=10, n_heads=1, d_vocab=10, n_ctx=8))
    with torch.no_grad():
        model.embed.W_E.copy_(torch.eye(10))
        model.blocks[0].mlp.W_out.zero_()
        model.unembed.W_U.copy_(torch.eye(10).roll(1, dims=1))
    # The answers are the last two tokens. Row 0 counts up; row 1 breaks at the first answer token, row 2 at the
    # last; rows 3 and 4 break in the prompt alone.
    flat = [1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 1, 2, 3, 4, 6, 7, 7, 3, 4, 5, 1, 2, 4, 5, 6]
    rows = TrainingRows(np.array(flat, dtype=np.int32), np.arange(0, 30, 5), np.full(5, 3), 0)
    assert [greedy_accuracy(model, rows, batch_size=size) for size in (1, 2, 5)] == [pytest.approx(3 / 5)] * 3


def test_weights_cut_short_or_of_another_shape_are_refused(
    whole: Path, recipe: Recipe, tmp_path: Path
) -> None:
    data = (whole / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut.safetensors is not a whole checkpoint"):
        load_tensors(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="weight `blocks.0.attn.W_K` is .* the configuration expects"):
        load_weights(HybridLM(replace(recipe.train.model, n_heads=4)), whole / "model.safetensors")
    weights = load_tensors(whole / "model.safetensors")
    name = "blocks.0.attn.W_K"
    save_tensors(tmp_path / "small.safetensors", weights | {name: weights[name].to(torch.int8)})
    with pytest.raises(InputError, match=f"weight `{name}` is of torch.int8, expected torch.float32"):
        load_weights(HybridLM(open_run(whole).shape), tmp_path / "small.safetensors")
    del weights[name]
    save_tensors(tmp_path / "less.safetensors", weights)
    with pytest.raises(InputError, match=f"weight `{name}` is missing"):
        load_weights(HybridLM(open_run(whole).shape), tmp_path / "less.safetensors")


def test_another_recipe_cannot_resume_a_run(recipe: Recipe, whole: Path) -> None:
    with pytest.raises(InputError, match=r"was started with train.lr [\d.]+, not 0.5\nhint: repeat what"):
        fit(replace(recipe, train=replace(recipe.train, lr=0.5)), whole, resume=True)


def test_an_occupied_directory_is_kept(recipe: Recipe, whole: Path) -> None:
    before = (whole / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="not empty"):
        fit(recipe, whole)
    assert (whole / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda moment: {}, "the optimizer of this checkpoint holds .* for `blocks.0.attn.W_Q`"),
        (
            lambda moment: {"blocks.0.attn.W_Q/exp_avg": moment[:1]},
            r"holds `blocks.0.attn.W_Q/exp_avg` as \(1, 32, 16\), and the weight is \(2, 32, 16\)",
        ),
    ],
)
def test_a_checkpoint_whose_moments_do_not_fit_is_refused(
    recipe: Recipe, change: Callable[[torch.Tensor], dict[str, torch.Tensor]], message: str, tmp_path: Path
) -> None:
    model = HybridLM(recipe.train.model)
    optimizer = make_optimizer(model, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    optimizer.step()
    save_training(tmp_path, model, optimizer, TrainState(step=10), {}, World())
    [file] = tmp_path.glob("step-*/optimizer.safetensors")
    tensors = load_tensors(file)
    save_tensors(file, tensors | change(tensors.pop("blocks.0.attn.W_Q/exp_avg")))
    with pytest.raises(InputError, match=message):
        load_training(tmp_path, model, optimizer, World())


def test_a_tracker_that_stops_training_loses_no_step(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    def stop(step: int, values: object) -> None:
        if step >= 33:
            raise StopTraining

    spread = replace(recipe, train=replace(recipe.train, checkpoint_every=1000))
    with pytest.raises(StopTraining):
        fit(spread, tmp_path / "run", trackers=[stop])
    [folder] = (tmp_path / "run" / "checkpoints").iterdir()
    assert folder.name == "step-00000040"
    run = fit(spread, tmp_path / "run", resume=True).path
    expected, found = load_tensors(whole / "model.safetensors"), load_tensors(run / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    recipe: Recipe, whole: Path, tmp_path: Path, killed_at: Killer
) -> None:
    with killed_at(35):
        fit(recipe, tmp_path / "run")
    folders = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-00000020", "step-00000030"]
    file = folders[1] / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(
        UserWarning, match=r"step-00000030 is damaged \(.*\); going on from the checkpoint before"
    ):
        run = fit(recipe, tmp_path / "run", resume=True).path
    expected, found = load_tensors(whole / "model.safetensors"), load_tensors(run / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {**state, "stpe": 1}, "unknown key `stpe`; did you mean `step`"),
        (lambda state: {**state, "step": "30"}, "step is '30', expected int"),
        (lambda state: {k: v for k, v in state.items() if k != "tokens"}, "has no `tokens`"),
    ],
)
def test_a_state_that_is_not_ours_is_passed_over_or_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], message: str, tmp_path: Path
) -> None:
    shape = ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16)
    model = HybridLM(shape)
    optimizer = make_optimizer(model, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    optimizer.step()
    for step in (20, 30):
        save_training(tmp_path, model, optimizer, TrainState(step=step), {}, World())
    file = tmp_path / "step-00000030" / "state.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.warns(UserWarning, match=f"is damaged .*{message}"):
        found = load_training(tmp_path, model, optimizer, World())
    assert found is not None
    assert found[0] == TrainState(step=20)
    file = tmp_path / "step-00000020" / "state.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    again = pytest.warns(UserWarning, match="step-00000030 is damaged")
    with again, pytest.raises(InputError, match=message):
        load_training(tmp_path, model, optimizer, World())


@pytest.mark.parametrize("step", [3, 12])  # before anything is logged, and behind a checkpoint
def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(
    step: int, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real_step = Trainer.step

    def poison(self, batch):
        seen.append(batch)
        if self.state.step == step:
            with torch.no_grad():
                self.model.embed.W_E[int(batch.ids[0, 0])] = float("nan")
        return real_step(self, batch)

    monkeypatch.setattr(Trainer, "step", poison)
    file = tmp_path / "run" / "bad_batch.safetensors"
    rate, hint = {
        3: (
            r"0\.0024 of 0\.003",
            f"train again with a lower train.lr and another --out; its batch is in {file}",
        ),
        12: (r"0\.003", f"look at its batch in {file}"),
    }[step]
    said = f"not finite at step {step}: loss nan, norm of the gradient nan, learning rate {rate}"
    with pytest.raises(InputError, match=f"{said}\nhint: {hint}"):
        fit(recipe, tmp_path / "run")
    saved = load_tensors(tmp_path / "run" / "bad_batch.safetensors")
    assert torch.equal(saved["ids"], seen[step].ids)
    assert (tmp_path / "run" / "checkpoints" / "step-00000010").exists() == (step == 12)


def test_a_loss_that_is_not_finite_within_the_warm_up_names_the_rate_that_was_set(
    recipe: Recipe, tmp_path: Path
) -> None:
    file = tmp_path / "run" / "bad_batch.safetensors"
    said = r"not finite at step 1: .*, learning rate 2e\+28 of 1e\+30"
    hint = f"train again with a lower train.lr and another --out; its batch is in {file}"
    with pytest.raises(InputError, match=f"{said}\nhint: {hint}"):
        fit(override(recipe, ["train.lr=1e30", "train.warmup_steps=100"]), tmp_path / "run")
    assert file.exists()


def test_pieces_of_a_batch_give_the_step_of_the_whole(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    halves = fit(override(recipe, ["train.accumulate=2"]), tmp_path / "halves").path
    expected, found = (
        [record["loss"] for record in training.read_log(path / "metrics.jsonl")] for path in (whole, halves)
    )
    assert found == pytest.approx(expected, rel=1e-3)


def test_pieces_of_a_batch_balance_experts_as_the_whole_does() -> None:
    moe = MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16)
    shape = ModelConfig(pattern="*E", d_model=16, n_heads=2, d_vocab=50, n_ctx=16, moe=moe)
    rows = TrainingRows(np.arange(64, dtype=np.int32) % 50, np.arange(0, 65, 16), np.full(4, 8), 0)
    found = []
    for pieces in (1, 2, 4):
        model = HybridLM(shape)
        config = TrainConfig(model=shape, clip=1e9, balance_loss=10.0, accumulate=pieces, batch_size=4)
        Trainer(model, config, World()).step(rows.batch(range(4)))
        assert model.blocks[1].moe.selection_bias.abs().max() > 0
        found.append([model.blocks[1].moe.W_R.grad, model.blocks[1].moe.selection_bias])
    for some in found[1:]:
        torch.testing.assert_close(some, found[0])


def test_one_of_several_processes_tries_no_smaller_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def too_large(self: Trainer, piece: Batch) -> object:
        tried.append(len(piece.ids))
        if len(piece.ids) > 1:
            raise torch.OutOfMemoryError
        return real(self, piece)

    real = Trainer._backward
    monkeypatch.setattr(Trainer, "_backward", too_large)
    shape = ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16)
    rows = TrainingRows(np.arange(64, dtype=np.int32) % 50, np.arange(0, 65, 8), np.full(8, 4), 0)
    config = TrainConfig(model=shape, batch_size=8)
    with pytest.raises(
        InputError,
        match="8 rows of 8 tokens do not fit[^$]*train.accumulate=8, which fits, or train.batch_size=1",
    ):
        Trainer(HybridLM(shape), config, World()).step(rows.batch(range(8)))
    assert tried == [8, 4, 2, 1]
    tried.clear()
    # The others would wait for ever in the exchange that a pass begins.
    with pytest.raises(InputError, match="4 rows of 8 tokens do not fit[^$]*raise train.accumulate"):
        Trainer(HybridLM(shape), config, World(0, 2)).step(rows.batch(range(8)))
    assert tried == [4]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_moments_that_do_not_fit_are_counted_in_what_would(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16)
    rows = TrainingRows(np.arange(64, dtype=np.int32) % 50, np.arange(0, 65, 8), np.full(8, 4), 0)
    trainer = Trainer(HybridLM(shape), TrainConfig(model=shape, batch_size=8), World())
    room, real = [], Trainer._backward

    def fail(*_: object) -> None:
        raise error

    def watch(self: Trainer, piece: Batch) -> object:
        room.append((len(piece.ids), len(self._without_moments())))
        return real(self, piece)

    monkeypatch.setattr(trainer.optimizer, "step", fail)
    monkeypatch.setattr(Trainer, "_backward", watch)
    with pytest.raises(InputError, match="8 rows of 8 tokens do not fit[^$]*train.batch_size=4"):
        trainer.step(rows.batch(range(8)))
    weights = len(list(trainer.model.parameters()))
    assert room == [(8, weights), (4, weights)]
    with pytest.raises(RuntimeError, match="another"):
        trainer._within_memory(rows.batch(range(8)), lambda: fail_otherwise())


def fail_otherwise() -> None:
    raise RuntimeError("another")


def test_the_last_weights_are_averaged(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real_step = Trainer.step

    def watch(self, batch):
        record = real_step(self, batch)
        seen.append(self.model.unembed.W_U.detach().clone())
        return record

    monkeypatch.setattr(Trainer, "step", watch)
    run = fit(
        override(recipe, ["train.average_last=7", "train.hold_steps=10", "train.decay_steps=10"]),
        tmp_path / "run",
    ).path
    mean = torch.stack(seen[-7:]).mean(0)
    torch.testing.assert_close(load_tensors(run / "model.safetensors")["unembed.W_U"], mean)


def test_an_average_goes_on_behind_a_kill(recipe: Recipe, tmp_path: Path, killed_at: Killer) -> None:
    settings = ["train.average_last=15", "train.hold_steps=10", "train.decay_steps=20"]
    whole = fit(override(recipe, settings), tmp_path / "whole").path
    with killed_at(25):
        fit(override(recipe, settings), tmp_path / "run")
    run = fit(override(recipe, settings), tmp_path / "run", resume=True).path
    expected, found = load_tensors(whole / "model.safetensors"), load_tensors(run / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


ONE_GRAPH = """
import numpy, torch
from tinysql.training.batches import Batch, TrainingRows, packed_batches
from tinysql.training.loss import losses
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.loop import _with_free_sizes

graphs = []
compiled = torch.compile(losses, backend=lambda graph, inputs: graphs.append(graph) or graph, fullgraph=True)
mamba = MambaConfig(d_head=16, d_state=8)
shape = ModelConfig(pattern="*-M", d_model=32, n_heads=4, n_kv_heads=2, n_ctx=64, mamba=mamba)
model, rng = HybridLM(shape), numpy.random.default_rng(0)
for seed in range(3):
    lengths = rng.integers(8, 30, 40 + seed)
    starts = numpy.concatenate([[0], lengths.cumsum()])
    rows = TrainingRows(rng.integers(0, 500, starts[-1]).astype(numpy.int32), starts, lengths // 2, 0)
    packed = next(packed_batches(rows, width=64, batch_size=4, seed=[0], prompt_loss=0.0))
    for batch in (rows.batch(range(8)), packed):
        torch.testing.assert_close(compiled(model, _with_free_sizes(batch)).total, losses(model, batch).total)
print(len(graphs))
"""


def test_the_step_is_one_graph_with_hooks_in_place() -> None:
    # In a process of its own: the compiler cannot look through the type checks of the tests.
    done = subprocess.run(
        [sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, check=False, timeout=120
    )
    # One for documents in rows of their own, one for packed ones, whatever their lengths.
    assert done.stdout.split() == ["2"], done.stderr


def test_a_compiled_step_does_not_advise_rounded_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.compile_fx import _warn_tf32_disabled as advise

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    with pytest.raises(UserWarning, match="TensorFloat32"):
        advise.__wrapped__()
    compiled(losses)
    advise.__wrapped__()


def test_the_trainer_compiles_its_step_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "compiled", lambda function: (function, "compiled"))
    shape = ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16)
    found = [
        Trainer(HybridLM(shape), TrainConfig(model=shape, compile=asked), World()).losses
        for asked in (True, False, None)
    ]
    assert found == [(losses, "compiled"), losses, losses]  # None: on a GPU alone
