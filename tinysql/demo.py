"""Seed -> report: the whole flow as the public commands that a user would type.

`tinysql demo` runs them in one process and skips, with --resume, what a former attempt finished.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data_gen.seeding import read_seed

EDITS = ("schema.table", "select.0.column", "order_by.0.direction")
"""The counterfactuals whose circuits the demo finds."""


class Step(NamedTuple):
    title: str
    command: list[str]
    makes: Path
    """The artefact that shows the step is done."""
    again: tuple[str, ...] = ()
    """What the command needs besides when its directory is there already."""


def steps(out: Path, recipe: str, seed: int) -> Iterator[Step]:
    """The demo as a list of commands."""
    run = str(out)
    yield Step(
        "make data, train a model",
        ["train", recipe, "--out", run, "--seed", str(seed)],
        out / "model.safetensors",
    )
    for split, what in (("test", "unseen schemas"), ("names", "unseen names")):
        yield Step(
            f"grade answers on {what}", ["eval", run, "--split", split], out / "eval" / f"{split}.json"
        )
    for edit in EDITS:
        yield Step(
            f"find the circuit of {edit}",
            ["circuit", "find", run, "--edit", edit, "--by-role", "--seed", str(seed)],
            out / "circuits" / edit / "circuit.json",
            ("--overwrite",),
        )
        yield Step(
            "evaluate it on other pairs, beside random circuits",
            ["circuit", "eval", run, "--edit", edit],
            out / "circuits" / edit / "report.json",
        )
    yield Step(
        "train a sparse autoencoder",
        # It takes seconds, so what a killed one left is begun again.
        ["sae", "train", run, "--seed", str(seed), "--overwrite"],
        out / "saes" / "topk" / "cfg.json",
    )
    yield Step(
        "score it against known roles",
        ["sae", "eval", run, "--seed", str(seed)],
        out / "saes" / "topk" / "truth.json",
    )
    yield Step("write the report", ["report", run], out / "report.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="run directory (default: runs/demo)"
    )
    parser.add_argument("--seed", type=read_seed, default=0, help="seed of everything (default: 0)")
    parser.add_argument("--recipe", default="nano", help="what to train (default: nano)")
    parser.add_argument("--resume", action="store_true", help="skip what is done and go on")
    parser.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.outputs import check_directory
    from tinysql.cli import run_step
    from tinysql.runs import check_not_lost, check_one_way

    begun = time.perf_counter()
    out: Path = arguments.out
    todo, done = list(steps(out, arguments.recipe, arguments.seed)), 0
    check_one_way(resume=arguments.resume, overwrite=arguments.overwrite)
    check_not_lost(out)
    if not arguments.resume:
        # What is there is deleted by the training, once it is known that there will be one.
        check_directory(out, arguments.overwrite, kind="training run")
    elif is_trained(out, arguments.recipe, arguments.seed):
        done = next((i for i, step in enumerate(todo) if not step.makes.exists()), len(todo))
    # Whatever is there: a run that was to be replaced may stand beside, and is not given up unasked.
    asked = [f"--{name}" for name in ("resume", "overwrite") if getattr(arguments, name)]
    todo[0] = todo[0]._replace(command=[*todo[0].command, *asked])
    for number, step in enumerate(todo, start=1):
        head = f"[{number}/{len(todo)}] {step.title}"
        if number <= done:
            print(f"{head}: done before", file=sys.stderr)
            continue
        command = [*step.command, *(step.again if step.makes.parent.exists() else ())]
        print(f"{head}\n      $ tinysql {' '.join(command)}", file=sys.stderr)
        started = time.perf_counter()
        run_step(command, arguments)
        print(f"      {time.perf_counter() - started:.0f} s", file=sys.stderr)
    took = f"The demo took {time.perf_counter() - begun:.0f} s" if done < len(todo) else "All was done before"
    print(f"\n{took}. Open {out / 'report.html'} in a browser; --overwrite makes it anew.", file=sys.stderr)


def is_trained(out: Path, recipe: str, seed: int) -> bool:
    """Whether there is a run with a whole model to go on with; one that is cut short is trained again.

    Raises `InputError` when it was started from another recipe or seed, or is no run.
    """
    if not out.exists() or not any(out.iterdir()):
        return False
    from tinysql.recipes import find_recipe
    from tinysql.runs import resume_run

    run = resume_run(out, find_recipe(recipe).with_seed(seed))
    from tinysql.training.fit import finished

    return finished(run)
