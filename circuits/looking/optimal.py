"""Unit and reference pairs -> the constant in its place that changes the model's predictions least.

Optimal ablation, Li & Janson, arXiv 2409.09951: a constant wipes out what a unit says about the input, and the best
constant does no other harm, as zero or the mean may. It minimises the mean KL divergence from the model's prediction
at the pairs' positions to that with the constant, by Adam from the better of the mean and zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.looking.running import HookedLM, Rerun
from circuits.looking.units import Unit

STEPS = 60
RATE = 0.1
"""Adam's first rate, in root mean squares of the unit's values; it falls to 0 in a line."""
ROWS = 16
"""Pairs per step."""


def divergence(
    whole: Float[Tensor, "batch d_vocab"], changed: Float[Tensor, "batch d_vocab"]
) -> Float[Tensor, " batch"]:
    """KL divergence from the prediction `whole` to `changed`, both logits, in nats."""
    own = whole.log_softmax(-1)
    return (own.exp() * (own - changed.log_softmax(-1))).sum(-1)


def optimal_constant(
    model: HookedLM, unit: Unit, runs: Sequence[Rerun], values: Float[Tensor, "token width"]
) -> Float[Tensor, " width"]:
    """The best constant found: one run of `runs` per step, in turns, each of about `ROWS` pairs.

    On these pairs it is never worse than the mean of `values` or zero: the better of them is the start, and is kept
    where training does not better it.
    """
    starts = [values.mean(0), torch.zeros_like(values[0])]
    before, start = min(
        ((_mean_loss(model, unit, runs, start), start) for start in starts), key=lambda pair: pair[0]
    )
    point = start.clone()
    optimizer = torch.optim.Adam([point], lr=RATE * values.square().mean().sqrt().item() + 1e-12)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step in range(STEPS):
        point.grad = _gradient(model, unit, runs[step % len(runs)], point)
        optimizer.step()
        schedule.step()
    return point if _mean_loss(model, unit, runs, point) < before else start


def _mean_loss(model: HookedLM, unit: Unit, runs: Sequence[Rerun], constant: Tensor) -> float:
    hooks = unit.replacing(model, lambda now: constant.expand_as(now))
    with torch.no_grad():
        return torch.cat([divergence(run.logits, run.logits_with(hooks)) for run in runs]).mean().item()


def _gradient(model: HookedLM, unit: Unit, run: Rerun, point: Float[Tensor, " width"]) -> Tensor:
    constant = point.detach().requires_grad_()
    hooks = unit.replacing(model, lambda now: constant.expand_as(now))
    with torch.enable_grad():
        loss = divergence(run.logits, run.logits_with(hooks)).mean()
    return torch.autograd.grad(loss, constant)[0]
