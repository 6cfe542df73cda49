"""Rows -> a tuned lens: one affine translator per depth from the stream there to the stream that the final norm reads.

Belrose et al., arXiv 2303.08112: `translator(h) = h + h @ A + b`, trained to make `unembed(ln_final(translator(h)))`
the model's own prediction, by the KL divergence from it. A and b start at 0, so that training starts at the logit lens.
We train all depths at once with Adam and a linearly falling rate (the paper: SGD with Nesterov momentum).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from circuits.looking.running import HookedLM, look, row_batches, stream_hooks
from circuits.metrics import check_weights
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from tinysql.config import from_json, to_json
from tinysql.tokens import Tokens

TENSORS, SIDECAR = "tuned_lens.safetensors", "tuned_lens.json"


@dataclass(frozen=True, kw_only=True)
class TunedLensConfig:
    """How translators are trained."""

    steps: int = 400
    batch_size: int = 16
    """Rows per step; every real token of a row counts."""
    lr: float = 2e-3
    """Adam's rate at the first step; it falls to 0 in a line."""
    seed: int = 0
    """Draws the order of the rows."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lr"):
            if getattr(self, name) <= 0:
                raise InputError(
                    f"tuned lens {name} is {getattr(self, name)}, expected more than 0",
                    hint=f"set {name} to a positive number",
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedLens:
    """Translators of one model; the last depth, which the final norm itself reads, has none."""

    weight: Float[Tensor, "depth d_model d_model"]
    """A, added to the identity."""
    bias: Float[Tensor, "depth d_model"]
    config: TunedLensConfig
    losses: tuple[float, ...]
    """Mean KL over tokens and depths at each step, nats."""
    rows: frozenset[str]
    """Fingerprints of the rows it was fitted on."""

    def __call__(
        self, stream: Float[Tensor, "target d_model"], depth: int
    ) -> Float[Tensor, "target d_model"]:
        """The stream of a depth as the stream that the final norm reads."""
        if depth == len(self.weight):
            return stream
        return translated(stream, self.weight[depth].to(stream), self.bias[depth].to(stream))

    def check(self, model: HookedLM) -> None:
        """Raises `InputError` unless it was fitted to a model of this shape."""
        wanted = (len(model.blocks), model.cfg.d_model)
        if tuple(self.bias.shape) != wanted:
            raise InputError(
                f"the tuned lens has {self.bias.shape[0]} depths of width {self.bias.shape[1]}, "
                f"this model {wanted[0]} of {wanted[1]}",
                hint="fit one to this model with fit_tuned_lens",
            )

    def check_unseen(self, tokens: Tokens) -> None:
        """Raises `InputError` for rows it was fitted on: there it is better than anywhere else."""
        known = [i for i, row in enumerate(fingerprints(tokens)) if row in self.rows]
        if known:
            raise InputError(
                f"the tuned lens was fitted on {len(known)} of these {len(tokens)} rows, the first is row {known[0]}",
                hint="read rows of another split, or leave these out",
            )

    def save(self, directory: str | Path) -> None:
        """Write `tuned_lens.safetensors` and `tuned_lens.json`, each whole or not at all."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(
            directory / TENSORS, save({"weight": self.weight.contiguous(), "bias": self.bias.contiguous()})
        )
        found = {"config": to_json(self.config), "losses": list(self.losses), "rows": sorted(self.rows)}
        write_atomic(directory / SIDECAR, json.dumps(found, indent=1))

    @classmethod
    def load(cls, directory: str | Path) -> TunedLens:
        """Inverse of `save`. Raises `InputError` for files that are missing, cut short or of unlike shape."""
        directory = Path(directory)
        found = read_json(directory / SIDECAR)
        try:
            tensors = load_file(directory / TENSORS)
            weight, bias = tensors["weight"], tensors["bias"]
            if weight.shape != (*bias.shape, bias.shape[-1]):
                raise ValueError(f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit")
            return cls(
                weight=weight,
                bias=bias,
                config=_config(found, directory / SIDECAR),
                losses=tuple(found["losses"]),
                rows=frozenset(found["rows"]),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{directory} holds no whole tuned lens: {error!r}", hint="fit it again with fit_tuned_lens"
            ) from error


def fit_tuned_lens(model: HookedLM, tokens: Tokens, config: TunedLensConfig | None = None) -> TunedLens:
    """Train translators on every real token of `tokens`; the model is left as it is.

    The same rows and config give the same translators. Raises `InputError` for no rows, rows too long,
    or weights that are not finite.
    """
    config = config if config is not None else TunedLensConfig()
    check_weights(model.named_parameters())
    row_batches(model, tokens, max(len(tokens), 1))  # checks them
    weights, biases = _zeros(model)
    optimizer = torch.optim.Adam([*weights, *biases], lr=config.lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.steps)
    losses = []
    for batch in _drawn(model, tokens, config):
        losses.append(_set_gradients(model, batch, weights, biases))
        optimizer.step()
        schedule.step()
    return TunedLens(
        weight=torch.stack(weights).detach().cpu(),
        bias=torch.stack(biases).detach().cpu(),
        config=config,
        losses=tuple(losses),
        rows=frozenset(fingerprints(tokens)),
    )


def translated(
    stream: Float[Tensor, "target d_model"],
    weight: Float[Tensor, "d_model d_model"],
    bias: Float[Tensor, " d_model"],
) -> Float[Tensor, "target d_model"]:
    """`h + h @ A + b`."""
    return stream + stream @ weight + bias


def fingerprints(tokens: Tokens) -> list[str]:
    """A short hash of each row's prompt."""
    ids, lengths = tokens.ids.cpu().long(), tokens.answer_start.tolist()
    return [
        hashlib.sha256(row[:length].numpy().tobytes()).hexdigest()[:16]
        for row, length in zip(ids, lengths, strict=True)
    ]


def _zeros(model: HookedLM) -> tuple[list[Tensor], list[Tensor]]:
    width, weight = model.cfg.d_model, next(iter(model.parameters()))
    weights, biases = (
        [weight.new_zeros(shape, requires_grad=True) for _ in model.blocks]
        for shape in ((width, width), (width,))
    )
    return weights, biases


def _drawn(model: HookedLM, tokens: Tokens, config: TunedLensConfig) -> Iterable[Tokens]:
    """One batch per step: all rows in an order drawn from the seed, then all again in another."""
    generator = torch.Generator().manual_seed(config.seed)
    order: list[int] = []
    for _ in range(config.steps):
        while len(order) < config.batch_size:
            order += torch.randperm(len(tokens), generator=generator).tolist()
        rows, order = order[: config.batch_size], order[config.batch_size :]
        batch = Tokens(
            ids=tokens.ids[rows],
            mask=tokens.mask[rows],
            roles=tuple(tokens.roles[row] for row in rows),
            answer_start=tokens.answer_start[rows],
        )
        yield row_batches(model, batch, len(rows))[0]


def _set_gradients(model: HookedLM, batch: Tokens, weights: list[Tensor], biases: list[Tensor]) -> float:
    """Mean KL from the model's prediction over real tokens and depths; its gradients, depth by depth."""
    hooks = stream_hooks(model)[:-1]
    with torch.no_grad():
        seen = look(model, batch.ids, hooks)
        final = seen.logits[batch.mask].log_softmax(-1)
    total = 0.0
    for hook, weight, bias in zip(hooks, weights, biases, strict=True):
        with torch.enable_grad():
            stream = translated(seen.at[hook][batch.mask], weight, bias)
            said = model.unembed(model.ln_final(stream[None]))[0].log_softmax(-1)
            loss = (final.exp() * (final - said)).sum(-1).mean() / len(hooks)
        weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
        total += loss.item()
    return total


def _config(found: dict[str, Any], file: Path) -> TunedLensConfig:
    return from_json(TunedLensConfig, found["config"], where=f"{file}: config")
