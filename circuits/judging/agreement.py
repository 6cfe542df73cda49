"""Two methods' scores of the same pairs -> how far they agree, edge by edge.

Attribution estimates what `exact` measures, so every evaluated circuit says how well it did.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from circuits.judging.bootstrap import draw_counts, plain
from circuits.judging.ratios import Estimate, counted, estimate
from circuits.scores import EdgeScores
from data_gen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of mean scores over the edges of one model."""

    method: str
    oracle: str
    n_pairs: int
    n_edges: int
    pearson: Estimate
    """Correlation of the scores, with its 95 % bootstrap interval over pairs; 0 where a method scores all alike."""
    spearman: float
    """Rank correlation of the scores' sizes, signs ignored: what choosing the top edges looks at."""
    top: int
    top_shared: float
    """Share of the oracle's `top` largest edges that are among the method's."""

    def __str__(self) -> str:
        return (
            f"{self.method} against {self.oracle}, {self.n_edges} edges on {counted(self.n_pairs, 'pair')}\n"
            f"  Pearson correlation    {self.pearson}\n"
            f"  Spearman of sizes      {self.spearman:.3f}\n"
            f"  top {self.top:<3} shared         {self.top_shared:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))


def agreement(scores: EdgeScores, oracle: EdgeScores, *, top: int = 20, seed: int = 0) -> Agreement:
    """How well `scores` estimate `oracle`, two scorings of the same pairs and model.

    `scores` may be one row for all pairs. `top` is how many of the largest edges are compared, at most all; `seed`
    draws the bootstrap. Raises `InputError` when they are of different graphs or numbers of pairs, for a `top` of less
    than one, or a negative seed.
    """
    if scores.graph != oracle.graph or len(scores.per_example) not in (1, len(oracle.per_example)):
        raise InputError(
            f"{scores.method} on {len(scores.per_example)} pairs and {oracle.method} on {len(oracle.per_example)} "
            "were not scored on the same pairs of the same model",
            hint="score both with the same `pairs`",
        )
    if top < 1:
        raise InputError(f"top is {top}, expected at least 1", hint="20 are usual")
    mine, theirs = (found.of_edges().double().numpy() for found in (scores, oracle))
    mine = np.broadcast_to(mine, theirs.shape)
    ranks = [_ranks(np.abs(values.mean(0))) for values in (mine, theirs)]
    top = min(top, mine.shape[1])
    best = [set(np.argsort(-rank, kind="stable")[:top].tolist()) for rank in ranks]
    return Agreement(
        method=scores.method,
        oracle=oracle.method,
        n_pairs=len(mine),
        n_edges=mine.shape[1],
        pearson=_pearson(mine, theirs, seed),
        spearman=_correlation(ranks[0], ranks[1]),
        top=top,
        top_shared=len(best[0] & best[1]) / top,
    )


def _pearson(mine: np.ndarray, theirs: np.ndarray, seed: int) -> Estimate:
    # Draw by draw: the means of all draws at once are a thousand times the edges.
    draws = np.array([_correlation(row @ mine, row @ theirs) for row in draw_counts(len(mine), seed)])
    return estimate(_correlation(mine.mean(0), theirs.mean(0)), draws)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's; 0 where one side is the same for all edges, which tells nothing about the other."""
    still = np.ptp(first) == 0 or np.ptp(second) == 0
    return 0.0 if still else float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[inverse]
