"""Directory or hub id -> configuration and tensors of a checkpoint. Only JSON and safetensors are read, never code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import read_json
from tinysql.models.sources import check_checkpoint, check_weights, find_local

WANTED = ["*.json", "*.safetensors"]
"""What is fetched from the hub: neither pickles nor code."""


def find(source: str | Path) -> Path:
    """The directory of a checkpoint, fetched from the Hugging Face hub unless it is one already.

    Raises:
        InputError: there is neither such a directory nor, as far as can be reached, such a repository.
    """
    folder = find_local(source)
    if folder is not None:
        return folder
    # Takes a while to import, and is needed for the hub alone.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=WANTED))
    except Exception as error:  # of three libraries, and they share no base class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"`{source}` is no directory here and cannot be fetched from the Hugging Face hub ({reason})",
            hint="check the name and the connection, or download the checkpoint and name its directory",
        ) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """The values of `config.json`."""
    check_checkpoint(folder)
    return read_json(folder / "config.json")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors, from `model.safetensors` or from the files that `model.safetensors.index.json` lists.

    Raises:
        InputError: there are none in safetensors, or a file is missing or cut short.
    """
    check_weights(folder)
    if (folder / "model.safetensors").is_file():
        return _read(folder / "model.safetensors")
    return _read_sharded(folder)


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    index = folder / "model.safetensors.index.json"
    places = read_json(index).get("weight_map")
    files = set(places.values()) if isinstance(places, dict) and _plain(places) else None
    if not files or not isinstance(places, dict):
        raise InputError(
            f"`{index}`: `weight_map` must give a file of this directory for each weight",
            hint="restore the file",
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        tensors |= _read(folder / file)
    missing = next((name for name in places if name not in tensors), None)
    if missing is not None:
        raise InputError(
            f"`{folder / places[missing]}` has no weight `{missing}`, which the index places there",
            hint="restore the file",
        )
    return tensors


def _plain(places: dict[str, Any]) -> bool:
    """Whether all are names of safetensors files without a directory, so that nothing outside is read."""
    return all(
        isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")
        for file in places.values()
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"`{path}` is not a whole safetensors file ({error})", hint="restore or download it again"
        ) from error
