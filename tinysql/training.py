"""Training rows -> trained weights: AdamW, warm-up, hold, decay, exact resume."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import write_atomic
from tinysql.batches import Batch, BatchOrder, TrainingRows
from tinysql.checkpoints import load_training, save_training
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained; with the data and the seed it determines the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vocab_size: int = 512
    """Tokens the tokenizer learns; the model's d_vocab follows it."""
    batch_size: int = 16
    """Rows per step."""
    lr: float = 3e-3
    """Peak learning rate."""
    warmup_steps: int = 100
    hold_steps: int = 1000
    """Fewest steps at the peak learning rate, warm-up included."""
    max_hold_steps: int | None = None
    """Most steps at the peak while the probe stays below `probe_target`; None means hold_steps, no waiting."""
    decay_steps: int = 500
    """Steps of linear decay to zero after the hold."""
    betas: tuple[float, ...] = (0.9, 0.98)
    weight_decay: float = 0.01
    """On matrices alone; norms and embeddings are not decayed."""
    clip: float = 1.0
    """Largest gradient norm."""
    prompt_loss: float = 0.0
    """Weight of prompt tokens in the loss; answer tokens weigh 1."""
    probe_every: int = 100
    """Steps between probes: the share of held-back rows whose whole SQL would be greedily right."""
    probe_target: float = 0.97
    """The probe accuracy at which decay may begin."""
    checkpoint_every: int = 500
    """Steps between checkpoints that --resume can go on from."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "hold_steps",
            "decay_steps",
            "probe_every",
            "checkpoint_every",
            "vocab_size",
        ):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected at least 1", hint="give a larger number"
                )
        for name in ("warmup_steps", "weight_decay", "prompt_loss", "seed"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected 0 or more", hint="give a larger number"
                )
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected above 0", hint="give a positive number"
                )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(
                f"betas is {self.betas}, expected two numbers from 0 to below 1", hint="as in 0.9,0.98"
            )
        if self.longest_hold < self.hold_steps:
            raise InputError(
                f"max_hold_steps is {self.max_hold_steps}, expected at least hold_steps, {self.hold_steps}",
                hint="raise it, or leave it at None",
            )

    @property
    def longest_hold(self) -> int:
        """Most steps at the peak learning rate."""
        return self.max_hold_steps if self.max_hold_steps is not None else self.hold_steps


@dataclass
class TrainState:
    """What, besides weights and moments, an exact resume needs."""

    step: int = 0
    decay_start: int | None = None
    """The step at which decay began, once it has."""
    tokens: int = 0
    """Tokens trained on, padding not counted."""
    seconds: float = 0.0

    def ends_at(self, config: TrainConfig) -> int:
        """The last step, as far as it is known now."""
        start = self.decay_start if self.decay_start is not None else config.longest_hold
        return start + config.decay_steps


def train(
    config: TrainConfig,
    rows: TrainingRows,
    probe: TrainingRows,
    run: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> HybridLM:
    """Train a model from scratch on `rows`; log to `run/metrics.jsonl`, checkpoint under `run/checkpoints`.

    `probe` rows are never trained on; they decide when decay begins. With `resume`, training goes on
    from the newest checkpoint and, on the same machine, ends with the same weights as without the interruption.
    """
    model = HybridLM(config.model, seed=config.seed).to(device)
    optimizer = make_optimizer(model, config)
    state = TrainState()
    if resume and (saved := load_training(run / "checkpoints", model, optimizer)):
        state = TrainState(**saved)
    order = BatchOrder(rows.starts[1:] - rows.starts[:-1], batch_size=config.batch_size, seed=config.seed)
    log = run / "metrics.jsonl"
    _trim_log(log, state.step)
    total = state.ends_at(config) - state.step
    for _ in progress(_steps(config, state), total=total, title="training"):
        begun = time.perf_counter()
        batch = rows.batch(order.rows(state.step), device)
        record = {
            "step": state.step,
            "lr": learning_rate(config, state),
            **step(model, optimizer, batch, config, state),
        }
        state.step += 1
        state.tokens += int(batch.real.sum())
        if state.step % config.probe_every == 0:
            record["probe"] = greedy_accuracy(model, probe, config.batch_size * 8)
        _maybe_decay(config, state, record.get("probe"))
        state.seconds += time.perf_counter() - begun
        if state.step % 10 == 0 or "probe" in record:
            _append(log, {**record, "tokens": state.tokens, "seconds": round(state.seconds, 2)})
        if state.step % config.checkpoint_every == 0:
            save_training(run / "checkpoints", model, optimizer, vars(state))
    return model.eval()


def _steps(config: TrainConfig, state: TrainState) -> Iterator[int]:
    while state.step < state.ends_at(config):
        yield state.step


def _maybe_decay(config: TrainConfig, state: TrainState, accuracy: float | None) -> None:
    if state.decay_start is not None or state.step < config.hold_steps:
        return
    reached = accuracy is not None and accuracy >= config.probe_target
    if reached or state.step >= config.longest_hold:
        state.decay_start = state.step


def learning_rate(config: TrainConfig, state: TrainState) -> float:
    """Linear warm-up, flat, then linear decay to zero from `state.decay_start`."""
    rate = config.lr * min(1.0, (state.step + 1) / max(1, config.warmup_steps))
    if state.decay_start is None:
        return rate
    return rate * (1 - (state.step - state.decay_start) / config.decay_steps)


def make_optimizer(model: HybridLM, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves norms and embeddings alone."""
    plain = {"w", "W_E", "W_pos"}
    decayed = [p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] not in plain]
    others = [p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] in plain]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=True)


