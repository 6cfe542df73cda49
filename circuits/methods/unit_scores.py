"""Model, pairs and a hook -> UnitScores: every neuron, state channel or SAE latent that the hook carries.

A unit's score is `Σ_t (unit(corrupt) - unit(clean)) ∂metric/∂unit`, the gradient integrated over the inputs as in
`eap_ig`: the estimate of setting that one unit, at all positions, to its corrupt value. An SAE's latents are units of
the hook it reads: their gradient is the hook's along each decoder row, and what the SAE leaves out is a unit of its
own, `error` (Marks et al., arXiv 2403.19647).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.judging.bootstrap import interval
from circuits.looking.running import HookedLM, at_position, check_hooks, hooked, look, pair_batches
from circuits.metrics import (
    Metric,
    check_finite,
    check_moves,
    check_weights,
    logit_diff,
    measured,
    metric_name,
)
from data_gen.errors import InputError
from tinysql.tokens import TokenPairs

STREAM = "blocks.0.hook_resid_pre"


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitScores:
    """Scores of the units of one hook; signs as in `eap_ig`."""

    hook: str
    shape: tuple[int, ...]
    """Of what the hook carries at one position, or the number of latents."""
    per_example: Float[Tensor, "example unit"]
    error: Float[Tensor, " example"] | None
    """What an SAE leaves out; `None` without an SAE."""
    metric: str
    edit: str

    @property
    def values(self) -> Float[Tensor, " unit"]:
        """Mean over the examples."""
        return self.per_example.mean(0)

    def name(self, unit: int) -> str:
        """`blocks.1.mlp.hook_post[12]`; several numbers where the hook has several axes."""
        places = np.unravel_index(unit, self.shape)
        return f"{self.hook}[{', '.join(str(int(place)) for place in places)}]"

    def table(self, n: int = 20, *, seed: int = 0) -> list[dict[str, Any]]:
        """The `n` units of largest |mean score|: unit, score, 95 % interval over examples, share of its sign."""
        order = self.values.abs().argsort(descending=True, stable=True)[:n].tolist()
        chosen = self.per_example[:, order].double().numpy()
        mean = chosen.mean(0)
        low, high = interval(chosen, seed=seed)
        agreeing = (np.sign(chosen) == np.sign(mean)).mean(0)
        columns = zip(order, mean.tolist(), low.tolist(), high.tolist(), agreeing.tolist(), strict=True)
        return [
            {"unit": self.name(unit), "score": score, "low": low_, "high": high_, "same_sign": share}
            for unit, score, low_, high_, share in columns
        ]


def unit_scores(
    model: HookedLM,
    pairs: TokenPairs,
    hook: str,
    metric: Metric = logit_diff,
    *,
    sae: Any = None,
    steps: int = 5,
    batch_size: int = 32,
) -> UnitScores:
    """Score every unit that `hook` carries, or every latent of `sae`, an SAE of sae-lens trained on that hook.

    Works on a `HybridLM` and on TransformerLens' bridge of a foreign model.
    Raises `InputError` for a hook that the model lacks or that carries no row of numbers per token, an SAE of another
    width, fewer than one step, no pairs, weights that are not finite, or as `check_moves` does.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    check_weights(model.named_parameters())
    check_hooks(model, (hook, STREAM))
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        for weight, _ in flags:
            weight.requires_grad_(False)
        found = [
            _of_batch(model, batch, hook, metric, sae, steps)
            for batch in pair_batches(model, pairs, batch_size)
        ]
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)
    units, error = (
        torch.cat(part).float().cpu() for part in zip(*((one.units, one.error) for one in found), strict=True)
    )
    check_finite(f"scores at `{hook}`", units)
    clean, corrupt = (torch.cat(side) for side in zip(*(one.sides for one in found), strict=True))
    check_moves(clean, corrupt, pairs.edit)
    return UnitScores(
        hook=hook,
        shape=found[0].shape,
        per_example=units,
        error=error if sae is not None else None,
        metric=metric_name(metric),
        edit=pairs.edit,
    )


@dataclass(frozen=True)
class _Found:
    shape: tuple[int, ...]
    units: Float[Tensor, "batch unit"]
    error: Float[Tensor, " batch"]
    sides: tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]
    """The metric of the clean and of the corrupt run."""


def _of_batch(model: HookedLM, batch: TokenPairs, hook: str, metric: Metric, sae: Any, steps: int) -> _Found:
    with torch.no_grad():
        seen = [look(model, side.ids, (hook, STREAM)) for side in (batch.clean, batch.corrupt)]
        values = [measured(metric, at_position(side.logits, batch.position), batch) for side in seen]
    (clean, corrupt), sides = (side.at for side in seen), (values[0], values[1])
    ends = [_rows(side[hook], batch, hook) for side in (clean, corrupt)]
    gradient = torch.zeros_like(ends[0])
    for step in range(steps):
        stream = torch.lerp(corrupt[STREAM], clean[STREAM], (step + 0.5) / steps)
        gradient += _rows(_gradient(model, batch, hook, stream, metric), batch, hook) / steps
    if sae is None:
        scores = ((ends[1] - ends[0]) * gradient).sum(1)
        return _Found(tuple(clean[hook].shape[2:]), scores, scores.new_zeros(len(scores)), sides)
    with torch.no_grad():
        if ends[0].shape[-1] != sae.cfg.d_in:
            raise InputError(
                f"the SAE reads {sae.cfg.d_in} numbers, hook `{hook}` carries {ends[0].shape[-1]}",
                hint=f"score it at the hook it was trained on: {sae.cfg.metadata.hook_name}",
            )
        latents = [sae.encode(side) for side in ends]
        left_out = [side - sae.decode(one) for side, one in zip(ends, latents, strict=True)]
        along = einsum(gradient, sae.W_dec.to(gradient), "batch seq d, latent d -> batch seq latent")
        return _Found(
            (latents[0].shape[-1],),
            ((latents[1] - latents[0]) * along).sum(1),
            ((left_out[1] - left_out[0]) * gradient).sum((1, 2)),
            sides,
        )


def _gradient(model: HookedLM, batch: TokenPairs, hook: str, stream: Tensor, metric: Metric) -> Tensor:
    """Gradient of the summed metric at a hook, in a run on an embedding stream."""
    caught: list[Tensor] = []

    def start(x: Tensor, hook: object) -> Tensor:
        return stream.detach().requires_grad_()

    def catch(x: Tensor, hook: object) -> Tensor:
        caught.append(x)
        return x

    hooks = [(STREAM, start), (hook, catch)]
    with torch.enable_grad(), hooked(model, hooks):
        logits = model(batch.clean.ids)
        value = measured(metric, at_position(logits, batch.position), batch).sum()
    (gradient,) = torch.autograd.grad(value, caught, allow_unused=True, materialize_grads=True)
    return gradient


def _rows(carried: Tensor, batch: TokenPairs, hook: str) -> Float[Tensor, "batch seq unit"]:
    """One row of units per token."""
    if carried.ndim < 3 or carried.shape[:2] != batch.clean.ids.shape or not carried.is_floating_point():
        raise InputError(
            f"hook `{hook}` carries {carried.dtype} of shape {list(carried.shape)}, not a row of numbers per token",
            hint="choose a residual, MLP, `hook_z` or `hook_x` hook",
        )
    return rearrange(carried, "batch seq ... -> batch seq (...)")
