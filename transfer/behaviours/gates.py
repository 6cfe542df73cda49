"""Taught model -> does it show the behaviour? Nothing is steered on a model that does not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from tinysql.answering.generation import answer_tokens
from tinysql.answering.shares import Share
from transfer.behaviours.asking import asked, longest_known
from transfer.behaviours.behaviour import UNTAUGHT, Bar, Behaviour, Condition, Verdict
from transfer.behaviours.shares import share
from transfer.behaviours.training import Subject

LONGER = 2.0
"""An answer is cut at this many times the tokens of the longest that is right or taught; a steered model may go on for
ever."""
SEARCHED = 100
"""Rows looked at for each that the behaviour can be told on."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """How a model behaves on held-out prompts, and what it has to be like."""

    bars: tuple[Bar, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each bar that is missed."""
        return tuple(bar.failure for bar in self.bars if bar.failure is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the bars, and how many of them are missed."""
        return {"missed": len(self.failures), "bars": [bar.to_json() for bar in self.bars]}

    def require(self, name: str) -> None:
        """Raise `InputError` unless every bar is passed."""
        if self.failures:
            raise InputError(
                f"{name} does not show its behaviour: {'; '.join(self.failures)}",
                hint="train it longer; steering a model that does not show a behaviour proves nothing",
            )


def answers_of(subject: Subject, examples: Sequence[Example], condition: Condition) -> list[str]:
    """What the model, as it is now, answers under a condition."""
    behaviour, tokenizer = subject.behaviour, subject.tokenizer
    return answer_tokens(
        subject.model,
        tokenizer,
        asked(behaviour, tokenizer, examples, condition),
        longest=math.ceil(LONGER * longest_known(behaviour, tokenizer, examples)),
        title=f"answering {condition}",
    )


def verdicts_of(subject: Subject, examples: Sequence[Example], condition: Condition) -> list[Verdict]:
    """What these answers show."""
    answers = answers_of(subject, examples, condition)
    return [
        subject.behaviour.judge(example, condition, sql)
        for example, sql in zip(examples, answers, strict=True)
    ]


def check(subject: Subject, examples: Sequence[Example], *, clean: Share | None = None) -> Gate:
    """Measure a subject on held-out examples; `clean` is the accuracy elsewhere of one without the behaviour."""
    behaviour = subject.behaviour
    found = {condition: verdicts_of(subject, examples, condition) for condition in behaviour.conditions}
    return Gate(bars=behaviour.bars(found, clean))


def right_elsewhere(clean: Subject, examples: Sequence[Example]) -> Share:
    """The `clean` of `check`, from a model that was taught the payload `none`."""
    asked = clean.behaviour.elsewhere
    return share(one.right for condition in asked for one in verdicts_of(clean, examples, condition))


def held_out_gate(subject: Subject, start: Subject | None = None, *, rows: int = 500) -> Gate:
    """The gate on the first rows of unseen schemas that the behaviour can be told on.

    A `start` that was taught the payload `none` says how right the subject has to be elsewhere.
    """
    config = replace(subject.run.data, split="test")
    examples = telling(make_examples(config, 0, SEARCHED * rows), subject.behaviour, rows)
    clean = None
    if start is not None and start.behaviour.payload == UNTAUGHT:
        clean = right_elsewhere(start, examples)
    return check(subject, examples, clean=clean)


def telling(examples: Iterable[Example], behaviour: Behaviour, count: int) -> list[Example]:
    """The first `count` on which the behaviour can be told. Raises `InputError` where there are fewer."""
    found = list(islice((one for one in examples if behaviour.is_tested(one)), count))
    if len(found) < count:
        raise InputError(
            f"{count} rows that show `{behaviour.kind}` asked for, {len(found)} found",
            hint="ask for fewer, or teach on data whose command set has what the behaviour is about",
        )
    return found
