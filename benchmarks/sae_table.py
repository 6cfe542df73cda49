"""The truth table: six kinds of SAE, equally active, at hooks of trained runs, beside all controls and ceilings.

    python benchmarks/sae_table.py runs/nano-0 runs/hybrid-0 --json table.json
    python benchmarks/sae_table.py runs/bm1 runs/t33 --device cuda --steps 5000 --rows 20000 --k 32 --json table.json

Hooks are the residual stream two thirds up and, where a run has experts, the logits of the last router before that; or
those given. TopK, BatchTopK and Matryoshka have `--k` active latents (half of the width where that is fewer), ReLU-L1,
gated and JumpReLU the penalty at which they are as active to a tenth. Every SAE is trained on the run's training rows
and scored on test rows, with one of the untrained model that is as active, and answers are taken with its
reconstructions in place.

An SAE is RUN/saes/HOOK-KIND, with `truth.json` and all the rest; what is there already is not made again, so that a run
that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

import torch

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from saes.activations import record
from saes.artefacts import train_on_run
from saes.disk import load
from saes.recipes import default_hook
from saes.rows import examples_of, tokens_of
from saes.training.config import SAEConfig
from saes.truth.alignment import Alignment
from saes.truth.artefacts import eval_on_run, read_truth
from saes.truth.recovered import fidelity
from tinysql.config import to_json
from tinysql.models.config import ModelConfig
from tinysql.runs import Run, open_run, provenance

KINDS = ("topk", "batchtopk", "matryoshka", "standard", "gated", "jumprelu")
ANSWERS = 100
"""Test rows answered with reconstructions in place."""

Row = dict[str, Any]


def hooks_of(config: ModelConfig) -> tuple[str, ...]:
    """The residual stream two thirds up, and the router before it if there is one."""
    stream = default_hook(config)
    depth = int(stream.split(".")[1])
    routers = [block for block in range(depth + 1) if config.pattern[block] == "E"]
    return (stream, *(f"blocks.{block}.moe.hook_router" for block in routers[-1:]))


class Cell:
    """One kind of SAE at one hook of a run."""

    def __init__(
        self, run: Run, hook: str, config: SAEConfig, rows: int, test_rows: int, device: str
    ) -> None:
        self.run, self.hook, self.config = run, hook, config
        self.rows, self.test_rows, self.device = rows, test_rows, device
        self.name = f"{hook}-{config.architecture}"
        self.path = run.path / "saes" / self.name

    def made(self) -> Row:
        """Train, score and let answer, as far as that is not done; the row of the table."""
        if not (self.path / "cfg.json").exists():
            train_on_run(
                self.run,
                self.config,
                name=self.name,
                hooks=[self.hook],
                rows=self.rows,
                validation=0,
                device=self.device,
                resume=self.path.with_name(f".{self.name}.training").is_dir(),
                l0=None if self.config.is_k_sparse else self.config.k,
                say=print,
            )
        self.check()
        if not (self.path / "truth.json").exists():
            eval_on_run(
                self.run,
                name=self.name,
                rows=self.test_rows,
                seed=self.config.seed,
                device=self.device,
                untrained=True,
            )
        if not (self.path / "fidelity.json").exists():
            model, tokenizer = self.run.load(self.device)
            examples = examples_of(self.run, tokenizer, "test", ANSWERS)
            kept = fidelity(load(self.path, self.device), model, tokenizer, examples, hook=self.hook)
            write_atomic(self.path / "fidelity.json", json.dumps({**kept.to_json(), "made_by": provenance()}))
        return self.row()

    def check(self) -> None:
        """`InputError` when what is there was made with other settings; the penalty is what was searched for."""
        made = read_json(self.path / "config.json")
        wanted = {**to_json(self.config), "sparsity": made["sae"]["sparsity"], "rows": self.rows}
        if json.loads(json.dumps(wanted)) != {**made["sae"], "rows": made["rows"]}:
            raise InputError(
                f"{self.path} was made with other settings", hint="repeat them, or remove the directory"
            )

    def row(self) -> Row:
        """What is written to the table of the files beside the SAE."""
        found, made = read_truth(self.path), read_json(self.path / "config.json")
        kept = read_json(self.path / "fidelity.json")
        return {
            "run": self.run.path.name,
            "hook": self.hook,
            "kind": self.config.architecture,
            "config": made["sae"],
            "made_by": made["made_by"],
            "train_rows": made["rows"],
            "test_rows": found.examples,
            "tokens": found.tokens,
            "latents": found.n_latents,
            "dead": found.dead,
            "sets": [set_of(scores) for scores in (found.sae, *found.controls, *found.ceilings)],
            "normalised": found.normalised,
            "published": vars(found.published),
            "detecting": found.hierarchy.detecting,
            "polysemantic": found.hierarchy.polysemantic,
            **absorbed(found),
            "loss": {name: kept["loss"][name] for name in ("untouched", "sae", "zero", "recovered")},
            "accuracy": kept["accuracy"],
            "answers": kept["answers"],
        }


def set_of(scores: Any) -> Row:
    """One set of latents: coverage of families and slots with intervals, FVU and L0."""
    names = ("name", "coverage", "coverage_interval", "slot_coverage", "slot_coverage_interval", "fvu", "l0")
    return {name: getattr(scores, name) for name in names}


def absorbed(found: Alignment) -> Row:
    """Absorption and splitting, on average over families' slots and over roles."""
    pairs, split = found.hierarchy.absorption, found.hierarchy.splitting
    whole = max(sum(one.tokens for one in pairs), 1)
    return {
        "absorption": sum(one.rate * one.tokens for one in pairs) / whole,
        "missed": sum(one.missed * one.tokens for one in pairs) / whole,
        "split": sum(len(one.latents) for one in split) / max(len(split), 1),
    }


