"""How often models trained from scratch are right by execution: recipes x seeds, every command set and split.

    python benchmarks/accuracy.py --recipes bm1 t33 --seeds 0 1 2 --device cuda --budget-seconds 1500 --out accuracy
    python benchmarks/accuracy.py --out accuracy --report --json docs/results/accuracy.json > table.md

Each model is trained by `fit`, then answers the same rows as all others, greedily (in bfloat16 on a GPU): every
command set in every variant of split `test`, and its first five sets with names and instructions that are held out, or
drawn as training's own with another seed (a long training has met most of the recombined). Rows come in slices of all
cells; while one is answered, processes of their own make the rows of the next and grade those of the one before.

Repeat the command to go on: a whole model, a checkpoint and a whole slice are kept, so a kill loses the steps since
the last checkpoint, or what was answered since the last slice. `OUT/RECIPE-SEED.json` is written anew after each
slice; `--budget-seconds` ends the command of itself, behind a checkpoint or a slice. An answer is cut off at twice
the tokens of the longest right one of its slice, and a prompt that fills the context counts as answered wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accuracy_tables import aggregate, markdown, read_results

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from data_gen.run.grade import Grade
from data_gen.say.style import VARIANTS
from tinysql.answering.verdicts import grade_rows, row_texts, row_workers
from tinysql.training.tracking import StopTraining

# What needs torch is imported where it is used: the processes that make and grade rows read this file too.
if TYPE_CHECKING:
    from tinysql.runs import Run

TEST_SEED = 104_729
"""Draws the rows that are asked, for every model; no seed that a model is trained with."""
SLICE = 1000
"""Rows of each cell that are answered, graded and kept together."""
SIMPLE_SETS = 5
"""Command sets, from the first on, that the cells of new names and instructions mix."""
SHOWN = 20
"""Wrong answers that are kept of each cell."""
MEASURES = ("execution", "tree", "exact", "valid")


class BudgetSpent(StopTraining):
    """Ends what is under way; everything whole is on disk."""


@dataclass(frozen=True)
class Budget:
    """When to stop, by `time.monotonic`."""

    end: float | None

    @property
    def spent(self) -> bool:
        return self.end is not None and time.monotonic() > self.end

    def check(self, *_: object) -> None:
        """End what asks, such as training, which tells its trackers what it measured."""
        if self.spent:
            raise BudgetSpent


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model to train and to ask."""

    recipe: str
    seed: int
    settings: tuple[str, ...]
    rows: int
    out: Path
    device: str

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.seed}"

    def parts(self) -> list[range]:
        """Its rows of each cell, slice by slice."""
        return [range(at, min(at + SLICE, self.rows)) for at in range(0, self.rows, SLICE)]


def cells_of(data: DataConfig) -> dict[str, DataConfig]:
    """What is asked of a model that `data` trains, by cell."""
    plain = replace(
        data,
        seed=TEST_SEED,
        variant="base",
        split="test",
        random_names=0.0,
        invented_names=0.0,
        invented_openings=0.0,
    )
    found = {
        f"{name} {variant}": replace(plain, command_sets=(name,), variant=variant)
        for variant in VARIANTS
        for name in dict.fromkeys(data.command_sets)  # training may have some more often than others
    }
    simple = replace(plain, command_sets=tuple(dict.fromkeys(data.command_sets))[:SIMPLE_SETS])
    for split in ("tables", "columns", "names", "templates", "novel", "recombined", "invented"):
        found[split] = replace(simple, split=split)
    return found


