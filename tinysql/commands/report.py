"""`tinysql report`: run directory -> report.html."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    # What draws is loaded behind what can be refused without it: it takes seconds.
    from tinysql.report import write_report

    print(write_report(run))
