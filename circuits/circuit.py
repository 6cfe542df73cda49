"""Edges -> Circuit: a set of edges of one graph, with what made it, as a JSON file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from circuits.graph import Edge, Graph
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic

AGAIN = (
    "`tinysql circuit find` makes one and `tinysql circuit export` writes it, in Python `circuits.write_circuit`;"
    " docs/circuits.md has the format"
)


@dataclass(frozen=True, eq=False)
class Circuit:
    """Edges of a graph, kept in the graph's order and without repeats.

    Example:
        >>> circuit = Circuit(Graph(pattern="*", n_heads=1), (Edge("embed", "logits"),))
        >>> [str(edge) for edge in circuit.edges]
        ['embed -> logits']
    """

    graph: Graph
    edges: tuple[Edge, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON values: what made it."""

    def __post_init__(self) -> None:
        """Raises `InputError` for an edge that the graph does not have."""
        object.__setattr__(self, "edges", self.graph.named(self.graph.select(self.edges)))

    def __len__(self) -> int:
        return len(self.edges)

    @property
    def mask(self) -> np.ndarray:
        """Bool `[writer, reader]`: true at the circuit's edges."""
        return self.graph.select(self.edges)

    def check_belongs(self, graph: Graph, name: str = "the circuit") -> None:
        """Raises `InputError` where its edges are of another graph than `graph`, a model's `Graph.of(model)`.

        `name` is what the sentence calls the circuit. A model itself, or anything else that is no graph, is refused.
        """
        if not isinstance(graph, Graph):
            raise InputError(
                f"{name} is held against a graph, and this is a {type(graph).__name__}",
                hint="give the model's graph: check_belongs(circuits.Graph.of(model))",
            )
        if self.graph != graph:
            raise InputError(
                f"{name} belongs to a model of {self.graph}, this one has {graph}",
                hint="find the circuit again on this model",
            )

    def complement(self) -> Circuit:
        """Every edge of the graph that is not in this circuit."""
        return Circuit(self.graph, self.graph.named(self.graph.mask & ~self.mask), self.metadata)

    def connected(self) -> Circuit:
        """Only the edges on a path of the circuit's edges from `embed` to `logits`; it computes the same logits."""
        return Circuit(self.graph, self.graph.named(self.graph.live(self.mask)), self.metadata)

    def save(self, path: str | Path) -> None:
        """Write one JSON file, whole or not at all."""
        write_atomic(Path(path), json.dumps(self.to_json(), indent=1))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what `save` writes."""
        return {
            "graph": self.graph.to_json(),
            "edges": [str(edge) for edge in self.edges],
            "metadata": self.metadata,
        }

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Inverse of `save`. Raises `InputError` for a file that is missing, cut short, no circuit or role-aware."""
        found = read_json(Path(path))
        if "role_edges" in found:
            raise role_aware(str(path), found.get("metadata"), found.get("graph"))
        if (gaps := lacking(found, ("graph", "edges", "metadata"))) is not None:
            raise InputError(f"{path} is not a circuit: {gaps}", hint=AGAIN)
        try:
            about = metadata_of(found["metadata"])
            return cls(Graph.from_json(found["graph"]), edges_of(found["edges"]), about)
        except InputError as error:  # what a part of it is told does not name the file
            raise InputError(f"{path}: {error.message}", hint=error.hint or AGAIN) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is not a circuit: {why(error)}", hint=AGAIN) from error


def lacking(found: dict[str, Any], names: Iterable[str]) -> str | None:
    """The end of a sentence that says which of the names a file lacks; None where it has them all."""
    gaps = [f"`{name}`" for name in names if name not in found]
    return f"it has no {', no '.join(gaps)}" if gaps else None


def why(error: Exception) -> str:
    """The end of a sentence on a file that could not be read: a name that is missing, or what Python says."""
    if isinstance(error, KeyError):
        return f"it has no `{error.args[0]}`"
    return str(error) if isinstance(error, OSError | SafetensorError) else repr(error)


class RoleAwareError(InputError):
    """A role-aware circuit where a plain one is read: without its roles it would be another one."""

    def __init__(self, message: str, hint: str, graph: Graph | None) -> None:
        super().__init__(message, hint)
        self.graph = graph
        """Whose edges the circuit's are; None where the file does not say."""


def role_aware(what: str, metadata: object, graph: object) -> RoleAwareError:
    """The refusal of a role-aware circuit, with the `metadata` and the `graph` that stand in its file."""
    edit = metadata.get("edit", "EDIT") if isinstance(metadata, dict) else "EDIT"
    try:
        of = Graph.from_json(graph) if isinstance(graph, dict) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        of = None
    return RoleAwareError(
        f"{what} is a role-aware circuit, and here a circuit's edges act at the tokens of every role",
        hint=f"`tinysql circuit eval RUN --edit {edit} --by-role` runs the one that"
        " `tinysql circuit find --by-role` wrote in RUN;"
        " in Python `circuits.RoleCircuit.load` reads one from JSON and `circuits.evaluate_by_role` runs it",
        graph=of,
    )


def metadata_of(found: object) -> dict[str, Any]:
    """Metadata read from a file. Raises `InputError` unless its parts are what a circuit's are: names to values."""
    if not isinstance(found, dict):
        raise InputError(f"a circuit's metadata are {found!r:.60}, expected names and values", hint=AGAIN)
    for name in ("scores", "settings", "made_by"):
        if not isinstance(found.get(name, {}), dict):
            raise InputError(
                f"a circuit's `{name}` are {found[name]!r:.60}, expected names and values", hint=AGAIN
            )
    for edge, score in found.get("scores", {}).items():
        if not is_number(score):
            raise InputError(f"the score of edge `{edge}` is {score!r:.60}, expected a number", hint=AGAIN)
    return found


def is_number(found: object) -> bool:
    """Is a value from a file a finite number, and no larger than a float can be?"""
    try:
        return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    except OverflowError:
        return False


def edges_of(names: object) -> tuple[Edge, ...]:
    """Edges written as `embed -> logits`.

    Raises `InputError` for no list of texts, one that has no arrow, and an edge that stands twice.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"a circuit's `edges` are {names!r:.60}, expected a list of such as `embed -> logits`", hint=AGAIN
        )
    found = tuple(Edge.parse(name) for name in names)
    if (twice := next((edge for edge, n in Counter(found).items() if n > 1), None)) is not None:
        raise InputError(
            f"edge `{twice}` stands {found.count(twice)} times, expected each edge once",
            hint="leave out all but one, and look whether another edge was meant",
        )
    return found
