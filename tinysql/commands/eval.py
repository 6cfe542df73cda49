"""`tinysql eval`: run -> grades by command set and clause."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument(
        "--split", choices=("test", "names"), default="test", help="test: unseen schemas; names: unseen names"
    )
    parser.add_argument("--rows", type=int, default=1000, help="rows to grade (default: 1000)")
    parser.add_argument("--device", default="cpu", help="where to run the model (default: cpu)")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.errors import InputError
    from tinysql.devices import find_device
    from tinysql.grading import grade_run
    from tinysql.runs import open_run

    if arguments.rows < 1:
        raise InputError(f"--rows is {arguments.rows}", hint="grade at least one row")
    run, device = open_run(arguments.run), find_device(arguments.device)
    print(table(grade_run(run, split=arguments.split, rows=arguments.rows, device=device)))


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
