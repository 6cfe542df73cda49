"""A flawed heuristic, found, mended in the data and measured again: the table's name is copied from the English.

    python benchmarks/heuristic.py --out runs/heuristic --seeds 0 1 2 --json heuristic.json

Before: every training question names the table, so a model that copies it from the English is always right, and wrong
where a question leaves it out. After: the same recipe with the data as they are drawn, in which 45 % of the questions
leave the table out, so that only the schema says it. Both models have the same tokenizer, weights at the start and
number of rows, and are trained for equally many steps. Printed beside accuracy: where the name is read when schema
and English disagree, and the circuit that carries the name from either place. Numbers are means over seeds of data,
weights and order, with the range.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

sys.path[0] = str(
    Path(__file__).resolve().parents[1]
)  # the folder of this file would hide the package `circuits`

import torch

from circuits.judging.faithfulness import faithfulness_curve
from circuits.methods.eap_ig import eap_ig
from circuits.select import top_edges
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.pairs.shortcuts import ShortcutRow, Variant, make_shortcuts
from tinysql.answering.generation import answer
from tinysql.answering.shares import Share
from tinysql.answering.shortcuts import score
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.runs import provenance
from tinysql.tokens import Tokenizer, TokenPairs, Tokens
from tinysql.training.batches import TrainingRows
from tinysql.training.config import TrainConfig
from tinysql.training.feed import Bucketed
from tinysql.training.loop import train

DATA = DataConfig(command_sets=("cs1",), lexicon="demo", min_columns=2, max_columns=3, random_names=0.3)
TEST = replace(DATA, split="test")
TRAIN = TrainConfig(
    model=ModelConfig(pattern="*-*-*-", d_model=96, n_heads=4, n_ctx=128),
    vocab_size=600,
    batch_size=16,
    lr=2e-3,
    prompt_loss=0.3,
    hold_steps=1900,
    decay_steps=300,
    checkpoint_every=10_000,
)
ROWS, PROBE, TESTED, SHORTCUTS = 20_000, 256, 300, 200
TOP = 30
"""Edges of the circuits that are compared."""


def drawn(config: DataConfig, names_table: bool | None) -> Iterator[Example]:
    """Rows without end: all, or those whose English names the table or not."""
    for example in make_examples(config, 0, 1 << 40):
        if names_table is None or example.style.mentions_table == names_table:
            yield example


def fitted(names_table: bool | None, tokenizer: Tokenizer, path: Path, seed: int) -> HybridLM:
    """A model trained on such rows."""
    rows = [
        (one.prompt.string, one.sql.string)
        for one in islice(drawn(replace(DATA, seed=seed), names_table), ROWS + PROBE)
    ]
    config = replace(TRAIN, seed=seed, model=replace(TRAIN.model, d_vocab=tokenizer.vocab_size))
    encoded, probe = (
        TrainingRows.encode(some, tokenizer, n_ctx=config.model.n_ctx) for some in (rows[:ROWS], rows[ROWS:])
    )
    feed = Bucketed(encoded, batch_size=config.batch_size, seed=seed, prompt_loss=config.prompt_loss)
    path.mkdir(parents=True, exist_ok=True)
    return train(config, feed, probe, path).eval()


def right(model: HybridLM, tokenizer: Tokenizer, examples: Iterable[Example]) -> Share:
    """How many answers are the SQL asked for, to the letter."""
    asked = list(examples)
    given = answer(model, tokenizer, [one.prompt.string for one in asked])
    return Share(
        right=sum(sql == one.sql.string for sql, one in zip(given, asked, strict=True)), total=len(asked)
    )


def swapped(rows: list[ShortcutRow], place: Variant, tokenizer: Tokenizer) -> TokenPairs:
    """Pairs that differ in the table's name in the schema (`table.schema`) or in the English (`table.english`) alone.

    The metric's position predicts the first token of the name behind FROM; names of unlike length are left out.
    """
    by_variant = {
        variant: [row for row in rows if row.variant == variant] for variant in ("table.clean", place)
    }
    found = []
    for clean, corrupt in zip(*by_variant.values(), strict=True):
        old = clean.english_name
        new = corrupt.english_name if place == "table.english" else min(corrupt.schema_names)
        start = clean.example.sql.string.rindex(f" {old}")
        begun = f" {clean.example.sql.string[:start]}"
        sides = [tokenizer.encode_text(row.example.prompt.string + begun) for row in (clean, corrupt)]
        answers = [tokenizer.encode_text(f" {name}")[0] for name in (old, new)]
        if len(sides[0]) == len(sides[1]) and answers[0] != answers[1]:
            found.append((*sides, *answers))
    clean_ids, corrupt_ids, right_token, wrong_token = zip(*found, strict=True)
    return TokenPairs(
        edit=place,
        clean=padded(clean_ids, tokenizer.pad_id),
        corrupt=padded(corrupt_ids, tokenizer.pad_id),
        position=torch.tensor([len(ids) - 1 for ids in clean_ids]),
        clean_answer=torch.tensor(right_token),
        corrupt_answer=torch.tensor(wrong_token),
    )


def padded(rows: tuple[list[int], ...], pad: int) -> Tokens:
    """Right-padded ids; roles play no part here."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    return Tokens(
        ids=torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows]),
        mask=torch.arange(width) < lengths[:, None],
        roles=tuple(("prompt.markup",) * len(row) + ("",) * (width - len(row)) for row in rows),
        answer_start=lengths,
    )


