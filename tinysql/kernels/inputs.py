"""Arguments of the kernels' functions -> nothing, or one sentence about the first that does not fit the others."""

from __future__ import annotations

from torch import Tensor

from data_gen.errors import InputError


def axes(name: str, t: Tensor, names: str) -> tuple[int, ...]:
    """Sizes of `t`, a tensor of floats that has the axes `names`, none but the first of length 0."""
    if t.ndim != names.count(" ") + 1 or not t.is_floating_point() or 0 in t.shape[1:]:
        raise InputError(
            f"`{name}` is {_told(t)}, expected floats with the axes [{names}]",
            hint="an axis of no length, such as an empty sequence, has no result",
        )
    return t.shape


def expect(like: str, first: Tensor, *others: tuple[str, Tensor | None, tuple[int, ...]]) -> None:
    """Each of the `others` that is given has the shape named with it and lies where `first`, called `like`, lies."""
    device = first.device
    for name, t, shape in others:
        if t is not None and (t.shape != shape or t.device != device):
            raise InputError(
                f"`{name}` is {_told(t)}, expected {list(shape)} on {device}",
                hint=f"`{like}` is {_told(first)}, and all have to fit it",
            )


def whole(heads: int, groups: int) -> None:
    """Heads come in `groups` of one size."""
    if groups < 1 or heads % groups:
        raise InputError(
            f"{heads} heads in {groups} groups, expected groups of one size",
            hint="give a divisor of the heads",
        )


def _told(t: Tensor) -> str:
    return f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')} on {t.device}"
