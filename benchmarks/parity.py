"""How close `from_hf` and `to_hf` are to transformers: the largest difference of logits, over models of drawn sizes.

    python benchmarks/parity.py --json docs/results/parity.json

Every model is small, of sizes that the seed draws, with all weights random, norms, biases and routers included;
it reads two rows of random tokens, of 1 to 50 tokens, in float32. `from_hf` reads a directory that transformers wrote;
what `to_hf` wrote, transformers reads. A difference above 1e-4 ends the program with exit code 1.

Rows of `time_step_limit` are NemotronH models whose config.json has a limit of dt that transformers 5.23 ignores: once
beside its model as it is, which is the fault and held to no bar, once beside its model with the limit set by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import transformers

from benchmarks.parity_models import (
    OURS,
    SLOW,
    THEIRS,
    drawn_ours,
    drawn_theirs,
    edit,
    family,
    ids,
    limit_dt,
    ours,
    stock,
    theirs,
)
from data_gen.files import write_atomic
from data_gen.seeding import read_seed
from tinysql.devices import find_device
from tinysql.models.huggingface import from_hf, to_hf
from tinysql.runs import provenance

BAR = 1e-4
"""Largest difference of two logits."""
FAMILIES = ("gpt2", "gpt_neo", "llama", "qwen2", "nemotron_h")
LIMITS = (0.2, 1.1)
"""Of dt, as config.json names them; `SLOW` makes transformers compute with another lower limit and no upper one."""
FAULT = "time_step_limit, as it is"

Measured = tuple[float, float]
"""The largest difference of two logits, and the largest logit."""


def imported(name: str, rng: Random, device: torch.device) -> Measured:
    """A model of transformers, written and read by `from_hf`."""
    with TemporaryDirectory() as folder:
        expected = theirs(drawn_theirs(THEIRS[name], rng), Path(folder), rng.randrange(1 << 30))
        return apart(from_hf(folder), expected, rng, device)


def exported(name: str, rng: Random, device: torch.device) -> Measured:
    """A model of ours, written by `to_hf` and read by transformers."""
    with TemporaryDirectory() as folder:
        model = ours(drawn_ours(OURS[name], rng), rng.randrange(1 << 30))
        to_hf(model, Path(folder) / "out")
        return apart(model, stock(Path(folder) / "out"), rng, device)


def limited(name: str, rng: Random, device: torch.device) -> Measured:
    """A NemotronH with a limit of dt, read by `from_hf`, beside transformers' as it is or with the limit set."""
    with TemporaryDirectory() as folder:
        expected = theirs(drawn_theirs(SLOW, rng), Path(folder), rng.randrange(1 << 30))
        edit(Path(folder), time_step_limit=list(LIMITS))
        if name != FAULT:
            limit_dt(expected, LIMITS)
        return apart(from_hf(folder), expected, rng, device)


def apart(model: torch.nn.Module, expected: torch.nn.Module, rng: Random, device: torch.device) -> Measured:
    """How far the logits of ours are from those of transformers, on tokens that are drawn."""
    tokens = ids(model.cfg.d_vocab, rng.randrange(1, 51), rng.randrange(1 << 30)).to(device)
    with torch.no_grad():
        found, wanted = model.to(device)(tokens), expected.to(device)(tokens).logits
    return (found - wanted).abs().max().item(), wanted.abs().max().item()


def measured(configs: int, seed: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """One row per family and direction, then those of the limit of dt."""
    for kind in FAMILIES:
        for direction, call, models in (("from_hf", imported, THEIRS), ("to_hf", exported, OURS)):
            names = [name for name in models if family(name) == kind]
            cases = [names[i % len(names)] for i in range(configs)]
            yield row(kind, direction, call, cases, seed, device)
    for kind in ("time_step_limit, set by hand", FAULT):
        yield row(kind, "from_hf", limited, [kind] * configs, seed, device)


def row(
    kind: str, direction: str, call: Any, cases: list[str], seed: int, device: torch.device
) -> dict[str, Any]:
    """The largest difference over cases, and where it was."""
    # A string seeds by its letters: the draws of a row do not depend on the rows before it.
    found = [call(name, Random(f"{seed} {direction} {name} {i}"), device) for i, name in enumerate(cases)]
    worst = max(range(len(found)), key=lambda i: found[i][0])
    return {
        "family": kind,
        "direction": direction,
        "configs": len(found),
        "difference": found[worst][0],
        "worst": f"{cases[worst]}, draw {worst}",
        "logit": max(logit for _, logit in found),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows, as markdown."""
    lines = [
        "| family | direction | configurations | largest difference | largest logit |",
        "|---|---|--:|--:|--:|",
    ]
    lines += [
        f"| {r['family']} | `{r['direction']}` | {r['configs']} | {r['difference']:.1e} | {r['logit']:.0f} |"
        for r in rows
    ]
    return "\n".join(lines)


def quieten() -> None:
    """Let transformers say nothing of every file that it reads and writes."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", type=int, default=24, help="per family and direction (default: 24)")
    parser.add_argument(
        "--seed", type=read_seed, default=0, help="draws sizes, weights and tokens (default: 0)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows there")
    arguments = parser.parse_args()
    quieten()
    device = find_device(arguments.device)
    # Now, as the code is that measures: it takes minutes.
    made_by = {**provenance(), "seed": arguments.seed, "threads": torch.get_num_threads()}
    made_by["versions"]["transformers"] = transformers.__version__
    rows = list(measured(arguments.configs, arguments.seed, device))
    print(table(rows))
    if arguments.json is not None:
        write_atomic(arguments.json, json.dumps({"bar": BAR, "rows": rows, "made_by": made_by}, indent=1))
    above = [r for r in rows if not r["difference"] <= BAR and r["family"] != FAULT]
    for r in above:
        print(
            f"{r['family']} by {r['direction']} differs by more than {BAR:g}: {r['worst']}", file=sys.stderr
        )
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
