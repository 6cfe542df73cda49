"""Tokens with their roles -> a judge of any latents at them: an SAE's, a control's, those of one in training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from data_gen.errors import InputError
from saes.activations import Activations
from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.scoring import Draws, Halves, Scores, Table, by_half, score, scored, tabulate


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What every set of latents is scored against."""

    roles: Roles
    halves: Halves
    seed: int

    @staticmethod
    def of(activations: Activations, seed: int) -> Judge:
        """The examples dealt into halves; `InputError` for too few of them to score any role."""
        device = activations.values.device
        judge = Judge(
            roles=Roles.of(activations.roles, device),
            halves=Halves.of(activations.example.to(device), seed),
            seed=seed,
        )
        if len(judge.skipped) == len(judge.roles.names):
            raise InputError("no role has enough tokens to be scored", hint="give more examples")
        return judge

    @cached_property
    def sides(self) -> tuple[Roles, Roles]:
        """The roles of the tokens to choose on, and of those to measure on."""
        return self.roles.at(self.halves.choose), self.roles.at(self.halves.measure)

    @cached_property
    def skipped(self) -> tuple[str, ...]:
        """Roles with too few tokens to be scored."""
        kept = scored(*self.sides).tolist()
        return tuple(name for name, keep in zip(self.roles.names, kept, strict=True) if not keep)

    def table(self, parts: tuple[Firings, Firings], roles: Roles | None = None) -> Table:
        """Every latent against every role, or against other `roles` of the same tokens."""
        choose, measure = self._sides(roles)
        return tabulate(parts, choose, measure)

    def score(
        self,
        name: str,
        parts: tuple[Firings, Firings],
        table: Table,
        fvu: float | None = None,
        roles: Roles | None = None,
    ) -> tuple[Scores, Draws]:
        """What the best latent of every role reaches, and its coverage in every resample of the examples.

        These are the same examples for whatever this judge is given.
        """
        return score(name, parts, table, self._sides(roles)[1], self.halves, fvu=fvu, seed=self.seed)

    def __call__(self, name: str, firings: Firings, fvu: float | None = None) -> Scores:
        parts = by_half(firings, self.halves)
        return self.score(name, parts, self.table(parts), fvu)[0]

    def _sides(self, roles: Roles | None) -> tuple[Roles, Roles]:
        return self.sides if roles is None else (roles.at(self.halves.choose), roles.at(self.halves.measure))
