"""Pairs -> what the metric loses when a unit is taken out, by one of six replacements for what it writes.

`zero`; `mean` over the reference's tokens; `role-mean` over its tokens of the same role; `resample`: the value at a
random reference token of the same role; `counterfactual`: the pair's corrupt side at the same position; `optimal`:
the constant that changes the model's prediction least (Li & Janson, arXiv 2409.09951), trained on the reference.
The unit is replaced at every position of the clean prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.looking.by_role import Means, ratio_means
from circuits.looking.optimal import ROWS, divergence, optimal_constant
from circuits.looking.reference import Reference
from circuits.looking.running import HookedLM, Rerun, at_position, check_single, look, pair_batches
from circuits.looking.units import Unit, find_units
from circuits.metrics import (
    Metric,
    check_finite,
    check_moves,
    check_weights,
    logit_diff,
    measured,
    metric_name,
)
from data_gen.errors import InputError, nearest
from tinysql.tokens import TokenPairs


class Ablation(StrEnum):
    """What a unit's value is replaced by."""

    ZERO = "zero"
    MEAN = "mean"
    ROLE_MEAN = "role-mean"
    RESAMPLE = "resample"
    COUNTERFACTUAL = "counterfactual"
    OPTIMAL = "optimal"

    @classmethod
    def named(cls, name: str) -> Ablation:
        """The kind of that name; `InputError` otherwise."""
        if name not in list(cls):
            raise InputError(
                f"unknown ablation `{name}`{nearest(name, list(cls))}", hint=f"known: {', '.join(cls)}"
            )
        return cls(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationEffects:
    """The metric of every pair without every unit."""

    kind: Ablation
    units: tuple[str, ...]
    metric: str
    edit: str
    values: Float[Tensor, "example unit"]
    kl: Float[Tensor, "example unit"]
    """KL divergence from the model's prediction to that without the unit, nats."""
    clean: Float[Tensor, " example"]
    """The metric with everything in place."""

    @property
    def drops(self) -> Float[Tensor, "example unit"]:
        """What each pair loses, in units of the metric."""
        return self.clean[:, None] - self.values

    def drop(self, *, seed: int = 0) -> Means:
        """Mean loss over pairs, `[unit]`."""
        return _mean(self.drops, seed)

    def divergence(self, *, seed: int = 0) -> Means:
        """Mean KL divergence over pairs, nats, `[unit]`."""
        return _mean(self.kl, seed)

    def to_json(self) -> dict[str, Any]:
        """One line per unit, as plain JSON values: drop and KL with intervals, share of pairs of the drop's sign."""
        drop, kl = self.drop(), self.divergence()
        same = (self.drops.sign() == self.drops.mean(0).sign()).float().mean(0)
        return {
            "kind": str(self.kind),
            "metric": self.metric,
            "edit": self.edit,
            "pairs": len(self.clean),
            "metric_clean": float(self.clean.mean()),
            "units": [
                {
                    "unit": unit,
                    "drop": float(drop.value[i]),
                    "low": float(drop.low[i]),
                    "high": float(drop.high[i]),
                    "same_sign": float(same[i]),
                    "kl": float(kl.value[i]),
                    "kl_low": float(kl.low[i]),
                    "kl_high": float(kl.high[i]),
                }
                for i, unit in enumerate(self.units)
            ],
        }


def ablate(
    model: HookedLM,
    pairs: TokenPairs,
    kind: Ablation | str,
    metric: Metric = logit_diff,
    *,
    units: Sequence[str] | None = None,
    reference: TokenPairs | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> AblationEffects:
    """Take out each of `units` (every one, when None) alone, and measure what the clean run loses.

    `reference` is what means, resampled values and optimal constants come from: other pairs, or the pairs themselves
    when None, which makes an optimal constant look better than it is. `seed` draws resampled values.
    Raises `InputError` for no pairs, no unit, an unknown kind or unit, prompts of unlike shape, whole answers, and
    weights or a metric that are not finite; for `counterfactual` as `check_moves` does.
    """
    kind = Ablation.named(kind)
    known = reference if reference is not None else pairs
    check_weights(model.named_parameters())
    check_single(pairs)
    check_single(known)
    chosen = find_units(model, tuple(units) if units is not None else None)
    batches = pair_batches(model, pairs, batch_size)
    with torch.no_grad():
        runs = [Rerun(model, batch.clean.ids, batch.position) for batch in batches]
    clean = _each(metric, [run.logits for run in runs], batches)
    check_finite("metric", clean)
    if kind is Ablation.COUNTERFACTUAL:
        with torch.no_grad():
            other = [
                at_position(look(model, batch.corrupt.ids, ()).logits, batch.position) for batch in batches
            ]
        check_moves(clean, _each(metric, other, batches), pairs.edit)
    values, divergences = [], []
    # One block at a time, so that only one block's reference activations are held.
    for _, some in groupby(chosen, key=lambda unit: unit.block):
        block = tuple(some)
        puts = _Puts(model, kind, known, block, seed, batch_size)
        for unit in block:
            ablated = _ablated(model, unit, batches, runs, puts)
            values.append(_each(metric, ablated, batches))
            kl = [divergence(run.logits, logits) for run, logits in zip(runs, ablated, strict=True)]
            divergences.append(torch.cat(kl))
    return AblationEffects(
        kind=kind,
        units=tuple(unit.name for unit in chosen),
        metric=metric_name(metric),
        edit=pairs.edit,
        values=torch.stack(values, dim=1).float().cpu(),
        kl=torch.stack(divergences, dim=1).float().cpu(),
        clean=clean.float().cpu(),
    )


def _each(
    metric: Metric, logits: Sequence[Float[Tensor, "_ d_vocab"]], batches: Sequence[TokenPairs]
) -> Float[Tensor, " example"]:
    """The metric of every batch's pairs."""
    return torch.cat([measured(metric, some, batch) for some, batch in zip(logits, batches, strict=True)])


def _ablated(
    model: HookedLM, unit: Unit, batches: Sequence[TokenPairs], runs: Sequence[Rerun], puts: _Puts
) -> list[Float[Tensor, "_ d_vocab"]]:
    """Each batch's logits at its positions when the unit is taken out."""
    constant, found, done = puts.constant(unit), [], 0
    for batch, run in zip(batches, runs, strict=True):
        put = puts.varying(unit, batch, done) if constant is None else constant
        done += len(batch)
        with torch.no_grad():
            found.append(run.logits_with(unit.replacing(model, _always(put))))
    return found


class _Puts:
    """What the units of one block are replaced by: a constant, or something that depends on the token."""

    def __init__(
        self,
        model: HookedLM,
        kind: Ablation,
        known: TokenPairs,
        units: tuple[Unit, ...],
        seed: int,
        batch_size: int,
    ) -> None:
        self.model, self.kind, self.units, self.seed = model, kind, units, seed
        if kind not in (Ablation.ZERO, Ablation.COUNTERFACTUAL):
            self.reference = Reference(model, pair_batches(model, known, batch_size), units)
        if kind is Ablation.OPTIMAL:
            few = pair_batches(model, known, ROWS)
            self.fitting = [Rerun(model, batch.clean.ids, batch.position) for batch in few]

    def constant(self, unit: Unit) -> Tensor | None:
        """What every token gets; None for the kinds where it depends on the token."""
        if self.kind is Ablation.ZERO:
            return torch.zeros(())
        if self.kind is Ablation.MEAN:
            return self.reference.mean(unit)
        if self.kind is Ablation.OPTIMAL:
            return optimal_constant(self.model, unit, self.fitting, self.reference.values[unit.name])
        return None

    def varying(self, unit: Unit, batch: TokenPairs, row: int) -> Float[Tensor, "batch seq width"]:
        """What the tokens of a batch get, whose first pair is the pairs' number `row`."""
        if self.kind is Ablation.ROLE_MEAN:
            return self.reference.role_means(unit, batch.clean)
        if self.kind is Ablation.RESAMPLE:
            return self.reference.drawn(unit, batch.clean, seed=self.seed, row=row)
        with torch.no_grad():
            return unit.value(look(self.model, batch.corrupt.ids, unit.reads).at)


def _always(put: Tensor) -> Callable[[Tensor], Tensor]:
    """A replacement that does not look at what it replaces."""
    return lambda now: put.to(now).expand_as(now)


def _mean(values: Float[Tensor, "example unit"], seed: int) -> Means:
    ones = torch.ones_like(values)
    return ratio_means(values.double().numpy(), ones.double().numpy(), seed=seed)
