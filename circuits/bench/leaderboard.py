"""Methods x (planted models, edits of runs) -> one row each: recovery, agreement with `exact`, CMD, CPR, seconds.

A subject is one planted model of one seed, or one edit of one run. All its methods score the same pairs, `exact`
scores them once, and the circuits of every method are run on the same other pairs (`circuits.judging.curves`): the
second half of a planted model's, those of the next seed of a run's. Rows are written after every subject, so that a
run that was killed loses one subject. A method that refuses a subject has a row that says why.
Beside the methods stands the control `random`: scores that know nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from circuits.bench.standings import CONTROL, ROWS, Row, markdown, read_rows
from circuits.finding import draw, unseen
from circuits.graph import Graph
from circuits.judging.agreement import agreement
from circuits.judging.bootstrap import plain
from circuits.judging.curves import Areas, faithfulness_curve
from circuits.judging.recovery import recovery
from circuits.methods.names import check_methods
from circuits.methods.table import METHODS
from circuits.planted.cases import PLANTED, planted
from circuits.planted.draft import Planted
from circuits.scores import EdgeScores
from data_gen.errors import InputError, nearest
from data_gen.files import read_json, write_atomic
from data_gen.outputs import claim_directory
from data_gen.pairs.edits import edit_named
from tinysql.config import from_json
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.runs import open_run, provenance
from tinysql.tokens import TokenPairs

CONFIG, TABLES = "config.json", "leaderboard.md"
RANDOM_CIRCUITS = 5
"""Layer-matched random circuits beside every curve; many rows make up for few circuits."""


@dataclass(frozen=True, kw_only=True)
class LeaderboardSettings:
    """What is compared."""

    methods: tuple[str, ...] = tuple(METHODS)
    planted: tuple[str, ...] = tuple(PLANTED)
    seeds: int = 5
    """Seeds 0, 1, ... of every planted model: other decoys, rotations, places and prompts."""
    runs: tuple[str, ...] = ()
    """Directories of trained runs."""
    edits: tuple[str, ...] = ("schema.table", "select.0.column", "order_by.0.direction", "select.0.aggregate")
    """Edits to score on every run, where its command sets have them."""
    pairs: int = 32
    """Test pairs per run and edit that are scored; as many others are held out, on which circuits are run."""
    seed: int = 0
    """Draws the pairs of runs and the control's scores; the next seed draws the held-out pairs."""

    def __post_init__(self) -> None:
        check_methods(self.methods)
        for name in self.planted:
            if name not in PLANTED:
                raise InputError(
                    f"no planted model `{name}`{nearest(name, PLANTED)}", hint=f"known: {', '.join(PLANTED)}"
                )
        for edit in self.edits:
            edit_named(edit)
        for name in ("seeds", "pairs"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected at least 1", hint="one is enough for a look"
                )
        # Refused here, or every curve would be refused for it and look as if nothing was learned.
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, expected at least 0", hint="0 is usual")


class Subject(NamedTuple):
    """One planted model of one seed, or one edit of one run."""

    name: str
    """A planted model or a run directory."""
    edit: str | None
    """`None` for a planted model, whose name says it."""
    seed: int


def leaderboard(
    settings: LeaderboardSettings, out: Path, *, device: torch.device | str = "cpu", resume: bool = False
) -> list[Row]:
    """Score everything, and write `config.json`, `leaderboard.json` and `leaderboard.md` into `out`.

    With `resume`, the rows that a run with the same settings left there are kept. Raises `InputError` for an `out`
    that is not empty (without `resume`) or was made with other settings, for a run without any of the edits, for
    nothing to score, and as the parts do.
    """
    subjects = [*_planted_subjects(settings), *_run_subjects(settings)]
    if not subjects or not settings.methods:
        raise InputError("there is nothing to score", hint="name planted models or runs, and methods")
    rows = _start(settings, out, resume)
    done = {(row.subject, row.edit, row.seed) for row in rows}
    left = [subject for subject in subjects if subject not in done]
    made_by = provenance()
    _write(settings, rows, made_by, out)
    for subject in progress(left, total=len(left), title="scoring edges"):
        rows += _rows(subject, settings, device)
        _write(settings, rows, made_by, out)
    return rows


def _planted_subjects(settings: LeaderboardSettings) -> Iterator[Subject]:
    # Seed by seed, so that a run that was stopped has all models of the seeds it came to.
    for seed in range(settings.seeds):
        for name in settings.planted:
            yield Subject(name, None, seed)


def _run_subjects(settings: LeaderboardSettings) -> Iterator[Subject]:
    """The edits of every run that one of its command sets has."""
    for path in settings.runs:
        sets = open_run(path).data.command_sets
        suited = [edit for edit in settings.edits if any(edit_named(edit).suits(name) for name in sets)]
        if not suited:
            raise InputError(
                f"queries of {path} ({', '.join(sets)}) have none of the slots {', '.join(settings.edits)}",
                hint="name an edit that they have",
            )
        for edit in suited:
            yield Subject(path, edit, settings.seed)


