"""`tinysql train`: recipe -> run directory."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from data_gen.errors import InputError
from data_gen.files import read_path
from data_gen.seeding import read_seed

REPLACED = {
    "data": ("rows", "variants", "data."),
    "init": ("train.vocab_size", "train.model.", "train.model"),
}
"""Fields that an option takes from elsewhere, whose settings would be without effect."""
KEPT = ("train.model.n_ctx",)
"""Of them, what is asked for all the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        help="a recipe: nano, micro, bm1, bm2, bm3, t33, t33-plain, t33-dense, t200, t600, t1b or tiny",
    )
    parser.add_argument("--out", type=read_path, help="run directory (default: runs/RECIPE)")
    parser.add_argument(
        "--seed", type=read_seed, default=0, help="seed of data, weights and batch order (default: 0)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override a field of the recipe"
    )
    parser.add_argument("--device", default="cpu", help="where to train (default: cpu)")
    parser.add_argument("--data", type=read_path, help="train on the rows of this dataset directory")
    parser.add_argument(
        "--init",
        type=read_path,
        metavar="DIR_OR_HUB_ID",
        help="begin with a checkpoint of transformers and its tokenizer",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard event files too")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this Weights & Biases project too")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.outputs import check_directory
    from tinysql.config import override
    from tinysql.recipes import find_recipe

    check_settings(arguments)
    recipe = override(find_recipe(arguments.recipe).with_seed(arguments.seed), arguments.set)
    out = Path(arguments.out or Path("runs") / arguments.recipe)
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes, one looks and says it
    if is_first and not arguments.resume:  # before what takes seconds to load
        check_directory(out, arguments.overwrite, kind="training run")

    from tinysql.devices import find_device
    from tinysql.training.fit import fit
    from tinysql.training.tracking import tensorboard, weights_and_biases

    trackers = [tensorboard(out)] if arguments.tensorboard else []
    trackers += [weights_and_biases(out, arguments.wandb)] if arguments.wandb else []
    if is_first and arguments.resume and not (out / "config.json").is_file():
        print(f"{out} holds nothing to go on with: training begins", file=sys.stderr)
    run = fit(
        recipe,
        out,
        device=find_device(arguments.device),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        dataset=arguments.data,
        init=arguments.init,
        trackers=trackers,
    )
    if is_first:
        print(run.path)


def check_settings(arguments: argparse.Namespace) -> None:
    """Refuse a setting that --data or --init would silently pass over."""
    for option, fields in REPLACED.items():
        for setting in arguments.set if getattr(arguments, option) is not None else []:
            name = setting.partition("=")[0]
            if name not in KEPT and any(
                name == field or (field.endswith(".") and name.startswith(field)) for field in fields
            ):
                raise InputError(
                    f"--set {name} has no effect beside --{option} {getattr(arguments, option)}, which decides it",
                    hint=f"leave out one of the two; of the model, {KEPT[0]} alone can be set"
                    if option == "init"
                    else "leave out one of the two",
                )
