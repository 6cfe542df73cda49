"""What batches of like length save in `exact`, and what reusing the prefix that clean and corrupt share could save.

    python benchmarks/circuits_padding.py --json padding.json
    python benchmarks/circuits_padding.py --recipe bm1 --count

Test pairs of every edit, on the recipe's shape with random weights (seconds do not depend on them), in processor time:
`together`, all pairs in one batch, padded to the longest; `sorted`, as `exact` does it; and `without prefix`, the same
batches with the tokens before the first difference in any of their pairs taken off. The scores of the last are
meaningless. It runs nothing for the prefix and attends to none of it, so no reuse of keys, values and states can be
faster. `--count` counts tokens and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

sys.path[0] = str(
    Path(__file__).resolve().parents[1]
)  # the folder of this file would hide the package `circuits`

import torch

from circuits.engine.batching import by_length
from circuits.graph import Graph
from circuits.methods.exact import exact
from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.pairs.edits import edit_named
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import find_recipe
from tinysql.runs import provenance
from tinysql.tokens import Tokenizer, TokenPairs, Tokens

EDITS = (
    "schema.table",
    "english.table",
    "select.0.column",
    "select.1.column",
    "order_by.0.column",
    "order_by.0.direction",
)
HYBRID = {
    "pattern": "ME*EM-",
    "mamba": MambaConfig(d_state=32),
    "moe": MoEConfig(n_experts=4, d_expert=128, d_shared=128),
}
"""What `--hybrid` changes of the recipe's shape: the twin of docs/results/circuits.md."""

Row = dict[str, Any]


def shortened(pairs: TokenPairs, by: int) -> TokenPairs:
    """The pairs without their first tokens."""

    def side(tokens: Tokens) -> Tokens:
        return Tokens(
            ids=tokens.ids[:, by:],
            mask=tokens.mask[:, by:],
            roles=tuple(row[by:] for row in tokens.roles),
            answer_start=tokens.answer_start - by,
        )

    return replace(pairs, clean=side(pairs.clean), corrupt=side(pairs.corrupt), position=pairs.position - by)


def shared(pairs: TokenPairs) -> int:
    """How many tokens clean and corrupt have in common at the start of every pair."""
    return int((pairs.clean.ids != pairs.corrupt.ids).float().argmax(1).min())


def tokens_run(model: HybridLM, pairs: TokenPairs) -> Row:
    """Tokens that one pass over all pairs runs, as multiples of those that the pairs have."""
    lengths = pairs.position + 1
    own, batches = int(lengths.sum()), by_length(model, pairs, None).batches
    each = [(len(batch), int(batch.position.max()) + 1, shared(batch)) for batch in batches]
    first = (pairs.clean.ids != pairs.corrupt.ids).float().argmax(1)
    return {
        "length": own / len(pairs),
        "first_difference": float(first.float().mean()),
        "together": len(pairs) * int(lengths.max()) / own,
        "sorted": sum(n * length for n, length, _ in each) / own,
        "without_prefix": sum(n * (length - prefix) for n, length, prefix in each) / own,
        "each_its_own_prefix": 1 - int(first.sum()) / own,
    }


def seconds(run: Callable[[], Any], turns: int) -> float:
    found = []
    for _ in range(turns):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return median(found)


def times(model: HybridLM, pairs: TokenPairs, turns: int) -> Row:
    """Seconds of `exact` in the three ways."""
    batches = by_length(model, pairs, None).batches
    short = [shortened(batch, shared(batch)) for batch in batches]
    return {
        "together": seconds(lambda: exact(model, pairs, batch_size=len(pairs)), turns),
        "sorted": seconds(lambda: exact(model, pairs), turns),
        "without_prefix": seconds(lambda: [exact(model, batch) for batch in short], turns),
    }


def printed(row: Row) -> str:
    run = ", ".join(f"{name} {row['tokens'][name]:.2f}" for name in list(row["tokens"])[2:])
    length, first = row["tokens"]["length"], row["tokens"]["first_difference"]
    line = f"{row['edit']:22} {length:.0f} tokens, the first {first:.0f} shared; tokens run: {run}"
    if "seconds" in row:
        line += "; seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in row["seconds"].items())
    return line


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--hybrid", action="store_true", help="the recipe's hybrid twin")
    parser.add_argument("--edits", nargs="+", default=list(EDITS))
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--count", action="store_true", help="count tokens alone")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def made(recipe: str, hybrid: bool) -> tuple[HybridLM, Tokenizer, DataConfig]:
    """A random model of the recipe's shape, a tokenizer of its rows, and its test data."""
    found = find_recipe(recipe)
    rows = islice(make_examples(found.data, 0, 1 << 30), 3000)
    texts = (f"{row.prompt.string} {row.sql.string}" for row in rows)
    tokenizer = Tokenizer.train(texts, vocab_size=found.train.vocab_size)
    shape: ModelConfig = replace(found.train.model, d_vocab=tokenizer.vocab_size)
    shape = replace(shape, **HYBRID) if hybrid else shape
    return HybridLM(shape).eval(), tokenizer, replace(found.data, split="test")


def main() -> None:
    arguments = parsed()
    model, tokenizer, data = made(arguments.recipe, arguments.hybrid)
    rows: list[Row] = []
    for edit in arguments.edits:
        command_set = next(one for one in data.command_sets if edit_named(edit).suits(one))
        drawn = counterfactuals(
            replace(data, command_sets=(command_set,)),
            edit=edit,
            n=arguments.pairs,
            seed=0,
            encode=tokenizer.encode_text,
        )
        pairs = tokenizer.encode_pairs(drawn, drop_misaligned=True)
        row = {"edit": edit, "set": command_set, "pairs": len(pairs), "tokens": tokens_run(model, pairs)}
        if not arguments.count:
            row["seconds"] = times(model, pairs, arguments.turns)
        rows.append(row)
        print(printed(row), flush=True)
    if arguments.json is not None:
        made_by = {
            **provenance(),
            "command": " ".join(["python", *sys.argv]),
            "threads": torch.get_num_threads(),
        }
        graph = str(Graph.of(model))
        arguments.json.write_text(json.dumps({"graph": graph, "rows": rows, "made_by": made_by}, indent=1))


if __name__ == "__main__":
    main()
