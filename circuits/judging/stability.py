"""EdgeScores, or circuits found several times -> how often an edge is found again.

A circuit is an estimate from the pairs it was found on. Three things can be varied: which of the pairs are taken
(`resampled`: a bootstrap of the per-example scores, no model is run), which pairs are drawn, or in which wording
(`stability` of the circuits found with each seed or template). Méloux et al. (arXiv 2510.00845) report a mean
pairwise Jaccard index of .34 to .67 for bootstrapped EAP-IG circuits, and ask for .8 on 100 examples or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from circuits.judging.bootstrap import generator
from circuits.judging.compare import chance_jaccard, compare
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError

STABLE = 0.8
"""Mean pairwise Jaccard index from which a circuit is called stable, after arXiv 2510.00845."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Circuits for one behaviour, found several times."""

    circuits: int
    n_edges: float
    """Mean size."""
    jaccard: float
    """Mean over all pairs of circuits of `|A ∩ B| / |A ∪ B|`."""
    lowest: float
    """The 5th percentile over pairs of circuits."""
    chance: float
    """What random circuits of these sizes would have on average."""
    survival: dict[str, float]
    """By edge, the share of the circuits it is in, highest first; edges in none are left out."""

    @property
    def stable(self) -> bool:
        """Whether the mean reaches `STABLE`."""
        return self.jaccard >= STABLE

    def __str__(self) -> str:
        always = sum(share == 1 for share in self.survival.values())
        return (
            f"{self.circuits} circuits of {self.n_edges:.4g} edges: mean pairwise Jaccard index {self.jaccard:.3f}"
            f" (5th percentile {self.lowest:.3f}, {self.chance:.3f} by chance),"
            f" {'at least' if self.stable else 'below'} the bar of {STABLE}\n"
            f"  {always} edges are in every one, {len(self.survival)} in at least one"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with whether it is stable and the bar."""
        return {**asdict(self), "stable": self.stable, "bar": STABLE}


@dataclass(frozen=True, kw_only=True)
class PairsNeeded:
    """Mean pairwise Jaccard index of circuits, each found on so many resampled pairs."""

    n_edges: int
    pairs: tuple[int, ...]
    jaccard: tuple[float, ...]
    needed: int | None
    """Fewest of `pairs` from which on every index reaches `STABLE`; `None` where not even the last does."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def stability(circuits: Sequence[Circuit]) -> Stability:
    """How much circuits agree that were found with other seeds, other templates, or by other methods.

    Raises `InputError` for fewer than two, or circuits of different graphs.
    """
    if len(circuits) < 2:
        raise InputError(
            f"stability of {len(circuits)} circuit is not defined, expected at least 2",
            hint="find it again on pairs of other seeds",
        )
    found = [compare(first, second) for first, second in combinations(circuits, 2)]
    graph = circuits[0].graph
    return _stability(
        np.stack([circuit.mask[graph.mask] for circuit in circuits]),
        [str(edge) for edge in graph.edges],
        np.array([one.jaccard for one in found]),
        float(np.mean([one.chance_jaccard for one in found])),
    )


def resampled(scores: EdgeScores, n: int, *, resamples: int = 100, seed: int = 0) -> Stability:
    """Stability of the top `n` edges when the pairs are drawn anew from the scored ones, with replacement.

    Raises `InputError` when `n` is not between 1 and the number of edges, for fewer than two resamples, or a negative
    seed.
    """
    members = _resampled_tops(scores, n, len(scores.per_example), resamples, seed)
    chance = chance_jaccard(n, n, len(scores.graph.edges))
    return _stability(members, [str(edge) for edge in scores.graph.edges], _jaccards(members), chance)


def pairs_needed(
    scores: EdgeScores, n: int, pairs: Sequence[int] | None = None, *, resamples: int = 100, seed: int = 0
) -> PairsNeeded:
    """How the agreement of the top `n` edges grows with the number of pairs they are found on.

    For each number of `pairs` (`None`: 4, 8, 16, ... and all) so many are drawn with replacement, `resamples` times;
    numbers above those scored extrapolate. Draws from few pairs repeat some, so the index of the last number is that
    of `resampled`, somewhat below what as many fresh pairs would give.
    Raises `InputError` as `resampled` does, and for a number below one.
    """
    scored = len(scores.per_example)
    sizes = tuple(pairs) if pairs is not None else _doubling(scored)
    if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
        raise InputError(f"pairs are {list(sizes)}, expected growing numbers of at least 1", hint="4, 8, 16")
    found = tuple(
        float(_jaccards(_resampled_tops(scores, n, size, resamples, seed)).mean()) for size in sizes
    )
    below = max((place for place, value in enumerate(found) if value < STABLE), default=-1)
    needed = sizes[below + 1] if below + 1 < len(sizes) else None
    return PairsNeeded(n_edges=n, pairs=sizes, jaccard=found, needed=needed)


def _doubling(n: int) -> tuple[int, ...]:
    sizes, size = [], 4
    while size < n:
        sizes.append(size)
        size *= 2
    return (*sizes, n)


def _resampled_tops(scores: EdgeScores, n: int, pairs: int, resamples: int, seed: int) -> np.ndarray:
    """Bool `[resample edge]`: the top `n` edges of each draw of `pairs` examples."""
    if resamples < 2:
        raise InputError(f"resamples is {resamples}, expected at least 2", hint="100 are usual")
    # For the sentence on sizes that no circuit can have.
    top_edges(scores, n)
    values = scores.of_edges().double().numpy()
    rng = generator(seed)
    counts = rng.multinomial(pairs, np.full(len(values), 1 / len(values)), size=resamples)
    sizes = np.abs(counts @ values)
    return largest(sizes, n)


def largest(sizes: np.ndarray, n: int) -> np.ndarray:
    """Bool `[row column]`: the `n` largest of each row, of equal ones the first; nothing is sorted.

    `n` is from 1 to the number of columns.
    """
    least = np.partition(sizes, -n, axis=1)[:, -n:][:, :1]
    above, equal = sizes > least, sizes == least
    room = n - above.sum(1, keepdims=True)
    members: np.ndarray = above | (equal & (equal.cumsum(1) <= room))
    return members


def _jaccards(members: np.ndarray) -> np.ndarray:
    """The index of every two rows of `[circuit edge]`, all of one size."""
    held = members.astype(np.float64)
    rows, columns = np.triu_indices(len(held), 1)
    shared = (held @ held.T)[rows, columns]
    indices: np.ndarray = shared / (2 * held[0].sum() - shared)
    return indices


def _stability(members: np.ndarray, names: list[str], jaccards: np.ndarray, chance: float) -> Stability:
    shares = members.mean(0)
    order = [place for place in np.argsort(-shares, kind="stable").tolist() if shares[place]]
    return Stability(
        circuits=len(members),
        n_edges=float(members.sum(1).mean()),
        jaccard=float(jaccards.mean()),
        lowest=float(np.quantile(jaccards, 0.05)),
        chance=chance,
        survival={names[place]: float(shares[place]) for place in order},
    )
