"""Is it the same circuit again: other pairs, other model seeds, similar queries; and do methods agree with patching?

    python benchmarks/stability.py runs/nano-0 runs/nano-1 runs/nano-2 --json stability.json
    python benchmarks/stability.py runs/nano-0 runs/nano-1 runs/nano-2 --tables models
    python benchmarks/stability.py runs/t33 --device cuda --tables agreement --edit schema.table --json stability.json
    python benchmarks/stability.py runs/bm1 --device cuda --tables sets --json stability.json

The first run is measured; the others are runs of the same recipe from other seeds. Circuits are the 30 edges of
largest |EAP-IG score|, or `--top`. Five tables:

1. edits: mean Jaccard index of circuits from bootstrapped pairs (bar .8, arXiv 2510.00845), from single pairs and from
   pairs of other seeds; and whether a circuit without the best path is as faithful.
2. models: Jaccard index of the circuits of every two models, with heads by number and with all heads of a block alike,
   beside chance, and how far the index of two models moves when the pairs of both are bootstrapped.
3. similar queries: circuits of one edit and command set again, of one edit in other command sets, of edits of one
   kind, and of edits of different kinds. TinySQL's "circuits vary even across similar queries" says that the second
   and third fall short of the first.
4. agreement with `exact` of every method that scores pair by pair, with 95 % bootstrap intervals over pairs.
5. sets: circuits of each edit in CS1 to CS10, and in CS1 to CS3 as `syn` and `nat` ask, on two draws of pairs: mean
   Jaccard index of two that differ in the pairs alone, or beside these in the set, the way of asking or the edit; and
   of every two command sets. The JSON keeps the edges.

What it is at stands on stderr, with seconds. `--json` is written after every edit of a table; the same command, or one
with other tables and edits, goes on from it, and refuses it where runs, weights, commit, seed or device are others.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np
import torch

from benchmarks.seed_circuits import Subject
from benchmarks.stability_kept import Kept, part_of, step
from benchmarks.stability_sets import circuit_rows
from benchmarks.stability_tables import tables
from circuits.circuit import Circuit
from circuits.judging.bootstrap import percentiles
from circuits.judging.compare import chance_jaccard, compare
from circuits.judging.controls import RandomCircuits
from circuits.judging.identify import identifiability
from circuits.judging.stability import pairs_needed, resampled, stability
from circuits.methods.eap_ig import eap_ig
from circuits.methods.names import UNSIGNED
from circuits.methods.table import METHODS
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from data_gen.pairs.edits import edit_named
from data_gen.seeding import read_count, read_seed
from tinysql.devices import find_device
from tinysql.runs import open_run

KINDS = {
    "schema.table": "table",
    "english.table": "table",
    "select.0.column": "column",
    "select.1.column": "column",
    "order_by.0.column": "column",
    "order_by.0.direction": "direction",
}
TOP, PAIRS, FEWER, SEEDS, ORACLE = 30, 128, 64, 5, 32
"""Edges of a circuit; pairs scored for the bootstrap, and for circuits of other pairs; pair seeds; pairs patched."""
TABLES = ("edits", "models", "similar", "agreement", "sets")
Row = dict[str, Any]


def subjects(path: Path, seed: int, device: str) -> dict[str, Subject]:
    """One run's model, on each of its command sets."""
    run = open_run(path)
    model, tokenizer = run.load(device)
    test = run.split("test")
    return {
        name: Subject(path.name, model, tokenizer, replace(test, command_sets=(name,)), seed)
        for name in test.command_sets
    }


def suited(subject: Subject) -> list[str]:
    return [edit for edit in KINDS if edit_named(edit).suits(subject.set)]


def scored(subject: Subject, edit: str, pairs: int, seed: int) -> EdgeScores:
    return eap_ig(subject.model, subject.pairs(edit, pairs, seed))


def blind(circuit: Circuit) -> Counter[str]:
    """Edges without the numbers of heads and experts, which mean nothing from one model seed to the next."""
    return Counter(" ".join(_nameless(end) for end in (edge.writer, edge.reader)) for edge in circuit.edges)


def _nameless(end: str) -> str:
    start, _, last = end.rpartition(".")
    return start if last.isdigit() else end


def blind_jaccard(first: Circuit, second: Circuit) -> float:
    """Jaccard index of multisets: what both have, by what either has."""
    a, b = blind(first), blind(second)
    return (a & b).total() / (a | b).total()


def single_pairs(scores: EdgeScores, top: int = TOP) -> float:
    """Mean Jaccard index of the circuits that two different pairs would give, each alone."""
    singles = [top_edges(replace(scores, per_example=one[None]), top) for one in scores.per_example[:40]]
    return stability(singles).jaccard


