"""Firings + roles -> scores: chosen on one half of the examples, measured on the other.

On the first half every (latent, role) pair gets its best threshold, every role its best latent and every
latent its best role; on the second half all reported numbers are measured. So nothing is judged by what it
was chosen on, and a control starts from the same search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.roles import Grain, Roles
from saes.truth.context import TopToken
from saes.truth.firing import (
    Firings,
    Ranked,
    auroc,
    average_precision,
    best_thresholds,
    detect,
    in_turn,
    ranges,
)
from saes.truth.intervals import PerExample, interval, per_example, resamples

Draws = Float[np.ndarray, " draw"]
"""Coverage of role families in each resample of the examples."""
MIN_TOKENS = 10
"""A role is scored when each half has at least this many tokens with it, and as many without."""


@dataclass(frozen=True, kw_only=True)
class RoleScore:
    """The best detector of one role."""

    role: str
    family: bool
    """Whether it counts towards the coverage of families (`sql.select.column`)."""
    slot: bool
    """Whether it counts towards the coverage of slots; a role without numbers counts towards both."""
    tokens: int
    """Tokens of the role in the second half."""
    latent: int
    threshold: float | None
    """Fires at activations of at least this; None when no latent met the role in the first half."""
    precision: float
    recall: float
    f1: float
    interval: tuple[float, ...]
    """95 % bootstrap interval of F1 over examples."""
    auroc: float
    auroc_interval: tuple[float, ...]
    average_precision: float
    average_precision_interval: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One set of latents against all roles: the SAE, or a control."""

    name: str
    coverage: float
    """Mean over role families of the best latent's F1."""
    coverage_interval: tuple[float, ...]
    """95 % bootstrap interval over examples, for the detectors as chosen."""
    slot_coverage: float
    """The same over exact slots."""
    slot_coverage_interval: tuple[float, ...]
    fvu: float | None
    """Fraction of variance unexplained by the reconstructions; None where nothing is reconstructed."""
    l0: float
    """Mean number of active latents per token."""
    roles: tuple[RoleScore, ...]


@dataclass(frozen=True, kw_only=True)
class LatentScore:
    """One latent and the role, family or slot, that it detects best."""

    latent: int
    role: str
    threshold: float
    precision: float
    recall: float
    f1: float
    auroc: float
    average_precision: float
    density: float
    """Share of all tokens at which it is active."""
    top: tuple[TopToken, ...] = ()
    """Its strongest tokens, one per example; only for the latents at the head of the list."""


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Tokens on which detectors are chosen, and tokens on which they are measured; no example is in both."""

    choose: Int[Tensor, " chosen"]
    measure: Int[Tensor, " measured"]
    example: Int[Tensor, " measured"]
    """Example of every measured token, numbered from 0."""

    @staticmethod
    def of(example: Int[Tensor, " token"], seed: int) -> Halves:
        """Deal the examples into two halves in an order drawn from `seed`."""
        names, member = example.unique(return_inverse=True)
        if len(names) < 4:
            raise InputError(f"{len(names)} examples are too few to score latents on", hint="give at least 4")
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).to(example.device)
        chosen = order[member] < len(names) // 2
        measure = (~chosen).nonzero()[:, 0]
        return Halves(
            choose=chosen.nonzero()[:, 0],
            measure=measure,
            example=member[measure].unique(return_inverse=True)[1],
        )


@dataclass(frozen=True, kw_only=True)
class Table:
    """Every latent against every scored role, [latent column]; all but `chosen_f1` and `threshold` is measured."""

    names: tuple[str, ...]
    column: Int[Tensor, " column"]
    """Which column of `Roles` each is."""
    threshold: Float[Tensor, "latent column"]
    chosen_f1: Float[Tensor, "latent column"]
    """F1 on the half on which the threshold was chosen: what detectors are picked by, never what is reported."""
    precision: Float[Tensor, "latent column"]
    recall: Float[Tensor, "latent column"]
    f1: Float[Tensor, "latent column"]
    auroc: Float[Tensor, "latent column"]
    average_precision: Float[Tensor, "latent column"]


def by_half(firings: Firings, halves: Halves) -> tuple[Firings, Firings]:
    """The firings at tokens to choose on, and at those to measure on."""
    return firings.among(halves.choose), firings.among(halves.measure)


def tabulate(parts: tuple[Firings, Firings], choose: Roles, measure: Roles) -> Table:
    """Thresholds from `choose`, everything else from `measure`: the firings and roles of the two halves' tokens."""
    pairs = list(zip(choose.grains, measure.grains, strict=True))

    def curves(first: int, last: int) -> list[list[Tensor]]:
        some = parts[0].of_latents(first, last), parts[1].of_latents(first, last)
        return [_curves(some, pair) for pair in pairs]

    by_range = in_turn(curves, ranges(parts[0].fired + parts[1].fired))
    grains = [
        [torch.cat(column) for column in zip(*rows, strict=True)] for rows in zip(*by_range, strict=True)
    ]
    kept = scored(choose, measure)
    number = kept.nonzero()[:, 0]
    threshold, chosen_f1, precision, recall, f1, area, average = (
        torch.cat(pair, dim=1)[:, choose.columns][:, kept].cpu() for pair in zip(*grains, strict=True)
    )
    return Table(
        names=tuple(choose.names[i] for i in number.tolist()),
        column=number,
        threshold=threshold,
        chosen_f1=chosen_f1,
        precision=precision,
        recall=recall,
        f1=f1,
        auroc=area,
        average_precision=average,
    )