def step(
    model: HybridLM, optimizer: torch.optim.AdamW, batch: Batch, config: TrainConfig, state: TrainState
) -> dict[str, Any]:
    """One update; returns the loss on answer tokens and the gradient norm."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, state)
    losses = token_losses(model(batch.ids[:, :-1]), batch)
    answer, prompt = batch.answer[:, 1:], (batch.real & ~batch.answer)[:, 1:]
    answer_loss = losses[answer].mean()
    loss = answer_loss + config.prompt_loss * losses[prompt].mean() if config.prompt_loss else answer_loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    if not torch.isfinite(norm):
        raise InputError(
            f"the gradient is not finite at step {state.step}",
            hint="lower lr, or resume from the last checkpoint",
        )
    optimizer.step()
    return {"loss": float(answer_loss.detach()), "grad_norm": float(norm)}


def token_losses(logits: Float[Tensor, "batch seq d_vocab"], batch: Batch) -> Float[Tensor, "batch seq"]:
    """Cross-entropy in nats of each token given those before it; position 0 is never predicted."""
    targets = batch.ids[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


@torch.no_grad()
def greedy_accuracy(model: HybridLM, rows: TrainingRows, batch_size: int) -> float:
    """Share of rows whose whole SQL greedy decoding would produce.

    One forward pass is enough: greedy decoding reproduces the SQL exactly when every teacher-forced
    arg-max is right.
    """
    right = 0
    for start in range(0, len(rows), batch_size):
        batch = rows.batch(range(start, min(start + batch_size, len(rows))), model.device)
        hits = model(batch.ids[:, :-1]).argmax(-1) == batch.ids[:, 1:]
        right += int((hits | ~batch.answer[:, 1:]).all(-1).sum())
    return right / len(rows)


def _append(log: Path, record: dict[str, Any]) -> None:
    with log.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read_log(log: Path) -> list[dict[str, Any]]:
    """The whole lines of `metrics.jsonl`, up to one that a kill cut short; none when there is no such file."""
    records = []
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _trim_log(log: Path, step: int) -> None:
    """Forget what was logged after the checkpoint."""
    kept = [json.dumps(record) + "\n" for record in read_log(log) if record["step"] < step]
    write_atomic(log, "".join(kept))
