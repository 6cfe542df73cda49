"""What is asked of a training <-> what `config.json` says of what stands there, without anything that computes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import find_json
from saes.places import WEIGHTS, Place, read_made
from saes.training.config import SAEConfig, difference
from tinysql.config import to_json
from tinysql.runs import Run


def decisive(run: Run, config: SAEConfig, hooks: Sequence[str], rows: int) -> dict[str, Any]:
    """What decides the weights of a dictionary, as its `config.json` keeps it."""
    made = {
        # Whoever scores the dictionary asks for the one hook it reads.
        "hook": hooks[0] if config.form == "sae" else None,
        "hooks": list(hooks),
        "rows": rows,
        "split": "train",
        WEIGHTS: run.fingerprint(),
        "seed": config.seed,
        "sae": to_json(config),
    }
    return dict(json.loads(json.dumps(made)))


def is_made_with(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether what stands in `path` was made with these settings."""
    made = find_json(path / "config.json") or {}
    return all(made.get(name) == value for name, value in settings.items())


def is_finished(place: Place, made: Mapping[Path, Mapping[str, Any]], l0: float | None) -> bool:
    """Whether a training that is to be gone on with is finished: nothing is left of it but what it made.

    `made` are all places that it writes to, and what is decisive there. Raises `InputError` where something was made
    with other settings.
    """
    if place.state.is_dir():  # whatever stands there, damaged or not, is about to be replaced
        return False
    then = {path: read_made(path) if (path / "config.json").exists() else {} for path in made}
    if not all(then.values()):
        return False
    for path, settings in made.items():
        before, now = _compared(then[path], l0), _compared({**settings, "l0": l0}, l0)
        if before != now:
            raise InputError(
                f"`{path.name}` in {place.run} is finished and was trained with other settings"
                f"{difference(before, now)}",
                hint="repeat its settings, choose another --name, or pass --overwrite in place of --resume",
            )
    return True


def _compared(made: Mapping[str, Any], l0: float | None) -> dict[str, Any]:
    """Settings by their names; the weight of a penalty that an L0 was searched with is no setting."""
    fields = made.get("sae")
    found = {
        "l0": "none" if made.get("l0") is None else made["l0"],
        **{name: made.get(name) for name in ("hooks", "rows", WEIGHTS)},
        **(fields if isinstance(fields, dict) else {}),
    }
    return {name: value for name, value in found.items() if l0 is None or name != "sparsity"}
