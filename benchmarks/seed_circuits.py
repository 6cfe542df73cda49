"""TinySQL's interpretability rows for any run, measured as it did and by measures that are normalised.

    python benchmarks/seed_circuits.py runs/bm1 runs/t33 --device cuda --json seed.json
    python benchmarks/seed_circuits.py runs/nano runs/hybrid --pairs 16 --json seed.json

Pairs are drawn in as many processes as there are processors (`--workers`), because that takes longer than what a GPU
does with them; `--memory` bounds what a batch takes beside the weights. The JSON says what each part took.

Four tables, one line per run and command set (CS1 to CS3, as far as the run has them), edit, role or slot:

1. heads: the ends of the ten largest EAP edges in 100 % of the batches (80 % on CS3), and what is answered when all
   other heads write zero: TinySQL's likeness, the same as a share of the way from no head to the whole model, answers
   that are right to the letter, and as many random heads. Its "recovered accuracy" is the likeness alone.
2. edges: the same heads with all edges between them, run against the corrupt prompt; beside them as many of EAP-IG's
   top edges, random heads, and CMD, all on held-out pairs.
3. depths: where the logit lens first says the right token, with the final norm and, as TinySQL read it, without.
4. swaps: which place a swapped name is copied from, by answers and by the logits of the name's first token.

What differs from TinySQL: answers are greedy, not sampled at temperature .5; a head is zeroed before the output
projection, where heads are apart, at every step; each batch is scored against its own answers; the cosine of word
embeddings between names is not measured. In a hybrid, Mamba heads and routed experts count as heads.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np
import torch

from circuits.bench.seed_way import answers_with, consistent_edges, edges_among, heads_at, heads_of, likeness
from circuits.circuit import Circuit
from circuits.engine.batching import fitting_batch_size
from circuits.engine.forward import metric_of
from circuits.graph import Graph
from circuits.judging.bootstrap import interval
from circuits.judging.curves import faithfulness_curve
from circuits.judging.ratios import ratios_of
from circuits.looking.lens import LensReading, logit_lens
from circuits.looking.swaps import PLACES, Slot, swap_pairs, swap_test
from circuits.methods.eap import eap
from circuits.methods.eap_ig import eap_ig
from circuits.metrics import logit_diff
from circuits.select import top_edges
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.files import write_atomic
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.pairs.edits import edit_named
from tinysql.answering.shortcuts import shortcut_scores
from tinysql.models.hybrid import HybridLM
from tinysql.runs import open_run, provenance
from tinysql.tokens import Tokenizer, TokenPairs

EDITS = (
    "english.table",
    "schema.table",
    "select.0.column",
    "select.1.column",
    "order_by.0.column",
    "order_by.0.direction",
    "select.0.aggregate",
)
SHARES = {"cs1": 1.0, "cs2": 1.0, "cs3": 0.8}
"""Command sets and the share of batches an edge has to be on top in, as in TinySQL's appendix."""
BATCHES, HELD_OUT, RANDOM, CURVE, PROMPTS, SWAPS = 15, 64, 10, 5, 100, 200
"""Batches of pairs, pairs circuits are run on, random sets of heads, random circuits of a curve, rows."""

MEMORY = 4.0
"""GiB that a batch may take beside the weights."""

Row = dict[str, Any]

Draw = tuple[str, int, int]
"""Pairs of an edit, how many, and their seed."""


def draw(tokenizer: Tokenizer, data: DataConfig, edit: str, n: int, seed: int) -> TokenPairs:
    """Pairs of one edit, without those that do not align."""
    drawn = counterfactuals(data, edit=edit, n=n, seed=seed, encode=tokenizer.encode_text)
    return tokenizer.encode_pairs(drawn, drop_misaligned=True)


def draw_from(path: Path, data: DataConfig, wanted: Draw) -> TokenPairs:
    """`draw` in a process of its own, with the tokenizer of a run."""
    torch.set_num_threads(1)
    return draw(Tokenizer.load(path / "tokenizer.json"), data, *wanted)


class Subject:
    """A model and one of its command sets."""

    def __init__(self, name: str, model: HybridLM, tokenizer: Tokenizer, data: DataConfig, seed: int) -> None:
        self.name, self.model, self.tokenizer, self.data, self.seed = name, model, tokenizer, data, seed
        self.graph = Graph.of(model)
        [self.set] = data.command_sets
        self.memory = MEMORY
        self.drawn: dict[Draw, Future[TokenPairs]] = {}
        """Pairs that other processes draw."""

    def pairs(self, edit: str, n: int, seed: int) -> TokenPairs:
        known = self.drawn.pop((edit, n, seed), None)
        return draw(self.tokenizer, self.data, edit, n, seed) if known is None else known.result()

    def size(self, pairs: TokenPairs) -> int:
        """How many pairs go together."""
        return fitting_batch_size(self.model, pairs, memory=self.memory)

    def examples(self, n: int) -> list[Example]:
        """Rows that ask for two items or more, which TinySQL's measure counts."""
        found: list[Example] = []
        for example in make_examples(self.data, 0, 1 << 30):
            if len(example.query.select) > 1:
                found.append(example)
            if len(found) == n:
                break
        return found

    def random_heads(self, n: int) -> list[frozenset[str]]:
        rng, all_heads = np.random.default_rng(self.seed), heads_of(self.graph)
        return [frozenset(rng.choice(all_heads, n, replace=False).tolist()) for _ in range(RANDOM)]


