"""RoleScores <-> `roles.safetensors` and `roles.json`, beside the scores and the circuit they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from circuits.circuit import why
from circuits.graph import Graph
from circuits.methods.role_scores import RoleScores
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic

TENSORS, SIDECAR = "roles.safetensors", "roles.json"


def save_roles(found: RoleScores, directory: Path) -> None:
    """Write both files, each whole or not at all; the JSON holds the 20 largest parts too."""
    tensors = {"values": found.values.contiguous(), "errors": found.errors.contiguous()}
    write_atomic(directory / TENSORS, save(tensors))
    about = {
        "graph": found.graph.to_json(),
        "roles": list(found.roles),
        "metric": found.metric,
        "edit": found.edit,
        "n_pairs": found.n_pairs,
        "top": found.table(),
    }
    write_atomic(directory / SIDECAR, json.dumps(about, indent=1))


def load_roles(directory: Path) -> RoleScores | None:
    """Inverse of `save_roles`; None where there are none.

    Raises `InputError` for files that are cut short or of unlike shape.
    """
    if not (directory / SIDECAR).exists():
        return None
    about = read_json(directory / SIDECAR)
    hint = "make them again: tinysql circuit find RUN --edit EDIT --by-role --overwrite"
    for name, fits, wanted in _PARTS:
        if name not in about or not fits(about[name]):
            said = f"is {about[name]!r:.60}" if name in about else "is not there"
            raise InputError(f"{directory / SIDECAR}: `{name}` {said}, expected {wanted}", hint=hint)
    try:
        tensors = load_file(directory / TENSORS)
        found = RoleScores(
            graph=Graph.from_json(about["graph"]),
            roles=tuple(about["roles"]),
            values=tensors["values"],
            errors=tensors["errors"],
            metric=about["metric"],
            edit=about["edit"],
            n_pairs=about["n_pairs"],
        )
    except InputError as error:  # what a part of it is told does not name the file
        raise InputError(f"{directory / SIDECAR}: {error.message}", hint=hint) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{directory} holds no whole role scores: {why(error)}", hint=hint) from error
    expected = (len(found.roles), *found.graph.mask.shape)
    if not tuple(found.values.shape) == tuple(found.errors.shape) == expected:
        raise InputError(
            f"{directory / TENSORS} has shape {tuple(found.values.shape)}, expected {expected} from {SIDECAR}",
            hint=hint,
        )
    return found


def _is_text(found: object) -> bool:
    return isinstance(found, str)


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(map(_is_text, found))


def _is_count(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 1


_PARTS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("roles", _are_texts, "a list of roles' names"),
    ("metric", _is_text, "the name of a metric"),
    ("edit", _is_text, "the name of an edit"),
    ("n_pairs", _is_count, "a whole number of at least 1"),
)
"""What `save_roles` writes besides the graph: name, what it has to be, and that in words."""
