"""Bench or switch -> directory: map, vectors, and `report.json` with everything that was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data_gen.files import atomic_directory, find_json, write_atomic
from data_gen.outputs import check_directory, claim_directory
from data_gen.run.grade import keeping_open
from tinysql.runs import provenance
from transfer.asked import check_ranks, layer_pairs
from transfer.behaviours.training import Subject
from transfer.evaluation.bench import Bench
from transfer.evaluation.curves import Point, layer_curve, rank_curve
from transfer.evaluation.evaluate import HELD_OUT, TransferReport, evaluate, pass_gates
from transfer.evaluation.scales import at_hooks
from transfer.latents import digest
from transfer.maps.disk import save_map
from transfer.maps.quality import MapQuality, measure
from transfer.parts import Parts, Say, counted, fingerprint, keeping, made_with, place_of
from transfer.replacement import Replacement, replace_fully
from transfer.reports import CONFIG, KIND, QUALITY, REPORT
from transfer.switching.measure import SwitchReport, measure_switch
from transfer.switching.plan import SwitchPlan

MOST_OPEN = 4096
"""Queries whose databases are kept open while answers to the same prompts are judged again and again."""


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
        write_atomic(folder / QUALITY, json.dumps(found, indent=1))
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
    layers: Sequence[tuple[str, str]] = (),
    resume: bool = False,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> TransferReport:
    """Run a transfer with its controls and write it whole. Raises `InputError` as `evaluate` does, writing nothing.

    The plan of the report has the hooks that were chosen among `layers`, that of `config.json` the first of them.
    What was found before a kill stays beside the directory; `resume` goes on from there, with the same report.
    """
    made = {**_config(bench), "layers": [list(pair) for pair in layers]}
    asked = {
        "only": None if only is None else list(only),
        "clean": {} if clean is None else fingerprint(clean),
        "saes": _saes(bench, layers),
    }
    with _keeping(directory, "transfer eval", made, asked, _sides(bench), resume, overwrite, say) as (
        parts,
        replaces,
    ):
        with keeping_open(_open(bench.plan.test_rows)):
            report = evaluate(bench, clean=clean, only=only, layers=layers, say=say, parts=parts)
        if report.layers is not None:
            bench = at_hooks(bench, report.layers.chosen)
        replaced = replacement(bench)
        fitted = bench.fit(bench.pairs())
        path = claim_directory(directory, replaces, kind=KIND)
        with atomic_directory(path) as folder:
            save_map(fitted, folder / "map")
            bench.native().save(folder / "native")
            bench.transferred(fitted).save(folder / "transferred")
            write_atomic(folder / CONFIG, json.dumps(made, indent=1))
            found = report.to_json()
            values = {**made, "plan": asdict(bench.plan), **found, "replacement": _replacement(replaced)}
            write_atomic(folder / REPORT, json.dumps(values, indent=1, allow_nan=False))
    return report


def curves_to(
    bench: Bench,
    directory: Path,
    ranks: Sequence[int],
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> list[Point]:
    """Measure the curves over layers and ranks behind both gates, and write them as `report.json`.

    `resume` is as for `evaluate_to`.
    """
    made = _config(bench)
    own = (bench.plan.source_hook, bench.plan.target_hook)
    sides = (bench.source.taught, bench.target.taught)
    layers = layer_pairs(*sides)
    asked = {"ranks": list(ranks), "saes": _saes(bench, [own, *layers])}
    with _keeping(directory, "transfer curve", made, asked, _sides(bench), resume, overwrite, say) as (
        parts,
        replaces,
    ):
        check_ranks(*sides, ranks)
        say = counted(say, 1 + len(layers) + len(ranks))
        with keeping_open(_open(bench.plan.test_rows)):
            pass_gates(bench, say=say, parts=parts)
            points = [
                *layer_curve(bench, say=say, parts=parts),
                *rank_curve(bench, ranks, say=say, parts=parts),
            ]
        path = claim_directory(directory, replaces, kind=KIND)
        with atomic_directory(path) as folder:
            write_atomic(folder / CONFIG, json.dumps(made, indent=1))
            values = {**made, "points": [one.to_json() for one in points]}
            write_atomic(folder / REPORT, json.dumps(values, indent=1, allow_nan=False))
    return points


def switch_to(
    base: Subject,
    tuned: Subject,
    plan: SwitchPlan,
    directory: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> SwitchReport:
    """Fit a switch, measure it beside its arms, and write both. Raises `InputError` as `measure_switch` does.

    `resume` is as for `evaluate_to`; times per token are those of the process that measured them.
    """
    made = {
        "base": str(base.run.path),
        "tuned": str(tuned.run.path),
        "behaviour": tuned.behaviour.kind,
        "payload": tuned.behaviour.payload,
        "plan": asdict(plan),
        "device": _device(tuned),
        "made_by": provenance(),
    }
    sides = {"base": base, "tuned": tuned}
    with _keeping(directory, "transfer switch", made, {}, sides, resume, overwrite, say) as (parts, replaces):
        with keeping_open(_open(plan.test_rows + plan.ood_rows)):
            switch, report = measure_switch(base, tuned, plan, say=say, parts=parts)
        path = claim_directory(directory, replaces, kind=KIND)
        with atomic_directory(path) as folder:
            save_map(switch.fitted, folder / "map")
            write_atomic(folder / CONFIG, json.dumps(made, indent=1))
            write_atomic(folder / REPORT, json.dumps({**made, **report.to_json()}, indent=1, allow_nan=False))
    return report


@contextmanager
def _keeping(
    directory: Path,
    command: str,
    made: Mapping[str, Any],
    asked: Mapping[str, Any],
    sides: Mapping[str, Subject],
    resume: bool,
    overwrite: bool,
    say: Say,
) -> Iterator[tuple[Parts, bool]]:
    """The parts of a measuring, and whether what stands in `directory` may be replaced; refusals before the work.

    Who was killed behind the last rename left both the whole and its parts: that whole may be written again.
    """
    plan = {name: value for name, value in made.items() if name not in (*sides, "made_by")}
    replaces = overwrite or (resume and place_of(directory).is_dir() and _is_of(directory, made))
    check_directory(directory, replaces, kind=KIND)
    models = {name: fingerprint(side) for name, side in sides.items()}
    wanted = {"command": command, **plan, **asked, **models, "made_with": made_with()}
    with keeping(directory, wanted, resume=resume, overwrite=overwrite, say=say) as parts:
        yield parts, replaces


def _is_of(directory: Path, made: Mapping[str, Any]) -> bool:
    """Whether the directory was written by what `made` describes, on whatever day."""
    before = find_json(directory / CONFIG) or {}
    now = json.loads(json.dumps(made))
    return all(before.get(name) == value for name, value in now.items() if name != "made_by")


def _saes(bench: Bench, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The SAEs that vectors are read from, by what tells one from another; refused are those that are not there."""
    return {str(path): digest(path) for path in bench.saes(pairs)}


def _sides(bench: Bench) -> dict[str, Subject]:
    return {"source": bench.source, "target": bench.target}


def _open(rows: int) -> int:
    """Queries whose databases are kept open: of each row, and of a wrong twin of it."""
    return min(2 * rows, MOST_OPEN)


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
