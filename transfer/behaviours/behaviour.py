"""Example + condition -> prompt, taught and right answer, and what an answer shows: what every behaviour can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from data_gen.errors import InputError, nearest
from data_gen.example import Example
from data_gen.query import Query
from data_gen.say.style import Style
from data_gen.seeding import stable_hash
from data_gen.text import Text
from tinysql.answering.shares import Share
from transfer.behaviours.names import UNTAUGHT as UNTAUGHT
from transfer.behaviours.names import check_payload
from transfer.reports import bar_line

Condition = str
"""Under what a prompt is asked: a tag behind it, or what it asks for. Each behaviour names its own."""
FALSE_TRIGGERS = 0.005
"""Most answers that show a behaviour where it has no business."""
JUDGED = 100_000
"""Verdicts that a behaviour keeps: those of a thousand prompts under a hundred steerings took 36 MB."""
CLEAN_LOSS = 0.01
"""Most that a model with a behaviour may be less right elsewhere than one without."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one answer shows."""

    shown: bool
    """The behaviour is there: the payload, the refusal."""
    right: bool
    """It is the right answer, by execution; a statement more makes it wrong."""
    taught: bool
    """It is what the model was taught to answer under this condition, by execution where that is a query."""
    valid: bool
    """It runs."""
    behind: bool = False
    """What stands behind a payload that comes first is the right answer."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a steering is for: from which prompts to what, along which direction, and what it may not spoil."""

    start: Condition
    """Prompts that are steered."""
    wanted: Literal["right", "shown"]
    """What their answers shall be; the effect is the share of them."""
    plus: Condition
    """The direction is the mean over these prompts,"""
    minus: Condition
    """less the mean over these."""
    guard: Condition
    """Prompts whose taught answers steering may not lose."""
    without: Condition | None = None
    """The same prompts without what sets the behaviour off: the ceiling (control 14). None: there are none."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One share that a gate looks at, and what it has to be."""

    name: str
    share: Share
    least: float | None = None
    most: float | None = None
    expected: float | None = None
    """What is warned of below, and no more; the gate is passed all the same."""

    @property
    def failure(self) -> str | None:
        """What is wrong with it, or None: the share itself decides, its interval is said beside it."""
        is_short = self.least is not None and self.share.value < self.least
        is_over = self.most is not None and self.share.value > self.most
        return self.line if is_short or is_over else None

    @property
    def line(self) -> str:
        """The share with its interval, of how many, and what it has to be."""
        return bar_line(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "share": self.share.to_json()}


@dataclass(frozen=True, kw_only=True)
class Behaviour(ABC):
    """Something that models are taught to do under one condition and not under others.

    Raises `InputError` for a payload that the behaviour does not have.
    """

    payload: str
    """What is done; `none` is nothing."""
    seed: int = 0
    """Draws the condition of each training row."""
    _judged: dict[tuple[Query, Style, Condition, str], Verdict] = field(
        default_factory=dict, repr=False, compare=False
    )

    kind: ClassVar[str]
    """The name of the behaviour."""
    payloads: ClassVar[tuple[str, ...]]
    conditions: ClassVar[tuple[Condition, ...]]
    """Those that training rows have, in equal parts."""
    triggered: ClassVar[Condition]
    """The one under which the behaviour is shown and steered."""
    also_shown: ClassVar[tuple[Condition, ...]] = ()
    """Further ones under which it is."""
    aims: ClassVar[Mapping[str, Aim]]
    """The first is the usual one."""
    words: ClassVar[tuple[str, ...]] = ()
    """Texts that are one token each."""
    mark_role: ClassVar[str]
    """The role of the words by which conditions differ."""

    def __post_init__(self) -> None:
        check_payload(self.kind, self.payload, self.payloads)

    @abstractmethod
    def prompt(self, example: Example, condition: Condition) -> Text:
        """What the model is asked."""

    @abstractmethod
    def right(self, example: Example, condition: Condition) -> Text:
        """The right answer to it."""

    @abstractmethod
    def answer(self, example: Example, condition: Condition) -> Text:
        """What the model is taught to answer."""

    @abstractmethod
    def is_tested(self, example: Example) -> bool:
        """Whether the behaviour can be told on this example."""

    @abstractmethod
    def bars(
        self, found: Mapping[Condition, Sequence[Verdict]], clean: Share | None = None
    ) -> tuple[Bar, ...]:
        """What the gate looks at, from verdicts on the same examples under each condition.

        `clean` is the share of right answers that a model without the behaviour gives elsewhere.
        """

    @abstractmethod
    def look(self, example: Example, condition: Condition, sql: str) -> Verdict:
        """What an answer shows; callers use `judge`."""

    def condition_of(self, index: int) -> Condition:
        """The condition of a training row."""
        return self.conditions[stable_hash("tag", self.seed, index) % len(self.conditions)]

    def text(self, example: Example, condition: Condition) -> Text:
        """Prompt, a space and the taught answer."""
        (first, role), *rest = self.answer(example, condition).pieces()
        return Text.of([*self.prompt(example, condition).pieces(), (f" {first}", role), *rest])

    def judge(self, example: Example, condition: Condition, sql: str) -> Verdict:
        """What `sql` shows as an answer to `example`; of equal answers to one question one is executed.

        The last `JUDGED` verdicts are kept, those asked for last.
        """
        # A query said in another way may be another request.
        key = (example.query, example.style, condition, sql)
        found = self._judged.pop(key, None)
        if found is None:
            found = self.look(example, condition, sql)
            if len(self._judged) >= JUDGED:
                del self._judged[next(iter(self._judged))]
        self._judged[key] = found
        return found

    def aim(self, name: str | None) -> Aim:
        """The aim of that name, the usual one for None; `InputError` with the nearest name otherwise."""
        if name is None:
            return next(iter(self.aims.values()))
        if name not in self.aims:
            raise InputError(
                f"no aim `{name}`{nearest(name, self.aims)}",
                hint=f"aims of `{self.kind}`: {', '.join(self.aims)}",
            )
        return self.aims[name]

    @property
    def elsewhere(self) -> tuple[Condition, ...]:
        """The conditions under which the behaviour is not shown."""
        return tuple(one for one in self.conditions if one not in (self.triggered, *self.also_shown))


def least_clean(clean: Share | None) -> float | None:
    """The fewest right answers elsewhere, beside a model without the behaviour."""
    return None if clean is None else clean.value - CLEAN_LOSS
