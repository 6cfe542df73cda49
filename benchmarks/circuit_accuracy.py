"""Found circuits of a run -> how often what their strongest edges write alone is right by execution, at several sizes.

    python benchmarks/circuit_accuracy.py runs/demo --edits schema.table select.0.column --json accuracy.json

The scores are those that `tinysql circuit find` wrote. Rows are drawn with the finding's seed + 1, and those with a
prompt that was scored are left out, as `tinysql circuit eval --answers` does; a size is the number of strongest edges.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

from circuits.finding import draw, load_found, unseen
from circuits.judging.generation import circuit_accuracy
from circuits.select import top_edges
from data_gen.files import write_atomic
from tinysql.runs import open_run, provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--edits", nargs="+", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[13, 26, 52])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--random", type=int, default=3, help="random circuits of either kind (default: 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    run, found = open_run(arguments.run), []
    model, tokenizer = run.load(arguments.device)
    for edit in arguments.edits:
        _, scores = load_found(run.path, edit)
        settings = scores.metadata["settings"]
        seed = settings["seed"] + 1
        seen = draw(run, edit, settings["pairs"], settings["seed"], tokenizer)
        pairs = unseen(draw(run, edit, arguments.rows, seed, tokenizer), seen)
        for size in arguments.sizes:
            circuit = top_edges(scores, size)
            accuracy = circuit_accuracy(
                model, tokenizer, circuit, pairs, random_circuits=arguments.random, seed=seed
            )
            print(f"{edit}: {accuracy}", flush=True)
            row = accuracy.to_json()
            del row["answers"]
            found.append(row)
            write_atomic(arguments.json, json.dumps({"rows": found, "made_by": provenance()}, indent=1))


if __name__ == "__main__":
    main()
