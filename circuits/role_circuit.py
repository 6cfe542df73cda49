"""Role-aware edges -> RoleCircuit: edges of one graph, each kept at the tokens of a role alone, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuits.circuit import Circuit, is_number, lacking, metadata_of, why
from circuits.graph import Edge, Graph
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic

AGAIN = "make it again: tinysql circuit find RUN --edit EDIT --by-role --overwrite"


class RoleEdge(NamedTuple):
    """An edge at the tokens of one role."""

    edge: Edge
    role: str
    """A family of roles (`saes.roles.family`)."""
    score: float
    """Mean score there, in units of the metric."""


@dataclass(frozen=True, eq=False)
class RoleCircuit:
    """Role-aware edges of a graph.

    Raises `InputError` for an edge that the graph does not have, for one that stands twice at the same role, and for a
    role that cannot be printed.

    Example:
        >>> graph = Graph(pattern="*", n_heads=1)
        >>> circuit = RoleCircuit(graph, (RoleEdge(Edge("embed", "logits"), "schema.table", -1.5),))
        >>> [f"{part.edge} at {part.role}" for part in circuit.parts]
        ['embed -> logits at schema.table']
    """

    graph: Graph
    parts: tuple[RoleEdge, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON values: what made it."""

    def __post_init__(self) -> None:
        seen = set()
        for part in self.parts:
            self.graph.index(part.edge)
            if (part.edge, part.role) in seen:
                raise InputError(f"edge `{part.edge}` stands twice at role `{part.role}`", hint=AGAIN)
            if not part.role or not part.role.isprintable():
                raise InputError(
                    f"edge `{part.edge}` stands at role {part.role!r:.60}, which cannot be printed",
                    hint=AGAIN,
                )
            seen.add((part.edge, part.role))

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def circuit(self) -> Circuit:
        """The plain circuit of the edges that these are parts of."""
        return Circuit(self.graph, tuple(part.edge for part in self.parts), self.metadata)

    def check_belongs(self, graph: Graph, name: str = "the role-aware circuit") -> None:
        """Raises `InputError` as `Circuit.check_belongs` does: `graph` is a model's `Graph.of(model)`."""
        self.circuit.check_belongs(graph, name)

    def mask(self, roles: Sequence[str]) -> np.ndarray:
        """Bool `[role writer reader]`: true at its parts. Raises `InputError` for one whose role is none of these."""
        number = {role: place for place, role in enumerate(roles)}
        found = np.zeros((len(roles), *self.graph.mask.shape), dtype=bool)
        for part in self.parts:
            if part.role not in number:
                raise InputError(
                    f"edge `{part.edge}` is kept at role `{part.role}`, of which there are no scores",
                    hint=AGAIN,
                )
            found[number[part.role], *self.graph.index(part.edge)] = True
        return found

    def save(self, path: str | Path) -> None:
        """Write one JSON file, whole or not at all."""
        write_atomic(Path(path), json.dumps(self.to_json(), indent=1))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what `save` writes."""
        return {
            "graph": self.graph.to_json(),
            "role_edges": [
                {"edge": str(part.edge), "role": part.role, "score": part.score} for part in self.parts
            ],
            "metadata": self.metadata,
        }

    @classmethod
    def load(cls, path: str | Path) -> RoleCircuit:
        """Inverse of `save`. Raises `InputError` for a file that is missing, cut short or no role-aware circuit.

        Whether it belongs to a model is what `check_belongs` says.
        """
        found = read_json(Path(path))
        if "edges" in found and "role_edges" not in found:
            raise InputError(
                f"{path} is not a role-aware circuit: it has no `role_edges`, but the `edges` of a plain one",
                hint="`tinysql circuit export RUN --edit EDIT --by-role` writes a role-aware one;"
                " in Python `circuits.read_circuit` reads this one",
            )
        if (gaps := lacking(found, ("graph", "role_edges", "metadata"))) is not None:
            raise InputError(f"{path} is not a role-aware circuit: {gaps}", hint=AGAIN)
        try:
            parts = _parts_of(found["role_edges"])
            about, graph = metadata_of(found["metadata"]), Graph.from_json(found["graph"])
            return cls(graph, parts, about)
        except InputError as error:  # what a part of it is told does not name the file
            raise InputError(f"{path}: {error.message}", hint=AGAIN) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is not a role-aware circuit: {why(error)}", hint=AGAIN) from error


def _parts_of(found: object) -> tuple[RoleEdge, ...]:
    """What stands under `role_edges` in a file. Raises `InputError` for anything else."""
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InputError(
            f"`role_edges` are {found!r:.60}, expected a list of edges, each with its role and score",
            hint=AGAIN,
        )
    parts = []
    for number, entry in enumerate(found):
        for name in ("edge", "role"):
            if not isinstance(entry[name], str):
                raise InputError(
                    f"the `{name}` of role-aware edge {number} is {entry[name]!r:.60}, expected text",
                    hint=AGAIN,
                )
        edge, role, score = Edge.parse(entry["edge"]), entry["role"], entry["score"]
        if not is_number(score):
            raise InputError(
                f"the score of `{edge}` at `{role}` is {score!r:.60}, expected a number", hint=AGAIN
            )
        parts.append(RoleEdge(edge, role, float(score)))
    return tuple(parts)
