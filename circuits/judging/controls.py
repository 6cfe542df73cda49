"""Graph -> random circuits: what any set of edges of that size, or of that size in those layers, would reach.

Uniform ones are a floor: a small uniformly random set rarely holds a path from `embed` to `logits`. Layer-matched ones
have as many edges as the circuit between every pair of blocks, so they hold paths as often as circuits do, and the
circuit has to beat them by choosing the right heads and ports. Role-aware ones are layer-matched too, or edge-matched:
the circuit's own edges at random roles, which it has to beat by choosing the right tokens. Both are drawn from the
role-aware edges that have a score: all others carry the same on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.judging.bootstrap import generator
from data_gen.errors import InputError


@dataclass(frozen=True)
class RandomCircuits:
    """Random orders of all edges; a random circuit takes the first ones, so those of one order are nested."""

    graph: Graph
    priority: np.ndarray
    """`[circuit edge]`, uniform draws: an edge of smaller priority is taken earlier."""

    @classmethod
    def draw(cls, graph: Graph, count: int, seed: int) -> RandomCircuits:
        """`count` random orders. Raises `InputError` for fewer than one, or a negative seed."""
        _check_count(count)
        return cls(graph, generator(seed).random((count, len(graph.edges))))

    def uniform(self, size: int) -> list[Circuit]:
        """The first `size` edges of each order. Raises `InputError` for a size that no circuit has."""
        if not 0 <= size <= len(self.graph.edges):
            raise InputError(
                f"size is {size}, expected 0 to {len(self.graph.edges)}, the edges of a model of {self.graph}",
                hint="ask for as many edges as the circuit has",
            )
        return [self._circuit(np.argsort(row, kind="stable")[:size]) for row in self.priority]

    def layer_matched(self, circuit: Circuit) -> list[Circuit]:
        """Of each order the first edges between each (writer block, reader block), as many as `circuit` has.

        Raises `InputError` for a circuit of another graph.
        """
        if circuit.graph != self.graph:
            raise InputError(
                f"the circuit is of a model of {circuit.graph}, the random orders of one of {self.graph}",
                hint="draw them for the circuit's graph",
            )
        kinds = _block_pairs(self.graph, *np.nonzero(self.graph.mask))
        wanted = np.bincount(kinds[_places(circuit)], minlength=kinds.max() + 1)
        return [self._circuit(_first_of_each(kinds, row, wanted)) for row in self.priority]

    def _circuit(self, places: np.ndarray) -> Circuit:
        return Circuit(self.graph, tuple(self.graph.edges[place] for place in places.tolist()))


@dataclass(frozen=True)
class RandomParts:
    """Random orders of the role-aware edges that have a score; a random circuit takes the first ones."""

    graph: Graph
    scored: np.ndarray
    """Bool `[role writer reader]`: true at the role-aware edges to draw from."""
    priority: np.ndarray
    """`[circuit part]`, uniform draws: a role-aware edge of smaller priority is taken earlier."""

    @classmethod
    def draw(cls, graph: Graph, scored: np.ndarray, count: int, seed: int) -> RandomParts:
        """`count` random orders. Raises `InputError` for fewer than one, or a negative seed."""
        _check_count(count)
        return cls(graph, scored, generator(seed).random((count, int(scored.sum()))))

    def layer_matched(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Of each order the first role-aware edges between each two blocks, as many as `chosen` has, of whatever role.

        `chosen` and each of the results are bool `[role writer reader]`. Raises `InputError` where one of the chosen
        has no score.
        """
        return self._matched(chosen, _block_pairs(self.graph, *np.nonzero(self.scored)[1:]))

    def edge_matched(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Of each order the first roles of each edge, as many as `chosen` has of it; shapes and errors as above."""
        _, edges = np.unique(np.stack(np.nonzero(self.scored)[1:]), axis=1, return_inverse=True)
        return self._matched(chosen, edges.reshape(-1))

    def _matched(self, chosen: np.ndarray, kinds: np.ndarray) -> list[np.ndarray]:
        """Of each order the first of each kind, as many as `chosen` has; `kinds` `[part]` of those with a score."""
        if (chosen & ~self.scored).any():
            raise InputError(
                f"{(chosen & ~self.scored).sum():,} of {chosen.sum():,} role-aware edges have no score",
                hint="find the circuit again: tinysql circuit find RUN --edit EDIT --by-role --overwrite",
            )
        wanted = np.bincount(kinds[chosen[self.scored]], minlength=kinds.max() + 1)
        return [self._mask(_first_of_each(kinds, row, wanted)) for row in self.priority]

    def _mask(self, places: np.ndarray) -> np.ndarray:
        found = np.zeros(self.priority.shape[1], dtype=bool)
        found[places] = True
        mask = np.zeros_like(self.scored)
        mask[self.scored] = found
        return mask


def _check_count(count: int) -> None:
    if count < 1:
        raise InputError(
            f"random_circuits is {count}, expected at least 1", hint="20 give a band, 1 a single comparison"
        )


def _places(circuit: Circuit) -> np.ndarray:
    """Where the circuit's edges stand in `graph.edges`."""
    return np.flatnonzero(circuit.mask[circuit.graph.mask])


def _block_pairs(graph: Graph, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A number for each edge from a writer `rows` to a reader `columns`: the same for edges between the same blocks."""
    writers = np.array([writer.block for writer in graph.writers])
    readers = np.array([reader.block for reader in graph.readers])
    _, kinds = np.unique(np.stack([writers[rows], readers[columns]]), axis=1, return_inverse=True)
    return kinds.reshape(-1)


def _first_of_each(kinds: np.ndarray, priority: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places of the `wanted[kind]` edges of smallest priority of every kind."""
    order = np.lexsort((priority, kinds))
    sizes = np.bincount(kinds)
    within = np.arange(len(kinds)) - np.repeat(sizes.cumsum() - sizes, sizes)
    chosen: np.ndarray = order[within < wanted[kinds[order]]]
    return chosen
