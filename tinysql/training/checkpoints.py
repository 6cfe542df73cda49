"""Weights and training state <-> safetensors and JSON, which hold no code."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from tinysql.config import from_json
from tinysql.models.hybrid import HybridLM
from tinysql.models.sources import not_whole
from tinysql.training.config import TrainState
from tinysql.training.distributed import World
from tinysql.training.optimizer import moments_of

KEPT = 2
"""Checkpoints kept, so that a damaged one leaves another."""
PARTS = ("model", "optimizer", "average")


class OtherModel(InputError):
    """Weights that are whole, and those of a model of another shape or of other numbers."""


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
        raise not_whole(path, error) from error


def load_weights(model: HybridLM, path: Path) -> None:
    """Put the weights of a file into `model`; `InputError` when names or shapes do not fit."""
    fit_weights(model, load_tensors(path), path, World())


def fit_weights(model: HybridLM, tensors: Mapping[str, Tensor], path: Path, world: World) -> None:
    """Put whole weights, read from `path`, into a model; `OtherModel` when names or shapes do not fit."""
    now = model.state_dict()
    _check_weights(now, tensors, path)
    model.load_state_dict({name: world.shared(tensor, now[name]) for name, tensor in tensors.items()})


def _check_weights(now: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(t.shape) for name, t in now.items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise OtherModel(
            f"{path}: weight `{name}` is {found.get(name, 'missing')}, "
            f"the configuration expects {expected.get(name, 'none of that name')}",
            hint="config.json and the weights must come from the same run",
        )
    other = [name for name in expected if tensors[name].is_floating_point() != now[name].is_floating_point()]
    if other:
        raise OtherModel(
            f"{path}: weight `{other[0]}` is of {tensors[other[0]].dtype}, expected {now[other[0]].dtype}",
            hint="quantised weights cannot be read: restore the run's own",
        )


def save_training(
    directory: Path,
    model: HybridLM,
    optimizer: torch.optim.AdamW,
    state: TrainState,
    average: Mapping[str, Tensor],
    world: World,
) -> None:
    """Write everything that an exact resume needs to `directory/step-N`; the one before is kept, older ones go.

    So do those of later steps, which were damaged when training went on from one before them.
    The first process writes whole tensors, so any number of processes can go on from it.
    """
    weights = world.gathered(model.state_dict())
    moments = {
        f"{name}/{key}": world.whole(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    mean = world.gathered(average)
    if world.rank == 0:
        here = directory / f"step-{state.step:08d}"
        with atomic_directory(here, overwrite=True) as folder:
            save_tensors(folder / "model.safetensors", weights)
            save_tensors(folder / "optimizer.safetensors", moments)
            save_tensors(folder / "average.safetensors", mean)
            write_atomic(folder / "state.json", json.dumps(vars(state), indent=1))
        found = _steps(directory)
        last = found.index(here) + 1
        for old in [*found[: max(0, last - KEPT)], *found[last:]]:
            shutil.rmtree(old, ignore_errors=True)
    world.wait()


class _Checkpoint(NamedTuple):
    """What lies whole in a directory, and fits the model and its optimizer."""

    state: TrainState
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]


def load_training(
    directory: Path, model: HybridLM, optimizer: torch.optim.AdamW, world: World
) -> tuple[TrainState, dict[str, Tensor]] | None:
    """Restore the newest whole checkpoint under `directory`; its state and average, or None when there is none.

    A damaged one is passed over with a warning and stays until `save_training` has written a whole one. Raises
    `InputError` when all are damaged, and `OtherModel` when the newest whole weights are of another shape.
    """
    found = _steps(directory)
    for place in reversed(found):
        try:
            read = _read(place, model, optimizer)
        except OtherModel as error:
            older = _newest(found[: found.index(place)], model, optimizer)
            if older is not None:
                error.hint = f"move {place.name} out of {directory} to go on from {older.name}, or restore it"
            raise
        except InputError as error:
            reason = error.message
            if place == found[0]:
                raise InputError(
                    f"{place} is damaged ({reason}), and there is no checkpoint before it",
                    hint=f"restore it, or remove {directory} and repeat the command, which then begins at step 0",
                ) from error
            if world.rank == 0:
                warnings.warn(
                    f"{place} is damaged ({reason}); going on from the checkpoint before", stacklevel=2
                )
            continue
        fit_weights(model, read.model, place / "model.safetensors", world)
        _fit_moments(optimizer, model, read.optimizer, world)
        model_now = model.state_dict()
        return read.state, {name: world.shared(t, model_now[name]) for name, t in read.average.items()}
    return None


def _read(place: Path, model: HybridLM, optimizer: torch.optim.AdamW) -> _Checkpoint:
    """The checkpoint of a directory; `InputError` where it is damaged, `OtherModel` where it is of another shape."""
    weights, average = place / "model.safetensors", place / "average.safetensors"
    parts = {name: load_tensors(place / f"{name}.safetensors") for name in PARTS}
    state = _read_state(place / "state.json")
    _check_weights(model.state_dict(), parts["model"], weights)
    _check_finite(parts["model"], weights)
    _check_average(parts["average"], state, model, average)
    _check_moments(optimizer, model, parts["optimizer"])
    return _Checkpoint(state, parts["model"], parts["optimizer"], parts["average"])


def _newest(places: Sequence[Path], model: HybridLM, optimizer: torch.optim.AdamW) -> Path | None:
    """The last of the directories that holds a whole checkpoint of this model."""
    for place in reversed(places):
        with suppress(InputError):
            _read(place, model, optimizer)
            return place
    return None


def _read_state(file: Path) -> TrainState:
    values = read_json(file)
    missing = sorted({field.name for field in fields(TrainState)} - set(values))
    if missing:
        raise InputError(f"{file} has no `{missing[0]}`", hint="restore the file, or remove the checkpoint")
    state = from_json(TrainState, values, where=str(file))
    if f"step-{state.step:08d}" != file.parent.name:
        raise InputError(f"{file}: step is {state.step}", hint="restore the file, or remove the checkpoint")
    for name in ("decay_start", "tokens", "seconds", "block", "taken", "averaged"):
        value = getattr(state, name)
        if value is not None and not 0 <= value < math.inf:
            raise InputError(
                f"{file}: {name} is {value}, expected a finite number of at least 0",
                hint="restore the file, or remove the checkpoint",
            )
    return state


def _check_finite(weights: Mapping[str, Tensor], file: Path) -> None:
    """Refuse weights from which training could not go on; the checkpoint before may have whole ones."""
    wrong = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
    if wrong is not None:
        raise InputError(
            f"{file}: weight `{wrong}` has numbers that are not finite",
            hint="restore the file, or remove the checkpoint",
        )


def _check_average(average: Mapping[str, Tensor], state: TrainState, model: HybridLM, file: Path) -> None:
    """Refuse a running mean that is not of this model's weights, or that holds none where some were averaged."""
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()} if state.averaged else {}
    found = {name: tuple(t.shape) for name, t in average.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise InputError(
            f"{file}: the mean of `{wrong[0]}` over {state.averaged} steps is {found.get(wrong[0])}, "
            f"expected {expected.get(wrong[0])}",
            hint="restore the file, or remove the checkpoint",
        )


def _steps(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if path.name[5:].isdigit() and path.is_dir())


def _moments(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those of the weight `name`."""
    return {key.rsplit("/", 1)[1]: value for key, value in tensors.items() if key.rsplit("/", 1)[0] == name}


def _check_moments(optimizer: torch.optim.AdamW, model: HybridLM, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        moments, expected = _moments(tensors, name), moments_of(optimizer, parameter)
        if set(moments) != expected:
            raise InputError(
                f"the optimizer of this checkpoint holds {sorted(moments)} for `{name}`, expected {sorted(expected)}",
                hint="remove the checkpoint and train again",
            )
        wrong = next(
            (
                k
                for k, v in moments.items()
                if v.shape != (parameter.shape if k != "step" else torch.Size([]))
            ),
            None,
        )
        if wrong is not None:
            raise InputError(
                f"the optimizer of this checkpoint holds `{name}/{wrong}` as {tuple(moments[wrong].shape)}, "
                f"and the weight is {tuple(parameter.shape)}",
                hint="remove the checkpoint and train again",
            )


def _fit_moments(
    optimizer: torch.optim.AdamW, model: HybridLM, tensors: Mapping[str, Tensor], world: World
) -> None:
    """Put whole moments that fit into the optimizer."""
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            key: value.to(parameter.device) if key == "step" else world.shared(value, parameter)
            for key, value in _moments(tensors, name).items()
        }
