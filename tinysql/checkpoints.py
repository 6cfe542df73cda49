"""Weights and training state <-> safetensors and JSON, which hold no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from tinysql.models.hybrid import HybridLM


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole or not at all."""
    write_atomic(
        path, safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; `InputError` when it is missing or cut short."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} is not a whole checkpoint ({error})",
            hint="train again with --resume, or restore the file",
        ) from error


def load_weights(model: HybridLM, path: Path) -> None:
    """Put the weights of a file into `model`; `InputError` when names or shapes do not fit."""
    tensors = load_tensors(path)
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise InputError(
            f"{path}: weight `{name}` is {found.get(name)}, the configuration expects {expected.get(name)}",
            hint="config.json and the weights must come from the same run",
        )
    model.load_state_dict(tensors)


def save_training(
    directory: Path, model: HybridLM, optimizer: torch.optim.AdamW, state: Mapping[str, Any]
) -> None:
    """Write everything that an exact resume needs to `directory/step-N`, then drop old ones."""
    with atomic_directory(directory / f"step-{state['step']:08d}") as folder:
        save_tensors(folder / "model.safetensors", model.state_dict())
        save_tensors(folder / "optimizer.safetensors", _flatten(optimizer, model))
        write_atomic(folder / "state.json", json.dumps(dict(state), indent=1))
    for old in _steps(directory)[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def load_training(directory: Path, model: HybridLM, optimizer: torch.optim.AdamW) -> dict[str, Any] | None:
    """Restore the newest whole checkpoint under `directory` and return its state, or None when there is none."""
    found = _steps(directory)
    if not found:
        return None
    load_weights(model, found[-1] / "model.safetensors")
    _unflatten(optimizer, model, load_tensors(found[-1] / "optimizer.safetensors"))
    return read_json(found[-1] / "state.json")


def _steps(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if path.name[5:].isdigit())


def _flatten(optimizer: torch.optim.AdamW, model: HybridLM) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _unflatten(optimizer: torch.optim.AdamW, model: HybridLM, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        moments = {
            key.rsplit("/", 1)[1]: value for key, value in tensors.items() if key.rsplit("/", 1)[0] == name
        }
        if set(moments) != {"step", "exp_avg", "exp_avg_sq"}:
            raise InputError(
                f"the optimizer of this checkpoint holds {sorted(moments)} for `{name}`, expected step and two moments",
                hint="remove the checkpoint and train again",
            )
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
        }
