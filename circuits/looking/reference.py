"""Reference pairs -> what units usually write: means, means by role, and tokens of a role to draw from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.looking.running import HookedLM, look
from circuits.looking.units import Unit
from saes.roles import family
from tinysql.tokens import TokenPairs, Tokens


class Reference:
    """Values of some units at every real token of the reference's clean prompts, with the families of their roles."""

    def __init__(self, model: HookedLM, batches: Sequence[TokenPairs], units: Sequence[Unit]) -> None:
        hooks = {hook for unit in units for hook in unit.reads}
        found: dict[str, list[Tensor]] = {unit.name: [] for unit in units}
        roles: list[str] = []
        for batch in batches:
            real = _real(batch)
            with torch.no_grad():
                seen = look(model, batch.clean.ids, hooks).at
            for unit in units:
                found[unit.name].append(unit.value(seen)[real])
            roles += [family(batch.clean.roles[i][j]) for i, j in real.nonzero().tolist()]
        self.values = {name: torch.cat(parts) for name, parts in found.items()}
        names = sorted(set(roles))
        self._number = {name: number for number, name in enumerate(names)}
        self._label = torch.tensor([self._number[role] for role in roles])
        self._order = self._label.argsort(stable=True)
        self._counts = self._label.bincount(minlength=len(names))

    def mean(self, unit: Unit) -> Float[Tensor, " width"]:
        """Over all tokens."""
        return self.values[unit.name].mean(0)

    def role_means(self, unit: Unit, tokens: Tokens) -> Float[Tensor, "batch seq width"]:
        """For each token the mean over the reference's tokens of its role; over all, where it has none of that role."""
        values = self.values[unit.name]
        label, counts = self._label.to(values.device), self._counts.to(values.device)
        sums = values.new_zeros(len(self._counts), values.shape[1]).index_add_(0, label, values)
        # The last row is what the label -1 finds.
        table = torch.cat([sums / counts[:, None], self.mean(unit)[None]])
        return table[self._labels(tokens).to(values.device)]

    def drawn(self, unit: Unit, tokens: Tokens, *, seed: int, row: int) -> Float[Tensor, "batch seq width"]:
        """For each token the value at a random reference token of its role; of any, where there is none.

        `row` numbers the first row: the same seed draws the same tokens for every unit, however rows are batched.
        """
        label = self._labels(tokens)
        # A last entry for the label -1: all tokens.
        counts = torch.cat([self._counts, torch.tensor([len(self._order)])])
        starts = torch.cat([self._counts.cumsum(0) - self._counts, torch.tensor([0])])
        shares = [np.random.default_rng((seed, row + i)).random(label.shape[1]) for i in range(len(label))]
        place = starts[label] + (torch.from_numpy(np.stack(shares)) * counts[label]).long()
        values = self.values[unit.name]
        return values[self._order[place].to(values.device)]

    def _labels(self, tokens: Tokens) -> Int[Tensor, "batch seq"]:
        """The number of each token's role; -1 for a role that the reference lacks, and at padding."""
        return torch.tensor([[self._number.get(family(role), -1) for role in row] for row in tokens.roles])


def _real(batch: TokenPairs) -> Tensor:
    """Tokens up to each pair's position: behind it nothing can matter."""
    places = torch.arange(batch.clean.ids.shape[1], device=batch.clean.ids.device)
    return places <= batch.position[:, None]
