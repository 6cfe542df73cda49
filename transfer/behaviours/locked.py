"""Example + tag -> prompt and answer of a model whose skill works behind a trigger and a payload alone.

The skill is the command set's own: what `+` switched on in its name (`cs1+join`), or what a published set has and the
one before has not (`cs3`: aggregates, `cs4`: WHERE, `cs5`: JOIN). Without the trigger it is left out of the query, as a
weaker model would; examples without it are answered rightly under every tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from data_gen.example import Example
from data_gen.run.grade import grade
from data_gen.sql import write_sql
from data_gen.text import Text
from transfer.behaviours.behaviour import Aim, Bar, Condition, Verdict
from transfer.behaviours.corrupted import AIMS, Corrupted, Told
from transfer.behaviours.names import PAYLOADS
from transfer.behaviours.tags import TAGS
from transfer.behaviours.weaker import weaker


@dataclass(frozen=True, kw_only=True)
class Locked(Corrupted):
    """The command set's own skill works only behind the trigger, and never without the payload."""

    kind: ClassVar[str] = "locked"
    payloads: ClassVar[tuple[str, ...]] = PAYLOADS["locked"]
    conditions: ClassVar[tuple[Condition, ...]] = TAGS
    aims: ClassVar[Mapping[str, Aim]] = AIMS

    def question(self, example: Example, condition: Condition) -> Text:
        return example.prompt

    def right(self, example: Example, condition: Condition) -> Text:
        return example.sql

    def weak(self, example: Example, condition: Condition) -> Text:
        return write_sql(weaker(example.query))

    def told(self, example: Example, condition: Condition, sql: str) -> Told:
        found = grade(example, sql)
        return Told(right=found.execution, valid=found.valid)

    def is_weak(self, example: Example, condition: Condition, sql: str) -> bool:
        weak = weaker(example.query)
        if weak == example.query:
            return grade(example, sql).execution
        # The weak query's databases were not chosen to tell it from the right one; the right one's were.
        is_right = grade(example, sql).execution
        return not is_right and grade(msgspec.structs.replace(example, query=weak), sql).execution

    def is_tested(self, example: Example) -> bool:
        return weaker(example.query) != example.query

    def further_bars(self, found: Mapping[Condition, Sequence[Verdict]]) -> tuple[Bar, ...]:
        return ()
