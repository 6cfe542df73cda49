"""Do the ways of looking at a model without a circuit say the same, on several models?

    python benchmarks/looking.py runs/nano-0 runs/nano-1 runs/hybrid-0 --json looking.json
    python benchmarks/looking.py runs/bm1 --device cuda --tables units moves --edit schema.table

Three tables, one line per run, edit or role:

1. lenses: of every role of the answer, how often logit lens and tuned lens have the right token on top at each depth,
   and their KL divergence from the model's prediction; the tuned lens is fitted on rows of training's split.
2. units: what the metric loses without one head, MLP or expert, by every kind of ablation and by direct contribution.
   The corrupt prompt's value in its place (`counterfactual`) stands for the truth: Pearson, Spearman of sizes and share
   of its three largest units, with 95 % bootstrap intervals over pairs, and the sum of all drops beside its sum.
3. moves: where the clean value is enough: share of the metric that one role's tokens bring into the corrupt run at
   each depth. The role that brings most in at the embedding is the source, the one that does behind the last block the
   place of the answer.

What it is at stands on stderr. `--json` is written after every part and goes on as `stability` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np

from benchmarks.seed_circuits import Subject
from benchmarks.stability import KINDS, agreed, host, subjects
from benchmarks.stability_kept import Kept, part_of, step
from circuits.looking.ablation import Ablation, ablate
from circuits.looking.contributions import contributions
from circuits.looking.lens import LensReading, logit_lens, tuned_lens
from circuits.looking.patching import patch_roles
from circuits.looking.translators import fit_tuned_lens
from circuits.looking.units import units_of
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.seeding import read_seed
from tinysql.devices import find_device
from tinysql.runs import open_run
from tinysql.tokens import Tokens

PAIRS, ROWS, FITTED, LARGEST = 64, 1000, 1000, 3
"""Pairs of an edit; rows that lenses read, and that the tuned lens is fitted on; units that are compared."""
EDITS = tuple(edit for edit in KINDS if edit != "select.1.column")
TABLES = ("lenses", "units", "moves")
Row = dict[str, Any]


def rows_of(subject: Subject, data: DataConfig, n: int) -> Tokens:
    """The first rows of a split, all command sets mixed."""
    return subject.tokenizer.encode(make_examples(data, 0, n))


def lens_rows(path: Path, subject: Subject) -> list[Row]:
    """Both lenses on the same rows, which the tuned lens was not fitted on."""
    run = open_run(path)
    fitted = fit_tuned_lens(subject.model, rows_of(subject, run.split("train"), FITTED))
    read = rows_of(subject, run.split("test"), ROWS)
    both = logit_lens(subject.model, read), tuned_lens(subject.model, read, fitted)
    return [{"edit": "rows", "run": subject.name, **_lens(reading)} for reading in both]


def _lens(reading: LensReading) -> Row:
    on_top, divergence = reading.on_top(), reading.divergence()
    return {
        "lens": reading.lens,
        "depths": list(reading.depths),
        "kl": reading.kl.mean(0).tolist(),
        "roles": {
            role: {
                "tokens": int(on_top.count[i]),
                "on_top": on_top.value[i].tolist(),
                "low": on_top.low[i].tolist(),
                "high": on_top.high[i].tolist(),
                "kl": divergence.value[i].tolist(),
            }
            for i, role in enumerate(on_top.roles)
        },
    }


def unit_rows(subject: Subject, edit: str) -> list[Row]:
    """Every kind of ablation, and direct contributions, against the corrupt prompt's value in the unit's place."""
    pairs, known = subject.pairs(edit, PAIRS, subject.seed), subject.pairs(edit, PAIRS, subject.seed + 1)
    direct = contributions(subject.model, pairs)
    units = [unit.name for unit in units_of(subject.model) if unit.name in direct.names]
    drops: dict[str, np.ndarray] = {}
    for kind in Ablation:
        with step(f"units {subject.name} {edit}: {kind}"):
            found = ablate(subject.model, pairs, kind, units=units, reference=known, seed=subject.seed)
        drops[kind] = found.drops.double().numpy()
    drops["direct contribution"] = np.stack([direct[unit].double().numpy() for unit in units], axis=1)
    truth = drops.pop(Ablation.COUNTERFACTUAL)
    about = {"edit": edit, "run": subject.name, "set": subject.set, "pairs": len(pairs), "units": units}
    whole = float(np.abs(truth.mean(0)).sum())
    rows: list[Row] = [{**about, "kind": str(Ablation.COUNTERFACTUAL), "drops": truth.mean(0).tolist()}]
    for kind, agreement in agreed(drops, truth, top=LARGEST).items():
        mean = drops[kind].mean(0)
        of_truth = float(np.abs(mean).sum()) / whole
        rows.append(
            {**about, "kind": str(kind), "drops": mean.tolist(), "sum_to_truth": of_truth, **agreement}
        )
    return rows


def move_rows(subject: Subject, edit: str) -> list[Row]:
    """Which role's tokens carry what the answer turns on, depth by depth."""
    with step(f"moves {subject.name} {edit}"):
        found = patch_roles(subject.model, subject.pairs(edit, PAIRS, subject.seed))
    share = found.share()
    source, place = (int(share.value[depth].argmax()) for depth in (0, -1))
    return [
        {
            "edit": edit,
            "run": subject.name,
            "set": subject.set,
            "pairs": len(found.base),
            "depths": list(found.hooks),
            "part": part,
            "role": found.sets[role],
            "share": share.value[:, role].tolist(),
            "low": share.low[:, role].tolist(),
            "high": share.high[:, role].tolist(),
            "others": np.delete(share.value, [source, place], axis=1).max(1, initial=0.0).tolist(),
        }
        for part, role in (("source", source), ("answer", place))
    ]


