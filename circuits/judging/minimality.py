"""Circuit -> is every edge needed: leave one out, and compare with random edges left out of an inflated circuit.

The test is that of Shi et al., "Hypothesis Testing the Circuit Hypothesis in LLMs" (arXiv 2410.13032): a random
edge is one of a random path added to the circuit, so that it is live; what its removal changes is what an edge
changes that nobody chose. An edge of the circuit is *redundant* if it is below the 90 % quantile of these by the
binomial test, Bonferroni-corrected over the tested edges. A change is `|f(C) - f(C without the edge)|`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.graph import Edge
from circuits.judging.ratios import Ratios
from circuits.metrics import Metric
from circuits.paths import random_path
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

QUANTILE, LEVEL = 0.9, 0.05
"""The quantile of random edges that an edge has to pass, and the level at which it is called redundant."""
RANDOM_EDGES, MOST_TESTED, MOST_PAIRS = 50, 100, 16
"""Random edges drawn; edges of a circuit tested, drawn at random where it has more; pairs to test them on."""


@dataclass(frozen=True, kw_only=True)
class Minimality:
    """What leaving out one edge changes."""

    share: float
    """Share of tested edges that change faithfulness by more than the 90 % quantile of random edges."""
    quantile: float
    """That quantile, in units of faithfulness."""
    tested: int
    """Live edges of the circuit that were left out; edges that are not live change nothing."""
    random_edges: int
    p: float
    """Smallest Bonferroni-corrected p of an edge: below .05 the circuit is not minimal."""
    redundant: tuple[str, ...]
    """Edges of a corrected p below .05, in graph order."""
    changes: dict[str, float]
    """By edge, `f(C) - f(C without the edge)`: positive where the circuit needs it."""


def leave_one_out(
    model: HybridLM,
    circuit: Circuit,
    pairs: TokenPairs,
    metric: Metric,
    ratios: Ratios,
    *,
    batch_size: int | None,
    track: Callable[[list[Any]], Iterable[Any]],
) -> Minimality | None:
    """The test on the first 16 pairs, in units of the faithfulness that `ratios` knows from all of them.

    One run for each live edge and two for each random one make it the dearest part of an evaluation, which is why
    few pairs have to do. `None` where no edge is live, or no path can be added. The seed of `ratios` draws the random
    edges.
    """
    plan = LeaveOneOut(circuit, ratios.seed)
    if not plan.inflated:
        return None
    played = [circuit, *plan.circuits]
    each = metric_of(model, played, pairs[:MOST_PAIRS], metric, batch_size=batch_size, track=track)
    values = each.double().mean(1).numpy() / float(ratios.span.mean())
    return plan.result(float(values[0]), values[1:])


class LeaveOneOut:
    """The circuits to run for the test, and what their faithfulness says."""

    def __init__(self, circuit: Circuit, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tested = _some(circuit.connected().edges, rng)
        self.without = [_minus(circuit, edge) for edge in self.tested]
        self.inflated: list[Circuit] = []
        self.deflated: list[Circuit] = []
        if self.tested and len(circuit) < len(circuit.graph.edges):
            self._inflate(circuit, rng)

    def _inflate(self, circuit: Circuit, rng: np.random.Generator) -> None:
        for _ in range(20 * RANDOM_EDGES):
            path = random_path(circuit.graph, rng)
            new = sorted(set(path) - set(circuit.edges))
            if not new:
                continue
            self.inflated.append(Circuit(circuit.graph, (*circuit.edges, *path)))
            self.deflated.append(_minus(self.inflated[-1], new[rng.integers(len(new))]))
            if len(self.inflated) == RANDOM_EDGES:
                return

    @property
    def circuits(self) -> list[Circuit]:
        """Everything that has to be run."""
        return [*self.without, *self.inflated, *self.deflated]

    def result(self, faithfulness: float, each: np.ndarray) -> Minimality:
        """From f of the circuit and of each of `circuits` `[circuit]`, up to one constant for all."""
        without, inflated, deflated = np.split(each, np.cumsum([len(self.tested), len(self.inflated)]))
        return minimality(self.tested, faithfulness - without, inflated - deflated)


def minimality(edges: tuple[Edge, ...], changes: np.ndarray, random_changes: np.ndarray) -> Minimality:
    """The test from what each of `edges` changes `[edge]`, and each random edge `[random edge]`, in faithfulness.

    There must be at least one of either.
    """
    sizes, randoms = np.abs(changes), np.abs(random_changes)
    passed = (sizes[:, None] > randoms).sum(1)
    p = np.array([_binomial_below(count, len(randoms)) for count in passed.tolist()])
    corrected = np.minimum(1.0, p * len(edges))
    quantile = float(np.quantile(randoms, QUANTILE))
    return Minimality(
        share=float((sizes > quantile).mean()),
        quantile=quantile,
        tested=len(edges),
        random_edges=len(randoms),
        p=float(corrected.min()),
        redundant=tuple(str(edge) for edge, low in zip(edges, corrected < LEVEL, strict=True) if low),
        changes={str(edge): change for edge, change in zip(edges, changes.tolist(), strict=True)},
    )


def _binomial_below(count: int, n: int) -> float:
    """P(at most `count` of `n` random edges are passed) by an edge that passes each with probability .9."""
    return float(sum(comb(n, k) * QUANTILE**k * (1 - QUANTILE) ** (n - k) for k in range(count + 1)))


def _some(edges: tuple[Edge, ...], rng: np.random.Generator) -> tuple[Edge, ...]:
    if len(edges) <= MOST_TESTED:
        return edges
    chosen = np.sort(rng.choice(len(edges), MOST_TESTED, replace=False))
    return tuple(edges[place] for place in chosen.tolist())


def _minus(circuit: Circuit, edge: Edge) -> Circuit:
    return Circuit(circuit.graph, tuple(other for other in circuit.edges if other != edge))