def edit_row(subject: Subject, edit: str, top: int = TOP) -> Row:
    """How far the circuit of one edit is the same again on other pairs, and whether it is the only one."""
    graph = f"{len(subject.graph.edges):,} edges"
    with step(f"edits {edit}: EAP-IG of {PAIRS} pairs, {graph}"):
        scores = scored(subject, edit, PAIRS, subject.seed)
    row: Row = {"edit": edit, "set": subject.set, "pairs": len(scores.per_example), "top": top}
    with step(f"edits {edit}: bootstrap"):
        row["bootstrap"] = resampled(scores, top).to_json()
    with step(f"edits {edit}: pairs needed"):
        row["needed"] = pairs_needed(scores, top).to_json()
    with step(f"edits {edit}: single pairs"):
        row["single_pairs"] = single_pairs(scores, top)
    with step(f"edits {edit}: pairs of {SEEDS} other seeds"):
        again = [top_edges(scored(subject, edit, FEWER, 100 + seed), top) for seed in range(SEEDS)]
        row["reseeded"] = stability(again).to_json()
    with step(f"edits {edit}: second circuit"):
        try:
            held_out = subject.pairs(edit, FEWER, subject.seed + 1)
            row["identifiability"] = identifiability(subject.model, scores, held_out, top).to_json()
        except InputError as error:
            row["refused"] = str(error)
    return row


def model_row(models: Sequence[Subject], edit: str, top: int = TOP) -> Row:
    """The circuits of one edit in every two models."""
    with step(f"models {edit}: EAP-IG of {PAIRS} pairs in {len(models)} models"):
        scores = [scored(subject, edit, PAIRS, subject.seed) for subject in models]
    circuits = [top_edges(one, top) for one in scores]
    graph, rng = scores[0].graph, np.random.default_rng(0)
    draws = RandomCircuits.draw(graph, 40, 0).uniform(top)
    return {
        "edit": edit,
        "set": models[0].set,
        "models": [subject.name for subject in models],
        "jaccard": [compare(*both).jaccard for both in combinations(circuits, 2)],
        "resampled": [index_interval(*both, rng, top) for both in combinations(scores, 2)],
        "chance": chance_jaccard(top, top, len(graph.edges)),
        "blind": [blind_jaccard(*both) for both in combinations(circuits, 2)],
        "chance_blind": float(np.mean([blind_jaccard(*both) for both in combinations(draws, 2)])),
    }


def index_interval(first: EdgeScores, second: EdgeScores, rng: np.random.Generator, top: int) -> list[float]:
    """95 % interval of the index of two models' circuits when the pairs of both are drawn anew, 100 times."""

    def drawn(scores: EdgeScores) -> Circuit:
        rows = torch.from_numpy(rng.integers(len(scores.per_example), size=len(scores.per_example)))
        return top_edges(replace(scores, per_example=scores.per_example[rows]), top)

    values = np.array([compare(drawn(first), drawn(second)).jaccard for _ in range(100)])
    return [float(end) for end in percentiles(values, 0.95)]


def similar(sets: dict[str, Subject], edits: Sequence[str], top: int = TOP) -> list[Row]:
    """Jaccard index by how alike two queries are."""
    found: dict[tuple[str, str, int], Circuit] = {}
    for name, subject in sets.items():
        for edit in (edit for edit in suited(subject) if edit in edits):
            with step(f"similar {edit} {name}: EAP-IG of {FEWER} pairs, twice"):
                for seed in (0, 1):
                    scores = scored(subject, edit, FEWER, 200 + seed)
                    found[edit, name, seed] = top_edges(scores, top)
    indices: dict[str, list[float]] = {}
    for first, second in combinations(found, 2):
        alike = how_alike(first, second)
        if alike is not None:
            indices.setdefault(alike, []).append(compare(found[first], found[second]).jaccard)
    return [{"alike": alike, "jaccard": values} for alike, values in sorted(indices.items())]


def how_alike(first: tuple[str, str, int], second: tuple[str, str, int]) -> str | None:
    """None where more than one thing differs beside the pairs; all but the first kind are of other pairs too."""
    if first[2] == second[2]:
        return None
    if first[0] == second[0]:
        return "1 same edit, same set" if first[1] == second[1] else "2 same edit, other set"
    if first[1] != second[1]:
        return None
    return "3 same kind of edit" if KINDS[first[0]] == KINDS[second[0]] else "4 other kind of edit"


def agreement_rows(subject: Subject, edit: str) -> list[Row]:
    """Every method against `exact` on the same pairs."""
    pairs = subject.pairs(edit, ORACLE, subject.seed)
    found = {}
    for name in (name for name in METHODS if name not in UNSIGNED):
        with step(f"agreement {edit}: {name} on {len(pairs)} pairs"):
            found[name] = METHODS[name](subject.model, pairs).of_edges().double().numpy()
    with step(f"agreement {edit}: intervals"):
        oracle = found.pop("exact")
        agreements = agreed(found, oracle)
    about = {"edit": edit, "set": subject.set, "pairs": len(pairs)}
    return [{**about, "method": name, **row} for name, row in agreements.items()]


