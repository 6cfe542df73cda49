"""Graph -> paths of edges from `embed` to `logits`: which readers compute a writer, the widest path, a random one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph

# A circuit is read from a file without what scores are made of, which takes seconds to load.
if TYPE_CHECKING:
    from circuits.scores import EdgeScores


def computed_by(graph: Graph) -> dict[int, list[int]]:
    """By row of a writer, the columns of the readers it is computed from; nothing for `embed`."""
    rows = {writer.name: row for row, writer in enumerate(graph.writers)}
    found: dict[int, list[int]] = defaultdict(list)
    for column, reader in enumerate(graph.readers):
        for name in reader.feeds:
            found[rows[name]].append(column)
    return dict(found)


def widest_path(scores: EdgeScores) -> Circuit:
    """The path from `embed` to `logits` whose weakest edge, by |mean score|, is strongest.

    The way by which most of the behaviour can go along one path; ties go to the edge that stands earlier.
    """
    graph = scores.graph
    sizes = np.where(graph.mask, scores.values.abs().double().numpy(), -1.0)
    sources, width = computed_by(graph), np.full(len(graph.writers), -1.0)
    width[0] = np.inf
    into, via = np.full(len(graph.readers), -1.0), np.zeros(len(graph.readers), int)
    feeds = _inverse(sources)
    # Readers stand in block order, so every writer before a reader is settled.
    for column in range(len(graph.readers)):
        reach = np.minimum(width, sizes[:, column])
        via[column], into[column] = reach.argmax(), reach.max()
        for row in feeds.get(column, ()):
            width[row] = max(width[row], into[column])
    column, edges = len(graph.readers) - 1, []
    while True:
        row = int(via[column])
        edges.append(Edge(graph.writers[row].name, graph.readers[column].name))
        if row == 0:
            return Circuit(graph, tuple(edges))
        column = max(sources[row], key=lambda place: (into[place], -place))


def random_path(graph: Graph, rng: np.random.Generator) -> tuple[Edge, ...]:
    """A path from `embed` to `logits`: at each step a uniformly random reader, then a random writer it feeds."""
    feeds, row, edges = _inverse(computed_by(graph)), 0, []
    while True:
        column = int(rng.choice(np.flatnonzero(graph.mask[row])))
        edges.append(Edge(graph.writers[row].name, graph.readers[column].name))
        if column not in feeds:
            return tuple(edges)
        row = int(rng.choice(feeds[column]))


def _inverse(sources: dict[int, list[int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for row, columns in sources.items():
        for column in columns:
            found[column].append(row)
    return dict(found)
