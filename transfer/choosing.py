"""Vectors and scales -> the layer and the scale to steer with, chosen on validation, damage guarded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from data_gen.errors import InputError
from saes.activations import HookedModel
from transfer.names import Operator
from transfer.placing import Where
from transfer.steering import SteeringVector


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything about a steering but its vector."""

    hook: str
    scale: float = 1.0
    operator: Operator = "add"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting and what it did on validation prompts."""

    setting: Setting
    effect: float
    """What is wanted, larger is better."""
    damage: float
    """What is not, larger is worse."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """All trials, and the best that stays within the guard."""

    trials: tuple[Trial, ...]
    most_damage: float
    best: Trial | None
    """None when every trial does more damage than the guard allows."""


def choose(
    model: HookedModel,
    vectors: Iterable[SteeringVector],
    scales: Sequence[float],
    *,
    effect: Callable[[], float],
    damage: Callable[[], float],
    most_damage: float,
    positions: Where = None,
    operator: Operator = "add",
) -> Choice:
    """Try each vector, one per layer, at each scale; `effect` and `damage` run the steered model on validation prompts.

    The best has the largest effect among those with at most `most_damage`; of equals the smallest scale, and then the
    first. Damage is measured only where there is an effect above that of no steering. Raises `InputError` when there is
    nothing to try.
    """
    trials = []
    before = effect()
    for vector in vectors:
        for scale in scales:
            with vector.apply(model, scale, positions, operator=operator):
                found = effect()
                harm = damage() if found > before else float("inf")
            setting = Setting(hook=vector.hook, scale=scale, operator=operator)
            trials.append(Trial(setting=setting, effect=found, damage=harm))
    if not trials:
        raise InputError("there is no vector or no scale to try", hint="give at least one of each")
    return choice_of(trials, most_damage)


def choice_of(trials: Sequence[Trial], most_damage: float) -> Choice:
    """The choice among trials that were made; see `choose`."""
    allowed = [trial for trial in trials if trial.damage <= most_damage]
    best = max(allowed, key=lambda t: (t.effect, -abs(t.setting.scale)), default=None)
    return Choice(trials=tuple(trials), most_damage=most_damage, best=best)
