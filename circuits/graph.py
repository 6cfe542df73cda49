"""HybridLM -> its residual graph: who writes into the residual stream, who reads from it, and every edge.

In a model of blocks `resid + mixer(norm(resid))` each block reads the sum of everything written before it,
so an edge exists between every writer and every later reader. The graph is read off the pattern string:
EAP (Syed et al., arXiv 2310.10348) calls the same thing the edges of the residual rewrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.errors import InputError, nearest

if TYPE_CHECKING:
    from tinysql.models.hybrid import HybridLM

ARROW = " -> "


@dataclass(frozen=True)
class Writer:
    """One term of the residual sum: `embed`, `blocks.0.attn.head.3` or `blocks.1.mlp`."""

    name: str
    block: int
    """Block it stands in; the embedding stands in block -1, before all others."""


@dataclass(frozen=True)
class Reader:
    """One consumer of the residual stream: `blocks.0.attn.q.3` (`k`, `v`), `blocks.1.mlp` or `logits`."""

    name: str
    block: int
    """Block it stands in; the logits stand in block `len(pattern)`, after all others."""
    feeds: str | None
    """The writer computed from it; `None` for the logits."""


@dataclass(frozen=True, order=True)
class Edge:
    """What one writer says to one reader, by name.

    Example:
        >>> str(Edge("blocks.0.attn.head.3", "blocks.2.attn.q.1"))
        'blocks.0.attn.head.3 -> blocks.2.attn.q.1'
    """

    writer: str
    reader: str

    def __str__(self) -> str:
        return f"{self.writer}{ARROW}{self.reader}"

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Inverse of `str`. Raises `InputError` when there is no arrow in `text`."""
        writer, arrow, reader = text.partition(ARROW)
        if not (writer.strip() and arrow and reader.strip()):
            raise InputError(f"{text!r} is not an edge", hint="write it as `embed -> blocks.0.attn.q.1`")
        return cls(writer.strip(), reader.strip())


@dataclass(frozen=True)
class Graph:
    """All writers, readers and edges of a model; index order is that of score matrices `[writer, reader]`.

    Within a block of attention the readers stand as all q, then all k, then all v.

    Example:
        >>> [writer.name for writer in Graph(pattern="*-", n_heads=1).writers]
        ['embed', 'blocks.0.attn.head.0', 'blocks.1.mlp']
    """

    pattern: str
    n_heads: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.pattern) - set("*-"))
        if unknown:
            raise InputError(
                f"the residual graph of pattern {self.pattern!r} is not known: blocks {' '.join(unknown)}",
                hint="circuits read `*` (attention) and `-` (MLP) blocks",
            )

    @classmethod
    def of(cls, model: HybridLM) -> Graph:
        """The graph of a model, read off its config.

        Raises `InputError` for parts whose readers and writers are not known yet.
        """
        config = model.cfg
        parts = {
            "shared key-value heads": config.kv_heads != config.n_heads,
            "a gated MLP": config.gated and "-" in config.pattern,
            "biases": bool(config.biases),
            "attention windows": bool(config.windowed_blocks),
        }
        unknown = [part for part, present in parts.items() if present]
        if unknown:
            raise InputError(
                f"the residual graph of a model with {', '.join(unknown)} is not known",
                hint="circuits read models of plain attention and MLP blocks",
            )
        return cls(pattern=model.cfg.pattern, n_heads=model.cfg.n_heads)

    @cached_property
    def writers(self) -> tuple[Writer, ...]:
        """`embed`, then block by block."""
        found = [Writer("embed", -1)]
        for block, kind in enumerate(self.pattern):
            names = [f"attn.head.{head}" for head in range(self.n_heads)] if kind == "*" else ["mlp"]
            found += [Writer(f"blocks.{block}.{name}", block) for name in names]
        return tuple(found)

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """Block by block, then `logits`."""
        found = []
        for block, kind in enumerate(self.pattern):
            here = f"blocks.{block}"
            if kind == "*":
                found += [
                    Reader(f"{here}.attn.{port}.{head}", block, f"{here}.attn.head.{head}")
                    for port in "qkv"
                    for head in range(self.n_heads)
                ]
            else:
                found.append(Reader(f"{here}.mlp", block, f"{here}.mlp"))
        return (*found, Reader("logits", len(self.pattern), None))

    @cached_property
    def mask(self) -> np.ndarray:
        """Bool `[writer, reader]`: true where an edge exists, that is writer strictly before reader."""
        writers = np.array([writer.block for writer in self.writers])
        readers = np.array([reader.block for reader in self.readers])
        return writers[:, None] < readers[None, :]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge, in row-major order of `mask`."""
        return tuple(
            Edge(self.writers[writer].name, self.readers[reader].name)
            for writer, reader in np.argwhere(self.mask)
        )

    @cached_property
    def _writer_index(self) -> dict[str, int]:
        return {writer.name: index for index, writer in enumerate(self.writers)}

    @cached_property
    def _reader_index(self) -> dict[str, int]:
        return {reader.name: index for index, reader in enumerate(self.readers)}

    def index(self, edge: Edge) -> tuple[int, int]:
        """Row and column of an edge. Raises `InputError` for an edge this graph does not have."""
        for name, names in ((edge.writer, self._writer_index), (edge.reader, self._reader_index)):
            if name not in names:
                raise InputError(
                    f"edge `{edge}`: the model of pattern {self.pattern!r} with {self.n_heads} heads"
                    f" has no `{name}`{nearest(name, list(names))}"
                )
        writer, reader = self._writer_index[edge.writer], self._reader_index[edge.reader]
        if not self.mask[writer, reader]:
            raise InputError(f"edge `{edge}` does not exist: the writer does not stand before the reader")
        return writer, reader

    def select(self, edges: Sequence[Edge]) -> np.ndarray:
        """Bool `[writer, reader]`: true at the given edges."""
        chosen = np.zeros_like(self.mask)
        for edge in edges:
            chosen[self.index(edge)] = True
        return chosen

    def named(self, chosen: np.ndarray) -> tuple[Edge, ...]:
        """The edges at the true entries of a bool `[writer, reader]`, in row-major order; inverse of `select`."""
        return tuple(edge for edge in self.edges if chosen[self.index(edge)])

    def live(self, chosen: np.ndarray) -> np.ndarray:
        """Of the chosen edges, those on a path of chosen edges from `embed` to `logits`.

        A dropped edge carries the corrupt value anyway (nothing reaches its writer) or is not seen by the
        logits, so a circuit and its live part compute the same logits.
        """
        reached, leading = np.zeros(len(self.writers), bool), np.zeros(len(self.readers), bool)
        reached[0], leading[-1] = True, True
        feeds = [self._writer_index[reader.feeds] if reader.feeds else None for reader in self.readers]
        # Readers stand in block order, so whatever feeds a reader is settled before the reader is.
        for reader, writer in enumerate(feeds):
            if writer is not None and (chosen[:, reader] & reached).any():
                reached[writer] = True
        for reader in reversed(range(len(self.readers))):
            writer = feeds[reader]
            if writer is not None:
                leading[reader] = (chosen[writer] & leading).any()
        live: np.ndarray = chosen & reached[:, None] & leading[None, :]
        return live

    def to_json(self) -> dict[str, Any]:
        """`{"pattern": ..., "n_heads": ...}`: everything else follows from these."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Graph:
        """Inverse of `to_json`."""
        return cls(pattern=str(found["pattern"]), n_heads=int(found["n_heads"]))
