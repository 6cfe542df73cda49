"""One edit in every command set and way of asking -> its circuits, and how alike they are.

Command sets CS1 to CS10 as far as they have the edit, with base questions; CS1 to CS3 with `syn` and `nat` ones too;
each on two draws of pairs. A model may not have learned some of these: a circuit counts where the model tells clean
from corrupt, that is where its mean metric is above zero on clean prompts and below on corrupt ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from itertools import combinations
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.seed_circuits import Subject, draw
from benchmarks.stability_kept import step
from circuits.methods.eap_ig import eap_ig
from circuits.select import top_edges
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.pairs.edits import edit_named, sets_with
from data_gen.query import COMMAND_SETS
from tinysql.tokens import Tokenizer, TokenPairs

VARIED = ("cs1", "cs2", "cs3")
"""Command sets that are asked in other ways too."""
MOST_WORKERS = 8
Row = dict[str, Any]


def circuit_rows(subject: Subject, edit: str, *, pairs: int, top: int) -> list[Row]:
    """The circuit of the `top` edges in every set and way of asking, on two draws of pairs.

    Pairs are drawn in other processes, because that takes longer than what a GPU does with them.
    """
    wanted = [(name, variant, number) for name, variant in cells(edit) for number in (0, 1)]
    rows = []
    with workers(len(wanted)) as pool:
        drawn = {}
        for name, variant, number in wanted:
            data = replace(subject.data, command_sets=(name,), variant=variant)
            drawn[name, variant, number] = pool.submit(
                draw_alone, subject.tokenizer, data, edit, pairs, 300 + number
            )
        for (name, variant, number), some in drawn.items():
            about = {"edit": edit, "set": name, "variant": variant, "draw": number}
            with step(f"sets {edit} {name} {variant}: EAP-IG of {pairs} pairs, draw {number}"):
                rows.append({**about, **_found(subject, some, top)})
    return rows


def workers(tasks: int) -> Executor:
    """Processes to draw pairs in."""
    count = min(tasks, MOST_WORKERS, os.cpu_count() or 1)
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def draw_alone(tokenizer: Tokenizer, data: DataConfig, edit: str, n: int, seed: int) -> TokenPairs:
    """`draw` in a process of its own. Raises `InputError` as it does."""
    torch.set_num_threads(1)
    return draw(tokenizer, data, edit, n, seed)


def cells(edit: str) -> Iterator[tuple[str, str]]:
    """Command sets with the edit, and how they are asked."""
    for name in sets_with(edit_named(edit)):
        yield from ((name, variant) for variant in (("base", "syn", "nat") if name in VARIED else ("base",)))


def _found(subject: Subject, drawn: Future[TokenPairs], top: int) -> Row:
    try:
        scores = eap_ig(subject.model, drawn.result())
    except InputError as error:
        return {"refused": str(error)}
    told = {side: scores.metadata[f"metric_{side}"] for side in ("clean", "corrupt")}
    edges = [str(edge) for edge in top_edges(scores, top).edges]
    return {"pairs": len(scores.per_example), **told, "edges": edges}


def is_told(row: Row) -> bool:
    """Does the model tell clean from corrupt there?"""
    return "edges" in row and row["clean"] > 0 > row["corrupt"]


def how_alike(first: Row, second: Row) -> str | None:
    """What of two circuits differs, beside the pairs; `None` where nothing does, or more than one thing."""
    if first["draw"] == second["draw"]:
        return None
    apart = [what for what in ("edit", "set", "variant") if first[what] != second[what]]
    if len(apart) > 1:
        return None
    return f"other {apart[0]}" if apart else "other pairs alone"


def compared(rows: Sequence[Row]) -> list[Row]:
    """The Jaccard indices of each kind of likeness, of circuits where the model tells clean from corrupt.

    By edit, and of all edits under the name `all`, where those of two edits are too.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for first, second in combinations([row for row in rows if is_told(row)], 2):
        alike = how_alike(first, second)
        if alike is None:
            continue
        edits = ["all"] if alike == "other edit" else [first["edit"], "all"]
        for edit in edits:
            found.setdefault((edit, alike), []).append(jaccard(first, second))
    return [{"edit": edit, "alike": alike, "jaccard": values} for (edit, alike), values in found.items()]


def between_sets(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """Mean index of the circuits of one edit in every two command sets, over edits and draws; base questions."""
    found: dict[tuple[str, str], list[float]] = {}
    told = [row for row in rows if is_told(row) and row["variant"] == "base"]
    for first, second in combinations(told, 2):
        if first["edit"] == second["edit"] and first["draw"] != second["draw"]:
            one, other = sorted((first["set"], second["set"]), key=list(COMMAND_SETS).index)
            found.setdefault((one, other), []).append(jaccard(first, second))
    return {both: sum(values) / len(values) for both, values in found.items()}


def jaccard(first: Row, second: Row) -> float:
    """Of the edges of two circuits."""
    one, other = set(first["edges"]), set(second["edges"])
    return len(one & other) / len(one | other)
