"""Model + swapped names -> shares: does it copy a table's or a column's name from the schema or from the English?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data_gen.config import DataConfig
from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.files import write_atomic
from data_gen.outputs import claim_file
from data_gen.pairs.shortcuts import SHORTCUTS, Follows, ShortcutRow, Variant, make_shortcuts
from tinysql.answering.generation import answer
from tinysql.answering.grading import how_answered, with_rows
from tinysql.answering.shares import Share
from tinysql.models.config import Precision
from tinysql.models.hybrid import HybridLM
from tinysql.runs import Run, provenance
from tinysql.tokens import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ShortcutScore:
    """How often the answers to one variant take the name from where.

    In `table.clean`, `table.both` and their like the schema and the English say the same, so an answer follows
    both or neither.
    """

    schema: Share
    english: Share
    neither: Share

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_json() for name in ("schema", "english", "neither")}


def shortcut_scores(
    model: HybridLM,
    tokenizer: Tokenizer,
    config: DataConfig,
    n: int,
    *,
    seed: int = 0,
    precision: Precision | None = None,
) -> dict[Variant, ShortcutScore]:
    """Greedy answers to every variant of `n` rows of `config`, scored by the name at the swapped slot.

    A model that copies the table from the schema has `schema` 1.0 in `table.schema` and in `table.english`; one
    that copies it from the English has `english` 1.0 in both. Raises `InputError` when n is not positive, or as
    `make_shortcuts`.
    """
    if n < 1:
        raise InputError(f"n is {n}, expected at least 1 row")
    rows = [row for index in range(n) for row in make_shortcuts(config, index, seed)]
    prompts = [row.example.prompt.string for row in rows]
    title = "answering swapped names"
    return score(rows, answer(model, tokenizer, prompts, precision=precision, title=title))


def score(rows: Sequence[ShortcutRow], answers: Sequence[str]) -> dict[Variant, ShortcutScore]:
    """The shares of answers that follow the schema, the English or neither, by variant."""
    counts: dict[Variant, Counter[Follows]] = {}
    for row, sql in zip(rows, answers, strict=True):
        counts.setdefault(row.variant, Counter())[row.follows(sql)] += 1
    return {variant: _score(counts[variant]) for variant in SHORTCUTS if variant in counts}


def _score(found: Counter[Follows]) -> ShortcutScore:
    total = found.total()
    return ShortcutScore(
        schema=Share(right=found["schema"] + found["both"], total=total),
        english=Share(right=found["english"] + found["both"], total=total),
        neither=Share(right=found["neither"], total=total),
    )


def shortcuts_on_run(
    run: Run,
    *,
    split: Split = "test",
    rows: int = 200,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
) -> dict[str, Any]:
    """Score a run's model on rows of a split and write `eval/shortcuts.json`.

    The report names the command sets that have no such rows, and says how the model was run. Raises `InputError` if
    none has.
    """
    config = with_rows(run.split(split), make_shortcuts)
    out = claim_file(run.path / "eval" / "shortcuts.json")
    model, tokenizer = run.load(device)
    scores = shortcut_scores(model, tokenizer, config, rows, precision=precision)
    report = {
        "split": split,
        "rows": rows,
        "without_rows": [name for name in run.data.command_sets if name not in config.command_sets],
        "answered": how_answered(model, precision),
        "variants": {variant: found.to_json() for variant, found in scores.items()},
        "made_by": provenance(),
    }
    write_atomic(out, json.dumps(report, indent=1))
    return report