def run_job(job: Job, pool: ProcessPoolExecutor, budget: Budget) -> None:
    """Train, answer and grade what is not done yet, and write the result after each slice."""
    from tinysql.config import override
    from tinysql.devices import find_device
    from tinysql.recipes import find_recipe
    from tinysql.training.fit import fit

    recipe = override(find_recipe(job.recipe).with_seed(job.seed), job.settings)
    run = fit(
        recipe,
        job.out / "runs" / job.name,
        device=find_device(job.device),
        resume=True,
        trackers=[budget.check],
    )
    slices = run.path / "accuracy"
    slices.mkdir(exist_ok=True)
    missing = [part for part in job.parts() if not _file(slices, part).exists()]
    write_result(job, run)
    for part, counts in answered(run, missing, cells_of(recipe.data), pool, job.device, budget):
        write_atomic(_file(slices, part), json.dumps(counts))
        write_result(job, run)


def _file(slices: Path, part: range) -> Path:
    return slices / f"{part.start:06}-{part.stop:06}.json"


def answered(
    run: Run,
    parts: Sequence[range],
    cells: Mapping[str, DataConfig],
    pool: ProcessPoolExecutor,
    device: str,
    budget: Budget,
) -> Iterator[tuple[range, dict[str, Any]]]:
    """Each slice with the counts of its cells; those that are answered are graded also when the budget is spent."""
    if not parts:
        return
    model, tokenizer = run.load(device)
    texts = _ask(pool, cells, parts[0])
    waiting: _Waiting | None = None
    for number, part in enumerate(parts):
        if budget.spent:
            break
        rows = {cell: future.result() for cell, future in texts.items()}
        if number + 1 < len(parts):
            texts = _ask(pool, cells, parts[number + 1])
        begun = time.perf_counter()
        answers = _answers(model, tokenizer, rows)
        seconds = time.perf_counter() - begun
        if waiting is not None:
            yield waiting.part, waiting.counts()
        grades = {cell: pool.submit(grade_rows, cells[cell], part, answers[cell]) for cell in cells}
        waiting = _Waiting(part, rows, answers, grades, seconds)
    if waiting is not None:
        yield waiting.part, waiting.counts()
    if waiting is None or waiting.part != parts[-1]:
        raise BudgetSpent


Texts = list[tuple[str, str]]


def _ask(pool: ProcessPoolExecutor, cells: Mapping[str, DataConfig], part: range) -> dict[str, Future[Texts]]:
    return {cell: pool.submit(row_texts, config, part) for cell, config in cells.items()}


def _answers(model: Any, tokenizer: Any, rows: Mapping[str, Texts]) -> dict[str, list[str]]:
    """The answers to one slice of all cells; nothing to a prompt that does not fit."""
    from tinysql.answering.generation import answer

    asked = [prompt for texts in rows.values() for prompt, _ in texts]
    right = [f" {sql}" for texts in rows.values() for _, sql in texts]
    fits = [len(ids) < model.cfg.n_ctx for ids in tokenizer.encode_texts(asked)]
    longest = 2 * max(len(ids) + 1 for ids in tokenizer.encode_texts(right))
    prompts = [prompt for prompt, fit in zip(asked, fits, strict=True) if fit]
    found = iter(answer(model, tokenizer, prompts, longest=longest))
    every = iter([next(found) if fit else "" for fit in fits])
    return {cell: [next(every) for _ in texts] for cell, texts in rows.items()}


@dataclass(frozen=True)
class _Waiting:
    """A slice whose answers are being graded."""

    part: range
    rows: Mapping[str, Texts]
    answers: Mapping[str, list[str]]
    grades: Mapping[str, Future[list[Grade]]]
    seconds: float

    def counts(self) -> dict[str, Any]:
        """How many of each cell are right, the first that are wrong, and the commit that answered."""
        from tinysql.runs import provenance

        cells = {}
        for cell, future in self.grades.items():
            found = future.result()
            wrong = [
                {"index": index, "prompt": prompt, "gold": sql, "answer": answer}
                for index, (prompt, sql), answer, grade in zip(
                    self.part, self.rows[cell], self.answers[cell], found, strict=True
                )
                if not grade.execution
            ]
            right = {name: sum(getattr(grade, name) for grade in found) for name in MEASURES}
            cells[cell] = {"total": len(found), **right, "wrong": wrong[:SHOWN]}
        return {"cells": cells, "seconds": round(self.seconds, 2), "commit": provenance()["commit"]}


