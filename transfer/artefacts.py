"""Bench or switch -> directory: map, vectors, and `report.json` with everything that was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from data_gen.outputs import check_directory, claim_directory
from tinysql.runs import provenance
from transfer.behaviours.training import Subject
from transfer.evaluation.bench import Bench
from transfer.evaluation.curves import Point, check_ranks, layer_curve, rank_curve
from transfer.evaluation.evaluate import HELD_OUT, TransferReport, evaluate, pass_gates
from transfer.maps.disk import save_map
from transfer.maps.quality import MapQuality, measure
from transfer.replacement import Replacement, replace_fully
from transfer.switching.measure import SwitchPlan, SwitchReport, measure_switch

CONFIG, REPORT = "config.json", "report.json"
KIND = "analysis"
"""What is written here; nothing of another kind, such as a trained model, is overwritten."""


def fit_to(bench: Bench, directory: Path, *, overwrite: bool = False) -> tuple[MapQuality, Replacement]:
    """Fit the plan's map and write it; its quality on texts it has not seen, and the full-replacement test there."""
    check_directory(directory, overwrite, kind=KIND)
    pairs = bench.pairs()
    train, held_out = pairs.split(1 - HELD_OUT, seed=bench.plan.seed)
    quality, replaced = measure(bench.fit(train), held_out), replacement(bench)
    path = claim_directory(directory, overwrite, kind=KIND)
    with atomic_directory(path) as folder:
        save_map(bench.fit(pairs), folder / "map")
        found = {"quality": asdict(quality), "replacement": _replacement(replaced)}
        write_atomic(folder / "quality.json", json.dumps(found, indent=1))
        write_atomic(folder / CONFIG, json.dumps(_config(bench), indent=1))
    return quality, replaced


def replacement(bench: Bench) -> Replacement:
    """The target on mapped activations, on texts of schemas that the map has not seen."""
    fitted = bench.fit(bench.pairs())
    source, target = bench.sides(rows=bench.choose_rows)
    return replace_fully(fitted, source, target, bench.match(source, target))


def evaluate_to(
    bench: Bench,
    directory: Path,
    *,
    clean: Subject | None = None,
    only: Sequence[str] | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> TransferReport:
    """Run a transfer with its controls and write it whole. Raises `InputError` as `evaluate` does, writing nothing."""
    check_directory(directory, overwrite, kind=KIND)
    report = evaluate(bench, clean=clean, only=only, say=say)
    replaced = replacement(bench)
    fitted = bench.fit(bench.pairs())
    path = claim_directory(directory, overwrite, kind=KIND)
    with atomic_directory(path) as folder:
        save_map(fitted, folder / "map")
        bench.native().save(folder / "native")
        bench.transferred(fitted).save(folder / "transferred")
        write_atomic(folder / CONFIG, json.dumps(_config(bench), indent=1))
        values = {**_config(bench), **report.to_json(), "replacement": _replacement(replaced)}
        write_atomic(folder / REPORT, json.dumps(values, indent=1, allow_nan=False))
    return report


def curves_to(
    bench: Bench,
    directory: Path,
    ranks: Sequence[int],
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """Measure the curves over layers and ranks behind both gates, and write them as `report.json`."""
    check_directory(directory, overwrite, kind=KIND)
    check_ranks(bench, ranks)
    pass_gates(bench, say=say)
    points = [*layer_curve(bench, say=say), *rank_curve(bench, ranks, say=say)]
    path = claim_directory(directory, overwrite, kind=KIND)
    with atomic_directory(path) as folder:
        write_atomic(folder / CONFIG, json.dumps(_config(bench), indent=1))
        values = {**_config(bench), "points": [one.to_json() for one in points]}
        write_atomic(folder / REPORT, json.dumps(values, indent=1, allow_nan=False))
    return points


def switch_to(
    base: Subject,
    tuned: Subject,
    plan: SwitchPlan,
    directory: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> SwitchReport:
    """Fit a switch, measure it beside its arms, and write both. Raises `InputError` as `measure_switch` does."""
    check_directory(directory, overwrite, kind=KIND)
    switch, report = measure_switch(base, tuned, plan, say=say)
    path = claim_directory(directory, overwrite, kind=KIND)
    with atomic_directory(path) as folder:
        save_map(switch.fitted, folder / "map")
        made = {
            "base": str(base.run.path),
            "tuned": str(tuned.run.path),
            "behaviour": tuned.behaviour.kind,
            "payload": tuned.behaviour.payload,
            "plan": asdict(plan),
            "device": _device(tuned),
            "made_by": provenance(),
        }
        write_atomic(folder / CONFIG, json.dumps(made, indent=1))
        write_atomic(folder / REPORT, json.dumps({**made, **report.to_json()}, indent=1, allow_nan=False))
    return report


KINDS = {
    "transfer": {"outcomes", "transfer", "plan", "source", "target"},
    "curves": {"points", "plan", "source", "target"},
    "switch": {"arms", "requirements", "plan", "base", "tuned"},
}
"""What a report can be, and what each has to have."""


def kind_of(report: Mapping[str, Any]) -> str | None:
    """`transfer`, `curves`, `switch`, or None for neither."""
    return next((kind for kind, names in KINDS.items() if names <= set(report)), None)


def read_report(directory: Path) -> dict[str, Any]:
    """What `evaluate_to`, `curves_to` or `switch_to` wrote; `InputError` when the directory is none of theirs."""
    if not (directory / REPORT).is_file():
        raise InputError(
            f"{directory} is no transfer: it has no {REPORT}",
            hint="make one with `tinysql transfer eval`, `curve` or `switch`",
        )
    values = read_json(directory / REPORT)
    if kind_of(values) is None:
        raise InputError(
            f"{directory / REPORT} is the report of nothing that is known here",
            hint="restore the file, or run it again",
        )
    return values


def _config(bench: Bench) -> dict[str, Any]:
    """What was asked for, and what made it."""
    return {
        "source": str(bench.source.run.path),
        "target": str(bench.target.run.path),
        "behaviour": bench.behaviour.kind,
        "payload": bench.behaviour.payload,
        "aim": asdict(bench.aim),
        "plan": asdict(bench.plan),
        "device": _device(bench.target),
        "made_by": provenance(),
    }


def _device(subject: Subject) -> str:
    """What computed it: a GPU by its name."""
    device = subject.model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _replacement(found: Replacement) -> dict[str, Any]:
    return {**asdict(found), "kl_recovered": found.kl_recovered, "loss_recovered": found.loss_recovered}
