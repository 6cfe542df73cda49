"""`tinysql report`: run directory -> report.html."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from tinysql.report import write_report
    from tinysql.runs import open_run

    print(write_report(open_run(arguments.run)))
