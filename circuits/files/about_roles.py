"""`roles.json` and the header of `roles.safetensors` -> what role scores are of, without anything that computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from circuits.circuit import why
from circuits.graph import Graph
from data_gen.errors import InputError
from tinysql.written import read_written

TENSORS, SIDECAR = "roles.safetensors", "roles.json"
VALUES = ("values", "errors")
AGAIN = "make them again: tinysql circuit find RUN --edit EDIT --by-role --overwrite"


class AboutRoles(NamedTuple):
    """All of `RoleScores` but the scores and their errors."""

    graph: Graph
    roles: tuple[str, ...]
    metric: str
    edit: str
    n_pairs: int


def read_about_roles(directory: Path) -> AboutRoles | None:
    """What `save_roles` wrote there says of itself; None where there is nothing.

    Of the numbers, only how many there are is looked at. Raises `InputError` for files that are cut short or of unlike
    shape.
    """
    if not (directory / SIDECAR).exists():
        return None
    found = read_written(directory / SIDECAR, AGAIN)
    for name, fits, wanted in _PARTS:
        if name not in found or not fits(found[name]):
            said = f"is {found[name]!r:.60}" if name in found else "is not there"
            raise InputError(f"{directory / SIDECAR}: `{name}` {said}, expected {wanted}", hint=AGAIN)
    try:
        with safe_open(directory / TENSORS, framework="numpy") as tensors:
            shapes = [tuple(tensors.get_slice(name).get_shape()) for name in VALUES]
        about = AboutRoles(
            graph=Graph.from_json(found["graph"]),
            roles=tuple(found["roles"]),
            **{name: found[name] for name in ("metric", "edit", "n_pairs")},
        )
    except InputError as error:  # what a part of it is told does not name the file
        raise InputError(f"{directory / SIDECAR}: {error.message}", hint=AGAIN) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise roles_not_whole(directory, error) from error
    expected = (len(about.roles), *about.graph.mask.shape)
    if (wrong := next((shape for shape in shapes if shape != expected), None)) is not None:
        raise InputError(
            f"{directory / TENSORS} has shape {wrong}, expected {expected} from {SIDECAR}", hint=AGAIN
        )
    return about


def roles_not_whole(directory: Path, error: Exception) -> InputError:
    """The refusal of files that could not be read."""
    return InputError(f"{directory} holds no whole role scores: {why(error)}", hint=AGAIN)


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
