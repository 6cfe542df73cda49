"""EdgeScores -> MIB's score file: a JSON of importance scores that its circuit track evaluates.

The format is that of `Graph.to_json` and `from_json` in hannamw/EAP-IG (`src/eap/graph.py`, commit 8fd10d9), which
the track's README names for submissions: `cfg`, `nodes` and `edges`, with nodes `input`, `a{layer}.h{head}`,
`m{layer}` and `logits`, and edges `parent->child`, or `parent->child<q>` (`k`, `v`) into a head. There a layer is
attention and then an MLP, so a model of pattern `*-*-...` without shared key-value heads has such a file.

MIB's scores are of the loss, ours of the metric: an edge that carries the behaviour has a positive score there and a
negative one here, so the sign is turned.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from circuits.graph import Graph
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from data_gen.files import write_atomic


def mib_scores(scores: EdgeScores, *, d_model: int) -> dict[str, Any]:
    """Mean scores in MIB's form, `in_graph` false throughout: its evaluation chooses the circuits.

    `d_model` is the width of the model's residual stream, which the file states. Raises `InputError` for a model whose
    graph MIB's has no names for.
    """
    graph, values = scores.graph, scores.values
    heads = _heads(graph)
    layers = len(graph.pattern) // 2
    nodes = [
        "input",
        *(
            name
            for layer in range(layers)
            for name in (*(f"a{layer}.h{head}" for head in range(heads)), f"m{layer}")
        ),
        "logits",
    ]
    return {
        "cfg": {"n_layers": layers, "n_heads": heads, "parallel_attn_mlp": False, "d_model": d_model},
        "nodes": {name: {"in_graph": False} for name in nodes},
        "edges": {
            f"{_writer(edge.writer)}->{_reader(edge.reader)}": {
                # From 0, for the negative of a score of 0 is written `-0.0`.
                "score": 0.0 - float(values[graph.index(edge)]),
                "in_graph": False,
            }
            for edge in graph.edges
        },
    }


def write_mib(scores: EdgeScores, path: str | Path, *, d_model: int) -> None:
    """Write `mib_scores` as one JSON file, whole or not at all. Raises `InputError` as it does."""
    write_atomic(path, json.dumps(mib_scores(scores, d_model=d_model)))


def _heads(graph: Graph) -> int:
    heads = sum(bool(re.fullmatch(r"blocks\.0\.attn\.head\.\d+", writer.name)) for writer in graph.writers)
    keys = sum(bool(re.fullmatch(r"blocks\.0\.attn\.k\.\d+", reader.name)) for reader in graph.readers)
    if not re.fullmatch(r"(\*-)+", graph.pattern) or heads != keys:
        raise InputError(
            f"MIB's score file has no names for a model of pattern {graph.pattern!r} with {heads} heads and {keys}"
            " key-value heads",
            hint="it knows `*-` repeated, with a key-value head for every head; use EdgeScores.to_json for others",
        )
    return heads


def _writer(name: str) -> str:
    if name == "embed":
        return "input"
    _, block, _, *rest = name.split(".")
    return f"a{int(block) // 2}.h{rest[-1]}" if rest else f"m{int(block) // 2}"


def _reader(name: str) -> str:
    if name == "logits":
        return name
    _, block, _, *rest = name.split(".")
    return f"a{int(block) // 2}.h{rest[1]}<{rest[0]}>" if rest else f"m{int(block) // 2}"