def _rows(subject: Subject, settings: LeaderboardSettings, device: torch.device | str) -> list[Row]:
    """One row per method, and the control's."""
    truth = planted(subject.name, subject.seed) if subject.edit is None else None
    if truth is not None:
        half = len(truth.pairs) // 2
        model, pairs, held_out = truth.model.to(device), truth.pairs[:half], truth.pairs[half:]
    else:
        model, pairs, held_out = _of_run(subject, settings.pairs, device)
    empty = Row(
        subject=subject.name,
        edit=subject.edit,
        seed=subject.seed,
        method="exact",
        n_pairs=len(pairs),
        n_edges=len(Graph.of(model).edges),
        seconds=0.0,
        recovery=None,
        agreement=None,
        n_held_out=len(held_out),
        refused=None,
    )
    try:
        oracle, its_seconds = _timed("exact", model, pairs)
    except InputError as error:  # nothing can be told of this subject, and the next one is another
        why = str(error).splitlines()[0]
        return [replace(empty, method=method, refused=why) for method in (*settings.methods, CONTROL)]
    rows = []
    for method in (*settings.methods, CONTROL):
        found, seconds = oracle, its_seconds
        try:
            if method == CONTROL:
                found, seconds = _control(oracle, subject.seed), 0.0
            elif method != "exact":
                found, seconds = _timed(method, model, pairs)
        except InputError as error:
            rows.append(replace(empty, method=method, refused=str(error).splitlines()[0]))
            continue
        row = replace(empty, method=method, seconds=seconds)
        rows.append(_judged(row, model, found, oracle, truth, held_out))
    return rows


def _judged(
    row: Row,
    model: HybridLM,
    scores: EdgeScores,
    oracle: EdgeScores,
    truth: Planted | None,
    held_out: TokenPairs,
) -> Row:
    """The row with what its method's scores are worth."""
    areas = _areas(model, scores, held_out, row.seed)
    return replace(
        row,
        recovery=recovery(scores, truth.edges, truth.ambiguous) if truth is not None else None,
        agreement=agreement(scores, oracle) if row.method != "exact" else None,
        cmd=areas.cmd if areas is not None else None,
        cpr=areas.cpr if areas is not None else None,
    )


def _areas(model: HybridLM, scores: EdgeScores, held_out: TokenPairs, seed: int) -> Areas | None:
    """None where the model does not tell clean from corrupt, so that no circuit can be more or less faithful."""
    try:
        curve = faithfulness_curve(model, scores, held_out, random_circuits=RANDOM_CIRCUITS, seed=seed)
    except InputError:
        return None
    return curve.areas


def _of_run(subject: Subject, n: int, device: torch.device | str) -> tuple[HybridLM, TokenPairs, TokenPairs]:
    """The model, pairs to score, and pairs of the next seed without those that were drawn for both."""
    assert subject.edit is not None
    run = open_run(subject.name)
    model, tokenizer = run.load(device)
    drawn, others = (draw(run, subject.edit, n, seed, tokenizer) for seed in (subject.seed, subject.seed + 1))
    pairs, held_out = (
        tokenizer.encode_pairs(some, drop_misaligned=True) for some in (drawn, unseen(others, drawn))
    )
    return model, pairs, held_out


def _timed(method: str, model: HybridLM, pairs: TokenPairs) -> tuple[EdgeScores, float]:
    # Scores end up on the CPU, so nothing is left running on a GPU when the clock is read.
    start = time.perf_counter()
    scores = METHODS[method](model, pairs)
    return scores, time.perf_counter() - start


def _control(oracle: EdgeScores, seed: int) -> EdgeScores:
    """Scores drawn at random, for the same edges and pairs."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(oracle.per_example.shape, generator=generator)
    return replace(
        oracle, per_example=drawn * torch.from_numpy(oracle.graph.mask), method=CONTROL, metadata={}
    )


def _start(settings: LeaderboardSettings, out: Path, resume: bool) -> list[Row]:
    """An empty directory that says what it is for, or the rows of the one to go on with."""
    if (out / CONFIG).is_file() and "settings" not in read_json(out / CONFIG):
        raise InputError(
            f"output directory `{out}` holds something else than a leaderboard", hint="choose another --out"
        )
    if resume and (out / CONFIG).is_file():
        found = read_json(out / CONFIG)
        before = from_json(LeaderboardSettings, found.get("settings", {}), where=f"{out / CONFIG}: settings")
        changed = [name for name, value in asdict(settings).items() if getattr(before, name) != value]
        if changed:
            raise InputError(
                f"{out} was begun with other settings ({', '.join(changed)} differ)",
                hint="repeat the command it was begun with, or choose another --out",
            )
        return read_rows(out) if (out / ROWS).is_file() else []
    if (out / CONFIG).is_file():
        raise InputError(
            f"output directory `{out}` is not empty: a leaderboard is there",
            hint="pass --resume to go on with it, or choose another --out",
        )
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"output directory `{out}` is not empty", hint="choose another --out")
    claim_directory(out)
    write_atomic(out / CONFIG, json.dumps({"settings": asdict(settings), "made_by": provenance()}, indent=1))
    return []


def _write(settings: LeaderboardSettings, rows: list[Row], made_by: dict[str, Any], out: Path) -> None:
    found = {"settings": asdict(settings), "made_by": made_by, "rows": [plain(asdict(row)) for row in rows]}
    write_atomic(out / ROWS, json.dumps(found, indent=1))
    write_atomic(out / TABLES, markdown(rows, made_by))
