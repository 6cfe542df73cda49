"""How one model is trained, as typed Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from data_gen.errors import InputError, nearest
from tinysql.models.config import ModelConfig, Precision

Optimizer = Literal["adamw", "muon"]
MOST_TOKENS = 1_000_000
"""The largest vocabulary that may be asked for; the tokenizer's trainer sets aside room for all of it."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained; with the data and the seed it determines the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    vocab_size: int = 512
    """Tokens the tokenizer learns; the model's d_vocab follows it."""
    batch_size: int = 16
    """Rows per step: documents, or packed rows of `pack` tokens."""
    pack: int | None = None
    """Tokens per row, filled with several documents; None means one document per row, rows of like length together."""
    accumulate: int = 1
    """Pieces a batch is cut into, one after the other through the model, to save memory."""
    optimizer: Optimizer = "adamw"
    """AdamW for every weight, or Muon for matrices and AdamW for the rest."""
    lr: float = 3e-3
    """Peak learning rate."""
    warmup_steps: int = 100
    hold_steps: int = 1000
    """Fewest steps at the peak learning rate, warm-up included."""
    max_hold_steps: int | None = None
    """Most steps at the peak while the probe stays below `probe_target`; None means hold_steps, no waiting."""
    decay_steps: int = 500
    """Steps of linear decay to zero after the hold."""
    average_last: int = 0
    """The final weights are the mean over those behind this many last steps; 0 means the last weights alone."""
    betas: tuple[float, ...] = (0.9, 0.98)
    weight_decay: float = 0.01
    """On matrices alone; norms, biases, embeddings and Mamba's scalars are not decayed."""
    clip: float = 1.0
    """Largest gradient norm."""
    prompt_loss: float = 0.0
    """Weight of prompt tokens in the loss; answer tokens weigh 1."""
    balance_loss: float = 1e-4
    """Weight of the loss that asks `E` blocks to spread each sequence over their experts."""
    balance_rate: float = 1e-3
    """What a step adds to or takes from an expert's selection bias."""
    probe_every: int = 100
    """Steps between probes: the share of held-back rows whose whole SQL would be greedily right."""
    probe_target: float = 0.97
    """The probe accuracy at which decay may begin."""
    checkpoint_every: int = 500
    """Steps between checkpoints that --resume can go on from."""
    grade_every: int = 0
    """Steps between gradings by execution on held-out rows, of which the best weights are kept; 0 means never."""
    precision: Precision | None = None
    """Of matrix products (weights, moments and losses are float32); derived: bfloat16 on a GPU."""
    compile: bool | None = None
    """Whether the step is compiled; derived: on a GPU."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass instead of being kept."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = (
            "batch_size",
            "accumulate",
            "hold_steps",
            "decay_steps",
            "probe_every",
            "checkpoint_every",
        )
        for name in (*at_least_one, "vocab_size", *(["pack"] if self.pack is not None else [])):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected at least 1", hint="give a larger number"
                )
        not_negative = ("warmup_steps", "weight_decay", "prompt_loss", "seed", "average_last", "grade_every")
        for name in (*not_negative, "balance_loss", "balance_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected a finite number, 0 or more",
                    hint="see `TrainConfig` for the usual one",
                )
        self._check_choices()
        if self.seed >= 2**63:
            raise InputError(f"seed is {self.seed}, expected less than 2^63", hint="give a smaller number")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected a finite number above 0",
                    hint="see `TrainConfig` for the usual one",
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
        if self.average_last > self.decay_steps:
            raise InputError(
                f"average_last is {self.average_last}, more than the {self.decay_steps} of decay_steps",
                hint="average over fewer steps",
            )
        if self.batch_size % self.accumulate:
            raise InputError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}",
                hint="choose a multiple",
            )

    def _check_choices(self) -> None:
        if self.vocab_size > MOST_TOKENS:
            raise InputError(
                f"vocab_size is {self.vocab_size:,}, expected at most {MOST_TOKENS:,}",
                hint="give a smaller number",
            )
        for name, kind in (("optimizer", Optimizer), ("precision", Precision)):
            value = getattr(self, name)
            if value not in get_args(kind) and (name, value) != ("precision", None):
                raise InputError(
                    f"{name} is {value!r}{nearest(str(value), get_args(kind))}",
                    hint=f"expected one of {', '.join(get_args(kind))}",
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
    block: int = 0
    taken: int = 0
    """Where the stream of batches stands (`tinysql.training.feed.Place`)."""
    averaged: int = 0
    """Weights in the running mean."""
    best: float = -1.0
    """The best grade so far; -1 before the first."""

    def ends_at(self, config: TrainConfig) -> int:
        """The last step, as far as it is known now."""
        start = self.decay_start if self.decay_start is not None else config.longest_hold
        return start + config.decay_steps


def learning_rate(config: TrainConfig, state: TrainState) -> float:
    """Linear warm-up, flat, then linear decay to zero from `state.decay_start`."""
    rate = config.lr * min(1.0, (state.step + 1) / max(1, config.warmup_steps))
    if state.decay_start is None:
        return rate
    return rate * (1 - (state.step - state.decay_start) / config.decay_steps)


def maybe_decay(config: TrainConfig, state: TrainState, accuracy: float | None) -> None:
    """Let decay begin between the shortest and the longest hold, as soon as the probe allows it."""
    if state.decay_start is not None or state.step < config.hold_steps:
        return
    reached = accuracy is not None and accuracy >= config.probe_target
    if reached or state.step >= config.longest_hold:
        state.decay_start = state.step
