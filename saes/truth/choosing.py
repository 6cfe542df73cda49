"""Dictionaries of one hook -> the one to keep: by how well latents match roles, and then by what is reconstructed.

All are scored on the same held-out tokens, and the examples are drawn again together, so that the difference between
two has an interval of its own: what makes some examples hard for both does not widen it. Of those that cannot be told
from the one that covers most, the one that leaves the least variance unexplained is kept.

Each is compared with that one alone and at 95 %, whatever their number, and for detectors as chosen: among many, some
that are as good will be told apart by chance, and with few examples worse ones will not be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_gen.errors import InputError
from data_gen.files import read_json
from saes.activations import described
from saes.disk import SAE
from saes.places import CHOICE, WEIGHTS
from saes.training.cross_layer import CrossLayerTranscoder
from saes.truth.scoring import Draws, Scores
from saes.truth.watching import RoleWatch
from tinysql.config import from_json, to_json
from tinysql.written import mended_by

TOLD_APART = (0.025, 0.975)
"""Two are told apart where 0 lies outside of these quantiles of their difference."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One dictionary on the held-out tokens."""

    name: str
    coverage: float
    """Mean over role families of the best latent's F1."""
    coverage_interval: tuple[float, ...]
    slot_coverage: float
    """The same over exact slots."""
    slot_coverage_interval: tuple[float, ...]
    fvu: float
    """Fraction of variance unexplained."""
    l0: float
    """Mean number of active latents per token."""
    behind: float
    """The coverage of the one that covers most, less its own."""
    behind_interval: tuple[float, ...]
    """95 %, over examples that are drawn for both together; for detectors as chosen, as all of these are."""
    is_level: bool
    """Whether that interval reaches down to 0: it cannot be told from the one that covers most."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The dictionary to keep, and all candidates from the one that covers most down."""

    chosen: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        width = max(len("name"), *(len(one.name) for one in self.candidates))
        lines = [
            f"  {'name':<{width}}  coverage     95 % interval  behind     95 % interval  slots    FVU     L0"
        ]
        for one in self.candidates:
            mark = "*" if one.name == self.chosen else "=" if one.is_level else " "
            lines.append(
                f"{mark} {one.name:<{width}}  {one.coverage:8.3f}  {_span(one.coverage_interval)}  {one.behind:6.3f}"
                f"  {_span(one.behind_interval)}  {one.slot_coverage:5.3f}  {one.fvu:5.3f}  {one.l0:5.1f}"
            )
        level, several = sum(one.is_level for one in self.candidates), len(self.candidates) > 1
        why = f"the least FVU of the {level} whose coverage cannot be told from the highest (=)"
        alone = "its coverage is the highest, told apart from all others" if several else "the only one"
        lines.append(f"* chosen: {why if level > 1 else alone}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return to_json(self)

    @staticmethod
    def from_json(values: dict[str, Any], where: str = "choice.json") -> Choice:
        """Read what `to_json` gave; `InputError` naming `where` otherwise."""
        choice = from_json(Choice, values, where=where)
        if choice.chosen not in (one.name for one in choice.candidates):
            raise InputError(
                f"{where}: `{choice.chosen}` is chosen, which is none of the candidates",
                hint="restore the file, or train the grid again with --overwrite",
            )
        return choice


def read_choice(file: Path) -> Choice:
    """What `tinysql sae train --grid` left in a RUN/saes/NAME.choice.json; `InputError` for one that is damaged."""
    run, name = file.parents[1], file.name.removesuffix(CHOICE)
    with mended_by(
        file,
        hint=f"remove it, or train the grid again, as it was, with `tinysql sae train {run} --name {name} "
        "--grid FIELD=VALUES --overwrite`",
    ):
        values = read_json(file)
        for about in (WEIGHTS, "made_by"):
            values.pop(about, None)
        return Choice.from_json(values, where=str(file))


def choose(dictionaries: Mapping[str, SAE | CrossLayerTranscoder], watch: RoleWatch) -> Choice:
    """Score dictionaries of any form by name, and choose.

    A choice among many is a little too good on the tokens it was made on: report what is chosen on others (`truth`).
    Raises `InputError` where there is nothing to choose from, such as latents that never fire, for reconstructions that
    are not finite, and for a dictionary of another hook, width or form than `watch` reads.

    Example:
        >>> made = saes.train_grid(activations, saes.grid(saes.SAEConfig(), architecture=("topk", "jumprelu")))
        >>> saes.choose({name: one.sae for name, one in made.items()}, watch).chosen
        'architecture=topk'
    """
    _check_given(dictionaries, watch)
    if not dictionaries:
        raise InputError("there is no dictionary to choose from", hint="give at least one by its name")
    scored = {name: watch.scores(dictionary) for name, dictionary in dictionaries.items()}
    for name, (scores, _) in scored.items():
        if scores.fvu is None or not math.isfinite(scores.fvu):
            raise InputError(
                f"`{name}` makes NaN or infinity of some of the tokens it is scored on",
                hint="its weights are damaged: leave it out, or train it again with a lower lr",
            )
    best = max(scored, key=lambda name: scored[name][0].coverage)
    if scored[best][0].l0 == 0:
        raise InputError(
            f"no latent of any of the {len(scored)} dictionaries fires at the tokens they are scored on",
            hint="score them on the hook they were trained on, or train them again with a lower lr or sparsity",
        )
    candidates = sorted(
        (_candidate(name, *of_one, *scored[best]) for name, of_one in scored.items()),
        key=lambda one: one.behind,
    )
    chosen = min((one for one in candidates if one.is_level), key=lambda one: one.fvu)
    return Choice(chosen=chosen.name, candidates=tuple(candidates))


def _check_given(dictionaries: object, watch: object) -> None:
    named = isinstance(dictionaries, Mapping)
    ones = list(dictionaries.values()) if isinstance(dictionaries, Mapping) else []
    wrong = [one for one in ones if not isinstance(one, torch.nn.Module | CrossLayerTranscoder)]
    wrong += [] if named else [dictionaries]
    wrong += [] if isinstance(watch, RoleWatch) else [watch]
    if wrong:
        raise InputError(
            f"`choose` was given {described(wrong[0])}, expected dictionaries by their names and a RoleWatch",
            hint="as in saes.choose({name: one.sae for name, one in made.items()}, watch)",
        )


def _candidate(name: str, scores: Scores, draws: Draws, best: Scores, best_draws: Draws) -> Candidate:
    low, high = np.nanquantile(best_draws - draws, TOLD_APART).tolist()
    assert scores.fvu is not None, "`RoleWatch.scores` measures it"
    return Candidate(
        name=name,
        coverage=scores.coverage,
        coverage_interval=scores.coverage_interval,
        slot_coverage=scores.slot_coverage,
        slot_coverage_interval=scores.slot_coverage_interval,
        fvu=scores.fvu,
        l0=scores.l0,
        behind=best.coverage - scores.coverage,
        behind_interval=(low, high),
        is_level=low <= 0,
    )


def _span(interval: tuple[float, ...]) -> str:
    low, high = interval
    return f"{low:6.3f} to {high:6.3f}"