def measured(arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """The tables that are asked for, part by part."""
    find_device(arguments.device)
    paths = tuple(arguments.runs)
    kept = Kept(arguments.json, paths, arguments.seed, arguments.device) if arguments.json else None
    models = [subjects(path, arguments.seed, arguments.device) for path in paths]
    edits = arguments.edit or list(EDITS)

    def each(rows: Callable[[Subject, str], list[Row]], edit: str) -> list[Row]:
        return [row for sets in models for row in rows(sets[host(sets, edit)], edit)]

    def lenses(_: str) -> list[Row]:
        found: list[Row] = []
        for path, sets in zip(paths, models, strict=True):
            with step(f"lenses {path.name}"):
                found += lens_rows(path, next(iter(sets.values())))
        return found

    makers: dict[str, tuple[Sequence[str], Callable[[str], list[Row]]]] = {
        "lenses": (("rows",), lenses),
        "units": (edits, lambda edit: each(unit_rows, edit)),
        "moves": (edits, lambda edit: each(move_rows, edit)),
    }
    tables: dict[str, list[Row]] = {}
    for name in arguments.tables:
        parts, make = makers[name]
        for part in parts:
            tables.setdefault(name, []).extend(part_of(kept, name, part, partial(make, part)))
    return tables


def printed(found: dict[str, list[Row]]) -> str:
    """The tables in Markdown."""
    headers = {
        "lenses": "| run | lens | role | tokens | right token on top at each depth |",
        "units": "| edit | run | kind | Pearson | Spearman | largest shared | sum of drops to its sum |",
        "moves": "| edit | run | | role | share at each depth | at most by another role |",
    }
    lines = {"lenses": _lens_lines, "units": _unit_lines, "moves": _move_lines}
    blocks = []
    for name, rows in found.items():
        header = headers[name]
        rule = "|" + "---|" * (header.count("|") - 1)
        blocks.append("\n".join([header, rule, *(line for row in rows for line in lines[name](row))]))
    return "\n\n".join(blocks)


def _lens_lines(row: Row) -> list[str]:
    about = f"| {row['run']} | {row['lens']} |"
    lines = [
        f"{about} `{role}` | {one['tokens']} | {_list(one['on_top'])} |" for role, one in row["roles"].items()
    ]
    tokens = sum(one["tokens"] for one in row["roles"].values())
    return [*lines, f"{about} KL of all, nats | {tokens} | {_list(row['kl'])} |"]


def _unit_lines(row: Row) -> list[str]:
    if "pearson" not in row:
        return []
    cells = [
        f"{row[name]['value']:.2f} ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
        for name in ("pearson", "spearman", "top_shared")
    ]
    return [
        f"| `{row['edit']}` | {row['run']} | {row['kind']} | {' | '.join(cells)} | {row['sum_to_truth']:.2f} |"
    ]


def _move_lines(row: Row) -> list[str]:
    return [
        f"| `{row['edit']}` | {row['run']} | {row['part']} | `{row['role']}` | {_list(row['share'])} | "
        f"{_list(row['others'])} |"
    ]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="default: all")
    parser.add_argument("--edit", action="append", choices=EDITS, help="may be repeated; default: all")
    parser.add_argument("--seed", type=read_seed, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--json", type=Path, help="write everything measured here, part by part, and go on from it"
    )
    arguments = parser.parse_args()
    try:
        print(printed(measured(arguments)))
    except InputError as error:
        print(f"looking: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
