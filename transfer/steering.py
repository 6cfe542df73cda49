"""Token pairs -> steering vector: a direction added to one hook while a model runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from data_gen.files import atomic_directory, claim_directory, read_json, write_atomic
from saes.activations import capture, check_hook
from tinysql.checkpoints import load_tensors, save_tensors
from tinysql.tokens import TokenPairs, Tokens

CONFIG, WEIGHTS = "config.json", "vector.safetensors"


@dataclass(frozen=True, kw_only=True)
class SteeringVector:
    """A direction at one hook; heads, where the hook has them, are laid side by side."""

    hook: str
    vector: Float[Tensor, " d_model"]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What made it, as plain JSON values."""

    @staticmethod
    def from_pairs(
        model: HookedRootModule,
        pairs: TokenPairs,
        hook: str,
        *,
        position: Literal["metric", "all"] = "metric",
        batch_size: int = 64,
    ) -> SteeringVector:
        """Mean clean activation minus mean corrupt activation at `hook`: it points from corrupt to clean.

        The means are over the metric position of each pair, or over all real tokens of all pairs. Raises
        `InputError` for an unknown hook, no pairs, or another `position`.
        """
        if position not in ("metric", "all"):
            raise InputError(f"position is {position!r}", hint="choose `metric` or `all`")
        if not len(pairs):
            raise InputError(
                "there is no pair to take a difference of means from", hint="give at least one pair"
            )
        at = pairs.position if position == "metric" else None
        clean, corrupt = (_mean(model, side, hook, at, batch_size) for side in (pairs.clean, pairs.corrupt))
        metadata = {
            "method": "difference of means",
            "edit": pairs.edit,
            "pairs": len(pairs),
            "position": position,
        }
        return SteeringVector(hook=hook, vector=clean - corrupt, metadata=metadata)

    @contextmanager
    def apply(
        self,
        model: HookedRootModule,
        scale: float = 1.0,
        positions: int | Int[Tensor, " batch"] | None = None,
    ) -> Iterator[None]:
        """Within the block, add `scale * vector` at the hook.

        `positions` says where: at every position (None), at one position of every row (a number, negative
        from the end), or at one position per row (a tensor). Only this hook is removed at the end, whatever
        happened in the block; at scale 0 none is set. Raises `InputError` for an unknown hook, and, when the
        model runs, for a hook of another width.

        Example:
            >>> with vector.apply(model, scale=2.0):
            ...     logits = model(ids)
        """
        point = check_hook(model, self.hook)
        if scale == 0:
            yield
            return

        def add(value: Tensor, hook: HookPoint) -> Tensor:
            return value + self._step(value, scale, positions)

        point.add_hook(add)
        handle = point.fwd_hooks[-1]
        try:
            yield
        finally:
            handle.hook.remove()
            point.fwd_hooks[:] = [kept for kept in point.fwd_hooks if kept is not handle]

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `config.json` and `vector.safetensors`, both or neither."""
        path = claim_directory(directory, overwrite)
        with atomic_directory(path) as folder:
            save_tensors(folder / WEIGHTS, {"vector": self.vector})
            write_atomic(
                folder / CONFIG, json.dumps({"hook": self.hook, "metadata": dict(self.metadata)}, indent=1)
            )

    @staticmethod
    def load(directory: str | Path) -> SteeringVector:
        """Read what `save` wrote; `InputError` when a file is missing, foreign or cut short."""
        path = Path(directory)
        config, tensors = read_json(path / CONFIG), load_tensors(path / WEIGHTS)
        if "hook" not in config or "vector" not in tensors:
            raise InputError(f"{path} is not a steering vector", hint="name a directory that `save` wrote")
        return SteeringVector(
            hook=config["hook"], vector=tensors["vector"], metadata=config.get("metadata", {})
        )

    def _step(self, value: Tensor, scale: float, positions: int | Tensor | None) -> Tensor:
        """What is added to the hook's `[batch seq ...]` tensor."""
        width = value[0, 0].numel()
        if width != len(self.vector):
            raise InputError(
                f"hook `{self.hook}` is {width} wide in this model, the vector has {len(self.vector)} entries",
                hint="a vector fits only models of the width it was taken from",
            )
        step = (scale * self.vector).to(value).reshape(value.shape[2:])
        if positions is None:
            return step
        everywhere = torch.zeros_like(value)
        everywhere[torch.arange(len(value), device=value.device), positions] = step
        return everywhere


def _mean(
    model: HookedRootModule, side: Tokens, hook: str, at: Int[Tensor, " batch"] | None, batch_size: int
) -> Float[Tensor, " d_model"]:
    """Mean activation over one position per row, or over all real tokens."""
    device = next(model.parameters()).device
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for start in range(0, len(side), batch_size):
        part = side[start : start + batch_size]
        values = capture(model, part.ids.to(device), hook)
        if at is None:
            rows = values[part.mask.to(device)]
        else:
            rows = values[torch.arange(len(part)), at[start : start + batch_size].to(device)]
        total, count = total + rows.double().sum(0), count + len(rows)
    return (total / count).float()
