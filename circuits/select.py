"""EdgeScores -> Circuit: the largest edges, those that can be reached backwards from the logits, or the significant."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from circuits.graph import Edge
from circuits.paths import computed_by
from circuits.scores import EdgeScores
from data_gen.errors import InputError


def top_edges(scores: EdgeScores, n: int, *, connected: bool = False) -> Circuit:
    """The `n` edges of largest |score|, ties in graph order.

    `connected=True` then drops the edges that lie on no path of chosen edges from `embed` to `logits`. They
    change nothing when the circuit runs, so faithfulness stays as it is, but the circuit has fewer than `n`
    edges, and the dropped ones count to its complement. No edge is added in their place.
    Scores stay in `metadata["scores"]`, by the edge's text.
    Raises `InputError` when `n` is not between 1 and the number of edges.
    """
    _check_size(scores, n)
    circuit = _circuit(scores, scores.ranked()[:n], asked=n, connected=connected)
    return circuit.connected() if connected else circuit


def greedy_edges(scores: EdgeScores, n: int, *, without: Circuit | None = None) -> Circuit:
    """At most `n` edges, all on paths from `embed` to `logits`, grown backwards from the logits.

    EAP-IG's greedy choice (`apply_greedy`, Hanna et al., arXiv 2403.17806): again and again the edge of largest
    |score| into what the circuit already reads, `logits` at first, then also every head or MLP that an edge brought
    in. There `n` counts dead ends, which are pruned at last; here the growth goes on until `n` edges are live, so that
    circuits of one `n` are of like size: one edge can finish a path and bring several to life, so a few of the `n`
    may stay unused. Ties are taken in graph order. No edge of `without` is taken.
    Raises `InputError` when `n` is not between 1 and the number of edges, or for a `without` of another graph.
    """
    _check_size(scores, n)
    graph = scores.graph
    if without is not None and without.graph != graph:
        raise InputError(
            f"the edges to leave out are of a model of {without.graph}, the scores of one of {graph}",
            hint="give a circuit of the scored model",
        )
    order = _greedy_order(scores, graph.mask if without is None else graph.mask & ~without.mask)
    # The live part only grows with the edges taken, so the longest prefix that fits is found by bisection.
    fits, too_many = 0, len(order) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        live = graph.live(graph.select(order[:middle])).sum()
        fits, too_many = (middle, too_many) if live <= n else (fits, middle)
    return _circuit(scores, order[:fits], asked=n, greedy=True).connected()


def significant_edges(
    scores: EdgeScores, q: float = 0.05, *, connected: bool = False, seed: int = 0
) -> Circuit:
    """The edges whose mean score is other than zero at false-discovery rate `q`; none, if none is.

    `connected` as in `top_edges`; `seed` draws the signs of the test.
    Raises `InputError` as `EdgeScores.significant` does.
    """
    circuit = _circuit(scores, scores.significant(q, seed=seed), q=q, seed=seed, connected=connected)
    return circuit.connected() if connected else circuit


def _greedy_order(scores: EdgeScores, allowed: np.ndarray) -> list[Edge]:
    """The `allowed` edges that lead to the logits, in the order in which greed takes them."""
    graph, sources = scores.graph, computed_by(scores.graph)
    sizes = scores.values.abs().double().numpy()
    heap: list[tuple[float, int, int]] = []

    def offer(column: int) -> None:
        for row in np.flatnonzero(allowed[:, column]).tolist():
            heappush(heap, (-sizes[row, column], row, column))

    offer(len(graph.readers) - 1)
    order, brought_in = [], {0}
    offered = {len(graph.readers) - 1}
    while heap:
        _, row, column = heappop(heap)
        order.append(Edge(graph.writers[row].name, graph.readers[column].name))
        if row in brought_in:
            continue
        brought_in.add(row)
        for place in sources[row]:
            # A key-value head or a router feeds several writers, and is offered with the first.
            if place not in offered:
                offered.add(place)
                offer(place)
    return order


def _check_size(scores: EdgeScores, n: int) -> None:
    if not 1 <= n <= len(scores.graph.edges):
        raise InputError(
            f"n is {n}, expected 1 to {len(scores.graph.edges)}, the edges of a model of pattern"
            f" {scores.graph.pattern!r}",
            hint="ask for fewer edges" if n > 1 else "ask for at least one edge",
        )


def _circuit(scores: EdgeScores, edges: list[Edge], **asked: Any) -> Circuit:
    values = scores.values
    metadata = {
        "method": scores.method,
        "metric": scores.metric,
        "edit": scores.edit,
        **asked,
        "scores": {str(edge): float(values[scores.graph.index(edge)]) for edge in edges},
    }
    return Circuit(scores.graph, tuple(edges), metadata)
