"""Map <-> directory: `config.json`, which says how it was made, and `map.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from data_gen.outputs import claim_directory
from tinysql.runs import provenance
from tinysql.training.checkpoints import load_tensors, save_tensors
from transfer.maps.activation_map import ActivationMap, Made
from transfer.maps.kinds import AffineMap, Autoencoder, LookupMap

CONFIG, WEIGHTS = "config.json", "map.safetensors"
KINDS: dict[str, type[AffineMap] | type[LookupMap] | type[Autoencoder]] = {
    "affine": AffineMap,
    "lookup": LookupMap,
    "autoencoder": Autoencoder,
}
TENSORS = {
    "affine": {"weight", "bias"},
    "lookup": {"width", "keys", "table", "mean"},
    "autoencoder": {"W_enc", "b_enc", "W_dec", "b_dec"},
}


def save_map(fitted: ActivationMap, directory: str | Path, *, overwrite: bool = False) -> None:
    """Write both files or neither; `InputError` when the directory holds something and `overwrite` is not given."""
    path = claim_directory(directory, overwrite, kind="analysis")
    kind = next(name for name, one in KINDS.items() if isinstance(fitted, one))
    made = {**asdict(fitted.made), "settings": dict(fitted.made.settings)}
    with atomic_directory(path) as folder:
        save_tensors(folder / WEIGHTS, fitted.tensors())
        config = {"kind": kind, "widths": list(fitted.widths), "made": made, "made_by": provenance()}
        write_atomic(folder / CONFIG, json.dumps(config, indent=1))


def load_map(directory: str | Path) -> ActivationMap:
    """Read what `save_map` wrote; `InputError` when a file is missing, foreign, cut short or of another map."""
    path = Path(directory)
    config = read_json(path / CONFIG)
    kind = config.get("kind")
    if kind not in KINDS or "made" not in config:
        found = "holds a steering vector" if {"hook", "metadata"} <= set(config) else f"is of kind {kind!r}"
        raise InputError(
            f"{path} {found}, expected an activation map",
            hint="name a directory that `save_map` wrote, or OUT/map of `tinysql transfer fit --out OUT`",
        )
    try:
        tensors = load_tensors(path / WEIGHTS)
    except InputError as error:
        raise InputError(
            f"{path / WEIGHTS} is not a whole file of a map ({error.__cause__})",
            hint="restore the file, or fit the map again with `tinysql transfer fit`",
        ) from error
    _check(path, str(kind), config, tensors)
    return KINDS[kind](made=_made(path, config["made"]), **tensors)


def _made(path: Path, values: Mapping[str, Any]) -> Made:
    wrong = sorted({field.name for field in fields(Made)} ^ set(values))
    if wrong:
        raise InputError(f"{path / CONFIG}: `made` and a map differ in `{wrong[0]}`", hint="restore the file")
    return Made(**values)


def _check(path: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if set(tensors) != TENSORS[kind]:
        raise InputError(
            f"{path / WEIGHTS} holds {', '.join(sorted(tensors))}, a `{kind}` map {', '.join(sorted(TENSORS[kind]))}",
            hint="both files must come from the same map",
        )
    widths = {
        "affine": lambda: tensors["weight"].shape,
        "lookup": lambda: (int(tensors["width"]), len(tensors["mean"])),
        "autoencoder": lambda: (tensors["W_enc"].shape[0], tensors["W_dec"].shape[1]),
    }[kind]()
    if list(widths) != config.get("widths"):
        raise InputError(
            f"{path / WEIGHTS} maps {' to '.join(map(str, widths))} dimensions, {CONFIG} says {config.get('widths')}",
            hint="both files must come from the same map",
        )
