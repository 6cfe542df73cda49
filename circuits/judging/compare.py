"""Circuits of one graph -> what they share, against what circuits of their sizes share by chance.

Of two circuits of a and b edges among N, a random pair shares k edges with the hypergeometric probability
`C(a, k) C(N - a, b - k) / C(N, b)`. All edges count alike, so circuits that merely prefer the same layers exceed this
level too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from math import exp, lgamma
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from data_gen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two circuits."""

    n_first: int
    n_second: int
    n_edges_model: int
    shared: int
    jaccard: float
    """`shared / (n_first + n_second - shared)`; 1 for two empty circuits."""
    overlap: float
    """`shared / min(n_first, n_second)`: 1 when the smaller lies in the larger; 1 when one is empty."""
    chance_shared: float
    """Edges that two random circuits of these sizes share on average."""
    chance_jaccard: float
    """Their mean Jaccard index."""
    p: float
    """Probability that two random circuits of these sizes share at least as many."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.n_first} and {self.n_second} of {self.n_edges_model} edges, {self.shared} shared"
            f" ({self.chance_shared:.1f} by chance, p = {self.p:.2g})\n"
            f"  Jaccard index  {self.jaccard:.3f} ({self.chance_jaccard:.3f} by chance)\n"
            f"  of the smaller {self.overlap:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Many circuits, each with each; matrices are in the order of `names`."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    n_edges_model: int
    jaccard: tuple[tuple[float, ...], ...]
    overlap: tuple[tuple[float, ...], ...]
    chance_jaccard: tuple[tuple[float, ...], ...]
    p: tuple[tuple[float, ...], ...]
    shared_by_all: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(name) for name in self.names)
        rows = [
            f"{name:<{width}}  {size:>5}  " + " ".join(f"{value:.2f}" for value in row)
            for name, size, row in zip(self.names, self.sizes, self.jaccard, strict=True)
        ]
        return "\n".join(
            [
                f"Jaccard index of {len(self.names)} circuits; edges, then each with each",
                *rows,
                f"{len(self.shared_by_all)} edges are in all",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(first: Circuit, second: Circuit) -> Overlap:
    """What two circuits share. Raises `InputError` when they are of different graphs."""
    _check_one_graph({"first": first, "second": second})
    in_first, in_second = set(first.edges), set(second.edges)
    shared = len(in_first & in_second)
    a, b, total = len(first), len(second), len(first.graph.edges)
    counts, chance = _shared_by_chance(a, b, total)
    return Overlap(
        n_first=a,
        n_second=b,
        n_edges_model=total,
        shared=shared,
        jaccard=_jaccard(a, b, shared),
        overlap=shared / min(a, b) if min(a, b) else 1.0,
        chance_shared=float(counts @ chance),
        chance_jaccard=chance_jaccard(a, b, total),
        p=float(min(1.0, chance[counts >= shared].sum())),
        only_first=tuple(str(edge) for edge in first.edges if edge not in in_second),
        only_second=tuple(str(edge) for edge in second.edges if edge not in in_first),
    )


def compare_all(circuits: Mapping[str, Circuit]) -> Comparison:
    """Each of several named circuits with each. Raises `InputError` for none, or circuits of different graphs."""
    _check_one_graph(circuits)
    names = tuple(circuits)
    found = {pair: compare(circuits[pair[0]], circuits[pair[1]]) for pair in product(names, names)}

    def matrix(field: str) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(getattr(found[row, column], field) for column in names) for row in names)

    first = circuits[names[0]]
    common = set.intersection(*(set(circuit.edges) for circuit in circuits.values()))
    return Comparison(
        names=names,
        sizes=tuple(len(circuits[name]) for name in names),
        n_edges_model=len(first.graph.edges),
        jaccard=matrix("jaccard"),
        overlap=matrix("overlap"),
        chance_jaccard=matrix("chance_jaccard"),
        p=matrix("p"),
        shared_by_all=tuple(str(edge) for edge in first.edges if edge in common),
    )


def chance_jaccard(a: int, b: int, total: int) -> float:
    """Mean Jaccard index of two random sets of `a` and `b` among `total`."""
    counts, chance = _shared_by_chance(a, b, total)
    return float(np.array([_jaccard(a, b, count) for count in counts.tolist()]) @ chance)


def _shared_by_chance(a: int, b: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """The possible numbers of shared edges, and their hypergeometric probabilities."""
    counts = np.arange(max(0, a + b - total), min(a, b) + 1)
    logs = [
        _log_choose(a, k) + _log_choose(total - a, b - k) - _log_choose(total, b) for k in counts.tolist()
    ]
    return counts, np.array([exp(log) for log in logs])


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _jaccard(a: int, b: int, shared: int) -> float:
    return shared / (a + b - shared) if a + b else 1.0


def _check_one_graph(circuits: Mapping[str, Circuit]) -> None:
    if not circuits:
        raise InputError("there is no circuit to compare", hint="give at least one")
    names = list(circuits)
    for name in names[1:]:
        if circuits[name].graph != circuits[names[0]].graph:
            raise InputError(
                f"circuit `{name}` belongs to a model of pattern {circuits[name].graph.pattern!r} and `{names[0]}` to"
                f" one of {circuits[names[0]].graph.pattern!r} or with other heads, so they have no edges in common",
                hint="compare circuits of one model, or of models of one shape",
            )
