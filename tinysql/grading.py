"""Answers -> grades: how often a model's SQL is right, by text, by tree, by execution and by clause."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_gen.example import DataConfig, Example, make_example
from data_gen.grade import Grade, grade
from tinysql.generation import answer
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.tokens import Tokenizer

WRONG_SHOWN = 20
"""How many wrong answers a report keeps."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A proportion of rows with its Wilson 95 % interval."""

    right: int
    total: int

    @property
    def value(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927) score interval at 95 %."""
        z, n, p = 1.959964, self.total, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_json(self) -> dict[str, Any]:
        return {
            "right": self.right,
            "total": self.total,
            "share": self.value,
            "interval95": list(self.interval),
        }


def grade_model(model: HybridLM, tokenizer: Tokenizer, config: DataConfig, *, rows: int) -> dict[str, Any]:
    """Grade greedy answers on the first `rows` rows of `config`; a JSON-able report per command set."""
    examples = [make_example(config, index) for index in range(rows)]
    answers = answer(
        model, tokenizer, [example.prompt.string for example in examples], title=f"answering {config.split}"
    )
    pairs = progress(zip(examples, answers, strict=True), total=rows, title=f"grading {config.split}")
    grades = [grade(example, sql) for example, sql in pairs]
    return {"split": config.split, "rows": rows, **summarise(examples, answers, grades)}


def summarise(examples: Sequence[Example], answers: Sequence[str], grades: Sequence[Grade]) -> dict[str, Any]:
    """Shares per command set and clause, and the first wrong answers with what was expected."""
    by_set: dict[str, Counter[str]] = {}
    for example, verdict in zip(examples, grades, strict=True):
        counts = by_set.setdefault(example.query.command_set, Counter())
        counts["rows"] += 1
        for name in ("valid", "exact", "tree", "execution"):
            counts[name] += getattr(verdict, name)
        for clause, right in verdict.clauses.items():
            counts[f"clause/{clause}"] += right
            counts[f"clauses/{clause}"] += 1
    wrong = [
        {"index": example.index, "prompt": example.prompt.string, "gold": example.sql.string, "answer": sql}
        for example, sql, verdict in zip(examples, answers, grades, strict=True)
        if not verdict.execution
    ]
    return {
        "sets": {name: _shares(counts) for name, counts in sorted(by_set.items())},
        "wrong": wrong[:WRONG_SHOWN],
        "wrong_total": len(wrong),
    }


def _shares(counts: Counter[str]) -> dict[str, Any]:
    total = counts["rows"]
    shares = {
        name: Share(right=counts[name], total=total).to_json()
        for name in ("execution", "tree", "exact", "valid")
    }
    clauses = {
        key.removeprefix("clauses/"): Share(
            right=counts[key.replace("clauses/", "clause/")], total=counts[key]
        ).to_json()
        for key in sorted(counts)
        if key.startswith("clauses/")
    }
    return {**shares, "clauses": clauses}
