"""Roles per token -> columns to score: exact slots, and families that drop the numbers.

A slot is the role as the tokens carry it, `sql.select.0.column`; its family is `sql.select.column`. Families
answer "does a latent mean *a selected column*?", slots "does it mean *the first one*?". A role without numbers
is its own family and gets one column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def family(role: str) -> str:
    """A role without its numbers.

    Example:
        >>> family("sql.select.0.column")
        'sql.select.column'
    """
    return ".".join(part for part in role.split(".") if not part.isdigit())


@dataclass(frozen=True, kw_only=True)
class Grain:
    """One way to label tokens: every token has exactly one of the names."""

    names: tuple[str, ...]
    label: Int[Tensor, " token"]
    """Which name each token has."""

    def at(self, tokens: Int[Tensor, " kept"]) -> Grain:
        """The labels of these tokens, in this order."""
        return replace(self, label=self.label[tokens])

    @property
    def counts(self) -> Int[Tensor, " role"]:
        """How many tokens have each name."""
        return torch.bincount(self.label, minlength=len(self.names))


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Families, slots, and the columns of a table that holds both without repeating a name."""

    families: Grain
    slots: Grain

    @staticmethod
    def of(roles: tuple[str, ...], device: torch.device | str = "cpu") -> Roles:
        """Number the roles of tokens, in alphabetical order."""
        without = {role: family(role) for role in set(roles)}
        return Roles(
            families=_grain([without[role] for role in roles], device), slots=_grain(list(roles), device)
        )

    def at(self, tokens: Int[Tensor, " kept"]) -> Roles:
        """The labels of these tokens, in this order."""
        return Roles(families=self.families.at(tokens), slots=self.slots.at(tokens))

    @property
    def grains(self) -> tuple[Grain, Grain]:
        """Families, then slots: their columns stand side by side in this order."""
        return self.families, self.slots

    @cached_property
    def columns(self) -> list[int]:
        """Which of those columns to keep: slots that have a number are no family's repetition."""
        offset = len(self.families.names)
        own = [offset + i for i, name in enumerate(self.slots.names) if family(name) != name]
        return [*range(offset), *own]

    @cached_property
    def names(self) -> list[str]:
        """The name of each kept column."""
        every = [*self.families.names, *self.slots.names]
        return [every[column] for column in self.columns]

    @property
    def counts(self) -> Int[Tensor, " column"]:
        """Tokens per kept column."""
        return torch.cat([grain.counts for grain in self.grains])[self.columns]

    def wanted(self, column: int) -> Bool[Tensor, " token"]:
        """True at the tokens that have the role of a kept column."""
        number = self.columns[column]
        offset = len(self.families.names)
        if number < offset:
            return self.families.label == number
        return self.slots.label == number - offset


def _grain(roles: list[str], device: torch.device | str) -> Grain:
    names = sorted(set(roles))
    number = {name: i for i, name in enumerate(names)}
    return Grain(names=tuple(names), label=torch.tensor([number[role] for role in roles], device=device))
