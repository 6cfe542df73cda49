"""`tinysql train`: recipe -> run directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.seeding import read_seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        help="a recipe: nano, micro, bm1, bm2, bm3, t33, t33-plain, t33-dense, t200, t600, t1b or tiny",
    )
    parser.add_argument("--out", type=Path, help="run directory (default: runs/RECIPE)")
    parser.add_argument(
        "--seed", type=read_seed, default=0, help="seed of data, weights and batch order (default: 0)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override a field of the recipe"
    )
    parser.add_argument("--device", default="cpu", help="where to train (default: cpu)")
    parser.add_argument("--data", type=Path, help="train on the rows of this dataset directory")
    parser.add_argument(
        "--init", metavar="DIR_OR_HUB_ID", help="begin with a checkpoint of transformers and its tokenizer"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard event files too")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this Weights & Biases project too")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from tinysql.config import override
    from tinysql.devices import find_device
    from tinysql.fit import fit
    from tinysql.recipes import find_recipe
    from tinysql.tracking import tensorboard, weights_and_biases

    recipe = override(find_recipe(arguments.recipe).with_seed(arguments.seed), arguments.set)
    out = arguments.out or Path("runs") / arguments.recipe
    trackers = [tensorboard(out)] if arguments.tensorboard else []
    trackers += [weights_and_biases(out, arguments.wandb)] if arguments.wandb else []
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
    print(run.path)
