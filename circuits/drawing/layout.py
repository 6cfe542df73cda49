"""Graph, edges -> where each writer, each reader and each edge stands: blocks upwards, a block's writers side by side.

A reader of one head (q, a Mamba head's dt) stands right under it. One that several share (a key-value head, B and C of
a group, the router) stands lower, under a bracket over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from circuits.drawing.style import WIDTH
from circuits.graph import Edge, Graph

MOST_COLUMNS = 40
"""Writers of a block up to which all are drawn; in wider blocks only those that an edge touches."""
PLOT = WIDTH - 140
"""Pixels between the figure's margins."""
ROW = 80
"""Pixels from block to block."""
LARGEST, SMALLEST = 26.0, 9.0
"""Pixels of a writer's square."""
OWN, BRACKET, SHARED, LETTER = 7, 15, 24, 6
"""Pixels below a square: a reader of its own, the bracket, a shared reader; and half of a letter's height."""
NAMES = {"*": "attention", "-": "MLP", "M": "Mamba", "E": "experts"}


class Point(NamedTuple):
    """Columns from the middle, and blocks: the embedding stands at -1."""

    x: float
    y: float


class Port(NamedTuple):
    """A reader as it is drawn."""

    place: Point
    letter: str
    """`q`, `dt`, `router`, ...; empty where the reader is the square itself."""
    owner: str | None
    """The writer under which it stands; None for a reader that several share."""
    span: tuple[float, float] | None
    """From where to where the bracket of a shared reader goes; None where none of its writers is drawn."""


