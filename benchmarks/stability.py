"""Is it the same circuit again: other pairs, other model seeds, similar queries; and do methods agree with patching?

    python benchmarks/stability.py runs/nano-0 runs/nano-1 runs/nano-2 --json stability.json
    python benchmarks/stability.py runs/nano-0 runs/nano-1 runs/nano-2 --tables models

The first run is measured; the others are runs of the same recipe from other seeds. Circuits are the 30 edges of
largest |EAP-IG score|. Four tables:

1. edits: mean Jaccard index of circuits from bootstrapped pairs (bar .8, arXiv 2510.00845), from single pairs and from
   pairs of other seeds; and whether a circuit without the best path is as faithful.
2. models: Jaccard index of the circuits of every two models, with heads by number and with all heads of a block alike,
   beside chance, and how far the index of two models moves when the pairs of both are bootstrapped.
3. similar queries: circuits of one edit and command set again, of one edit in other command sets, of edits of one
   kind, and of edits of different kinds. TinySQL's "circuits vary even across similar queries" says that the second
   and third fall short of the first.
4. agreement with `exact` of every method that scores pair by pair, with 95 % bootstrap intervals over pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np
import torch

from benchmarks.seed_circuits import Subject
from circuits.circuit import Circuit
from circuits.judging.bootstrap import percentiles
from circuits.judging.compare import chance_jaccard, compare
from circuits.judging.controls import RandomCircuits
from circuits.judging.identify import identifiability
from circuits.judging.stability import pairs_needed, resampled, stability
from circuits.methods.eap_ig import eap_ig
from circuits.methods.table import METHODS, UNSIGNED
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from data_gen.pairs.edits import edit_named
from tinysql.runs import open_run, provenance

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
TABLES = ("edits", "models", "similar", "agreement")
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


def single_pairs(scores: EdgeScores) -> float:
    """Mean Jaccard index of the circuits that two different pairs would give, each alone."""
    singles = [top_edges(replace(scores, per_example=one[None]), TOP) for one in scores.per_example[:40]]
    return stability(singles).jaccard


def edit_row(subject: Subject, edit: str) -> Row:
    """How far the circuit of one edit is the same again on other pairs, and whether it is the only one."""
    scores = scored(subject, edit, PAIRS, subject.seed)
    boot = resampled(scores, TOP)
    again = [top_edges(scored(subject, edit, FEWER, 100 + seed), TOP) for seed in range(SEEDS)]
    row = {
        "edit": edit,
        "set": subject.set,
        "pairs": len(scores.per_example),
        "bootstrap": boot.to_json(),
        "needed": pairs_needed(scores, TOP).to_json(),
        "single_pairs": single_pairs(scores),
        "reseeded": stability(again).to_json(),
    }
    try:
        held_out = subject.pairs(edit, FEWER, subject.seed + 1)
        row["identifiability"] = identifiability(subject.model, scores, held_out, TOP).to_json()
    except InputError as error:
        row["refused"] = str(error)
    return row


def model_row(models: Sequence[Subject], edit: str) -> Row:
    """The circuits of one edit in every two models."""
    scores = [scored(subject, edit, PAIRS, subject.seed) for subject in models]
    circuits = [top_edges(one, TOP) for one in scores]
    graph, rng = scores[0].graph, np.random.default_rng(0)
    draws = RandomCircuits.draw(graph, 40, 0).uniform(TOP)
    return {
        "edit": edit,
        "set": models[0].set,
        "models": [subject.name for subject in models],
        "jaccard": [compare(*both).jaccard for both in combinations(circuits, 2)],
        "resampled": [index_interval(*both, rng) for both in combinations(scores, 2)],
        "chance": chance_jaccard(TOP, TOP, len(graph.edges)),
        "blind": [blind_jaccard(*both) for both in combinations(circuits, 2)],
        "chance_blind": float(np.mean([blind_jaccard(*both) for both in combinations(draws, 2)])),
    }


def index_interval(first: EdgeScores, second: EdgeScores, rng: np.random.Generator) -> list[float]:
    """95 % interval of the index of two models' circuits when the pairs of both are drawn anew, 100 times."""

    def drawn(scores: EdgeScores) -> Circuit:
        rows = torch.from_numpy(rng.integers(len(scores.per_example), size=len(scores.per_example)))
        return top_edges(replace(scores, per_example=scores.per_example[rows]), TOP)

    values = np.array([compare(drawn(first), drawn(second)).jaccard for _ in range(100)])
    return [float(end) for end in percentiles(values, 0.95)]


def similar(sets: dict[str, Subject]) -> list[Row]:
    """Jaccard index by how alike two queries are."""
    found: dict[tuple[str, str, int], Circuit] = {
        (edit, name, seed): top_edges(scored(subject, edit, FEWER, 200 + seed), TOP)
        for name, subject in sets.items()
        for edit in suited(subject)
        for seed in (0, 1)
    }
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
    oracle = METHODS["exact"](subject.model, pairs).of_edges().double().numpy()
    rows = []
    for name in (name for name in METHODS if name not in ("exact", *UNSIGNED)):
        mine = METHODS[name](subject.model, pairs).of_edges().double().numpy()
        rows.append(
            {"edit": edit, "set": subject.set, "pairs": len(pairs), "method": name, **agreed(mine, oracle)}
        )
    return rows


