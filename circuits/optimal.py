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

from circuits.running import HookedLM, Rerun
from circuits.units import Unit
from tinysql.tokens import TokenPairs

STEPS = 30
RATE = 0.1
"""Adam's first rate, in root mean squares of the unit's values; it falls to 0 in a line."""


def divergence(
    whole: Float[Tensor, "batch d_vocab"], changed: Float[Tensor, "batch d_vocab"]
) -> Float[Tensor, " batch"]:
    """KL divergence from the prediction `whole` to `changed`, both logits, in nats."""
    own = whole.log_softmax(-1)
    return (own.exp() * (own - changed.log_softmax(-1))).sum(-1)


def optimal_constant(
    model: HookedLM, unit: Unit, batches: Sequence[TokenPairs], values: Float[Tensor, "token width"]
) -> Float[Tensor, " width"]:
    """The best constant found; on these pairs never worse than the mean of `values` or zero."""
    runs = [Rerun(model, batch.clean.ids, batch.position) for batch in batches]
    starts = [values.mean(0), torch.zeros_like(values[0])]
    found = [(_loss_and_gradient(model, unit, runs, start)[0], start) for start in starts]
    best, constant = min(found, key=lambda pair: pair[0])
    point = constant.clone()
    optimizer = torch.optim.Adam([point], lr=RATE * values.square().mean().sqrt().item() + 1e-12)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        loss, point.grad = _loss_and_gradient(model, unit, runs, point)
        if loss < best:
            best, constant = loss, point.clone()
        optimizer.step()
        schedule.step()
    return constant


def _loss_and_gradient(
    model: HookedLM, unit: Unit, runs: Sequence[Rerun], point: Float[Tensor, " width"]
) -> tuple[float, Tensor]:
    """Mean KL over all pairs with the constant in place, and its gradient."""
    constant, count = point.detach().requires_grad_(), sum(len(run.ids) for run in runs)
    total, gradient = 0.0, torch.zeros_like(point)
    hooks = unit.replacing(model, lambda now: constant.expand_as(now))
    for run in runs:
        with torch.enable_grad():
            loss = divergence(run.logits, run.logits_with(hooks)).sum() / count
        total += loss.item()
        gradient += torch.autograd.grad(loss, constant)[0]
    return total, gradient
