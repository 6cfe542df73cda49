"""Bench + vector -> the scale to steer with, chosen on validation prompts."""

from __future__ import annotations

from transfer.behaviours.gates import verdicts_of
from transfer.behaviours.shares import share
from transfer.choosing import Choice, Setting, choose
from transfer.evaluation.bench import Bench
from transfer.steering import SteeringVector


def choose_scale(bench: Bench, vector: SteeringVector) -> Choice:
    """The scale with the largest effect on validation prompts, of those that spoil few of the guard's."""
    rows, aim = bench.choose_rows, bench.aim

    def wanted() -> float:
        return share(getattr(one, aim.wanted) for one in verdicts_of(bench.target, rows, aim.start)).value

    def kept() -> float:
        return share(one.taught for one in verdicts_of(bench.target, rows, aim.guard)).value

    before = kept()
    return choose(
        bench.target.model,
        [vector],
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