def agreed(
    methods: dict[str, np.ndarray], oracle: np.ndarray, top: int = 20, resamples: int = 500
) -> dict[str, Row]:
    """Pearson, Spearman of sizes, share of the oracle's top edges, of `[pair edge]`, with bootstrap intervals."""
    n, rng = len(oracle), np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    weights = np.concatenate([np.full((1, n), 1 / n), weights])

    def of_draw(weight: np.ndarray) -> list[tuple[float, float, float]]:
        # One draw of pairs for all methods, so that the oracle is ranked once for all.
        truth = Ranked.of(weight @ oracle, top)
        return [Ranked.of(weight @ mine, top).shared_with(truth) for mine in methods.values()]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        values = np.array(list(pool.map(of_draw, weights)))
    low, high = percentiles(values[1:], 0.95)
    names = ("pearson", "spearman", "top_shared")
    return {
        method: {
            name: {"value": float(values[0, m, i]), "low": float(low[m, i]), "high": float(high[m, i])}
            for i, name in enumerate(names)
        }
        for m, method in enumerate(methods)
    }


class Ranked(NamedTuple):
    """Scores of all edges, the place of each by size, and the largest."""

    values: np.ndarray
    ranks: np.ndarray
    best: frozenset[int]

    @classmethod
    def of(cls, values: np.ndarray, top: int) -> Ranked:
        order = np.argsort(-np.abs(values), kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        return cls(values, ranks, frozenset(order[:top].tolist()))

    def shared_with(self, truth: Ranked) -> tuple[float, float, float]:
        """Pearson, Spearman of sizes, and the share of the largest."""
        return (
            np.corrcoef(self.values, truth.values)[0, 1],
            np.corrcoef(self.ranks, truth.ranks)[0, 1],
            len(self.best & truth.best) / len(truth.best),
        )


def table_of(
    name: str, runs: Sequence[dict[str, Subject]], edits: Sequence[str], kept: Kept | None, top: int = TOP
) -> list[Row]:
    """One table, edit by edit; what was kept is not measured again."""
    hosts = {edit: host(runs[0], edit) for edit in edits}
    made: dict[str, Callable[[str], list[Row]]] = {
        "edits": lambda edit: [edit_row(runs[0][hosts[edit]], edit, top)],
        "models": lambda edit: [model_row([run[hosts[edit]] for run in runs], edit, top)],
        "agreement": lambda edit: agreement_rows(runs[0][hosts[edit]], edit),
        "sets": lambda edit: circuit_rows(next(iter(runs[0].values())), edit, pairs=FEWER, top=top),
    }
    parts = {edit: partial(made[name], edit) for edit in edits} if name in made else {}
    # A comparison of all edits is one part.
    parts = parts or {" ".join(edits): partial(similar, runs[0], edits, top)}
    return [row for part, measure in parts.items() for row in part_of(kept, name, part, measure)]


def host(sets: dict[str, Subject], edit: str) -> str:
    """The first of a run's command sets that has the edit. Raises `InputError` where none has."""
    for name, subject in sets.items():
        if edit_named(edit).suits(subject.set):
            return name
    raise InputError(
        f"none of the command sets {', '.join(sets)} has the edit `{edit}`", hint="leave it out of --edit"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("others", nargs="*", type=Path, help="runs of the same recipe from other seeds")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="default: all")
    parser.add_argument("--edit", action="append", choices=KINDS, help="may be repeated; default: all")
    parser.add_argument("--top", type=read_count, default=TOP, help=f"edges of a circuit (default: {TOP})")
    parser.add_argument("--seed", type=read_seed, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--json", type=Path, help="write everything measured here, edit by edit, and go on from it"
    )
    arguments = parser.parse_args()
    try:
        found = measured(arguments)
    except InputError as error:
        print(f"stability: {error}", file=sys.stderr)
        return 2
    print(tables(found))
    return 0


def measured(arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """The tables that are asked for. Raises `InputError` for a file that something else was written to."""
    paths = (arguments.run, *arguments.others)
    find_device(arguments.device)  # in use from here on, so that the file names it as what measured
    kept = (
        Kept(arguments.json, paths, arguments.seed, arguments.device, {"top": arguments.top})
        if arguments.json
        else None
    )
    runs = [subjects(path, arguments.seed, arguments.device) for path in paths]
    every = [edit for edit in KINDS if any(edit in suited(subject) for subject in runs[0].values())]
    edits = [edit for edit in KINDS if edit in (arguments.edit or every)]
    wanted = [name for name in arguments.tables if name != "models" or len(runs) > 1]
    return {name: table_of(name, runs, edits, kept, arguments.top) for name in wanted}


if __name__ == "__main__":
    sys.exit(main())
