"""EdgeScores -> Circuit: the edges with the largest absolute score."""

from __future__ import annotations

from circuits.circuit import Circuit
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
    if not 1 <= n <= len(scores.graph.edges):
        raise InputError(
            f"n is {n}, expected 1 to {len(scores.graph.edges)}, the edges of a model of pattern"
            f" {scores.graph.pattern!r}"
        )
    edges = scores.ranked()[:n]
    metadata = {
        "method": scores.method,
        "metric": scores.metric,
        "edit": scores.edit,
        "asked": n,
        "connected": connected,
        "scores": {str(edge): scores[edge] for edge in edges},
    }
    circuit = Circuit(scores.graph, tuple(edges), metadata)
    return circuit.connected() if connected else circuit