@dataclass(frozen=True)
class Layout:
    """Places in plot units, and how large a unit is."""

    nodes: dict[str, Point]
    """By writer; and `logits`."""
    ports: dict[str, Port]
    """By reader."""
    columns: int
    rows: tuple[str, ...]
    """What the blocks are called, from the embedding to the logits."""
    square: float
    """Pixels of a writer's square."""

    @property
    def half_width(self) -> float:
        """Columns from the middle to the edge of the plot."""
        return (self.columns - 1) / 2 + 0.7

    @property
    def height(self) -> int:
        """Pixels from below the embedding to above the logits."""
        return ROW * len(self.rows)

    def bend(self, edge: Edge, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the edge's curve at `share` of its length; long edges swing out to pass the nodes between."""
        start, port = self.nodes[edge.writer], self.ports[edge.reader]
        low = start.y + self.square / 2 / ROW
        high = port.place.y - (LETTER if port.letter else self.square / 2) / ROW
        side = 1.0 if start.x + port.place.x > 0 else -1.0
        swing = side * 22 * max(high - low - 0.5, 0.0) * 2 * self.half_width / PLOT
        straight = start.x + (port.place.x - start.x) * (3 * share**2 - 2 * share**3)
        x = straight + swing * 4 * share * (1 - share)
        if np.abs(x).max() > self.half_width:
            x = straight - swing * 4 * share * (1 - share)
        return x, low + (high - low) * share


def layout(graph: Graph, edges: Iterable[Edge]) -> Layout:
    """Places of everything in `graph`, or in blocks of more than 40 writers of what `edges` touch."""
    blocks = _blocks(graph, set(edges))
    columns = max([3, *(len(names) for names in blocks)])
    nodes = {"embed": Point(0.0, -1.0), "logits": Point(0.0, float(len(graph.pattern)))}
    gaps = []
    for block, names in enumerate(blocks):
        gap = (columns - 1) / max(len(names) - 1, 1)
        first = -(columns - 1) / 2 if len(names) > 1 else 0.0
        nodes |= {name: Point(first + gap * place, float(block)) for place, name in enumerate(names)}
        gaps.append(gap)
    square = min(LARGEST, max(SMALLEST, 0.8 * PLOT / (columns + 0.4)))
    rows = ["embed", *(f"{block} {NAMES[kind]}" for block, kind in enumerate(graph.pattern)), "logits"]
    for block, names in enumerate(blocks):
        total = sum(writer.block == block for writer in graph.writers)
        if len(names) < total:
            rows[block + 1] += f",<br>{len(names)} of {total}"
    ports = _ports(graph, nodes, gaps, columns, square)
    return Layout(nodes=nodes, ports=ports, columns=columns, rows=tuple(rows), square=square)


def label(writer: str) -> str:
    """A writer's name as it stands in its square."""
    short = {"embed": "emb", "logits": "log", "mlp": "MLP", "shared": "sh"}
    kind, last = writer.split(".")[-2:] if "." in writer else ("", writer)
    return short.get(last, f"{'e' if kind == 'expert' else 'h'}{last}")


def _blocks(graph: Graph, edges: set[Edge]) -> list[list[str]]:
    """Names of the writers drawn in each block."""
    found: list[list[str]] = [[] for _ in graph.pattern]
    for writer in graph.writers[1:]:
        found[writer.block].append(writer.name)
    owner = owners(graph)
    touched = {edge.writer for edge in edges} | {owner[edge.reader] for edge in edges}
    return [
        names if len(names) <= MOST_COLUMNS else [name for name in names if name in touched]
        for names in found
    ]


def owners(graph: Graph) -> dict[str, str | None]:
    """By reader, the one writer that it is a part of: that of its number, where there are as many of both.

    A Mamba head's z is its own, though the norm behind the gate makes all heads of a group depend on it.
    """
    found: dict[str, str | None] = {"logits": "logits"}
    for block in range(len(graph.pattern)):
        heads = [writer.name for writer in graph.writers if writer.block == block]
        readers = [reader.name for reader in graph.readers if reader.block == block]
        counts = Counter(map(_letter, readers))
        for reader in readers:
            if reader in heads:
                found[reader] = reader
            elif counts[_letter(reader)] == len(heads):
                found[reader] = heads[int(reader.rsplit(".", 1)[-1])]
            else:
                found[reader] = None
    return found


def _ports(
    graph: Graph, nodes: dict[str, Point], gaps: list[float], columns: int, square: float
) -> dict[str, Port]:
    """Places of all readers whose writers are drawn."""
    pixel, owner = (columns + 0.4) / PLOT, owners(graph)
    found = {"logits": Port(nodes["logits"], "", "logits", None)}
    for block, gap in enumerate(gaps):
        readers = [reader for reader in graph.readers if reader.block == block]
        own = [reader for reader in readers if owner[reader.name] is not None]
        letters = list(dict.fromkeys(_letter(reader.name) for reader in own))
        for reader in own:
            head, letter = owner[reader.name], _letter(reader.name)
            if head in nodes:
                beside = _beside(letters, letter, min(0.28 * gap, 22 * pixel))
                low = block - ((square / 2 + OWN) / ROW if letter else 0.0)
                found[reader.name] = Port(Point(nodes[head].x + beside, low), letter, head, None)
        shared = [reader for reader in readers if owner[reader.name] is None]
        letters = list(dict.fromkeys(_letter(reader.name) for reader in shared))
        for reader in shared:
            letter = _letter(reader.name)
            fed = [nodes[name].x for name in reader.feeds if name in nodes]
            slots = sum(_letter(other.name) == letter for other in shared)
            middle = (min(fed) + max(fed)) / 2 if fed else _slot(reader.name, slots, columns)
            place = Point(
                middle + _beside(letters, letter, min(0.28 * gap, 22 * pixel)),
                block - (square / 2 + SHARED) / ROW,
            )
            # Half a square on either side, so that a bracket over one writer is seen too.
            ends = (min(fed) - square * pixel / 2, max(fed) + square * pixel / 2) if fed else None
            found[reader.name] = Port(place, letter, None, ends)
    return found


def _beside(letters: list[str], letter: str, step: float) -> float:
    """How far from the middle a letter stands among those of its kind."""
    return (letters.index(letter) - (len(letters) - 1) / 2) * step


def _letter(reader: str) -> str:
    """What is written at a reader: nothing where it is an MLP or an expert."""
    parts = reader.split(".")
    return parts[3] if len(parts) == 5 and parts[3] != "expert" else "router" if "router" in parts else ""


def _slot(reader: str, slots: int, columns: int) -> float:
    """Where a reader that others share stands when none of its writers is drawn."""
    number = reader.rsplit(".", 1)[-1]
    place = int(number) if number.isdigit() else (slots - 1) / 2
    return (place - (slots - 1) / 2) * columns / slots
