"""`scores.json` and the header of `scores.safetensors` -> what edge scores are of, without anything that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from circuits.circuit import why
from circuits.graph import Graph
from data_gen.errors import InputError
from tinysql.written import read_written

TENSORS, SIDECAR = "scores.safetensors", "scores.json"
AGAIN = "make them again: tinysql circuit find RUN --edit EDIT --overwrite"


class About(NamedTuple):
    """All of `EdgeScores` but the scores."""

    graph: Graph
    method: str
    metric: str
    edit: str
    metadata: dict[str, Any]


def read_about(directory: Path) -> About:
    """What `EdgeScores.save` wrote there says of itself; of its numbers, only how many there are is looked at.

    Raises `InputError` for files that are missing, damaged or of unlike shape.
    """
    found = read_written(directory / SIDECAR, AGAIN)
    try:
        check_about(found, AGAIN)
        with safe_open(directory / TENSORS, framework="numpy") as tensors:
            shape = tuple(tensors.get_slice("per_example").get_shape())
        about = About(
            graph=Graph.from_json(found["graph"]),
            **{name: found[name] for name in ("method", "metric", "edit")},
            metadata=dict(found["metadata"]),
        )
    except InputError as error:  # what a part of it is told does not name the file
        raise InputError(f"{directory / SIDECAR}: {error.message}", hint=AGAIN) from error
    except (OSError, SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise not_whole(directory, error) from error
    if shape[1:] != about.graph.mask.shape:
        raise InputError(
            f"{directory / TENSORS} has shape {shape}, expected [example, "
            f"{len(about.graph.writers)}, {len(about.graph.readers)}] from {SIDECAR}",
            hint=AGAIN,
        )
    return about


def not_whole(directory: Path, error: Exception) -> InputError:
    """The refusal of files that could not be read."""
    return InputError(f"{directory} holds no whole edge scores: {why(error)}", hint=AGAIN)


def check_about(found: dict[str, Any], hint: str) -> None:
    """Raises `InputError` where a name or the metadata are of another type than `EdgeScores.save` writes."""
    for name, wanted, said in (
        *((name, str, "text") for name in ("method", "metric", "edit")),
        ("metadata", dict, "names and values"),
    ):
        if name in found and not isinstance(found[name], wanted):
            raise InputError(
                f"the `{name}` of edge scores is {found[name]!r:.60}, expected {said}", hint=hint
            )
