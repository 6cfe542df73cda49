"""`tinysql circuit find`, `eval` and `show`: parse, call one function, print."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.seeding import read_seed

if TYPE_CHECKING:
    from circuits.judging.faithfulness import Curve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of the noun `circuit`."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    find = verbs.add_parser("find", help="score every edge on counterfactual pairs and choose the top ones")
    _add_run(find)
    find.add_argument("--method", default="eap-ig", help="eap-ig, eap or exact (default: eap-ig)")
    find.add_argument("--pairs", type=int, default=64, help="test pairs to score on (default: 64)")
    find.add_argument("--edges", type=int, default=50, help="edges of the circuit (default: 50)")
    find.add_argument("--steps", type=int, default=5, help="integration steps of eap-ig (default: 5)")
    find.add_argument("--seed", type=read_seed, default=0, help="seed of the pairs (default: 0)")
    find.add_argument("--overwrite", action="store_true", help="replace the circuit of that edit")
    find.add_argument("--device", default="cpu", help="where to run (default: cpu)")
    find.set_defaults(call=call_find)
    score = verbs.add_parser("eval", help="run the circuit alone on pairs it was not found on")
    _add_run(score)
    score.add_argument("--pairs", type=int, default=64, help="held-out test pairs (default: 64)")
    score.add_argument(
        "--oracle-pairs", type=int, default=16, help="pairs on which every edge is patched too (default: 16)"
    )
    score.add_argument("--random", type=int, default=20, help="random circuits beside it (default: 20)")
    score.add_argument(
        "--seed",
        type=read_seed,
        help="seed of pairs, random circuits and bootstrap (default: find's seed + 1)",
    )
    score.add_argument("--device", default="cpu", help="where to run (default: cpu)")
    score.set_defaults(call=call_eval)
    show = verbs.add_parser("show", help="draw the circuit as an interactive page")
    _add_run(show)
    show.add_argument("--out", type=Path, help="HTML file (default: graph.html beside the circuit)")
    show.set_defaults(call=call_show)


def call_find(arguments: argparse.Namespace) -> None:
    """Find a circuit, write it and print its strongest edges."""
    from circuits.artefacts import FindSettings, find_on_run
    from tinysql.runs import open_run

    settings = FindSettings(
        edit=arguments.edit,
        method=arguments.method,
        pairs=arguments.pairs,
        edges=arguments.edges,
        steps=arguments.steps,
        seed=arguments.seed,
    )
    found = find_on_run(
        open_run(arguments.run), settings, device=arguments.device, overwrite=arguments.overwrite
    )
    print(found.directory)
    print(edge_table(found.scores.table(min(20, len(found.circuit)))))


def call_eval(arguments: argparse.Namespace) -> None:
    """Evaluate a found circuit, write `report.json` and print it."""
    from circuits.artefacts import eval_on_run
    from tinysql.runs import open_run

    evaluated = eval_on_run(
        open_run(arguments.run),
        arguments.edit,
        pairs=arguments.pairs,
        random_circuits=arguments.random,
        oracle_pairs=arguments.oracle_pairs,
        seed=arguments.seed,
        device=arguments.device,
    )
    print(curve_table(evaluated.curve))
    print(evaluated.report)
    if evaluated.agreement is not None:
        print(evaluated.agreement)


def call_show(arguments: argparse.Namespace) -> None:
    """Draw a found circuit and print where."""
    from circuits.artefacts import directory_of, load_found
    from circuits.show import show
    from data_gen.errors import InputError
    from data_gen.files import write_atomic
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    circuit, _ = load_found(run.path, arguments.edit)
    path = arguments.out or directory_of(run.path, arguments.edit) / "graph.html"
    if path.is_dir():
        raise InputError(
            f"--out {path} is a directory, expected a file", hint="name a file such as circuit.html"
        )
    write_atomic(path, show(circuit).to_html())
    print(path)


def edge_table(rows: list[dict[str, Any]]) -> str:
    """One line per edge: score, interval over pairs and share of pairs with the score's sign."""
    width = max(len(row["edge"]) for row in rows)
    lines = [f"{'edge':<{width}}{'score':>10}{'95 % interval':>20}{'same sign':>11}"]
    for row in rows:
        span = f"{row['low']:.3f} to {row['high']:.3f}"
        lines.append(f"{row['edge']:<{width}}{row['score']:>10.3f}{span:>20}{row['same_sign']:>11.2f}")
    return "\n".join(lines)


def curve_table(curve: Curve) -> str:
    """Faithfulness of the top edges at each size, beside random circuits."""
    lines = [f"{'edges':>8}{'faithfulness':>14}{'95 % interval':>18}{'random':>9}{'5 to 95 %':>18}"]
    for point in curve.points:
        value, band = point.faithfulness, point.random
        lines.append(
            f"{point.n_edges:>8}{value.value:>14.3f}{_span(value.low, value.high):>18}"
            f"{band.mean:>9.3f}{_span(band.low, band.high):>18}"
        )
    return "\n".join(lines)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument(
        "--edit", required=True, help="what differs in a pair: schema.table, select.0.column, ..."
    )


def _span(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"
