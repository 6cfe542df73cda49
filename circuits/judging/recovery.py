"""EdgeScores and true edges -> Recovery: do the largest |scores| lie on the edges that carry the behaviour?

Two areas over all thresholds, as information retrieval defines them. With t true edges and f others,

    AUROC = share of the t * f (true, other) pairs whose true edge has the larger |score|; ties count half
    AP    = sum over thresholds of (recall gained there) * (precision there); edges of equal |score| go together

Scores drawn at random have an AUROC of 1/2 and an AP near t / (t + f). AUROC hardly notices a few false edges
on top of many right ones at the bottom, AP does, so both are given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from circuits.graph import Edge
from circuits.scores import EdgeScores
from data_gen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How well mean scores find the true edges, signs ignored."""

    method: str
    n_true: int
    n_edges: int
    """Edges it was scored on: ambiguous ones are left out."""
    auroc: float
    average_precision: float
    found: float
    """Share of the true edges that are among the `n_true` largest; edges of equal |score| share their places."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def recovery(
    scores: EdgeScores, edges: Collection[Edge], ambiguous: Collection[Edge] = frozenset()
) -> Recovery:
    """Compare |mean score| with the truth: `edges` are true, all others but the `ambiguous` ones are not.

    Raises `InputError` for an edge the graph does not have or that is both true and ambiguous, for no true or no other
    edge, or for scores that are not finite.
    """
    both = sorted(set(edges) & set(ambiguous))
    if both:
        raise InputError(f"edge `{both[0]}` is both true and ambiguous", hint="put it into one of the two")
    graph = scores.graph
    true, unclear = (graph.select(tuple(some))[graph.mask] for some in (edges, ambiguous))
    values = scores.of_edges().double().mean(0).abs().numpy()[~unclear]
    true = true[~unclear]
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} scores of `{scores.method}` are not finite",
            hint="look at the metric and the gradients on these pairs",
        )
    if true.all() or not true.any():
        raise InputError(
            f"{int(true.sum())} of {len(true)} edges are true, so there is nothing to tell apart",
            hint="give at least one true edge and leave at least one other",
        )
    return Recovery(
        method=scores.method,
        n_true=int(true.sum()),
        n_edges=len(true),
        auroc=auroc(values, true),
        average_precision=average_precision(values, true),
        found=_found(values, true),
    )


def auroc(values: np.ndarray, true: np.ndarray) -> float:
    """Share of (true, other) pairs in which the true one has the larger of `values` `[item]`; ties count half."""
    yes, no = values[true][:, None], values[~true][None]
    return float(((yes > no) + 0.5 * (yes == no)).mean())


def average_precision(values: np.ndarray, true: np.ndarray) -> float:
    """Precision at each threshold, weighted by the recall gained there; equal `values` `[item]` fall together."""
    right, taken = _at_thresholds(values, true)
    return float((np.diff(right, prepend=0) / true.sum() * right / taken).sum())


def _found(values: np.ndarray, true: np.ndarray) -> float:
    """Expected share of true items among as many on top, when ties are broken at random."""
    right, taken = (np.concatenate([[0], counts]) for counts in _at_thresholds(values, true))
    return float(np.interp(true.sum(), taken, right) / true.sum())


def _at_thresholds(values: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right items and all items that are at least as large as each distinct value, from the largest down."""
    thresholds = np.unique(values)[::-1]
    over = values >= thresholds[:, None]
    return (over & true).sum(1), over.sum(1)