def mean(values: Sequence[float]) -> Row:
    """A mean with its 95 % bootstrap interval."""
    low, high = interval(np.array(values, float))
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high)}


def draws(edit: str, pairs: int, seed: int) -> list[Draw]:
    """The pairs that heads are found on, that EAP-IG scores, and that circuits are run on."""
    return [(edit, BATCHES * pairs, seed), (edit, 2 * pairs, seed), (edit, HELD_OUT, seed + 1)]


def found_heads(subject: Subject, pairs: int) -> tuple[frozenset[str], dict[str, int]]:
    """TinySQL's heads of a command set, and how many edges each edit gave."""
    heads, counts = set[str](), {}
    for edit in suited(subject.set):
        some_pairs = subject.pairs(edit, BATCHES * pairs, subject.seed)
        scores = eap(subject.model, some_pairs, batch_size=subject.size(some_pairs))
        batches = [replace(scores, per_example=some) for some in scores.per_example.split(pairs)]
        edges = consistent_edges(batches, SHARES[subject.set])
        counts[edit] = len(edges)
        heads |= heads_at(edges)
    return frozenset(heads), counts


def head_row(subject: Subject, heads: frozenset[str], counts: dict[str, int]) -> Row:
    """What is answered with these heads, with random ones, with none and with all."""
    asked = subject.examples(PROMPTS)
    prompts = [one.prompt.string for one in asked]
    # A longer answer than any right one is wrong already.
    longest = 8 + max(len(subject.tokenizer.encode_text(f" {one.sql.string}")) for one in asked)

    def answered(kept: Collection[str]) -> tuple[list[float], list[float]]:
        given = answers_with(subject.model, subject.tokenizer, prompts, kept, longest=longest)
        both = [(sql, one.sql.string) for sql, one in zip(given, asked, strict=True)]
        return [likeness(*pair) for pair in both], [float(sql == wanted) for sql, wanted in both]

    alone, whole, none = (answered(kept) for kept in (heads, heads_of(subject.graph), ()))
    random = [answered(kept) for kept in subject.random_heads(len(heads))]
    floor, top = (float(np.mean(one[0])) for one in (none, whole))

    def rescaled(one: tuple[list[float], list[float]]) -> float | None:
        return (float(np.mean(one[0])) - floor) / (top - floor) if top > floor else None

    return {
        "run": subject.name,
        "set": subject.set,
        "heads": sorted(heads),
        "of": len(heads_of(subject.graph)),
        "edges_by_edit": counts,
        "prompts": len(asked),
        "likeness": mean(alone[0]),
        "likeness_whole": mean(whole[0]),
        "likeness_none": mean(none[0]),
        "likeness_random": [float(np.mean(one[0])) for one in random],
        "rescaled": rescaled(alone),
        "rescaled_random": [rescaled(one) for one in random],
        "right": mean(alone[1]),
        "right_whole": mean(whole[1]),
        "right_random": [float(np.mean(one[1])) for one in random],
    }


def edge_row(subject: Subject, edit: str, heads: frozenset[str], pairs: int) -> Row:
    """The heads as a circuit of edges, and as many edges chosen by EAP-IG, on held-out pairs of one edit."""
    graph, row = subject.graph, {"run": subject.name, "set": subject.set, "edit": edit}
    scored, held_out = (subject.pairs(*wanted) for wanted in draws(edit, pairs, subject.seed)[1:])
    scores = eap_ig(subject.model, scored, batch_size=subject.size(scored))
    size = subject.size(held_out)
    circuit = edges_among(graph, heads)
    top = top_edges(scores, len(circuit))
    played: list[Circuit] = [circuit, circuit.complement(), top, top.complement()]
    played += [edges_among(graph, some) for some in subject.random_heads(len(heads))]
    try:
        ratios = ratios_of(subject.model, graph, held_out, logit_diff, seed=subject.seed, batch_size=size)
    except InputError as error:
        return {**row, "refused": str(error)}
    values = metric_of(subject.model, played, held_out, logit_diff, batch_size=size).double().numpy()
    curve = faithfulness_curve(
        subject.model, scores, held_out, random_circuits=CURVE, seed=subject.seed, batch_size=size
    )
    assert curve.areas is not None
    names = ("faithfulness", "outside", "top_faithfulness", "top_outside")
    return {
        **row,
        "edges": len(circuit),
        "of": len(graph.edges),
        "pairs": len(held_out),
        **{name: asdict(ratios.estimate(one)) for name, one in zip(names, values, strict=False)},
        "random_heads": asdict(ratios.band(values[4:])),
        "cmd": asdict(curve.areas.cmd),
        "enough": next((p.n_edges for p in curve.points if p.faithfulness.value >= 0.8), None),
    }


