"""Is the SAE that is chosen by roles during training the better one on rows that nothing was chosen on?

    python benchmarks/sae_choice.py runs/nano-0 runs/nano-1 runs/nano-2 runs/hybrid-0 --json choice.json

For each run a grid of SAEs is trained at once over one recording: three kinds with a k at three k and two widths, three
kinds with a penalty at three weights. Every one is scored against roles ten times on validation rows (training split,
none of them trained on), and `saes.choose` takes one. All of them are then scored on test rows, whose schemas none has
seen, and what was chosen by roles stands beside what the least FVU, the least loss and chance would have taken; so does
what would have been chosen after a tenth, three tenths and half of the steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

import numpy as np
import torch
from scipy.stats import spearmanr

from data_gen.files import write_atomic
from saes.activations import record
from saes.recipes import default_hook
from saes.rows import MOST_DRAWN, tokens_of
from saes.training.combinations import grid
from saes.training.config import SAEConfig
from saes.training.grids import train_grid
from saes.truth.choosing import choose
from saes.truth.watching import RoleWatch
from tinysql.runs import Run, open_run, provenance

K, WEIGHTS = (4, 8, 16), (0.3, 1.0, 3.0)
EARLY = (0, 2, 4)
"""Looks after a tenth, three tenths and half of the steps."""
Row = dict[str, Any]


def configs(steps: int, width: int) -> dict[str, SAEConfig]:
    """The members of the grid."""
    base = SAEConfig(steps=steps)
    widths = (2 * width, 4 * width)
    return {
        **grid(base, architecture=("topk", "batchtopk", "matryoshka"), k=K, d_sae=widths),
        **grid(base, architecture=("standard", "gated", "jumprelu"), sparsity=WEIGHTS, d_sae=widths),
    }


def measured(run: Run, arguments: argparse.Namespace) -> Row:
    """Every member on validation rows during its training, and on test rows behind it."""
    model, tokenizer = run.load(arguments.device)
    hook = default_hook(run.shape)
    rows, seen = arguments.rows, arguments.validation
    train = record(model, tokens_of(run, tokenizer, "train", rows), hook)
    held_out = tokens_of(run, tokenizer, "train", seen, first=MOST_DRAWN * rows)
    watch = RoleWatch.of(record(model, held_out, hook))
    test = RoleWatch.of(record(model, tokens_of(run, tokenizer, "test", arguments.test_rows), hook))
    spent: list[float] = []

    def look(dictionary: Any) -> dict[str, float]:
        begun = time.process_time()
        said = watch(dictionary)
        spent.append(time.process_time() - begun)
        return said

    begun = time.process_time()
    made = train_grid(train, configs(arguments.steps, train.values.shape[1]), show_progress=True, watch=look)
    whole = time.process_time() - begun
    choice = choose({name: one.sae for name, one in made.items()}, watch)
    members = []
    for name, one in made.items():
        found = test.scores(one.sae)[0]
        members.append(
            {
                "name": name,
                "loss": one.record.loss[-1],
                "watched": list(one.record.watched),
                "test": {
                    "coverage": found.coverage,
                    "coverage_interval": list(found.coverage_interval),
                    "slot_coverage": found.slot_coverage,
                    "fvu": found.fvu,
                    "l0": found.l0,
                },
            }
        )
    return {
        "run": run.path.name,
        "hook": hook,
        "chosen": choice.chosen,
        "level": [one.name for one in choice.candidates if one.is_level],
        "watching": {"share_of_training": sum(spent) / whole, "seconds_a_look": sum(spent) / len(spent)},
        "members": members,
    }


def table(row: Row) -> str:
    """What each way of choosing would have taken, and what that is worth on test rows."""
    members = row["members"]
    test = np.array([one["test"]["coverage"] for one in members])
    rank = (-test).argsort().argsort() + 1
    last = [one["watched"][-1] for one in members]
    validation = np.array([now["coverage"] for now in last])

    def line(what: str, i: int) -> str:
        one = members[i]["test"]
        low, high = one["coverage_interval"]
        return (
            f"| {what} | {members[i]['name']} | {one['coverage']:.3f} ({low:.3f} to {high:.3f}) | {rank[i]} of "
            f"{len(members)} | {one['slot_coverage']:.3f} | {one['fvu']:.3f} | {one['l0']:.1f} |"
        )

    early = [
        line(
            f"coverage after {members[0]['watched'][look]['step'] + 1} steps",
            int(np.argmax([one["watched"][look]["coverage"] for one in members])),
        )
        for look in EARLY
    ]
    chosen = next(i for i, one in enumerate(members) if one["name"] == row["chosen"])
    return "\n".join(
        [
            f"{row['run']}: {len(row['level'])} of {len(members)} cannot be told from the highest; Spearman of "
            f"validation and test coverage {spearmanr(validation, test).statistic:.3f}, of FVU (turned) and test "
            f"coverage {spearmanr([-now['held_out_fvu'] for now in last], test).statistic:.3f}",
            f"watching took {row['watching']['share_of_training']:.1%} of the training, "
            f"{row['watching']['seconds_a_look']:.2f} s a look",
            "| chosen by | member | test coverage (95 %) | rank | slots | FVU | L0 |",
            "|---|---|--:|--:|--:|--:|--:|",
            line("roles (`saes.choose`)", chosen),
            line("highest validation coverage", int(validation.argmax())),
            *early,
            line("least validation FVU", int(np.argmin([now["held_out_fvu"] for now in last]))),
            line("least training loss", int(np.argmin([one["loss"] for one in members]))),
            f"| chance (mean) | | {test.mean():.3f} (of members: {test.min():.3f} to {test.max():.3f}) | | | | |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each training (default: 1000)")
    parser.add_argument("--rows", type=int, default=2000, help="training rows (default: 2000)")
    parser.add_argument("--validation", type=int, default=200, help="validation rows (default: 200)")
    parser.add_argument("--test-rows", type=int, default=600, help="test rows (default: 600)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows here, after every run")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for path in arguments.runs:
        rows.append(measured(open_run(path), arguments))
        print(table(rows[-1]), flush=True)
        if arguments.json is not None:
            made_by = {**provenance(), "threads": torch.get_num_threads()}
            write_atomic(arguments.json, json.dumps({"rows": rows, "made_by": made_by}, indent=1))


if __name__ == "__main__":
    main()
