"""Graph -> random circuits: what any set of edges of that size, or of that size in those layers, would reach.

Uniform ones are a floor: a small uniformly random set rarely holds a path from `embed` to `logits`. Layer-matched ones
have as many edges as the circuit between every pair of blocks, so they hold paths as often as circuits do, and the
circuit has to beat them by choosing the right heads and ports.
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
        if count < 1:
            raise InputError(
                f"random_circuits is {count}, expected at least 1",
                hint="20 give a band, 1 a single comparison",
            )
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
        kinds = _block_pairs(self.graph)
        wanted = np.bincount(kinds[_places(circuit)], minlength=kinds.max() + 1)
        return [self._circuit(_first_of_each(kinds, row, wanted)) for row in self.priority]

    def _circuit(self, places: np.ndarray) -> Circuit:
        return Circuit(self.graph, tuple(self.graph.edges[place] for place in places.tolist()))


def _places(circuit: Circuit) -> np.ndarray:
    """Where the circuit's edges stand in `graph.edges`."""
    return np.flatnonzero(circuit.mask[circuit.graph.mask])


def _block_pairs(graph: Graph) -> np.ndarray:
    """A number for each edge of `graph.edges`: the same for edges between the same two blocks."""
    writers = np.array([writer.block for writer in graph.writers])
    readers = np.array([reader.block for reader in graph.readers])
    rows, columns = np.nonzero(graph.mask)
    _, kinds = np.unique(np.stack([writers[rows], readers[columns]]), axis=1, return_inverse=True)
    return kinds.reshape(-1)


def _first_of_each(kinds: np.ndarray, priority: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places of the `wanted[kind]` edges of smallest priority of every kind."""
    order = np.lexsort((priority, kinds))
    sizes = np.bincount(kinds)
    within = np.arange(len(kinds)) - np.repeat(sizes.cumsum() - sizes, sizes)
    chosen: np.ndarray = order[within < wanted[kinds[order]]]
    return chosen