def measured(model: HybridLM, tokenizer: Tokenizer, seed: int) -> dict[str, Any]:
    """Accuracy by whether the English names the table, what is followed, and the circuit from either place."""
    rows = [row for index in range(SHORTCUTS) for row in make_shortcuts(TEST, index, seed)]
    rows = [row for row in rows if row.variant.startswith("table")]
    scores = score(rows, answer(model, tokenizer, [row.example.prompt.string for row in rows]))
    found: dict[str, Any] = {
        "right, English names the table": right(
            model, tokenizer, islice(drawn(TEST, True), TESTED)
        ).to_json(),
        "right, English leaves it out": right(model, tokenizer, islice(drawn(TEST, False), TESTED)).to_json(),
        "follows": {variant: one.to_json() for variant, one in scores.items()},
        "circuits": {},
    }
    for place in ("table.schema", "table.english"):
        found["circuits"][place] = circuit(model, swapped(rows, place, tokenizer))
    return found


def circuit(model: HybridLM, pairs: TokenPairs) -> dict[str, Any]:
    """What carries the name from one place: scored on half of the pairs, run alone on the others."""
    half = len(pairs) // 2
    scores = eap_ig(model, pairs[:half])
    try:
        points = faithfulness_curve(model, scores, pairs[half:]).points
    except InputError:  # the answer does not depend on that place
        points = ()
    return {
        "pairs": len(pairs),
        "metric_clean": scores.metadata["metric_clean"],
        "metric_corrupt": scores.metadata["metric_corrupt"],
        "edges": len(scores.graph.edges),
        "faithfulness": {point.n_edges: point.faithfulness.value for point in points},
        "top": [str(edge) for edge in top_edges(scores, TOP).edges],
    }


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and range."""
    mean, low, high = sum(values) / len(values), min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def reached(one: dict[str, Any]) -> float:
    """The fewest edges of the curve that reach a faithfulness of .8; all where none does."""
    return next((int(size) for size, value in one["faithfulness"].items() if value >= 0.8), one["edges"])


def jaccard(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Of the top edges before and after."""
    a, b = set(first["top"]), set(second["top"])
    return len(a & b) / len(a | b)


def table(seeds: Sequence[dict[str, Any]]) -> str:
    """Before and after, side by side, over the seeds."""
    sides = [[one[name] for one in seeds] for name in ("before", "after")]
    lines: list[tuple[str, ...]] = [("", "before", "after")]
    for name in ("right, English names the table", "right, English leaves it out"):
        lines.append((name, *(spread([one[name]["share"] for one in side], 3) for side in sides)))
    for variant in ("table.schema", "table.english"):
        for kind in ("schema", "english"):
            shares = (spread([one["follows"][variant][kind]["share"] for one in side], 3) for side in sides)
            lines.append((f"{variant} swapped: follows the {kind}", *shares))
    for place in ("table.schema", "table.english"):
        circuits = [[one["circuits"][place] for one in side] for side in sides]
        moved = (
            spread([one["metric_clean"] - one["metric_corrupt"] for one in side], 1) for side in circuits
        )
        lines.append((f"{place} swapped: logit difference moves by, nats", *moved))
        edges = (spread([reached(one) for one in side], 0) for side in circuits)
        lines.append((f"{place}: edges for faithfulness .8, of {circuits[0][0]['edges']}", *edges))
        shared = [jaccard(*both) for both in zip(*circuits, strict=True)]
        lines.append((f"{place}: Jaccard of the top {TOP}", spread(shared, 2), ""))
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ("---",) * 3, *lines[1:]))


def one_seed(seed: int, tokenizer: Tokenizer, out: Path) -> dict[str, Any]:
    """Both models of a seed, trained and measured."""
    found: dict[str, Any] = {"seed": seed}
    for name, names_table in (("before", True), ("after", None)):
        model = fitted(names_table, tokenizer, out / str(seed) / name, seed)
        found[name] = measured(model, tokenizer, seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the training logs")
    parser.add_argument("--json", type=Path, help="write everything measured here, seed by seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to train with (default: 0)")
    arguments = parser.parse_args()
    texts = (f"{one.prompt.string} {one.sql.string}" for one in islice(drawn(DATA, None), 5000))
    tokenizer = Tokenizer.train(texts, vocab_size=TRAIN.vocab_size)
    seeds: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        seeds.append(one_seed(seed, tokenizer, arguments.out))
        if arguments.json is not None:
            made_by = {**provenance(), "threads": torch.get_num_threads()}
            arguments.json.write_text(json.dumps({"seeds": seeds, "made_by": made_by}, indent=1))
    print(table(seeds))


if __name__ == "__main__":
    main()
