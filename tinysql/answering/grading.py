"""Answers -> grades: how often a model's SQL is right, by text, by tree, by execution and by clause."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data_gen.config import DataConfig
from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.example import Example, make_example
from data_gen.files import write_atomic
from data_gen.outputs import claim_file
from data_gen.query import Query
from data_gen.run.grade import Grade, grade
from data_gen.schema import Schema
from data_gen.store.dataset import read_dataset
from tinysql.answering.generation import answer, batch_on
from tinysql.answering.shares import Share
from tinysql.devices import precision_on
from tinysql.models.config import Precision
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.runs import Run, provenance
from tinysql.tokens import Tokenizer

WRONG_SHOWN = 20
"""How many wrong answers a report keeps."""


def with_rows(config: DataConfig, make: Callable[[DataConfig, int], object] = make_example) -> DataConfig:
    """The config with those of its command sets alone of which `make` can make rows in its split.

    Raises:
        InputError: there is none; training shows every pair of clauses that the first sets have, for example.
    """
    found, reason = [], ""
    for name in config.command_sets:
        try:
            make(replace(config, command_sets=(name,)), 0)
        except InputError as error:
            reason = reason or error.message
        else:
            found.append(name)
    if not found:
        sets = ", ".join(config.command_sets)
        raise InputError(
            f"split `{config.split}` has no such rows of {sets}: {reason}", hint="choose another --split"
        )
    return replace(config, command_sets=tuple(found))


def grade_run(
    run: Run,
    *,
    split: Split,
    rows: int,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
) -> dict[str, Any]:
    """Grade a run's model on a split and write `eval/SPLIT.json` and every answer to `eval/SPLIT.jsonl`.

    The report also counts the graded rows whose schema, or one of whose names, occurs in the training rows, and
    names the command sets that have no rows in the split, and says how the model was run (`precision` is bfloat16 on
    a GPU unless it is given). Raises `InputError` if no set has rows.
    """
    config = with_rows(run.split(split))
    out = claim_file(run.path / "eval" / f"{split}.json")
    model, tokenizer = run.load(device)
    examples, answers, grades = grade_model(model, tokenizer, config, rows=rows, precision=precision)
    report = {
        "split": split,
        "rows": rows,
        "without_rows": [name for name in run.data.command_sets if name not in config.command_sets],
        **summarise(examples, answers, grades),
        "seen_in_training": _seen(examples, run.path / "data" / "train"),
        "answered": how_answered(model, precision),
        "made_by": provenance(),
    }
    lines = [
        json.dumps(
            {"index": e.index, "prompt": e.prompt.string, "gold": e.sql.string, "answer": sql, **asdict(g)}
        )
        for e, sql, g in zip(examples, answers, grades, strict=True)
    ]
    write_atomic(out.with_suffix(".jsonl"), "\n".join(lines) + "\n")
    write_atomic(out, json.dumps(report, indent=1))
    return report


def how_answered(model: HybridLM, precision: Precision | None) -> dict[str, Any]:
    """What a report says of how its answers were computed."""
    return {
        "precision": precision_on(model.device, precision),
        "batch_size": batch_on(model.cfg, model.device),
    }


class Graded(NamedTuple):
    """Row by row: what was asked, what was answered, how it was graded."""

    examples: list[Example]
    answers: list[str]
    grades: list[Grade]


def grade_model(
    model: HybridLM,
    tokenizer: Tokenizer,
    config: DataConfig,
    *,
    rows: int,
    precision: Precision | None = None,
) -> Graded:
    """Grade greedy answers on the first `rows` rows of `config`; bfloat16 on a GPU unless `precision` is given."""
    examples = [make_example(config, index) for index in range(rows)]
    prompts = [example.prompt.string for example in examples]
    answers = answer(model, tokenizer, prompts, precision=precision, title=f"answering {config.split}")
    pairs = progress(zip(examples, answers, strict=True), total=rows, title=f"grading {config.split}")
    return Graded(examples, answers, [grade(example, sql) for example, sql in pairs])


def _seen(examples: Sequence[Example], training: Path) -> dict[str, int] | None:
    """How many examples have a schema, or a name, of the training rows; None when these are gone."""
    if not training.exists():
        return None
    trained = [Query.from_json(row["query"]).schema for row in read_dataset(training, columns=("query",))]
    schemas, names = (
        {_key(schema) for schema in trained},
        {name for schema in trained for name in _names(schema)},
    )
    graded = [example.query.schema for example in examples]
    return {
        "schema": sum(_key(schema) in schemas for schema in graded),
        "name": sum(bool(_names(schema) & names) for schema in graded),
    }


def _key(schema: Schema) -> frozenset[tuple[str, frozenset[str]]]:
    return frozenset(
        (table.name, frozenset(column.name for column in table.columns)) for table in schema.tables
    )


def _names(schema: Schema) -> set[str]:
    return {
        name for table in schema.tables for name in (table.name, *(column.name for column in table.columns))
    }


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
