"""HybridLM -> its residual graph: who writes into the residual stream, who reads from it, and every edge.

In a model of blocks `resid + mixer(norm(resid))` each block reads the sum of everything written before it,
so an edge exists between every writer and every later reader. The graph is read off the pattern string:
EAP (Syed et al., arXiv 2310.10348) calls the same thing the edges of the residual rewrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.errors import InputError, nearest

if TYPE_CHECKING:
    from tinysql.models.config import ModelConfig
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
    feeds: tuple[str, ...]
    """The writers computed from it; none for the logits."""


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


MOST_NODES = 20_000
"""Writers beyond which a graph is taken for a damaged file: a matrix of its scores would fill any memory."""


@dataclass(frozen=True)
class Graph:
    """All writers, readers and edges of a model; index order is that of score matrices `[writer, reader]`.

    What stands in a block, by its character in the pattern:

    - `*` writers `attn.head.h`; readers `attn.q.h`, then `attn.k.g` and `attn.v.g` of each key-value head;
    - `-` writer and reader `mlp` (a gated MLP reads once);
    - `M` writers `mamba.head.h`; readers `mamba.z.h`, `mamba.x.h`, `mamba.B.g`, `mamba.C.g`, `mamba.dt.h`. The norm
      behind the gate couples the heads of a group, so each reader feeds all of them;
    - `E` writers `moe.expert.e` and `moe.shared`; readers `moe.router`, which feeds every expert,
      `moe.expert.e` and `moe.shared`.

    Example:
        >>> [writer.name for writer in Graph(pattern="*-", n_heads=1).writers]
        ['embed', 'blocks.0.attn.head.0', 'blocks.1.mlp']
    """

    pattern: str
    n_heads: int = 0
    n_kv_heads: int | None = None
    """Key-value heads; `None` is as many as heads."""
    mamba_heads: int = 0
    mamba_groups: int = 1
    n_experts: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.pattern) - set("*-ME"))
        if unknown:
            raise InputError(
                f"the residual graph of pattern {self.pattern!r} is not known: blocks {' '.join(unknown)}",
                hint="blocks are `M`, `*`, `E` and `-`",
            )
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        counts = [count for name, count in asdict(self).items() if name != "pattern"]
        shared = (self.n_heads, self.n_kv_heads or 1), (self.mamba_heads, self.mamba_groups)
        if min(counts) < 0 or any(slots < 1 or heads % slots for heads, slots in shared):
            raise InputError(
                f"{self} is no model's graph, expected counts of at least 0, key-value heads that divide the heads, and"
                " groups that divide the Mamba heads",
                hint="read it off a model: Graph.of(model)",
            )
        if len(self.pattern) * max(counts) > MOST_NODES:
            raise InputError(
                f"{self} may have {len(self.pattern) * max(counts):,} writers, expected at most {MOST_NODES:,}",
                hint="read it off a model: Graph.of(model)",
            )

    def __str__(self) -> str:
        counts = {
            "heads": self.n_heads,
            "key-value heads": self.n_kv_heads if self.n_kv_heads != self.n_heads else 0,
            "Mamba heads": self.mamba_heads,
            "groups of them": self.mamba_groups if self.mamba_heads else 0,
            "experts": self.n_experts,
        }
        named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"pattern {self.pattern!r}" + (f" ({named})" if named else "")

    @classmethod
    def of(cls, model: HybridLM) -> Graph:
        """The graph of a model, read off its config. Raises `InputError` for a model that is no `HybridLM`."""
        from tinysql.models.hybrid import HybridLM

        if not isinstance(model, HybridLM):
            raise InputError(
                f"the model is a {type(model).__name__}, expected a HybridLM",
                hint="take TransformerLens' bridge of a GPT-2, GPT-Neo, Llama or Qwen2: tinysql.as_hybrid(bridge)",
            )
        return cls.of_config(model.cfg)

    @classmethod
    def of_config(cls, config: ModelConfig) -> Graph:
        """The graph of a model of that shape."""
        attention, mamba = "*" in config.pattern, "M" in config.pattern
        return cls(
            pattern=config.pattern,
            n_heads=config.n_heads if attention else 0,
            n_kv_heads=config.kv_heads if attention else 0,
            mamba_heads=config.mamba_heads if mamba else 0,
            mamba_groups=config.mamba.n_groups if mamba else 1,
            n_experts=config.moe.n_experts if "E" in config.pattern else 0,
        )

    @cached_property
    def writers(self) -> tuple[Writer, ...]:
        """`embed`, then block by block."""
        found = [Writer("embed", -1)]
        for block, kind in enumerate(self.pattern):
            found += [Writer(f"blocks.{block}.{name}", block) for name in self._writes(kind)]
        return tuple(found)

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """Block by block, then `logits`."""
        found = []
        for block, kind in enumerate(self.pattern):
            here = f"blocks.{block}."
            for name, feeds in self._reads(kind):
                found.append(Reader(here + name, block, tuple(here + writer for writer in feeds)))
        return (*found, Reader("logits", len(self.pattern), ()))

    def _writes(self, kind: str) -> list[str]:
        """Names of a block's writers."""
        experts = [f"moe.expert.{expert}" for expert in range(self.n_experts)]
        return {
            "*": [f"attn.head.{head}" for head in range(self.n_heads)],
            "M": [f"mamba.head.{head}" for head in range(self.mamba_heads)],
            "E": [*experts, "moe.shared"],
            "-": ["mlp"],
        }[kind]

    def _reads(self, kind: str) -> list[tuple[str, list[str]]]:
        """Names of a block's readers, each with the writers it feeds."""
        writers = self._writes(kind)
        if kind == "*":
            return [
                (f"attn.{port}.{slot}", fed)
                for port, slots in (("q", self.n_heads), ("k", self.n_kv_heads), ("v", self.n_kv_heads))
                for slot, fed in enumerate(_shared(writers, slots or 0))
            ]
        if kind == "M":
            groups = list(_shared(writers, self.mamba_groups))
            of_head = [group for group in groups for _ in group]
            each = {"z": of_head, "x": of_head, "B": groups, "C": groups, "dt": of_head}
            return [
                (f"mamba.{port}.{slot}", fed) for port, all_ in each.items() for slot, fed in enumerate(all_)
            ]
        if kind == "E":
            return [("moe.router", writers[:-1]), *((writer, [writer]) for writer in writers)]
        return [("mlp", writers)]

    @cached_property
    def mask(self) -> np.ndarray:
        """Bool `[writer, reader]`: true where an edge exists, that is writer strictly before reader."""
        writers = np.array([writer.block for writer in self.writers])
        readers = np.array([reader.block for reader in self.readers])
        return writers[:, None] < readers[None, :]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge, in row-major order of `mask`."""
        writers = [writer.name for writer in self.writers]
        readers = [reader.name for reader in self.readers]
        return tuple(
            Edge(writers[writer], readers[reader]) for writer, reader in np.argwhere(self.mask).tolist()
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
                    f"edge `{edge}`: a model of {self} has no `{name}`{nearest(name, list(names))}"
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
        edges = self.edges
        return tuple(edges[place] for place in np.flatnonzero(chosen[self.mask]).tolist())

    def live(self, chosen: np.ndarray) -> np.ndarray:
        """Of the chosen edges, those on a path of chosen edges from `embed` to `logits`.

        A dropped edge carries the corrupt value anyway (nothing reaches its writer) or is not seen by the
        logits, so a circuit and its live part compute the same logits.
        """
        reached, leading = np.zeros(len(self.writers), bool), np.zeros(len(self.readers), bool)
        reached[0], leading[-1] = True, True
        feeds = [[self._writer_index[name] for name in reader.feeds] for reader in self.readers]
        # Readers stand in block order, so whatever feeds a reader is settled before the reader is.
        for reader, writers in enumerate(feeds):
            if (chosen[:, reader] & reached).any():
                reached[writers] = True
        for reader in reversed(range(len(self.readers) - 1)):
            leading[reader] = (chosen[feeds[reader]] & leading).any()
        live: np.ndarray = chosen & reached[:, None] & leading[None, :]
        return live

    def to_json(self) -> dict[str, Any]:
        """The fields: everything else follows from these."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: object) -> Graph:
        """Inverse of `to_json`; counts that are missing are as in a model without such blocks.

        Raises `InputError` for what has no such values, and `KeyError` where there is no pattern.
        """
        hint = "a graph is written by `Graph.to_json`: its pattern, and how many there are of everything"
        if not isinstance(found, dict):
            raise InputError(f"a graph is {found!r:.60}, expected names and values", hint=hint)
        for field in fields(cls):
            value, is_text = found.get(field.name, ""), field.name == "pattern"
            wanted = str if is_text else int
            if field.name in found and (not isinstance(value, wanted) or isinstance(value, bool)):
                expected = "text" if is_text else "a whole number"
                raise InputError(f"a graph's `{field.name}` is {value!r:.60}, expected {expected}", hint=hint)
        counts = {field.name: found[field.name] for field in fields(cls)[1:] if field.name in found}
        return cls(pattern=found["pattern"], **counts)


def _shared(writers: Sequence[str], slots: int) -> list[list[str]]:
    """Writers dealt out evenly to the slots they share, in order."""
    each = len(writers) // max(slots, 1)
    return [list(writers[slot * each : (slot + 1) * each]) for slot in range(slots)]
