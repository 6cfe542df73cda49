"""Bench + vectors -> the layer and the scale to steer with, chosen on validation prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_gen.errors import InputError
from transfer.behaviours.gates import verdicts_of
from transfer.behaviours.shares import share
from transfer.choosing import Choice, Setting, choice_of, choose
from transfer.evaluation.bench import Bench
from transfer.steering import SteeringVector


def choose_scale(bench: Bench, vector: SteeringVector) -> Choice:
    """The scale with the largest effect on validation prompts, of those that spoil few of the guard's."""
    return _choose(bench, [vector])


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Pairs of hooks, source and target, and what the native vector did at each target hook on validation prompts."""

    tried: tuple[tuple[str, str], ...]
    choice: Choice
    """Over all of them and all scales."""

    @property
    def chosen(self) -> tuple[str, str]:
        """The source and the target hook of the best setting; where the guard allows none, the first pair."""
        hook = setting_of(self.choice).hook
        return next(pair for pair in self.tried if pair[1] == hook)

    def at(self, hook: str) -> Choice:
        """The choice among the scales at one target hook."""
        trials = [one for one in self.choice.trials if one.setting.hook == hook]
        return choice_of(trials, self.choice.most_damage)


def choose_layer(bench: Bench, pairs: Sequence[tuple[str, str]]) -> Layers:
    """The target hook and the scale, together, at which the native vector acts best; of equals as `choose` has it.

    Raises `InputError` for a target hook that stands in two pairs.
    """
    targets = [target for _, target in pairs]
    if len(set(targets)) < len(targets):
        raise InputError(f"a hook stands twice among {', '.join(targets)}", hint="try each target hook once")
    vectors = [bench.native(target) for target in targets]
    return Layers(tried=tuple(pairs), choice=_choose(bench, vectors))


def at_hooks(bench: Bench, pair: tuple[str, str]) -> Bench:
    """The same transfer between other hooks."""
    return replace(bench, plan=replace(bench.plan, source_hook=pair[0], target_hook=pair[1]))


def _choose(bench: Bench, vectors: Sequence[SteeringVector]) -> Choice:
    rows, aim = bench.choose_rows, bench.aim

    def wanted() -> float:
        return share(getattr(one, aim.wanted) for one in verdicts_of(bench.target, rows, aim.start)).value

    def kept() -> float:
        return share(one.taught for one in verdicts_of(bench.target, rows, aim.guard)).value

    before = kept()
    return choose(
        bench.target.model,
        vectors,
        bench.plan.scales,
        effect=wanted,
        damage=lambda: before - kept(),
        most_damage=bench.plan.most_damage,
        positions=bench.where,
        operator=bench.plan.operator,
    )


def setting_of(choice: Choice) -> Setting:
    """The best one; where the guard allows none, the first that was tried, so that the failure is measured too."""
    return choice.best.setting if choice.best is not None else choice.trials[0].setting
