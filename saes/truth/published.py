"""Firings + roles -> coverage and query reconstruction as published for board games (Karvonen et al. 2024).

"Measuring progress in dictionary learning for language model interpretability with board game models",
arXiv 2408.00113. There a latent detects a property when it is above a tenth, two tenths, ... of its largest
activation. Their text takes the best threshold per property, their code also one threshold for all; both are here,
chosen where they are measured, as published: compare them with published numbers, and judge by `Scores.coverage`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saes.roles import Grain, Roles
from saes.truth.firing import Firings

STEPS = 10
"""Thresholds are 0/10 .. 9/10 of a latent's largest activation; at 10/10 nothing is above."""
PRECISION, FIRINGS = 0.95, 10
"""What makes a latent and threshold a high-precision detector of a role: their constants."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Both forms of coverage, and how well queries are read off the latents."""

    coverage: float
    """Mean over slots of the best F1 over latents and thresholds."""
    coverage_one_threshold: float
    """The same at the one threshold that is best on average."""
    threshold: float
    """That threshold, as a share of a latent's largest activation."""
    reconstruction: float
    """Mean F1 per query of the set of its slots, as its high-precision detectors say."""
    exact: float
    """Share of queries of which every slot is told rightly."""
    detected: int
    """Slots with a high-precision detector."""
    facts: int
    """Slots that some queries have and others do not: what is told."""


def published(
    choose: Firings, measure: Firings, roles: tuple[Roles, Roles], example: Int[Tensor, " token"]
) -> Published:
    """Scores of the latents on `measure`; detectors of queries are chosen on `choose`, the other half.

    `roles` are those of the two halves, `example` numbers the examples of the measured half from 0.
    """
    per_role = coverage_by_step(measure, roles[1].slots)
    told, true = query_facts(choose, measure, roles, example)
    return Published(
        coverage=float(per_role.amax(0).mean()),
        coverage_one_threshold=float(per_role.mean(1).max()),
        threshold=float(per_role.mean(1).argmax()) / STEPS,
        reconstruction=float(_f1(told, true).mean()),
        exact=float((told == true).all(1).double().mean()),
        detected=int(detectors(choose, roles[0].slots).any(0).any(0).sum()),
        facts=true.shape[1],
    )


def coverage_by_step(firings: Firings, grain: Grain) -> Float[Tensor, "step role"]:
    """The best F1 of any latent, per threshold and role; roles without tokens are left out."""
    hits, fired = step_counts(firings, grain)
    positives = grain.counts.double()
    f1 = 2 * hits / (fired[..., None] + positives).clamp_min(1)
    return f1.amax(1)[:, positives > 0]


def step_counts(
    firings: Firings, grain: Grain
) -> tuple[Float[Tensor, "step latent role"], Float[Tensor, "step latent"]]:
    """How often each latent is above each step's share of its largest activation, at each role and anywhere."""
    n_roles, n_latents = len(grain.names), firings.n_latents
    largest = firings.value.new_zeros(n_latents)
    met = firings.fired > 0
    largest[met] = firings.value[firings.starts[met]]
    # The highest step whose threshold a firing is above; the largest activation itself is above all of them.
    step = (firings.value / largest[firings.latent] * STEPS).ceil().long().clamp(1, STEPS) - 1
    cell = (step * n_latents + firings.latent) * n_roles + grain.label[firings.token]
    counts = torch.bincount(cell, minlength=STEPS * n_latents * n_roles).reshape(STEPS, n_latents, n_roles)
    hits = counts.flip(0).cumsum(0).flip(0).double()
    return hits, hits.sum(2)


def detectors(firings: Firings, grain: Grain) -> Bool[Tensor, "step latent role"]:
    """Which latents, at which steps, are at a role in at least 95 % of at least 10 firings."""
    hits, fired = step_counts(firings, grain)
    return (hits >= PRECISION * fired[..., None]) & (fired[..., None] >= FIRINGS)


def query_facts(
    choose: Firings, measure: Firings, roles: tuple[Roles, Roles], example: Int[Tensor, " token"]
) -> tuple[Bool[Tensor, "example fact"], Bool[Tensor, "example fact"]]:
    """What detectors chosen on one half say of the queries of the other, and what is so.

    A fact is that the query has a slot; it is told by any high-precision detector of the slot that fires anywhere in
    the example. Facts that all measured queries share, or none has, are left out. A latent keeps its lowest threshold
    that is precise enough, at which it fires whenever it does at a higher one.
    """
    grain = roles[1].slots
    n_examples, n_roles = int(example.max()) + 1, len(grain.names)
    true = torch.zeros(n_examples, n_roles, dtype=torch.bool, device=example.device)
    true[example, grain.label] = True
    facts = true.any(0) & ~true.all(0)
    precise = detectors(choose, roles[0].slots)
    step = torch.where(precise, torch.arange(STEPS, device=precise.device)[:, None, None], STEPS).amin(0)
    largest = choose.value.new_zeros(choose.n_latents)
    met = choose.fired > 0
    largest[met] = choose.value[choose.starts[met]]
    told = torch.zeros_like(true)
    latents, slots = (step < STEPS).nonzero(as_tuple=True)
    threshold = largest[latents] * step[latents, slots] / STEPS
    starts, fired = measure.starts.tolist(), measure.fired.tolist()
    for j, c, h in zip(latents.tolist(), slots.tolist(), threshold.tolist(), strict=True):
        own = slice(starts[j], starts[j] + fired[j])
        told[example[measure.token[own][measure.value[own] > h]], c] = True
    return told[:, facts], true[:, facts]


def _f1(told: Bool[Tensor, "example fact"], true: Bool[Tensor, "example fact"]) -> Float[Tensor, " example"]:
    """1 where there is nothing to tell and nothing is told."""
    right, both = (told & true).sum(1).double(), (told.sum(1) + true.sum(1)).double()
    return torch.where(both > 0, 2 * right / both.clamp_min(1), 1.0)