def depth_rows(subject: Subject) -> list[Row]:
    """By role, the median depth at which the right token first is on top, with and without the final norm."""
    tokens = subject.tokenizer.encode(subject.examples(PROMPTS))
    normed = logit_lens(subject.model, tokens)
    bare_model = copy.deepcopy(subject.model)
    bare_model.ln_final = torch.nn.Identity()
    bare = logit_lens(bare_model, tokens)
    # Behind the last block TinySQL's stream had gone through the norm already.
    rank = torch.cat([bare.rank[:, :-1], normed.rank[:, -1:]], dim=1)
    bare = replace(bare, rank=rank)
    rows = []
    for number, role in enumerate(normed.targets.roles):
        here = normed.targets.role == number

        def first(reading: LensReading, here: torch.Tensor = here) -> float:
            return float(reading.first_on_top[here].float().quantile(0.5))

        rows.append(
            {
                "run": subject.name,
                "set": subject.set,
                "role": role,
                "tokens": int(here.sum()),
                "blocks": len(subject.graph.pattern),
                "first_normed": first(normed),
                "first_bare": first(bare),
                "other_rank": float((normed.rank[here, :-1] != bare.rank[here, :-1]).float().mean()),
                "right": float((normed.rank[here, -1] == 1).float().mean()),
            }
        )
    return rows


def swap_rows(subject: Subject) -> list[Row]:
    """Where a swapped table or column is read: by answers, and by the logits of the name's first token."""
    by_variant = shortcut_scores(subject.model, subject.tokenizer, subject.data, SWAPS, seed=subject.seed)
    scores = {str(variant): score for variant, score in by_variant.items()}
    slots: tuple[Slot, ...] = ("table", "column")
    rows = []
    for slot in slots:
        row: Row = {"run": subject.name, "set": subject.set, "slot": slot}
        for place in PLACES:
            found = scores[f"{slot}.{place}"]
            row[place] = {"schema": found.schema.to_json(), "english": found.english.to_json()}
        try:
            pairs = swap_pairs(subject.tokenizer, subject.data, slot, HELD_OUT, seed=subject.seed)
            row["logits"] = swap_test(subject.model, pairs).to_json()["follows"]
        except InputError as error:
            row["refused"] = str(error)
        rows.append(row)
    return rows


def measured(path: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, list[Row]]]:
    """The rows of one run, set by set and table by table."""
    run = open_run(path)
    model, tokenizer = run.load(arguments.device)
    sets = [one for one in SHARES if one in run.data.command_sets]
    subjects = [
        Subject(path.name, model, tokenizer, replace(run.split("test"), command_sets=(one,)), arguments.seed)
        for one in sets
    ]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for subject in subjects if arguments.workers > 1 else ():
            for edit in suited(subject.set):
                for wanted in draws(edit, arguments.pairs, arguments.seed):
                    subject.drawn[wanted] = pool.submit(draw_from, path, subject.data, wanted)
        for subject in subjects:
            subject.memory = arguments.memory
            yield from rows_of(subject, arguments.pairs)


def suited(command_set: str) -> list[str]:
    """The edits that a command set has."""
    return [edit for edit in EDITS if edit_named(edit).suits(command_set)]


def rows_of(subject: Subject, pairs: int) -> Iterator[tuple[str, list[Row]]]:
    """The rows of one command set, table by table, and what each took."""
    begun, took = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal begun
        begun, took[name] = time.perf_counter(), time.perf_counter() - begun

    heads, counts = found_heads(subject, pairs)
    lap("eap")
    yield "heads", [head_row(subject, heads, counts)]
    lap("heads")
    yield "edges", [edge_row(subject, edit, heads, pairs) for edit in counts]
    lap("edges")
    yield "depths", depth_rows(subject)
    lap("depths")
    yield "swaps", swap_rows(subject)
    lap("swaps")
    yield "seconds", [{"run": subject.name, "set": subject.set, **took}]


def main() -> None:
    from benchmarks.seed_circuits_tables import tables

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories: a transformer, its hybrid twin")
    parser.add_argument(
        "--pairs", type=int, default=100, help=f"pairs per batch, of {BATCHES} (default: 100)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draws pairs, random heads and swaps (default: 0)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--memory",
        type=float,
        default=MEMORY,
        help=f"GiB of a batch beside the weights (default: {MEMORY:g})",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw pairs")
    parser.add_argument("--json", type=Path, help="write here what is measured, table by table")
    arguments = parser.parse_args()
    found: dict[str, list[Row]] = {kind: [] for kind in ("heads", "edges", "depths", "swaps", "seconds")}
    for path in arguments.runs:
        for kind, rows in measured(path, arguments):
            found[kind] += rows
            if arguments.json is not None:
                command = " ".join(["python", *sys.argv])
                made_by = {**provenance(), "command": command, "threads": torch.get_num_threads()}
                write_atomic(arguments.json, json.dumps({**found, "made_by": made_by}, indent=1))
    print(tables(found))


if __name__ == "__main__":
    main()
