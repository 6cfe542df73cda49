"""Example, edge -> EdgeScores: one number each, with what made it; their intervals and significance; their files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from circuits.circuit import edges_of, why
from circuits.files.about_scores import AGAIN, SIDECAR, TENSORS, check_about, not_whole, read_about
from circuits.graph import Edge, Graph
from circuits.judging.bootstrap import interval, plain
from circuits.judging.significance import Significance, check_enough, significance
from data_gen.errors import InputError
from data_gen.files import write_atomic


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeScores:
    """Score of every edge on every example, in units of the metric.

    A score is (an estimate of) `metric(this edge carries the corrupt value) - metric(clean run)`.
    """

    graph: Graph
    per_example: Float[Tensor, "example writer reader"]
    """Zero where there is no edge."""
    method: str
    metric: str
    edit: str
    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON values: steps, completeness gap, metric of both sides, and what a command adds (seed, versions)."""

    def __post_init__(self) -> None:
        """Raises `InputError` for scores of another shape than the graph's, of no example, or not finite."""
        if tuple(self.per_example.shape[1:]) != self.graph.mask.shape or not len(self.per_example):
            raise InputError(
                f"scores have shape {tuple(self.per_example.shape)}, expected at least one example of"
                f" {len(self.graph.writers)} writers and {len(self.graph.readers)} readers",
                hint="score the model whose graph this is",
            )
        broken = ~torch.isfinite(self.per_example)
        if broken.any():
            example, writer, reader = broken.nonzero()[0].tolist()
            edge = Edge(self.graph.writers[writer].name, self.graph.readers[reader].name)
            raise InputError(
                f"the {self.method} score of edge `{edge}` on pair {example} is"
                f" {float(self.per_example[example, writer, reader])}, and {int(broken.sum()) - 1} more are not finite",
                hint="look for NaN in the model's weights, or score in float32",
            )

    @property
    def values(self) -> Float[Tensor, "writer reader"]:
        """Mean over the examples."""
        return self.per_example.mean(0)

    def __getitem__(self, edge: Edge) -> float:
        """Mean score of one edge. Raises `InputError` for an edge the graph does not have."""
        return float(self.values[self.graph.index(edge)])

    def of_edges(self) -> Float[Tensor, "example edge"]:
        """Per-example scores of `graph.edges`, in their order."""
        return self.per_example[:, torch.from_numpy(self.graph.mask)]

    def of_writers(self) -> Float[Tensor, "example writer"]:
        """Per-example sums over the edges that leave each writer: heads, MLPs and experts as nodes.

        For gradient methods the estimate of patching all a writer writes; effects of `exact` do not add up so.
        """
        return self.per_example.sum(2)

    def ranked(self) -> list[Edge]:
        """All edges by falling |mean score|, ties in graph order."""
        order = self.of_edges().mean(0).abs().argsort(descending=True, stable=True)
        edges = self.graph.edges
        return [edges[index] for index in order.tolist()]

    def significance(self, *, seed: int = 0) -> Significance:
        """p and q of every edge of `graph.edges`, by the sign-flip test over examples; `seed` draws the signs."""
        return significance(self.of_edges().double().numpy(), seed=seed)

    def significant(self, q: float = 0.05, *, seed: int = 0) -> list[Edge]:
        """Edges whose mean is other than zero at false-discovery rate `q`, by falling |mean score|.

        Of the edges found, at most a share `q` is expected to have a mean of zero. That an edge is found does not make
        it large: with many pairs a small effect of constant sign is found too.
        Raises `InputError` when `q` is not between 0 and 1, or so few pairs cannot give a p of `q`.
        """
        n = len(self.per_example)
        if not 0 < q < 1:
            raise InputError(f"q is {q}, expected a rate between 0 and 1", hint="0.05 is usual")
        check_enough(n, q)
        found = self.significance(seed=seed).q <= q
        return [edge for edge in self.ranked() if found[self._column[edge]]]

    def table(self, n: int = 20, *, level: float = 0.95, seed: int = 0) -> list[dict[str, Any]]:
        """The top `n` edges: edge, score, bootstrap interval over examples, share of examples of its sign, p and q."""
        scores, top = self.of_edges(), self.ranked()[:n]
        columns = [self._column[edge] for edge in top]
        chosen = scores[:, columns].double().numpy()
        mean = chosen.mean(0)
        tested = self.significance(seed=seed)
        found = {
            "score": mean,
            **interval(chosen, level=level, seed=seed)._asdict(),
            "same_sign": (np.sign(chosen) == np.sign(mean)).mean(0),
            "p": tested.p[columns],
            "q": tested.q[columns],
        }
        names, values = list(found), zip(*(column.tolist() for column in found.values()), strict=True)
        return [
            {"edge": str(edge), **dict(zip(names, row, strict=True))}
            for edge, row in zip(top, values, strict=True)
        ]

    @cached_property
    def _column(self) -> dict[Edge, int]:
        return {edge: column for column, edge in enumerate(self.graph.edges)}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: every example's score of every edge of `graph.edges`; larger than `save`'s files."""
        return {
            "graph": self.graph.to_json(),
            "method": self.method,
            "metric": self.metric,
            "edit": self.edit,
            "metadata": self.metadata,
            "edges": [str(edge) for edge in self.graph.edges],
            "per_example": self.of_edges().tolist(),
        }

    @classmethod
    def from_json(cls, found: object) -> EdgeScores:
        """Inverse of `to_json`; edges may stand in any order. Raises `InputError` for anything else."""
        hint = "write it with `EdgeScores.to_json`; docs/circuits.md has the schema"
        if not isinstance(found, dict):
            raise InputError(f"edge scores are {found!r:.60}, expected names and values", hint=hint)
        check_about(found, hint)
        try:
            graph, edges = Graph.from_json(found["graph"]), edges_of(found["edges"])
            if not _is_table(found["per_example"], len(edges)):
                raise InputError(
                    f"the `per_example` of edge scores is {found['per_example']!r:.60}, expected for every example a"
                    f" list of {len(edges)} numbers, one for each of its `edges`",
                    hint=hint,
                )
            rows, columns = zip(*(graph.index(edge) for edge in edges), strict=True)
            values = torch.tensor(found["per_example"], dtype=torch.float32)
            per_example = torch.zeros(len(values), *graph.mask.shape)
            per_example[:, list(rows), list(columns)] = values
            fields = {name: found[name] for name in ("method", "metric", "edit")}
            metadata = dict(found["metadata"])
        except InputError:
            raise
        except (KeyError, ValueError, OverflowError, RuntimeError) as error:
            raise InputError(f"not edge scores: {why(error)}", hint=hint) from error
        if len(set(zip(rows, columns, strict=True))) != len(graph.edges):
            raise InputError(
                f"edge scores name {len(set(found['edges']))} of the graph's {len(graph.edges)} edges",
                hint=hint,
            )
        return cls(graph=graph, per_example=per_example, metadata=metadata, **fields)

    def save(self, directory: str | Path) -> None:
        """Write `scores.safetensors` and `scores.json` into a directory, each whole or not at all."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / TENSORS, save({"per_example": self.per_example.contiguous()}))
        found = {
            "graph": self.graph.to_json(),
            "method": self.method,
            "metric": self.metric,
            "edit": self.edit,
            "examples": len(self.per_example),
            "metadata": self.metadata,
            "top": plain(self.table()),
        }
        write_atomic(directory / SIDECAR, json.dumps(found, indent=1))

    @classmethod
    def load(cls, directory: str | Path) -> EdgeScores:
        """Inverse of `save`. Raises `InputError` for files that are missing, damaged or of unlike shape."""
        about = read_about(Path(directory))
        try:
            per_example = load_file(Path(directory) / TENSORS)["per_example"]
        except (OSError, SafetensorError) as error:
            raise not_whole(Path(directory), error) from error
        try:
            return cls(per_example=per_example, **about._asdict())
        except InputError as error:  # of one of no example, or with a number that is not finite
            raise InputError(f"{Path(directory) / TENSORS}: {error.message}", hint=AGAIN) from error


def _is_table(found: object, width: int) -> bool:
    """Is it a list of lists of so many numbers, of one at least?"""
    return (
        isinstance(found, list)
        and bool(found)
        and all(
            isinstance(row, list)
            and len(row) == width
            and all(isinstance(value, int | float) and not isinstance(value, bool) for value in row)
            for row in found
        )
    )
