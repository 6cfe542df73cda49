"""A direction at a hook -> a steered model: added, ablated or put in its place, where and while it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError, nearest
from data_gen.files import atomic_directory, read_json, write_atomic
from data_gen.outputs import claim_directory
from saes.activations import HookedModel, check_hook
from tinysql.training.checkpoints import load_tensors, save_tensors
from transfer.names import Operator
from transfer.placing import Reading, Where, changing

CONFIG, WEIGHTS = "config.json", "vector.safetensors"


@dataclass(frozen=True, kw_only=True)
class SteeringVector:
    """A direction at one hook; heads, where the hook has them, are laid side by side.

    Vectors of one hook add up: `a + b`, `a - b`, `2 * a`, `-a`.
    """

    hook: str
    vector: Float[Tensor, " d_model"]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What made it, as plain JSON values."""

    @contextmanager
    def apply(
        self,
        model: HookedModel,
        scale: float = 1.0,
        positions: Where = None,
        *,
        operator: Operator = "add",
        keep_norm: bool = False,
        hooks: Sequence[str] | None = None,
    ) -> Iterator[None]:
        """Within the block, steer the model with `v`, by `scale = s`, at `positions` (see `Where`).

        - `add`: x + s v.
        - `ablate`: x - s (x . u) u with u = v / |v|; s = 1 takes the whole component out (arXiv 2406.11717).
        - `add-and-ablate`: x - (x . u) u + s v: the component becomes s |v|, whatever it was.

        With `keep_norm` each activation is scaled back to the length it had. `hooks` are those to act at in place of
        the vector's own. Only these hooks are removed at the end, whatever happened in the block; where s = 0 changes
        nothing, none is set. Raises `InputError` for an unknown hook or operator, when the model runs for a hook of
        another width and positions that are not there, and at the end for one that no generation has reached.

        Example:
            >>> with vector.apply(model, scale=2.0, positions=AtTokens.of([trigger])):
            ...     answers = tinysql.answer(model, tokenizer, prompts)
        """
        if operator not in get_args(Operator):
            known = get_args(Operator)
            raise InputError(
                f"operator is {operator!r}{nearest(str(operator), known)}", hint="choose " + ", ".join(known)
            )
        names = [self.hook] if hooks is None else list(hooks)
        for name in names:
            check_hook(model, name)
        if scale == 0 and operator != "add-and-ablate":
            yield
            return

        furthest = 0

        def steer(value: Tensor, now: Reading) -> Tensor:
            nonlocal furthest
            if isinstance(positions, int):
                furthest = max(furthest, now.begin + now.ids.shape[1])
            new = steered(value, self._fit(value), scale, operator, keep_norm)
            return new if positions is None else torch.where(now.mask(positions)[..., None], new, value)

        with ExitStack() as stack:
            for name in names:
                stack.enter_context(changing(model, name, steer))
            yield
        if isinstance(positions, int) and 0 < furthest <= positions:
            raise InputError(
                f"position {positions} was never reached: the longest text that was read has {furthest} tokens",
                hint=f"give 0 to {furthest - 1}, let more be generated, or steer at tokens with AtTokens",
            )

    @property
    def norm(self) -> float:
        """|v|."""
        return float(self.vector.double().norm())

    def with_norm(self, norm: float | int) -> SteeringVector:
        """The same direction with another length; `InputError` for the zero vector, which has none."""
        if self.norm == 0:
            raise InputError(
                f"the vector at `{self.hook}` is zero and has no direction",
                hint="take it from two sets that differ",
            )
        return self * (norm / self.norm)

    def cosine(self, other: SteeringVector) -> float:
        """The cosine of the angle between two vectors."""
        self._same_place(other)
        return float(torch.cosine_similarity(self.vector.double(), other.vector.double(), dim=0))

    def without(self, other: SteeringVector) -> SteeringVector:
        """The part that is orthogonal to `other`."""
        self._same_place(other)
        unit = other.with_norm(1.0).vector.double()
        rest = self.vector.double() - (self.vector.double() @ unit) * unit
        return replace(self, vector=rest.to(self.vector.dtype))

    def __add__(self, other: SteeringVector) -> SteeringVector:
        self._same_place(other)
        made = {"method": "sum", "of": [dict(self.metadata), dict(other.metadata)]}
        return replace(self, vector=self.vector + other.vector, metadata=made)

    def __mul__(self, factor: float | int) -> SteeringVector:
        return replace(self, vector=self.vector * factor)

    __rmul__ = __mul__

    def __neg__(self) -> SteeringVector:
        return self * -1

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        return self + -other

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `config.json` and `vector.safetensors`, both or neither."""
        path = claim_directory(directory, overwrite, kind="steering vector")
        with atomic_directory(path) as folder:
            save_tensors(folder / WEIGHTS, {"vector": self.vector})
            write_atomic(
                folder / CONFIG, json.dumps({"hook": self.hook, "metadata": dict(self.metadata)}, indent=1)
            )

    @staticmethod
    def load(directory: str | Path) -> SteeringVector:
        """Read what `save` wrote; `InputError` when a file is missing, foreign or cut short."""
        path = Path(directory)
        config = read_json(path / CONFIG)
        if "hook" not in config:
            what = "holds an activation map" if {"kind", "made"} <= set(config) else "names no hook"
            raise InputError(
                f"{path} {what}, expected a steering vector",
                hint="name a directory that `SteeringVector.save` wrote, or OUT/native or OUT/transferred of "
                "`tinysql transfer eval ... --out OUT`",
            )
        tensors = load_tensors(path / WEIGHTS)
        if "vector" not in tensors:
            raise InputError(
                f"{path / WEIGHTS} holds {', '.join(sorted(tensors))}, expected `vector`",
                hint="restore the file; both files must come from the same vector",
            )
        return SteeringVector(
            hook=config["hook"], vector=tensors["vector"], metadata=config.get("metadata", {})
        )

    def _fit(self, value: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, " d_model"]:
        """The vector on the hook's device and in its precision."""
        if value.shape[2] != len(self.vector):
            raise InputError(
                f"hook `{self.hook}` is {value.shape[2]} wide in this model, the vector has {len(self.vector)} entries",
                hint="a vector fits only models of the width it was taken from; a map carries it to others",
            )
        return self.vector.to(value)

    def _same_place(self, other: SteeringVector) -> None:
        if self.hook != other.hook or len(self.vector) != len(other.vector):
            raise InputError(
                f"a vector at `{self.hook}` ({len(self.vector)} wide) and one at `{other.hook}` "
                f"({len(other.vector)} wide) do not belong together",
                hint="combine vectors of one hook",
            )


def steered(
    x: Float[Tensor, "batch seq d_model"],
    v: Float[Tensor, " d_model"],
    scale: float,
    operator: Operator,
    keep_norm: bool,
) -> Float[Tensor, "batch seq d_model"]:
    """The activations after the operator; a zero vector has no direction, so ablating it changes nothing."""
    new = x
    if operator != "add":
        unit = v / v.norm().clamp(min=torch.finfo(v.dtype).tiny)
        part = scale if operator == "ablate" else 1.0
        new = new - part * (x @ unit)[..., None] * unit
    if operator != "ablate":
        new = new + scale * v
    if keep_norm:
        new = new * (x.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True).clamp(min=1e-12))
    return new