def agreed(mine: np.ndarray, oracle: np.ndarray, top: int = 20, resamples: int = 500) -> Row:
    """Pearson, Spearman of sizes, share of the oracle's top edges, of `[pair edge]`, with bootstrap intervals."""
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=resamples) / len(mine)
    weights = np.concatenate([np.full((1, len(mine)), 1 / len(mine)), weights])
    values = np.array([_three(weight @ mine, weight @ oracle, top) for weight in weights])
    low, high = percentiles(values[1:], 0.95)
    names = ("pearson", "spearman", "top_shared")
    return {
        name: {"value": float(values[0, i]), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(names)
    }


def _three(mine: np.ndarray, oracle: np.ndarray, top: int) -> tuple[float, float, float]:
    orders = [np.argsort(-np.abs(values), kind="stable") for values in (mine, oracle)]
    ranks = [np.argsort(order) for order in orders]
    shared = len(set(orders[0][:top].tolist()) & set(orders[1][:top].tolist())) / top
    return np.corrcoef(mine, oracle)[0, 1], np.corrcoef(*ranks)[0, 1], shared


def tables(found: dict[str, list[Row]]) -> str:
    """By edit, by model, by how alike queries are, by method, as far as they were measured."""
    header = {
        "edits": [
            "edit",
            "set",
            "bootstrap",
            "pairs for .8",
            "other pairs",
            "single pairs",
            "second circuit",
        ],
        "models": ["edit", "set", "two models", "their pairs resampled", "chance", "heads alike", "chance"],
        "similar": ["two circuits of", "comparisons", "Jaccard: mean (range)"],
        "agreement": ["edit", "method", "Pearson", "Spearman", "top 20 shared"],
    }
    lines = {
        "edits": _edit_line,
        "models": _model_line,
        "similar": _similar_line,
        "agreement": _agreement_line,
    }
    return "\n\n".join(_table(header[name], map(lines[name], rows)) for name, rows in found.items())


def _edit_line(row: Row) -> list[str]:
    return [
        f"`{row['edit']}`",
        row["set"].upper(),
        f"{row['bootstrap']['jaccard']:.2f} ({row['bootstrap']['lowest']:.2f})",
        str(row["needed"]["needed"] or f"over {row['pairs']}"),
        f"{row['reseeded']['jaccard']:.2f}",
        f"{row['single_pairs']:.2f}",
        _rival(row),
    ]


def _model_line(row: Row) -> list[str]:
    return [
        f"`{row['edit']}`",
        row["set"].upper(),
        _spread(row["jaccard"]),
        ", ".join(f"{low:.2f} to {high:.2f}" for low, high in row["resampled"]),
        f"{row['chance']:.2f}",
        _spread(row["blind"]),
        f"{row['chance_blind']:.2f}",
    ]


def _similar_line(row: Row) -> list[str]:
    return [row["alike"][2:], str(len(row["jaccard"])), _spread(row["jaccard"])]


def _agreement_line(row: Row) -> list[str]:
    estimates = (_estimate(row[name]) for name in ("pearson", "spearman", "top_shared"))
    return [f"`{row['edit']}`", f"`{row['method']}`", *estimates]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _rival(row: Row) -> str:
    if "refused" in row:
        return "the model does not tell clean from corrupt"
    found = row["identifiability"]
    first, second = (f"{found[name]['value']:.2f}" for name in ("first", "second"))
    return f"{first}; {second}, difference {_estimate(found['difference'])}"


def _estimate(found: Row) -> str:
    return f"{found['value'] + 0.0:.2f} ({found['low'] + 0.0:.2f} to {found['high'] + 0.0:.2f})"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("others", nargs="*", type=Path, help="runs of the same recipe from other seeds")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write everything measured here")
    arguments = parser.parse_args()
    runs = [subjects(path, arguments.seed, arguments.device) for path in (arguments.run, *arguments.others)]
    edits = [edit for edit in KINDS if any(edit in suited(subject) for subject in runs[0].values())]
    # The first of a run's command sets that has the edit.
    hosts = {edit: next(name for name, one in runs[0].items() if edit in suited(one)) for edit in edits}
    made: dict[str, Callable[[], list[Row]]] = {
        "edits": lambda: [edit_row(runs[0][name], edit) for edit, name in hosts.items()],
        "models": lambda: [model_row([run[name] for run in runs], edit) for edit, name in hosts.items()],
        "similar": lambda: similar(runs[0]),
        "agreement": lambda: [
            row for edit, name in hosts.items() for row in agreement_rows(runs[0][name], edit)
        ],
    }
    wanted = [name for name in arguments.tables if name != "models" or len(runs) > 1]
    found = {name: made[name]() for name in wanted}
    print(tables(found))
    if arguments.json is not None:
        made_by = {
            **provenance(),
            "command": " ".join(["python", *sys.argv]),
            "threads": torch.get_num_threads(),
        }
        arguments.json.write_text(json.dumps({**found, "made_by": made_by}, indent=1))


if __name__ == "__main__":
    main()
