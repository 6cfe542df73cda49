"""Points of one model -> points of another: what every map can do, whatever it is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError, nearest
from transfer.names import Mode
from transfer.points import Contrast, Points, check_points

CHUNK = 8192
"""Points that are mapped together."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a map was made."""

    method: str
    source_hook: str
    target_hook: str
    pairs: int = 0
    """Pairs of activations it was fitted on."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further plain JSON values."""


class ActivationMap(ABC):
    """A function from the activations of a source hook to those of a target hook.

    Example:
        >>> affine = fit("affine", pairs)
        >>> affine.map_points(points).shape
        torch.Size([1234, 256])
    """

    made: Made

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """Width of the source and of the target."""

    @property
    @abstractmethod
    def is_affine(self) -> bool:
        """Whether points go through `x W + b`, so that a direction becomes `v W` wherever it stands."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that has to be saved."""

    @abstractmethod
    def apply(
        self,
        values: Float[Tensor, "token d_in"],
        ids: Int[Tensor, " token"],
        positions: Int[Tensor, " token"],
    ) -> Float[Tensor, "token d_out"]:
        """The map itself, differentiable in `values`; callers use `map_points`."""

    @torch.no_grad()
    def map_points(self, points: Points) -> Float[Tensor, "token d_out"]:
        """Each point's image. Raises `InputError` for what is no `Points`, and for points of another width."""
        check_points(points)
        self._check(points.values.shape[1])
        starts = range(0, len(points), CHUNK)
        parts = [points[start : start + CHUNK] for start in starts]
        if not parts:
            return points.values.new_zeros(0, self.widths[1])
        return torch.cat([self.apply(part.values, part.ids, part.positions) for part in parts])

    def map_directions(
        self,
        directions: Float[Tensor, "direction d_in"],
        mode: Mode = "difference",
        *,
        contrast: Contrast | None = None,
    ) -> Float[Tensor, "direction d_out"]:
        """What directions `v` become under the map `f`.

        - `difference`: mean f(plus) - mean f(minus) over the contrast that the one direction came from.
        - `jacobian`: the mean of J_f(x) v over the points x of the contrast, to first order what a small step does.
        - `direct`: f(v), the direction taken for a point, so that an offset is added to it (as arXiv 2506.00653 does).

        Under an affine map the first two are `v W` and need no contrast. Raises `InputError` for another mode or
        width, and where a contrast is needed and there is none.
        """
        self._check(directions.shape[1])
        if mode not in get_args(Mode):
            raise InputError(
                f"mode is {mode!r}{nearest(str(mode), get_args(Mode))}",
                hint="choose " + ", ".join(get_args(Mode)),
            )
        if mode == "direct":
            return self._direct(directions)
        if self.is_affine:
            return self._direct(directions) - self._direct(torch.zeros_like(directions))
        if contrast is None:
            raise InputError(
                f"a `{self.made.method}` map is not affine, so `{mode}` depends on where the direction stands",
                hint="pass contrast=..., the points that the direction was taken from",
            )
        return (
            self._difference(directions, contrast)
            if mode == "difference"
            else self._push(directions, contrast)
        )

    @torch.no_grad()
    def _direct(self, directions: Tensor) -> Tensor:
        nowhere = torch.full((len(directions),), -1, device=directions.device)
        return self.apply(directions, nowhere, nowhere)

    def _difference(self, directions: Tensor, contrast: Contrast) -> Tensor:
        if len(directions) != 1:
            raise InputError(
                f"mode `difference` gives the one direction of a contrast, not {len(directions)}",
                hint="map directions one by one, or choose mode `jacobian`",
            )
        plus, minus = (self.map_points(side).double().mean(0) for side in (contrast.plus, contrast.minus))
        return (plus - minus).float()[None]

    def _push(self, directions: Tensor, contrast: Contrast) -> Tensor:
        """J_f(x) v, averaged over all points of both sides: how their mean image moves with a step of v."""
        return torch.stack([self._pushed(direction, contrast) for direction in directions])

    def _pushed(self, direction: Tensor, contrast: Contrast) -> Tensor:
        total, count = torch.zeros(self.widths[1], dtype=torch.float64, device=direction.device), 0
        for side in (contrast.plus, contrast.minus):
            for start in range(0, len(side), CHUNK):
                part = side[start : start + CHUNK]

                def moved(step: Tensor, part: Points = part) -> Tensor:
                    values = part.values + step * direction
                    return self.apply(values, part.ids, part.positions).double().sum(0)

                _, derivative = torch.autograd.functional.jvp(
                    moved, direction.new_zeros(()), direction.new_ones(())
                )
                total, count = total + derivative, count + len(part)
        return (total / count).float()

    def _check(self, width: int) -> None:
        if width != self.widths[0]:
            raise InputError(
                f"the map reads activations {self.widths[0]} wide (`{self.made.source_hook}`), these are {width} wide",
                hint="use the model and the hook that the map was fitted on",
            )
