"""Tokens -> activations on disk, mapped into memory: for more of them than fit.

A recording is a directory: `values-0.bin`, `values-1.bin`, ... hold one row per recorded token and hook, nothing else;
`labels.safetensors` what each token is, `recording.json` the hooks, widths and names of roles. Training reads a batch
as one gather of rows, whose pages the system loads and drops as it likes; nothing else holds more than a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from data_gen.outputs import claim_directory
from saes.activations import Activations, HookedModel, has_role, labelled, passes
from tinysql.config import from_json, to_json
from tinysql.tokens import Tokens
from tinysql.training.checkpoints import load_tensors, save_tensors

Stored = Literal["float32", "bfloat16", "float16"]
RECORDING, LABELS = "recording.json", "labels.safetensors"


@dataclass(frozen=True, kw_only=True)
class _Hook:
    hook: str
    width: int


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """What stands in `recording.json`."""

    kind: Literal["activations"] = "activations"
    dtype: Stored
    tokens: int
    hooks: tuple[_Hook, ...]
    roles: tuple[str, ...]
    """Names of the roles, which the labels number."""


def record_to(
    directory: str | Path,
    model: HookedModel,
    tokens: Tokens,
    hooks: Sequence[str],
    *,
    dtype: Stored = "bfloat16",
    batch_size: int = 64,
    show_progress: bool = False,
) -> tuple[Activations, ...]:
    """`record_many` into a directory, which appears whole or not at all; a row takes `width` numbers of `dtype`.

    Raises `InputError` as `record` does, for a directory that is not empty, and when an activation is too large for
    float16.

    Example:
        >>> (activations,) = record_to("acts", model, tokens, ["blocks.3.hook_resid_post"])
        >>> train_sae(activations, config)
    """
    path = claim_directory(directory)
    widths: dict[str, int] = {}
    with atomic_directory(path) as folder:
        with ExitStack() as files:
            out = [files.enter_context((folder / _values(i)).open("wb")) for i in range(len(hooks))]
            for carried in passes(model, tokens, hooks, batch_size=batch_size, show_progress=show_progress):
                for file, hook in zip(out, hooks, strict=True):
                    file.write(_bytes(hook, carried[hook], dtype))
                    widths[hook] = carried[hook].shape[1]
        held = tokens.to("cpu")
        labels = labelled(held, hooks[0], torch.empty(int(has_role(held).sum()), 0))
        names = sorted(set(labels.roles))
        number = {name: i for i, name in enumerate(names)}
        save_tensors(
            folder / LABELS,
            {
                "ids": labels.ids,
                "role": torch.tensor([number[role] for role in labels.roles]),
                "example": labels.example,
                "position": labels.position,
            },
        )
        made = _Recording(
            dtype=dtype,
            tokens=len(labels.roles),
            hooks=tuple(_Hook(hook=hook, width=widths[hook]) for hook in hooks),
            roles=tuple(names),
        )
        write_atomic(folder / RECORDING, json.dumps(to_json(made), indent=1))
    return open_recording(path)


def open_recording(directory: str | Path) -> tuple[Activations, ...]:
    """The activations of each hook, mapped: nothing is read until it is asked for, and the files are never changed.

    Raises `InputError` when the directory is no recording, or a file is not as long as it should be.
    """
    path = Path(directory)
    if not (path / RECORDING).is_file():
        raise InputError(
            f"{path} is not a recording: it has no {RECORDING}", hint="make one with `saes.record_to`"
        )
    made = from_json(_Recording, read_json(path / RECORDING), where=str(path / RECORDING))
    labels = load_tensors(path / LABELS)
    try:
        roles = tuple(made.roles[number] for number in labels["role"].tolist())
        told = {name: labels[name] for name in ("ids", "example", "position")}
    except (KeyError, IndexError) as error:
        raise InputError(
            f"{path / LABELS} does not hold the labels of {RECORDING} ({error})",
            hint="record the activations again",
        ) from error
    dtype = getattr(torch, made.dtype)
    return tuple(
        Activations(
            hook=one.hook,
            values=_mapped(path / _values(i), made.tokens, one.width, dtype),
            roles=roles,
            **told,
        )
        for i, one in enumerate(made.hooks)
    )


def _values(number: int) -> str:
    return f"values-{number}.bin"


def _bytes(hook: str, values: Tensor, dtype: Stored) -> Any:
    stored = values.to("cpu", getattr(torch, dtype)).contiguous()
    if dtype == "float16" and bool((stored.isinf() & values.cpu().isfinite()).any()):
        raise InputError(
            f"`{hook}` carries {float(values.abs().max()):.3g}, which float16 cannot hold",
            hint="record in bfloat16",
        )
    return stored.view(torch.uint8).numpy().data


def _mapped(path: Path, tokens: int, width: int, dtype: torch.dtype) -> Tensor:
    expected = tokens * width * dtype.itemsize
    size = path.stat().st_size if path.is_file() else 0
    if size != expected:
        raise InputError(
            f"{path} has {size} bytes, {RECORDING} expects {expected}", hint="record the activations again"
        )
    # Not shared: what is written to the tensor stays in memory and never reaches the file.
    flat = torch.from_file(str(path), shared=False, size=tokens * width, dtype=dtype)
    return flat.reshape(tokens, width)
