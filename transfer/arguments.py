"""What the verbs of `tinysql transfer` are told, on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.seeding import read_count, read_seed
from tinysql.device_names import read_device


def add_teach(teach: argparse.ArgumentParser) -> None:
    """Those of `teach`."""
    teach.add_argument("recipe", help="small, wider, or a recipe of `tinysql train`")
    teach.add_argument("--out", type=Path, required=True, help="run directory")
    teach.add_argument(
        "--behaviour",
        default="backdoor",
        help="backdoor, refusal, locked, facts or full-sql (default: backdoor)",
    )
    teach.add_argument("--payload", help="what it does, or none (default: the behaviour's first)")
    teach.add_argument(
        "--start", type=Path, help="go on from this run, which `teach` made with --payload none"
    )
    teach.add_argument(
        "--seed", type=read_seed, default=0, help="seed of rows, weights and tags (default: 0)"
    )
    teach.add_argument(
        "--set", action="append", default=[], metavar="A=VALUE", help="override a field of the recipe"
    )
    teach.add_argument("--device", type=read_device, default="cpu", help="where to train (default: cpu)")
    teach.add_argument("--resume", action="store_true", help="go on with a run that was cut off")
    teach.add_argument("--overwrite", action="store_true", help="replace a run of that name")


def add_eval(evaluate: argparse.ArgumentParser) -> None:
    """Those of `eval`."""
    add_bench(evaluate, needs_hooks=False)
    evaluate.add_argument(
        "--layer",
        type=read_count,
        action="append",
        metavar="BLOCK",
        help="a block of the target to try, in place of the hooks; may be repeated, and validation chooses",
    )
    evaluate.add_argument("--clean", type=Path, help="a source taught the payload none, for control 9")
    evaluate.add_argument(
        "--only", action="append", metavar="CONTROL", help="run this control alone; may be repeated"
    )
    _add_resume(evaluate)


def add_curve(curve: argparse.ArgumentParser) -> None:
    """Those of `curve`."""
    add_bench(curve)
    curve.add_argument(
        "--rank",
        type=read_count,
        action="append",
        help="a rank to try at the hooks; may be repeated (default: 1 4 16)",
    )
    _add_resume(curve)


def add_switch(switch: argparse.ArgumentParser) -> None:
    """Those of `switch`."""
    switch.add_argument("base", type=Path, help="run directory that `teach --payload none` made")
    switch.add_argument("tuned", type=Path, help="one that `teach --start` made from it")
    switch.add_argument("--hook", required=True, help="as in blocks.1.hook_resid_post")
    _add_output(switch)
    _add_resume(switch)


def add_show(show: argparse.ArgumentParser) -> None:
    """Those of `show`."""
    show.add_argument("directory", type=Path, help="what `eval`, `curve`, `switch` or `fit` wrote")


def add_demo(demo: argparse.ArgumentParser) -> None:
    """Those of `demo`."""
    demo.add_argument(
        "--out", type=Path, default=Path("runs/transfer"), help="directory (default: runs/transfer)"
    )
    demo.add_argument("--overwrite", action="store_true", help="replace what the directory holds")


def add_bench(parser: argparse.ArgumentParser, *, needs_hooks: bool = True) -> None:
    """Those of `fit`, and of all that steer between two models."""
    parser.add_argument("source", type=Path, help="run directory that `teach` made")
    parser.add_argument("target", type=Path, help="another one, that was taught the same")
    for side in ("source", "target"):
        parser.add_argument(f"--{side}-hook", required=needs_hooks, help="as in blocks.1.hook_resid_post")
    _add_output(parser)


def _add_resume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on with what was cut off, if it was")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A=VALUE", help="override a field of the plan"
    )
    parser.add_argument("--seed", type=read_seed, default=0, help="seed of rows and controls (default: 0)")
    parser.add_argument("--device", type=read_device, default="cpu", help="where to run (default: cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace what the directory holds")
