"""Rows whose name is swapped -> does the answer depend on the instruction or on the schema, and from which depth on?

In a pair the same name stands in the instruction and in the schema, another one in both on the corrupt side. Putting
the corrupt side's tokens into only one of the two places is TinySQL's swap test as an intervention: what the metric
loses is that place's share. The same at later depths shows where the name has gone by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.looking.by_role import Means, part, ratio_means
from circuits.looking.patching import Direction, PatchEffects, patch_roles
from circuits.looking.running import HookedLM
from circuits.metrics import Metric, logit_diff
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.pairs.shortcuts import make_shortcuts
from tinysql.tokens import Tokenizer, TokenPairs, Tokens

ATTEMPTS = 20
"""Rows tried per pair: both names must have equally many tokens."""
PLACES = ("english", "schema")

Slot: TypeAlias = Literal["table", "column"]
"""What is swapped: a table's name or a column's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapTest:
    """What the two places are worth at every depth; depth 0 is the tokens themselves."""

    needed: PatchEffects
    """Corrupt values of one part put into the clean run: what is lost."""
    enough: PatchEffects
    """Clean values of one part put into the corrupt run: what is recovered."""

    @property
    def follows(self) -> Bool[Tensor, "example place"]:
        """Whether the model prefers the new name when only that place (see `PLACES`) of the clean prompt has it."""
        columns = [self.needed.sets.index(place) for place in PLACES]
        return self.needed.values[:, 0][:, columns] < 0

    def follow_shares(self, *, seed: int = 0) -> Means:
        """Share of pairs that follow a swap in the English alone and in the schema alone, `[place]`."""
        values = self.follows.double().numpy()
        return ratio_means(values, torch.ones_like(self.follows).double().numpy(), seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Shares with intervals, as plain JSON values."""
        follow = self.follow_shares()
        return {
            "follows": {
                place: {name: float(getattr(follow, name)[i]) for name in ("value", "low", "high")}
                for i, place in enumerate(PLACES)
            },
            "needed": self.needed.to_json(),
            "enough": self.enough.to_json(),
        }


def swap_test(
    model: HookedLM, pairs: TokenPairs, metric: Metric = logit_diff, *, batch_size: int = 256
) -> SwapTest:
    """Patch the instruction, the schema, the markup and the answer so far, each alone, at every depth, both ways.

    `pairs` come from `swap_pairs`. The metric has to be negative where the corrupt answer is preferred.
    Raises `InputError` for pairs that do not differ in both places, and as `patch_roles`.
    """
    changed = pairs.clean.ids != pairs.corrupt.ids
    found = {part(pairs.clean.roles[i][j]) for i, j in changed.nonzero().tolist()}
    if not found.issuperset(PLACES):
        raise InputError(
            f"the pairs of edit `{pairs.edit}` differ in {', '.join(sorted(found)) or 'nothing'}, "
            "expected a name in the instruction and in the schema",
            hint="make them with circuits.swap_pairs",
        )
    needed, enough = (
        patch_roles(model, pairs, metric, group=part, direction=way, batch_size=batch_size)
        for way in (Direction.NOISE, Direction.DENOISE)
    )
    return SwapTest(needed=needed, enough=enough)


def swap_pairs(tokenizer: Tokenizer, config: DataConfig, slot: Slot, n: int, *, seed: int = 0) -> TokenPairs:
    """`n` pairs whose sides say another table, or another first column, in instruction and schema alike.

    Names of unlike numbers of tokens are passed over. Raises `InputError` when too few rows have such names.
    """
    if n < 1:
        raise InputError(f"n is {n}, expected at least 1 pair")
    found: list[tuple[Tokens, int]] = []
    for index in range(ATTEMPTS * n):
        wanted = (f"{slot}.clean", f"{slot}.both")
        rows = [row.example for row in make_shortcuts(config, index, seed) if row.variant in wanted]
        both = tokenizer.encode(rows)
        position = _parting(both)
        if position is not None:
            found.append((both, position))
        if len(found) == n:
            return _joined(found, f"{slot}.both", tokenizer.pad_id)
    raise InputError(
        f"only {len(found)} of {ATTEMPTS * n} rows have two names of equally many tokens, expected {n}",
        hint="ask for fewer pairs, or choose a lexicon of shorter names",
    )


def _parting(both: Tokens) -> int | None:
    """The position that predicts where two aligned answers part; None for rows that are not aligned."""
    start, lengths = both.answer_start.tolist(), both.mask.sum(1)
    if start[0] != start[1] or both.roles[0][: start[0]] != both.roles[1][: start[0]]:
        return None
    shared = int(lengths.min())
    apart = (both.ids[0, start[0] : shared] != both.ids[1, start[0] : shared]).nonzero()
    return start[0] + int(apart[0]) - 1 if len(apart) else None


def _joined(found: Sequence[tuple[Tokens, int]], edit: str, pad: int) -> TokenPairs:
    width = max(position for _, position in found) + 1
    sides = [_side([(both, at, side) for both, at in found], width, pad) for side in (0, 1)]
    answers = torch.stack([both.ids[:, position + 1] for both, position in found])
    return TokenPairs(
        edit=edit,
        clean=sides[0],
        corrupt=sides[1],
        position=torch.tensor([position for _, position in found]),
        clean_answer=answers[:, 0],
        corrupt_answer=answers[:, 1],
    )


def _side(rows: Sequence[tuple[Tokens, int, int]], width: int, pad: int) -> Tokens:
    ids = torch.full((len(rows), width), pad)
    for row, (both, position, side) in enumerate(rows):
        ids[row, : position + 1] = both.ids[side, : position + 1]
    lengths = torch.tensor([position + 1 for _, position, _ in rows])
    return Tokens(
        ids=ids,
        mask=torch.arange(width) < lengths[:, None],
        roles=tuple((*both.roles[side][: at + 1], *[""] * (width - at - 1)) for both, at, side in rows),
        answer_start=torch.tensor([int(both.answer_start[side]) for both, _, side in rows]),
    )
