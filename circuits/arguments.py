"""What the verbs of `tinysql circuit` are told, on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from circuits.methods.names import METHOD_NAMES
from data_gen.files import read_path
from data_gen.seeding import read_count, read_seed
from tinysql.device_names import read_device

EDGES, Q = 50, 0.05
FORMATS = ("json", "graphml", "dot", "mib", "scores")


def read_some(text: str) -> int:
    """How many of something that has to be there; argparse names the option in front of the sentence."""
    return _at_least(1, text)


def read_any(text: str) -> int:
    """How many of something that may be left out with 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    count = read_count(text)
    if count < least:
        raise argparse.ArgumentTypeError(f"{count:,} is too few, expected at least {least}")
    return count


def add_find(find: argparse.ArgumentParser) -> None:
    """Those of `find`."""
    _add_run(find)
    find.add_argument(
        "--method",
        default="eap-ig",
        help=f"{', '.join(METHOD_NAMES)} (default: eap-ig)",
    )
    find.add_argument("--pairs", type=read_count, default=64, help="test pairs to score on (default: 64)")
    find.add_argument("--select", default="top", help="top, greedy or significant edges (default: top)")
    find.add_argument("--edges", type=read_count, help=f"edges of a top or greedy circuit (default: {EDGES})")
    find.add_argument("--q", type=float, help=f"false-discovery rate of significant edges (default: {Q})")
    find.add_argument(
        "--steps", type=read_count, help="integration steps of eap-ig (default: the method's own, 5)"
    )
    find.add_argument(
        "--check-steps",
        action="store_true",
        help="score again with twice the steps: how far do the scores move? (twice the time of scoring on top)",
    )
    find.add_argument(
        "--whole-answers", action="store_true", help="ask for all tokens in which the answers differ"
    )
    find.add_argument("--by-role", action="store_true", help="say between which roles' tokens edges run")
    find.add_argument("--seed", type=read_seed, default=0, help="seed of the pairs (default: 0)")
    find.add_argument("--overwrite", action="store_true", help="replace the circuit of that edit")
    find.add_argument("--device", type=read_device, default="cpu", help="where to run (default: cpu)")


def add_eval(score: argparse.ArgumentParser) -> None:
    """Those of `eval`."""
    _add_run(score, required=False)
    score.add_argument("--pairs", type=read_some, default=64, help="held-out test pairs (default: 64)")
    score.add_argument(
        "--oracle-pairs",
        type=read_any,
        help="pairs on which every edge is patched too, 0 for none (default: 16)",
    )
    score.add_argument(
        "--random", type=read_some, default=20, help="random circuits of either kind beside it (default: 20)"
    )
    score.add_argument(
        "--answers",
        type=read_any,
        default=0,
        help="held-out rows to which the circuit writes whole answers, which are run (default: none)",
    )
    _add_circuit(score, "evaluate the circuit of this file alone, and write nothing")
    score.add_argument(
        "--by-role",
        action="store_true",
        help="run edges kept at the tokens of one role alone too, beside random ones; after find --by-role",
    )
    score.add_argument("--minimality", action="store_true", help="leave out each edge in turn: is it needed?")
    score.add_argument(
        "--overwrite", action="store_true", help="replace an evaluation by role with one that has none"
    )
    score.add_argument(
        "--seed",
        type=read_seed,
        help="seed of pairs, random circuits and bootstrap (default: find's seed + 1)",
    )
    score.add_argument("--device", type=read_device, default="cpu", help="where to run (default: cpu)")


def add_show(show: argparse.ArgumentParser) -> None:
    """Those of `show`."""
    show.add_argument("run", type=Path, help="a run directory")
    show.add_argument("--edit", help="draw the circuit of this edit alone (default: all that were found)")
    show.add_argument(
        "--out",
        type=read_path,
        help="HTML file (default: circuits.html in RUN/circuits, or graph.html in the edit's)",
    )
    _add_circuit(show, "draw the circuit of this file, of a model such as the run's; needs --out")
    _add_overwrite(show)


def add_compare(both: argparse.ArgumentParser) -> None:
    """Those of `compare`."""
    both.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one or two run directories")
    both.add_argument(
        "--edit", action="append", required=True, help="give it twice to compare two edits of one run"
    )
    both.add_argument(
        "--out", type=read_path, help="HTML file (default: FIRST--SECOND.html in the first run's circuits)"
    )
    _add_circuit(both, "compare one run's circuit of one edit with that of this file")
    _add_overwrite(both)


def add_export(export: argparse.ArgumentParser) -> None:
    """Those of `export`."""
    _add_run(export)
    export.add_argument(
        "--format",
        default="json",
        choices=FORMATS,
        help="the circuit as json, graphml or dot; all scores as mib or scores (json) (default: json)",
    )
    export.add_argument("--by-role", action="store_true", help="the role-aware circuit, after find --by-role")
    export.add_argument("--out", type=read_path, help="file (default: standard output)")
    _add_overwrite(export)


def _add_circuit(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--circuit", type=Path, metavar="FILE", help=f"{what} (.json, .graphml or .dot, as `export` writes)"
    )


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what --out names")


def _add_run(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    otherwise = "" if required else " (default with --circuit: that of the file)"
    parser.add_argument(
        "--edit",
        required=required,
        help=f"what differs in a pair: schema.table, select.0.column, ...{otherwise}",
    )
