"""Base and fine-tuned subject -> how well each arm switches between them, and whether the map is a switch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.text import Text
from tinysql.answering.shares import Share
from transfer.alignment import read
from transfer.asked import check_switch
from transfer.behaviours.gates import SEARCHED, answers_of, check, right_elsewhere, telling
from transfer.behaviours.shares import share
from transfer.behaviours.training import Subject
from transfer.parts import NOTHING_KEPT, Parts, Say, counted
from transfer.switching.arms import Arm, arms, count_of
from transfer.switching.plan import SwitchPlan
from transfer.switching.switch import Switch
from transfer.switching.weights import check_pair

FAR = 1 << 43
"""Where rows begin that no model was trained on."""
LEAST_REDUCTION, MOST_OFF_DIRECT, LEAST_AGREEMENT, MOST_SHARE, MOST_OOD_DROP = 0.6, 0.05, 0.9, 0.01, 0.05
TIMED = 7
"""Passes of which the median is taken."""


@dataclass(frozen=True, kw_only=True)
class ArmReport:
    """What the fine-tuned model does with one arm on; `off` and `base` stand beside the arms."""

    name: str
    shown: Share
    """The behaviour, under its condition."""
    right: Share
    """Right answers there."""
    agreement: Share
    """The base's own answer, word for word, under every condition."""
    elsewhere: Share
    """Right answers under the other conditions."""
    ood: Share
    """Right answers to prompts of the plan's unseen split, under the other conditions."""
    parameters: int
    parameter_share: float
    """Of those of the model."""
    microseconds: float
    """Of a forward pass, per token."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that a switch has to do."""

    name: str
    value: float
    needed: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class SwitchReport:
    """Everything that was measured of one switch."""

    arms: tuple[ArmReport, ...]
    off_is_identical: bool
    """Whether the logits after switching on and off again are the fine-tuned model's own, to the last bit."""
    requirements: tuple[Requirement, ...]

    @property
    def verdict(self) -> str:
        """`switch`, or `no switch`."""
        return "switch" if all(one.passed for one in self.requirements) else "no switch"

    def arm(self, name: str) -> ArmReport:
        """The arm of that name."""
        return next(one for one in self.arms if one.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        shares = ("shown", "right", "agreement", "elsewhere", "ood")
        return {
            "arms": [
                {**asdict(one), **{name: getattr(one, name).to_json() for name in shares}}
                for one in self.arms
            ],
            "off_is_identical": self.off_is_identical,
            "requirements": [asdict(one) for one in self.requirements],
            "verdict": self.verdict,
        }


def measure_switch(
    base: Subject,
    tuned: Subject,
    plan: SwitchPlan,
    *,
    say: Say = lambda _: None,
    parts: Parts = NOTHING_KEPT,
) -> tuple[Switch, SwitchReport]:
    """Fit the map of a switch and measure it beside every other arm.

    Raises `InputError` when the two are no base and fine-tuned model of one behaviour, or fail its gate.
    """
    check_pair(tuned.model, base.model)
    check_switch(base.taught, tuned.taught, plan.hook)
    if base.tokenizer.backend.to_str() != tuned.tokenizer.backend.to_str():
        raise InputError(
            f"{base.run.path} and {tuned.run.path} have different tokenizers",
            hint="teach the second with `tinysql transfer teach --start` of the first",
        )
    rows = _rows(tuned, plan, "test", 0, plan.test_rows)
    some = rows[: max(2, len(rows) // 5)]
    gate = check(tuned, some, clean=right_elsewhere(base, some))
    gate.require(f"the fine-tuned model ({tuned.run.path})")
    return measure_arms(base, tuned, plan, rows, say=say, parts=parts)


def measure_arms(
    base: Subject,
    tuned: Subject,
    plan: SwitchPlan,
    rows: Sequence[Example],
    *,
    say: Say = lambda _: None,
    parts: Parts = NOTHING_KEPT,
) -> tuple[Switch, SwitchReport]:
    """`measure_switch` behind its gate."""
    say = counted(say, 1 + count_of(tuned.model))
    say("fitting the map")
    answers = _texts(base, tuned, plan)
    switch = _fitted(base, tuned, answers, plan)
    texts = [tuned.behaviour.text(row, tuned.behaviour.triggered) for row in rows[:64]]
    ids = read(tuned.tokenizer, texts).tokens.ids.to(tuned.model.device)
    with torch.no_grad():
        before = tuned.model(ids)
    judged = _Judge(base, tuned, rows, _rows(tuned, plan, plan.unseen, 0, plan.ood_rows), ids)
    off = Arm(name="off", on=nullcontext, parameters=0)
    found = [parts.find(off.name, ArmReport, partial(judged.report, off))]
    taught = read(tuned.tokenizer, answers)
    for arm in arms(switch, base.model, taught, steps=plan.lora_steps, seed=plan.seed):
        say(arm.name)
        found.append(parts.find(arm.name, ArmReport, partial(judged.report, arm)))
    with torch.no_grad():
        is_identical = bool(torch.equal(tuned.model(ids), before))
    report = SwitchReport(
        arms=tuple(found), off_is_identical=is_identical, requirements=_requirements(found, is_identical)
    )
    return switch, report


def fit_switch(base: Subject, tuned: Subject, plan: SwitchPlan) -> Switch:
    """The map, on texts under every condition with the base's answers: what the model writes with the switch on."""
    return _fitted(base, tuned, _texts(base, tuned, plan), plan)


def _fitted(base: Subject, tuned: Subject, texts: Sequence[Text], plan: SwitchPlan) -> Switch:
    return Switch.of(
        tuned.model,
        base.model,
        tuned.tokenizer,
        texts,
        plan.hook,
        method=plan.method,
        rank=plan.rank,
        seed=plan.seed,
    )


def _texts(base: Subject, tuned: Subject, plan: SwitchPlan) -> list[Text]:
    asked = base.behaviour.conditions
    rows = _rows(tuned, plan, "train", FAR, plan.map_rows)
    return [base.behaviour.text(row, asked[i % len(asked)]) for i, row in enumerate(rows)]


def _rows(subject: Subject, plan: SwitchPlan, split: Split, first: int, count: int) -> list[Example]:
    config = replace(subject.run.data, split=split, seed=plan.seed)
    return telling(make_examples(config, first, first + SEARCHED * count), subject.behaviour, count)


class _Judge:
    """What does not change from arm to arm: the rows, and what the base answers to them."""

    def __init__(
        self,
        base: Subject,
        tuned: Subject,
        rows: Sequence[Example],
        ood: Sequence[Example],
        ids: torch.Tensor,
    ) -> None:
        self.tuned, self.rows, self.ood, self.ids = tuned, rows, ood, ids
        self.total = sum(one.numel() for one in tuned.model.parameters())
        self.own = {one: answers_of(base, rows, one) for one in tuned.behaviour.conditions}

    def report(self, arm: Arm) -> ArmReport:
        """The fine-tuned model with one arm on."""
        behaviour = self.tuned.behaviour
        with arm.on():
            given = {one: answers_of(self.tuned, self.rows, one) for one in behaviour.conditions}
            ood = {one: answers_of(self.tuned, self.ood, one) for one in behaviour.elsewhere}
        triggered = self._judged(self.rows, {behaviour.triggered: given[behaviour.triggered]})
        others = self._judged(self.rows, {one: given[one] for one in behaviour.elsewhere})
        return ArmReport(
            name=arm.name,
            shown=share(one.shown for one in triggered),
            right=share(one.right for one in triggered),
            agreement=share(
                a == b for one in behaviour.conditions for a, b in zip(given[one], self.own[one], strict=True)
            ),
            elsewhere=share(one.right for one in others),
            ood=share(one.right for one in self._judged(self.ood, ood)),
            parameters=arm.parameters,
            parameter_share=arm.parameters / self.total,
            microseconds=self._time(arm.on),
        )

    def _judged(self, rows: Sequence[Example], answers: dict[str, list[str]]) -> list[Any]:
        judge = self.tuned.behaviour.judge
        return [
            judge(row, condition, sql)
            for condition, given in answers.items()
            for row, sql in zip(rows, given, strict=True)
        ]

    @torch.no_grad()
    def _time(self, on: Callable[[], AbstractContextManager[None]]) -> float:
        """Median processor time of a pass, so that what else the machine does counts for little; on a GPU wall time."""
        is_gpu = self.ids.is_cuda
        clock = time.perf_counter if is_gpu else time.process_time
        found = []
        with on():
            for _ in range(TIMED):
                if is_gpu:
                    torch.cuda.synchronize()
                start = clock()
                self.tuned.model(self.ids)
                if is_gpu:
                    torch.cuda.synchronize()
                found.append(clock() - start)
        return sorted(found)[TIMED // 2] / self.ids.numel() * 1e6


def _requirements(found: Sequence[ArmReport], is_identical: bool) -> tuple[Requirement, ...]:
    off, mapped, direct = (
        next(one for one in found if one.name == name) for name in ("off", "map", "direct patch")
    )
    reduction = 1 - mapped.shown.value / off.shown.value if off.shown.value else 0.0
    behind = abs(mapped.shown.value - direct.shown.value)
    drop = off.ood.value - mapped.ood.value
    values = (
        (
            "reduction of the behaviour",
            reduction,
            f"at least {LEAST_REDUCTION}",
            reduction >= LEAST_REDUCTION,
        ),
        ("distance to the direct patch", behind, f"at most {MOST_OFF_DIRECT}", behind <= MOST_OFF_DIRECT),
        (
            "agreement with the base",
            mapped.agreement.value,
            f"at least {LEAST_AGREEMENT}",
            mapped.agreement.value >= LEAST_AGREEMENT,
        ),
        (
            "share of parameters",
            mapped.parameter_share,
            f"at most {MOST_SHARE}",
            mapped.parameter_share <= MOST_SHARE,
        ),
        ("loss on unseen prompts", drop, f"at most {MOST_OOD_DROP}", drop <= MOST_OOD_DROP),
        ("logits differ when off", float(not is_identical), "no", is_identical),
    )
    return tuple(
        Requirement(name=name, value=value, needed=needed, passed=passed)
        for name, value, needed, passed in values
    )
