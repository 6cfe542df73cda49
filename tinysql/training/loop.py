"""Batches -> trained weights: one step, the loop around it, and exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import write_atomic
from tinysql.devices import compiled, is_out_of_memory, precision_on, products
from tinysql.models.hybrid import HybridLM
from tinysql.models.moe import balance, experts_of
from tinysql.progress import Bar
from tinysql.training.batches import Batch, TrainingRows
from tinysql.training.checkpoints import load_training, save_tensors, save_training
from tinysql.training.config import TrainConfig, TrainState, learning_rate, maybe_decay
from tinysql.training.distributed import World
from tinysql.training.feed import Feed, Place
from tinysql.training.finite import NotFinite, Update
from tinysql.training.flops import step_flops, utilisation
from tinysql.training.loss import Losses, losses, rows_right
from tinysql.training.optimizer import Average, make_optimizer
from tinysql.training.tracking import StopTraining, Tracker

Done = TypeVar("Done")
LOG_EVERY = {"cpu": 10, "cuda": 50}
"""Steps between lines of `metrics.jsonl`; only then, and to probe, grade or save, does the host wait for a GPU."""


def train(
    config: TrainConfig,
    feed: Feed,
    probe: TrainingRows,
    run: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    world: World | None = None,
    start: HybridLM | None = None,
    grade: Callable[[HybridLM], float] | None = None,
    trackers: Sequence[Tracker] = (),
) -> HybridLM:
    """Train a model on the batches of `feed`; log to `run/metrics.jsonl`, checkpoint under `run/checkpoints`.

    `probe` rows are never trained on; they decide when decay begins. With `resume`, training goes on from the
    newest whole checkpoint and, on the same machine, ends with the same weights as without the interruption.
    Training begins with `start`, or with weights drawn from the seed; `grade` measures a model every
    `config.grade_every` steps, and the best one's weights are in `run/best.safetensors`. `trackers` hear what the log
    does, and one that raises `StopTraining` ends training behind a checkpoint.
    Raises `InputError` when a loss or gradient is not finite; the batch is then in `run/bad_batch.safetensors`.
    """
    world = world if world is not None else World()
    fresh = start if start is not None else HybridLM(config.model, seed=config.seed)
    model = world.shard(fresh.to(device))
    trainer = Trainer(model, config, world)
    if resume:
        trainer.restore(run / "checkpoints")
    log = Log(run / "metrics.jsonl", trainer.state, trackers, active=world.rank == 0)
    batches = feed.batches(Place(trainer.state.block, trainer.state.taken))
    measure = partial(trainer.measure, probe, grade, run / "best.safetensors")
    save = partial(trainer.save, run / "checkpoints")
    try:
        _go_on(trainer, batches, log, measure, save)
    except NotFinite as error:
        error.save(run / "bad_batch.safetensors", active=world.rank == 0)
        raise
    except StopTraining:
        save()
        raise
    batches.close()
    trainer.finish()
    return model.eval()


def _go_on(
    trainer: Trainer,
    batches: Iterator[tuple[Batch, Place]],
    log: Log,
    measure: Callable[[], dict[str, float]],
    save: Callable[[], None],
) -> None:
    """Step after step until the last one: measure, log, save."""
    config, state = trainer.config, trainer.state
    log_every = LOG_EVERY.get(trainer.model.device.type, 10)
    with Bar("training", active=log.active) as bar:
        if state.step:
            bar.say(f"going on from the checkpoint of step {state.step}")
        while state.step < state.ends_at(config):
            begun = time.perf_counter()
            batch, place = next(batches)
            trainer.waited += time.perf_counter() - begun
            record = trainer.step(batch)
            state.block, state.taken = place.block, place.taken
            record |= measure()
            was_due = state.decay_start is not None
            maybe_decay(config, state, record.get("probe"))
            if state.decay_start is not None and not was_due and config.max_hold_steps is not None:
                bar.say(
                    f"the learning rate falls from step {state.decay_start}: {state.ends_at(config)} steps in all"
                )
            logged = state.step % log_every == 0 or "probe" in record or "grade" in record
            if logged:
                record = {name: _number(value) for name, value in record.items()}
                trainer.check()
            state.seconds += time.perf_counter() - begun
            if logged:
                log.write(record, state)
                bar.show(state.step, state.ends_at(config), log.shown)
            if state.step % config.checkpoint_every == 0:
                trainer.check()
                save()
    trainer.check()


class Trainer:
    """Model, optimizer and state of one run, and what one step does to them."""

    def __init__(self, model: HybridLM, config: TrainConfig, world: World) -> None:
        self.model, self.config, self.world = model, config, world
        self.state = TrainState()
        self.optimizer = make_optimizer(
            model,
            lr=config.lr,
            betas=(config.betas[0], config.betas[1]),
            weight_decay=config.weight_decay,
            muon=config.optimizer == "muon",
        )
        self.average = Average(model) if config.average_last else None
        self.experts = experts_of(model)
        on_gpu = model.device.type == "cuda"
        self.autocast = products(model.device, precision_on(model.device, config.precision))
        wanted = config.compile if config.compile is not None else on_gpu
        self.losses = compiled(losses) if wanted else losses
        self.flops = 0.0
        """Operations so far, of this process, as the peak is."""
        self.waited = 0.0
        """Seconds so far in which there was no batch yet."""
        self._unchecked: list[Update] = []

    def step(self, batch: Batch) -> dict[str, Any]:
        """One update; what it measured, as tensors that nobody has waited for yet."""
        rate = learning_rate(self.config, self.state)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        found = self._within_memory(batch, lambda: [self._backward(piece) for piece in self._pieces(batch)])
        loss = self.world.total(torch.stack([one.cross_entropy for one in found]).sum())
        norm = self.world.whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        numbers, is_warming = torch.stack([loss, norm]), self.state.step + 1 < self.config.warmup_steps
        self._unchecked.append(Update(self.state.step, batch, rate, self.config.lr, is_warming, numbers))
        if self.model.device.type == "cpu":
            self.check()
        self._within_memory(batch, self.optimizer.step)
        self._balance(found)
        step = self.state.step
        self.state.step += 1
        self.state.tokens += batch.tokens
        if (
            self.average is not None
            and self.state.ends_at(self.config) - self.state.step < self.config.average_last
        ):
            self.average.add(self.model)
        self.flops += step_flops(self.config.model, batch) / self.world.size
        return {
            "step": step,
            "lr": rate,
            "loss": loss,
            "grad_norm": norm,
            "flops": self.flops,
            "waited": self.waited,
        }

    def _pieces(self, batch: Batch) -> list[Batch]:
        parts = (
            batch.split(self.world.size * self.config.accumulate)
            if self.world.size > 1 or (self.config.accumulate > 1)
            else [batch]
        )
        mine = parts[self.world.rank :: self.world.size]
        return [_with_free_sizes(part.to(self.model.device)) for part in mine]

    def _backward(self, piece: Batch) -> Losses:
        with self.autocast:
            found = self.losses(
                self.model,
                piece,
                balance_loss=self.config.balance_loss,
                share=1 / (self.config.accumulate * self.world.size),
                recompute=self.config.recompute,
            )
        # Sharded gradients are averaged over the processes; the pieces' losses add up.
        (found.total * self.world.size).backward()
        return found

    def _within_memory(self, batch: Batch, work: Callable[[], Done]) -> Done:
        """What `work` on a batch gives; `InputError` where there is not enough memory."""
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Behind the `except`, which keeps what the failed pass had computed.
        raise self._too_large(batch)

    def _too_large(self, batch: Batch) -> InputError:
        """What to say of a batch for which there is not enough memory: into how many pieces it would fit.

        A piece is tried beside room for the optimizer's moments, which the first update makes. One of several
        processes does not try it: the others would not join the exchanges of a smaller pass.
        """
        parts = self.config.accumulate
        while self.world.size == 1 and len(batch.ids) % (2 * parts) == 0:
            parts *= 2
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            try:
                room = [torch.empty_like(p) for p in self._without_moments() for _ in range(2)]
                piece = batch.split(parts)[0]
                self._backward(_with_free_sizes(piece.to(self.model.device)))
                del room
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                continue
            hint = f"set train.accumulate={parts}, which fits, or train.batch_size={len(batch.ids) // parts}"
            break
        else:
            hint = "set train.recompute=True, or train a smaller model"
            hint = hint if self.world.size == 1 else f"raise train.accumulate, {hint}"
        rows = len(batch.ids) // (self.config.accumulate * self.world.size)
        return InputError(
            f"{rows} rows of {batch.ids.shape[1]} tokens do not fit into memory beside the model", hint=hint
        )

    def _without_moments(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if not self.optimizer.state.get(p)]

    def _balance(self, found: list[Losses]) -> None:
        for i, moe in enumerate(self.experts):
            counts = self.world.total(torch.stack([one.loads[i] for one in found]).sum(0))
            balance(moe, counts, self.config.balance_rate)

    def measure(
        self, probe: TrainingRows, grade: Callable[[HybridLM], float] | None, best: Path
    ) -> dict[str, float]:
        """The probe's accuracy and the grade, at the steps where they are due; a best grade's weights go to `best`."""
        found = {}
        if self.state.step % self.config.probe_every == 0:
            with self.autocast:
                found["probe"] = greedy_accuracy(self.model, probe, min(256, self.config.batch_size * 8))
        if grade is not None and self.state.step % self.config.grade_every == 0:
            self.check()  # weights that are no numbers are never the best
            with self.autocast:
                own = grade(self.model.eval())
            self.model.train()
            # One grade for all, or one process would wait for the others to gather weights that they do not keep.
            found["grade"] = self.world.mean(own, self.model.device)
            self.keep_best(found["grade"], best)
        return found

    def check(self) -> None:
        """Wait for the steps since the last check; `NotFinite` when a loss or gradient of theirs is not finite."""
        pending, self._unchecked = self._unchecked, []
        if not pending:
            return
        finite = torch.stack([update.numbers for update in pending]).isfinite().all(-1).tolist()
        for update, fine in zip(pending, finite, strict=True):
            if not fine:
                raise NotFinite(update)

    def save(self, directory: Path) -> None:
        """Everything that an exact resume needs."""
        average = self.average.mean if self.average is not None and self.average.count else {}
        self.state.averaged = self.average.count if self.average is not None else 0
        save_training(directory, self.model, self.optimizer, self.state, average, self.world)

    def keep_best(self, grade: float, file: Path) -> None:
        """Write the weights when no earlier ones had a better grade."""
        if grade > self.state.best:
            self.state.best = grade
            weights = self.world.gathered(self.model.state_dict())
            if self.world.rank == 0:
                save_tensors(file, weights)

    def restore(self, directory: Path) -> None:
        """Go on from the newest whole checkpoint, when there is one."""
        saved = load_training(directory, self.model, self.optimizer, self.world)
        if saved is None:
            return
        self.state, average = saved
        if self.average is not None:
            self.average.restore(self.state.averaged, average)

    def finish(self) -> None:
        """Put the mean of the last weights into the model, where one was asked for."""
        if self.average is not None and self.average.count:
            self.average.put_into(self.model)


def _with_free_sizes(batch: Batch) -> Batch:
    """Tell the compiler which sizes vary from batch to batch."""
    for tensor in (batch.places, batch.targets, batch.weights):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    if batch.packing is None:
        torch._dynamo.maybe_mark_dynamic(batch.ids, 1)
        torch._dynamo.maybe_mark_dynamic(batch.real, 1)
    return batch


def greedy_accuracy(model: HybridLM, rows: TrainingRows, batch_size: int) -> float:
    """Share of rows whose whole SQL greedy decoding would produce.

    One forward pass is enough: greedy decoding reproduces the SQL exactly when every teacher-forced
    arg-max is right.
    """
    right = 0
    order = rows.lengths.argsort(kind="stable")
    for start in range(0, len(rows), batch_size):
        right += rows_right(model, rows.batch(order[start : start + batch_size]).to(model.device))
    return right / len(rows)


class Log:
    """`metrics.jsonl`: one line every `LOG_EVERY` steps and at every probe; `trackers` hear the same."""

    def __init__(self, path: Path, state: TrainState, trackers: Sequence[Tracker], *, active: bool) -> None:
        self.path, self.trackers, self.active = path, trackers, active
        self.before = (state.tokens, state.seconds, 0.0, 0.0)
        self.shown: dict[str, float] = {}
        if active:
            _trim_log(path, state.step)

    def write(self, record: dict[str, Any], state: TrainState) -> None:
        """Add what a step measured, and the speed since the last line."""
        tokens, seconds, before, waited_before = self.before
        elapsed, flops, waited = max(state.seconds - seconds, 1e-9), record.pop("flops"), record.pop("waited")
        speed: dict[str, float] = {"tokens_per_second": round((state.tokens - tokens) / elapsed)}
        used = utilisation((flops - before) / elapsed)
        if used is not None:
            speed["mfu"] = round(used, 4)
        self.shown = {name: record[name] for name in ("loss", "probe", "grade") if name in record} | speed
        speed["waiting"] = round((waited - waited_before) / elapsed, 4)
        self.before = (state.tokens, state.seconds, flops, waited)
        if self.active:
            line = {**record, "tokens": state.tokens, "seconds": round(state.seconds, 2), **speed}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            numbers = {name: value for name, value in line.items() if name != "step" and value is not None}
            for track in self.trackers:
                track(int(line["step"]), numbers)


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item()
    return value if not isinstance(value, float) or math.isfinite(value) else None


def read_log(log: Path) -> list[dict[str, Any]]:
    """The whole lines of `metrics.jsonl`, up to one that a kill cut short; none when there is no such file."""
    records = []
    for line in log.read_bytes().splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:  # cut short, or no text
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records


def _trim_log(log: Path, step: int) -> None:
    """Forget what was logged after the checkpoint."""
    kept = [json.dumps(record) + "\n" for record in read_log(log) if record["step"] < step]
    write_atomic(log, "".join(kept))
