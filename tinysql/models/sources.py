"""Directory or hub id of a checkpoint -> the directory, or a refusal by a look at files, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import safetensors

from data_gen.errors import InputError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""One file with all weights, or the list of those that hold some."""


def find_local(source: str | Path) -> Path | None:
    """The directory of a checkpoint; None where it could only be an id of the Hugging Face hub.

    Raises:
        InputError: there is no such directory, and it is no id.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or str(source).startswith(".") or str(source).count("/") > 1:
        raise InputError(
            f"there is no directory `{source}`",
            hint="name a directory with config.json and model.safetensors, or a hub id such as `owner/name`",
        )
    return None


def check_checkpoint(folder: Path) -> None:
    """Refuse a directory that no checkpoint of transformers, nor a run of ours, can be: it has no config.json."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"`{folder}` is no checkpoint of transformers: it has no config.json",
            hint="name the directory that `save_pretrained` wrote",
        )


def check_weights(folder: Path) -> None:
    """Refuse a directory of a checkpoint that holds no weights in safetensors.

    Pickles are looked for by their names alone, so that the refusal says why what is there is not read; none is opened.
    """
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    has = f"only `{pickles[0]}`, whose format can run code" if pickles else "none"
    raise InputError(
        f"`{folder}` has no weights in safetensors: {has}",
        hint="choose a checkpoint with model.safetensors, or have its owner save one with `save_pretrained`",
    )


def check_tensors(path: Path) -> None:
    """Refuse a safetensors file that is cut short, by its header and its size alone."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass
    except (OSError, safetensors.SafetensorError) as error:
        raise not_whole(path, error) from error


def not_whole(path: Path, error: Exception) -> InputError:
    """The refusal of a safetensors file that could not be read."""
    return InputError(
        f"{path} is not a whole checkpoint ({error})",
        hint="restore the file, or go on with `tinysql train --resume`, from the last checkpoint if one is left",
    )