def write_result(job: Job, run: Run) -> None:
    """`OUT/RECIPE-SEED.json`: the sum of the slices that there are, and what made it.

    `commits` are those that trained and that answered, `made_by` says what wrote the file, perhaps at a later one.
    """
    import torch

    from tinysql.answering.generation import batch_on
    from tinysql.devices import precision_on
    from tinysql.runs import provenance
    from tinysql.training.loop import read_log

    files = [_file(run.path / "accuracy", part) for part in job.parts()]
    parts = [read_json(file) for file in files if file.exists()]
    log = read_log(run.path / "metrics.jsonl")
    device = torch.device(job.device)
    commits = [run.config["made_by"]["commit"], *(part.get("commit") for part in parts)]
    result = {
        "recipe": job.recipe,
        "seed": job.seed,
        "settings": list(job.settings),
        "test_seed": TEST_SEED,
        "rows_wanted": job.rows,
        "parameters": run.shape.num_parameters(),
        "active": run.shape.num_active_parameters(),
        "trained": log[-1] if log else None,
        "probes": [[one["step"], one["probe"], one["tokens"]] for one in log if "probe" in one],
        "cells": _summed(parts),
        "commits": list(dict.fromkeys(commits)),
        "answering_seconds": round(sum(part["seconds"] for part in parts), 1),
        "made_by": {
            **provenance(),
            "command": " ".join(["python", *sys.argv]),
            "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
            "precision": precision_on(device),
            "batch_size": batch_on(run.shape, device),
        },
    }
    write_atomic(job.out / f"{job.name}.json", json.dumps(result, indent=1))


def _summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in parts[0]["cells"] if parts else ():
        counts: Counter[str] = Counter()
        wrong: list[Any] = []
        for part in parts:
            counts.update({name: part["cells"][cell][name] for name in ("total", *MEASURES)})
            wrong += part["cells"][cell]["wrong"]
        found[cell] = {**counts, "wrong": wrong[:SHOWN]}
    return found


def main() -> int:
    """Run or report; 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of results and runs")
    parser.add_argument("--recipes", nargs="+", default=["bm1", "t33", "t33-plain", "t33-dense"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of training")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of each cell (default: 10000)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="for every recipe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-seconds", type=float, help="end by then, with everything whole kept")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there")
    parser.add_argument("--json", type=Path, help="with --report: write the aggregated cells there")
    arguments = parser.parse_args()
    try:
        if arguments.report:
            found = read_results(arguments.out)
            print(markdown(found))
            if arguments.json:
                cells = {recipe: aggregate(results) for recipe, results in found.items()}
                write_atomic(arguments.json, json.dumps(cells, indent=1))
            return 0
        return run_all(arguments)
    except InputError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2


def run_all(arguments: argparse.Namespace) -> int:
    """Every job in turn, all recipes of the first seed first."""
    from tinysql.training.feed import spare_cores

    if arguments.rows < 1:
        raise InputError(f"--rows is {arguments.rows}", hint="ask at least one row of each cell")
    seconds = arguments.budget_seconds
    budget = Budget(time.monotonic() + seconds if seconds is not None else None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with row_workers(max(1, spare_cores())) as pool:
        for seed in arguments.seeds:
            for recipe in arguments.recipes:
                job = Job(
                    recipe=recipe,
                    seed=seed,
                    settings=tuple(arguments.set),
                    rows=arguments.rows,
                    out=arguments.out,
                    device=arguments.device,
                )
                try:
                    run_job(job, pool, budget)
                except BudgetSpent:
                    print(f"{job.name}: the budget is spent; repeat the command to go on", file=sys.stderr)
                    pool.shutdown(cancel_futures=True)
                    return 0
                print(f"{job.name}: {arguments.out / job.name}.json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