def tables(rows: Sequence[Row]) -> str:
    """Two Markdown tables per run and hook: the kinds, and what stands beside them."""
    text = []
    for run, hook in dict.fromkeys((row["run"], row["hook"]) for row in rows):
        here = [row for row in rows if (row["run"], row["hook"]) == (run, hook)]
        text += [f"\n`{run}`, `{hook}`, {here[0]['latents']} latents, {here[0]['tokens']:,} tokens:\n"]
        text += kinds(here)
        text += beside(here)
    return "\n".join(text)


def kinds(rows: Sequence[Row]) -> list[str]:
    """One line per kind."""
    lines = [
        "| kind | coverage (95 %) | slots | scale | untrained | random | FVU | L0 | dead | absorbed | two roles "
        "| queries exact | accuracy kept |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        by_name = {one["name"]: one for one in row["sets"]}
        own = by_name["SAE"]
        lines.append(
            f"| {row['kind']} | {spanned(own)} | {own['slot_coverage']:.3f} | {row['normalised']:.2f} "
            f"| {by_name['SAE of untrained model']['coverage']:.3f} | {by_name['random SAE']['coverage']:.3f} "
            f"| {own['fvu']:.3f} | {own['l0']:.1f} | {row['dead']} | {row['absorption']:.3f} "
            f"| {row['polysemantic']:.2f} | {row['published']['exact']:.3f} | {kept(row['accuracy'])} |"
        )
    return lines


def beside(rows: Sequence[Row]) -> list[str]:
    """Controls and ceilings; those that are made from each SAE as a range over the kinds."""
    lines = ["", "| beside them | coverage | slots |", "|---|--:|--:|"]
    for number, one in enumerate(rows[0]["sets"]):
        if one["name"] == "SAE":
            continue
        every = [row["sets"][number] for row in rows]
        lines.append(f"| {one['name']} | {ranged(every, 'coverage')} | {ranged(every, 'slot_coverage')} |")
    return lines


def spanned(one: Row) -> str:
    low, high = one["coverage_interval"]
    return f"{one['coverage']:.3f} ({low:.3f} to {high:.3f})"


def ranged(every: Sequence[Row], name: str) -> str:
    low, high = min(one[name] for one in every), max(one[name] for one in every)
    if high - low < 5e-4:
        return f"{every[0][name]:.3f} ({every[0][name + '_interval'][0]:.3f} to {every[0][name + '_interval'][1]:.3f})"
    return f"{low:.3f} to {high:.3f} by kind"


def kept(accuracy: Row) -> str:
    return "-" if accuracy["recovered"] is None else f"{accuracy['recovered']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--hook", action="append", default=[], help="in place of the two hooks; repeat")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="only these; repeat")
    parser.add_argument("--k", type=int, default=8, help="active latents (default: 8)")
    parser.add_argument("--d-sae", type=int, help="latents (default: four per dimension)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each training (default: 1000)")
    parser.add_argument("--batch-size", type=int, default=512, help="tokens per step (default: 512)")
    parser.add_argument("--rows", type=int, default=2000, help="training rows (default: 2000)")
    parser.add_argument("--test-rows", type=int, default=600, help="scored rows (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, halves and controls (default: 0)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows here, after every one of them")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for path in arguments.runs:
        run = open_run(path)
        for hook in arguments.hook or hooks_of(run.shape):
            for kind in arguments.kind or KINDS:
                print(f"{path.name}, {hook}, {kind}", flush=True)
                rows.append(cell(run, hook, kind, arguments).made())
                if arguments.json is not None:
                    made_by = {**provenance(), "command": " ".join(["python", *sys.argv])}
                    made_by["threads"] = torch.get_num_threads()
                    write_atomic(arguments.json, json.dumps({"rows": rows, "made_by": made_by}, indent=1))
    print(tables(rows))


def cell(run: Run, hook: str, kind: Any, arguments: argparse.Namespace) -> Cell:
    """The cell of the table that these arguments describe."""
    model, tokenizer = run.load(arguments.device)
    width = record(model, tokens_of(run, tokenizer, "test", 1), hook).values.shape[1]
    k = min(arguments.k, max(width // 2, 1))
    if arguments.d_sae is not None and k > arguments.d_sae:
        raise InputError(f"--k is {k}, but there are {arguments.d_sae} latents", hint="lower --k")
    config = SAEConfig(
        architecture=kind,
        k=k,
        d_sae=arguments.d_sae,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    return Cell(run, hook, config, arguments.rows, arguments.test_rows, arguments.device)


if __name__ == "__main__":
    main()
