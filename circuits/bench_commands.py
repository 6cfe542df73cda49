"""`tinysql bench circuits`: methods x models -> a leaderboard against truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from circuits.arguments import read_some
from circuits.methods.names import METHOD_NAMES, check_methods
from data_gen.errors import InputError
from data_gen.files import read_path
from data_gen.seeding import read_seed
from tinysql.device_names import read_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of the noun `bench`."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    circuits = verbs.add_parser(
        "circuits", help="score methods on planted circuits, and against patching every edge of runs"
    )
    circuits.add_argument("runs", nargs="*", metavar="RUN", help="run directories to score edits of too")
    circuits.add_argument("--out", type=read_path, required=True, help="directory of the leaderboard")
    circuits.add_argument(
        "--methods", help=f"some of {', '.join(METHOD_NAMES)}, with commas between (default: all)"
    )
    circuits.add_argument("--planted", help="planted models, with commas between, or `none` (default: all)")
    circuits.add_argument(
        "--seeds", type=read_some, default=5, help="seeds of each planted model (default: 5)"
    )
    circuits.add_argument("--edits", help="edits to score on every run, with commas between")
    circuits.add_argument(
        "--pairs", type=read_some, default=32, help="test pairs per run and edit (default: 32)"
    )
    circuits.add_argument("--seed", type=read_seed, default=0, help="seed of the runs' pairs (default: 0)")
    circuits.add_argument("--device", type=read_device, default="cpu", help="where to run (default: cpu)")
    circuits.add_argument("--resume", action="store_true", help="keep the rows that --out holds already")
    circuits.set_defaults(call=call_circuits)


def call_circuits(arguments: argparse.Namespace) -> None:
    """Fill the leaderboard and print its tables."""
    from data_gen.pairs.edits import edit_named
    from tinysql.runs import open_run

    check_methods(_names(arguments.methods) or ())
    for edit in _names(arguments.edits) or ():
        edit_named(edit)
    for run in arguments.runs:
        open_run(run).check_whole()
    if Path(arguments.out).is_file():
        raise InputError(
            f"output `{arguments.out}` is a file, expected a directory", hint="choose another --out"
        )
    # What computes is loaded behind what can be refused without it: it takes seconds.
    from circuits.bench.leaderboard import TABLES, LeaderboardSettings, leaderboard
    from tinysql.devices import find_device

    chosen = {name: _names(getattr(arguments, name)) for name in ("methods", "planted", "edits")}
    settings = LeaderboardSettings(
        **{name: names for name, names in chosen.items() if names is not None},
        seeds=arguments.seeds,
        runs=tuple(arguments.runs),
        pairs=arguments.pairs,
        seed=arguments.seed,
    )
    out = Path(arguments.out)
    leaderboard(settings, out, device=find_device(arguments.device), resume=arguments.resume)
    print((out / TABLES).read_text(), end="")


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(","))
