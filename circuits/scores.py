"""EdgeScores: one number per example and edge, with what made it, as safetensors + JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from circuits.bootstrap import interval
from circuits.graph import Edge, Graph
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic

TENSORS, SIDECAR = "scores.safetensors", "scores.json"


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

    def ranked(self) -> list[Edge]:
        """All edges by falling |mean score|, ties in graph order."""
        order = self.of_edges().mean(0).abs().argsort(descending=True, stable=True)
        return [self.graph.edges[index] for index in order]

    def table(self, n: int = 20, *, level: float = 0.95, seed: int = 0) -> list[dict[str, Any]]:
        """The top `n` edges: edge, score, bootstrap interval over examples, share of examples of its sign."""
        columns = {edge: index for index, edge in enumerate(self.graph.edges)}
        scores, top = self.of_edges(), self.ranked()[:n]
        chosen = scores[:, [columns[edge] for edge in top]].double().numpy()
        mean = chosen.mean(0)
        low, high = interval(chosen, level=level, seed=seed)
        agreeing = (np.sign(chosen) == np.sign(mean)).mean(0)
        return [
            {"edge": str(edge), "score": score, "low": low_, "high": high_, "same_sign": share}
            for edge, score, low_, high_, share in zip(
                top, mean.tolist(), low.tolist(), high.tolist(), agreeing.tolist(), strict=True
            )
        ]

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
            "top": self.table(),
        }
        write_atomic(directory / SIDECAR, json.dumps(found, indent=1))

    @classmethod
    def load(cls, directory: str | Path) -> EdgeScores:
        """Inverse of `save`. Raises `InputError` for files that are missing, cut short or of unlike shape."""
        directory = Path(directory)
        found = read_json(directory / SIDECAR)
        hint = "make them again: tinysql circuit find"
        try:
            per_example = load_file(directory / TENSORS)["per_example"]
            graph = Graph.from_json(found["graph"])
            fields = {name: str(found[name]) for name in ("method", "metric", "edit")}
            metadata = dict(found["metadata"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{directory} holds no whole edge scores: {error!r}", hint=hint) from error
        if tuple(per_example.shape[1:]) != graph.mask.shape:
            raise InputError(
                f"{directory / TENSORS} has shape {tuple(per_example.shape)}, expected [example, "
                f"{len(graph.writers)}, {len(graph.readers)}] from {SIDECAR}",
                hint=hint,
            )
        return cls(graph=graph, per_example=per_example, metadata=metadata, **fields)
