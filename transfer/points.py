"""Activations -> points: rows of one hook with the token each belongs to, alone, in pairs and in contrast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations, described


@dataclass(frozen=True, kw_only=True)
class Points:
    """What one hook carried at some tokens."""

    values: Float[Tensor, "token d_model"]
    """Float32; heads are laid side by side."""
    ids: Int[Tensor, " token"]
    """The token each row was read at."""
    positions: Int[Tensor, " token"]
    """Where that token stands in its text."""

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Int[Tensor, " row"] | Bool[Tensor, " token"] | slice) -> Points:
        return Points(values=self.values[rows], ids=self.ids[rows], positions=self.positions[rows])

    @staticmethod
    def of(activations: Activations) -> Points:
        """The rows of a recording, without its roles."""
        device = activations.values.device
        return Points(
            values=activations.values,
            ids=activations.ids.to(device),
            positions=activations.position.to(device),
        )


def check_points(given: object) -> None:
    """`InputError` for what is no `Points`, such as a bare tensor or a recording."""
    if not isinstance(given, Points):
        raise InputError(
            f"points are {described(given)}, expected transfer.Points",
            hint="take `transfer.Points.of(saes.record(model, tokens, hook))`",
        )


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Two sets of points, such as a behaviour's triggered and untriggered tokens."""

    plus: Points
    minus: Points
    prompts: tuple[Int[Tensor, " plus"], Int[Tensor, " minus"]] | None = None
    """Which prompt each point is of, where the two sides are of the same prompts."""

    def __post_init__(self) -> None:
        if not len(self.plus) or not len(self.minus):
            raise InputError(
                f"a contrast of {len(self.plus)} and {len(self.minus)} points has an empty side",
                hint="give at least one point on each side",
            )

    @property
    def direction(self) -> Float[Tensor, " d_model"]:
        """mean(plus) - mean(minus)."""
        return (self.plus.values.double().mean(0) - self.minus.values.double().mean(0)).float()


@dataclass(frozen=True, kw_only=True)
class ActivationPairs:
    """Row i of the source and row i of the target were read at the same place of the same text."""

    source: Points
    target: Points
    example: Int[Tensor, " token"]
    """Which text each pair comes from."""
    source_hook: str
    target_hook: str

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise InputError(
                f"{len(self.source)} source rows cannot be paired with {len(self.target)} target rows",
                hint="pair the models with `record_pairs`",
            )
        if not len(self.source):
            raise InputError("there is no pair of activations", hint="give models a common text")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Int[Tensor, " row"] | Bool[Tensor, " token"] | slice) -> ActivationPairs:
        return replace(self, source=self.source[rows], target=self.target[rows], example=self.example[rows])

    def split(self, share: float, *, seed: int) -> tuple[ActivationPairs, ActivationPairs]:
        """Pairs of a random `share` of the texts, and the rest; no text is on both sides.

        Raises `InputError` when a side would be empty.
        """
        texts = self.example.unique()
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
        first = texts[order[: round(share * len(texts))].to(texts.device)]
        inside = torch.isin(self.example, first)
        if not bool(inside.any()) or bool(inside.all()):
            raise InputError(
                f"a share of {share} of {len(texts)} texts leaves one side empty", hint="give more texts"
            )
        return self[inside], self[~inside]


def shuffled(pairs: ActivationPairs, *, seed: int, within_ids: bool = False) -> ActivationPairs:
    """The same rows with the partners permuted: what a map finds that has no true pair to learn from.

    `within_ids` permutes among pairs of one source token, so that what the token alone tells is kept.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pairs), generator=generator)
    if within_ids:
        ids = pairs.source.ids.cpu()
        # Both lists are sorted by token, one in the order of the rows and one in random order within a token.
        rows = ids.argsort(stable=True)
        partners = order[ids[order].argsort(stable=True)]
        order = torch.empty_like(order)
        order[rows] = partners
    return replace(pairs, target=pairs.target[order.to(pairs.target.values.device)])
