"""Examples -> the predictions to look at, each with the role of what is predicted; their values -> means by role.

Roles are dotted slots (`sql.select.0.column`). A grouping turns each into the name it is counted under:
`saes.roles.family` drops the numbers (the default everywhere), `str` keeps the slot, `part` keeps the first word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.judging.bootstrap import resampled_means
from circuits.looking.running import check_single
from data_gen.errors import InputError
from tinysql.tokens import TokenPairs, Tokens

Grouping: TypeAlias = Callable[[str], str]


def part(role: str) -> str:
    """Where in a row a token stands: `english` (the instruction), `schema`, `sql` or `prompt`.

    Example:
        >>> part("schema.columns.2.name")
        'schema'
    """
    return role.partition(".")[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Predictions to look at: at a position of a row, the token that is right there."""

    row: Int[Tensor, " target"]
    position: Int[Tensor, " target"]
    """Where the prediction is made: one before the token it is about."""
    token: Int[Tensor, " target"]
    other: Int[Tensor, " target"] | None
    """The corrupt side's answer; None where there is no corrupt side."""
    role: Int[Tensor, " target"]
    """Index into `roles`: the role of the right token."""
    roles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)

    def of_rows(self, start: int, stop: int) -> slice:
        """The targets of rows `start` to `stop`; targets stand in the order of their rows."""
        bounds = torch.tensor([start, stop])
        first, last = torch.searchsorted(self.row.contiguous(), bounds).tolist()
        return slice(first, last)


def targets_of(examples: Tokens | TokenPairs, group: Grouping) -> Targets:
    """Every token of the answers; of pairs, the one token in which the answers part (its role is the edit's name).

    Raises `InputError` when there is nothing to predict, or for pairs of whole answers.
    """
    if isinstance(examples, TokenPairs):
        check_single(examples)
        row = torch.arange(len(examples))
        found = Targets(
            row=row,
            position=examples.position.cpu(),
            token=examples.clean_answer.cpu(),
            other=examples.corrupt_answer.cpu(),
            role=torch.zeros_like(row),
            roles=(examples.edit,),
        )
    else:
        found = _answers(examples, group)
    if not len(found):
        raise InputError("no example has an answer to predict", hint="encode at least one example")
    return found


def _answers(tokens: Tokens, group: Grouping) -> Targets:
    mask = tokens.mask.cpu()
    places = torch.arange(mask.shape[1])
    row, at = (mask & (places >= tokens.answer_start.cpu()[:, None]) & (places > 0)).nonzero(as_tuple=True)
    names = [group(tokens.roles[i][j]) for i, j in zip(row.tolist(), at.tolist(), strict=True)]
    roles = tuple(sorted(set(names)))
    number = {name: index for index, name in enumerate(roles)}
    return Targets(
        row=row,
        position=at - 1,
        token=tokens.ids.cpu()[row, at],
        other=None,
        role=torch.tensor([number[name] for name in names], dtype=torch.long),
        roles=roles,
    )


def numbered(tokens: Tokens, group: Grouping) -> tuple[tuple[str, ...], Int[Tensor, "batch seq"]]:
    """Group names in alphabetical order, and each token's; -1 at padding."""
    names = [[group(role) if role else "" for role in row] for row in tokens.roles]
    found = tuple(sorted({name for row in names for name in row} - {""}))
    number = {"": -1, **{name: index for index, name in enumerate(found)}}
    label = torch.tensor([[number[name] for name in row] for row in names])
    return found, label.masked_fill(~tokens.mask.cpu(), -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """Means with their 95 % bootstrap intervals over examples."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class RoleMeans(Means):
    """Means over the tokens of each role, `[role ...]`; rows are resampled, since the tokens of a row go together."""

    roles: tuple[str, ...]
    count: np.ndarray
    """Tokens of each role."""

    def table(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """One line per role and column: role, tokens, column, value and interval, as JSON values."""
        return [
            {
                "role": role,
                "tokens": int(self.count[i]),
                "at": column,
                "value": float(self.value[i, j]),
                "low": float(self.low[i, j]),
                "high": float(self.high[i, j]),
            }
            for i, role in enumerate(self.roles)
            for j, column in enumerate(columns)
        ]


def role_means(values: Float[Tensor, target * what], targets: Targets, *, seed: int = 0) -> RoleMeans:
    """Mean of the targets' values over each role."""
    roles = len(targets.roles)
    rows, row = targets.row.unique(return_inverse=True)
    place = row * roles + targets.role
    sums = values.new_zeros(len(rows) * roles, *values.shape[1:], dtype=torch.float64)
    sums.index_add_(0, place, values.cpu().double())
    counts = torch.bincount(place, minlength=len(rows) * roles).double()
    total = sums.unflatten(0, (len(rows), roles)).numpy()
    number = counts.unflatten(0, (len(rows), roles)).numpy()
    number = number.reshape(*number.shape, *[1] * (values.ndim - 1))
    found = ratio_means(total, number, seed=seed)
    return RoleMeans(
        value=found.value,
        low=found.low,
        high=found.high,
        roles=targets.roles,
        count=targets.role.bincount(minlength=roles).numpy(),
    )


def ratio_means(over: np.ndarray, under: np.ndarray, *, seed: int = 0) -> Means:
    """`Σ over / Σ under` over examples (axis 0), both resampled together.

    NaN where `under` sums to 0, and the ends where it is other than 0 in one example alone.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = over.sum(0) / under.sum(0)
        draws = resampled_means(over, seed=seed) / resampled_means(under, seed=seed)
    # A role that stands in few rows is missing from some of the draws.
    draws = np.where(np.isfinite(draws), draws, value)
    draws[:, np.broadcast_to((under != 0).sum(0) < 2, value.shape)] = np.nan
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Means(value=value, low=low, high=high)