def _curves(parts: tuple[Firings, Firings], grains: tuple[Grain, Grain]) -> list[Tensor]:
    """The columns of a `Table` for one grain, [latent role]."""
    (first, second), (chosen, measured) = parts, grains
    threshold, f1 = best_thresholds(Ranked.of(first, chosen.label, len(chosen.names)))
    ranked = Ranked.of(second, measured.label, len(measured.names))
    found = detect(ranked, threshold)
    return [threshold, f1, found.precision, found.recall, found.f1, auroc(ranked), average_precision(ranked)]


def scored(choose: Roles, measure: Roles) -> Bool[Tensor, " column"]:
    """Which columns have enough tokens with and without the role in both halves."""
    enough = [
        (side.counts >= MIN_TOKENS) & (len(side.slots.label) - side.counts >= MIN_TOKENS)
        for side in (choose, measure)
    ]
    return enough[0] & enough[1]


def score(
    name: str,
    parts: tuple[Firings, Firings],
    table: Table,
    measure: Roles,
    halves: Halves,
    *,
    fvu: float | None,
    seed: int,
) -> tuple[Scores, Draws]:
    """The best latent of every role and what it reaches, with intervals from resampling the examples, and its coverage
    in each resample."""
    latent = table.chosen_f1.argmax(0)
    threshold = table.threshold.gather(0, latent[None])[0]
    wanted = torch.stack([measure.wanted(column) for column in table.column.tolist()])
    sums = per_example(
        parts[1],
        halves.example,
        wanted,
        latent=latent.to(wanted.device),
        threshold=threshold.to(wanted.device),
    )
    weight = resamples(len(sums.tokens), seed)
    roles = _role_scores(table, sums, weight, measure, latent, threshold)
    f1 = sums.f1(weight)
    coverage, draws = {}, {}
    for grain in ("family", "slot"):
        members = [c for c, role in enumerate(roles) if getattr(role, grain)]
        coverage[grain] = float(np.mean([roles[c].f1 for c in members])) if members else 0.0
        draws[grain] = np.nanmean(f1[:, members], axis=1) if members else np.zeros(len(weight))
    found = Scores(
        name=name,
        coverage=coverage["family"],
        coverage_interval=interval(draws["family"]),
        slot_coverage=coverage["slot"],
        slot_coverage_interval=interval(draws["slot"]),
        fvu=fvu,
        l0=sum(len(part.value) for part in parts) / sum(part.n_tokens for part in parts),
        roles=roles,
    )
    return found, draws["family"]


def _role_scores(
    table: Table,
    sums: PerExample,
    weight: Float[np.ndarray, "draw example"],
    measure: Roles,
    latent: Int[Tensor, " column"],
    threshold: Float[Tensor, " column"],
) -> tuple[RoleScore, ...]:
    f1, area, average = sums.f1(weight), sums.auroc(weight), sums.average_precision(weight)
    slots, families = set(measure.slots.names), set(measure.families.names)
    return tuple(
        RoleScore(
            role=role,
            family=role in families,
            slot=role in slots,
            tokens=int(sums.wanted[c].sum()),
            latent=j,
            threshold=float(threshold[c]) if threshold[c].isfinite() else None,
            precision=float(table.precision[j, c]),
            recall=float(table.recall[j, c]),
            f1=float(table.f1[j, c]),
            interval=interval(f1[:, c]),
            auroc=float(table.auroc[j, c]),
            auroc_interval=interval(area[:, c]),
            average_precision=float(table.average_precision[j, c]),
            average_precision_interval=interval(average[:, c]),
        )
        for c, (role, j) in enumerate(zip(table.names, latent.tolist(), strict=True))
    )


def latent_scores(firings: Firings, table: Table) -> list[LatentScore]:
    """Every latent that meets a role, from the best F1 on the choosing half down; F1 itself is the measured one."""
    best, role = (t.cpu() for t in table.chosen_f1.max(1))
    density = firings.fired.cpu() / firings.n_tokens
    order = best.argsort(descending=True, stable=True)
    return [
        LatentScore(
            latent=j,
            role=table.names[c],
            threshold=float(table.threshold[j, c]),
            precision=float(table.precision[j, c]),
            recall=float(table.recall[j, c]),
            f1=float(table.f1[j, c]),
            auroc=float(table.auroc[j, c]),
            average_precision=float(table.average_precision[j, c]),
            density=float(density[j]),
        )
        for j, c in ((int(j), int(role[j])) for j in order if best[j] > 0)
    ]
