"""`tinysql eval`: run -> grades by command set and clause, or what its model copies names from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from data_gen.draw.splits import UNSEEN
from data_gen.seeding import read_count
from tinysql.device_names import read_device

HELD_OUT = tuple([split for split in UNSEEN if split != "train"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument(
        "--split",
        default="test",
        help=f"{', '.join(HELD_OUT)}: what the questions have that training has not "
        "(default: test, unseen schemas)",
    )
    parser.add_argument("--rows", type=read_count, default=1000, help="rows to grade (default: 1000)")
    parser.add_argument(
        "--shortcuts",
        action="store_true",
        help="swap names instead of grading: are they copied from the schema or from the English?",
    )
    parser.add_argument(
        "--device", type=read_device, default="cpu", help="where to run the model (default: cpu)"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        help="of matrix products (default: bfloat16 on a GPU, float32 on a CPU)",
    )
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.errors import InputError, nearest
    from tinysql.runs import open_run

    if arguments.rows < 1:
        raise InputError(f"--rows is {arguments.rows}", hint="grade at least one row")
    if arguments.split not in HELD_OUT:
        raise InputError(
            f"no held-out split `{arguments.split}`{nearest(arguments.split, HELD_OUT)}",
            hint=f"splits: {', '.join(HELD_OUT)}",
        )
    run = open_run(arguments.run)
    run.check_whole()
    # What computes is loaded behind what can be refused without it: it takes seconds.
    from tinysql.devices import find_device

    device = find_device(arguments.device)
    from tinysql.answering.grading import grade_run
    from tinysql.answering.shortcuts import shortcuts_on_run

    settings: dict[str, Any] = {"split": arguments.split, "rows": arguments.rows, "device": device}
    settings["precision"] = arguments.precision
    report = (shortcuts_on_run if arguments.shortcuts else grade_run)(run, **settings)
    if report["without_rows"]:
        names = ", ".join(report["without_rows"])
        print(f"split {arguments.split} has no such rows of {names}, which are left out", file=sys.stderr)
    print(shortcut_table(report) if arguments.shortcuts else table(report))


def table(report: dict[str, Any]) -> str:
    """One line per command set: shares right by execution, tree and text, with the interval of the first."""
    lines = [
        f"{'set':<6}{'rows':>6}{'execution':>11}{'95 % interval':>18}{'tree':>8}{'exact':>8}{'valid':>8}"
    ]
    for name, shares in report["sets"].items():
        low, high = shares["execution"]["interval95"]
        lines.append(
            f"{name:<6}{shares['execution']['total']:>6}{shares['execution']['share']:>11.3f}"
            f"{f'{low:.3f} to {high:.3f}':>18}{shares['tree']['share']:>8.3f}{shares['exact']['share']:>8.3f}"
            f"{shares['valid']['share']:>8.3f}"
        )
    return "\n".join(lines)


def shortcut_table(report: dict[str, Any]) -> str:
    """One line per variant: the share of answers that follow the schema, the English, and neither."""
    kinds = ("schema", "english", "neither")
    lines = [f"{'swapped':<16}{'rows':>6}" + "".join(f"{kind:>9}{'95 % interval':>17}" for kind in kinds)]
    for variant, shares in report["variants"].items():
        line = f"{variant:<16}{shares['schema']['total']:>6}"
        for kind in kinds:
            low, high = shares[kind]["interval95"]
            line += f"{shares[kind]['share']:>9.3f}{f'{low:.3f} to {high:.3f}':>17}"
        lines.append(line)
    return "\n".join(lines)
