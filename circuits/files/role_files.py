"""RoleScores <-> `roles.safetensors` and `roles.json`, beside the scores and the circuit they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from circuits.files.about_roles import AGAIN, SIDECAR, TENSORS, VALUES, read_about_roles, roles_not_whole
from circuits.methods.role_scores import RoleScores
from data_gen.errors import InputError
from data_gen.files import write_atomic


def save_roles(found: RoleScores, directory: Path) -> None:
    """Write both files, each whole or not at all; the JSON holds the 20 largest parts too."""
    tensors = {name: getattr(found, name).contiguous() for name in VALUES}
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

    Raises `InputError` for files that are damaged or of unlike shape.
    """
    about = read_about_roles(directory)
    if about is None:
        return None
    try:
        tensors = load_file(directory / TENSORS)
    except (OSError, SafetensorError) as error:
        raise roles_not_whole(directory, error) from error
    for name in VALUES:
        if not tensors[name].isfinite().all():
            raise InputError(
                f"{directory / TENSORS}: `{name}` has a number that is not finite, which no scoring writes",
                hint=AGAIN,
            )
    return RoleScores(**about._asdict(), **{name: tensors[name] for name in VALUES})
