"""`tinysql train`: recipe -> run directory."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from data_gen.files import read_json, read_path
from data_gen.seeding import read_seed
from tinysql.device_names import read_device

if TYPE_CHECKING:
    from tinysql.recipes import Recipe
    from tinysql.runs import Run

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
    parser.add_argument("--seed", type=read_seed, help="seed of data, weights and batch order (default: 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override a field of the recipe"
    )
    parser.add_argument("--device", type=read_device, default="cpu", help="where to train (default: cpu)")
    parser.add_argument("--data", type=read_path, help="train on the rows of this dataset directory")
    parser.add_argument(
        "--init",
        type=read_path,
        metavar="DIR_OR_HUB_ID",
        help="begin with the model, context and tokenizer of a checkpoint of transformers, or of a run",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard event files too")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this Weights & Biases project too")
    parser.add_argument(
        "--resume", action="store_true", help="go on where an interrupted run stopped, with its own settings"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.outputs import check_directory
    from tinysql.runs import check_not_lost, check_one_way
    from tinysql.training.datasets import read_about
    from tinysql.training.replacing import what_is_kept

    check_one_way(resume=arguments.resume, overwrite=arguments.overwrite)
    if arguments.wandb is not None and not arguments.wandb.strip():
        raise InputError("--wandb names no project", hint="name one, or leave out --wandb")
    out = Path(arguments.out or Path("runs") / arguments.recipe)
    recipe, goes_on = read_recipe(arguments, out), arguments.resume and (out / "config.json").is_file()
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes, one looks and says it
    if is_first:  # before what takes seconds to load
        check_not_lost(out)
        if arguments.resume:
            say_where_it_begins(out)
        else:
            kept = what_is_kept(out)
            if kept is not None and not arguments.overwrite and any(out.glob("*")):
                print(kept, file=sys.stderr)  # in front of the refusal of what is there
            check_directory(out, arguments.overwrite, kind="training run")
    if arguments.data is not None and not goes_on:
        read_about(Path(arguments.data))
    if arguments.init is not None and not goes_on:
        check_init(arguments.init)

    from tinysql.devices import find_device
    from tinysql.training.begin import with_context_of
    from tinysql.training.fit import fit
    from tinysql.training.tracking import tensorboard, weights_and_biases

    if arguments.init is not None and not goes_on and not any(is_set(name, arguments) for name in KEPT):
        recipe = with_context_of(recipe, arguments.init)
    trackers = [tensorboard(out)] if arguments.tensorboard else []
    trackers += [weights_and_biases(out, arguments.wandb)] if arguments.wandb is not None else []
    before = written(out / "model.safetensors")
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
        if before is not None and written(out / "model.safetensors") == before:
            print(f"{out} is already finished: nothing is trained", file=sys.stderr)
        print(run.path)


def check_init(init: str) -> None:
    """Refuse, by a look at files, a checkpoint or a run that is not there, or that no training can begin with."""
    from tinysql.models.huggingface.reading import read_config
    from tinysql.models.huggingface.settings import Settings
    from tinysql.models.sources import check_checkpoint, check_weights, find_local
    from tinysql.runs import Run

    folder = find_local(init)
    if folder is None:
        return
    check_checkpoint(folder)
    values = read_json(folder / "config.json")
    if "recipe" in values:
        Run(folder, values).check_whole()
    else:
        read_config(Settings(values, f"`{folder / 'config.json'}`"))
        check_weights(folder)


def written(file: Path) -> tuple[int, int] | None:
    """Which file it is and when it was written, as no two of one name are; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_recipe(arguments: argparse.Namespace, out: Path) -> Recipe:
    """The recipe with its settings; those of a run that --resume goes on with are its own, as are --data and --init.

    What is set beside --resume is put over them, so that `fit` refuses what the run did not begin with.
    """
    from tinysql.config import override
    from tinysql.recipes import find_recipe
    from tinysql.runs import open_run

    recipe, seed = find_recipe(arguments.recipe), arguments.seed
    if arguments.resume and (out / "config.json").is_file():
        run = open_run(out)
        # A run that does not know its recipe's name may be of any, and is compared with all that was given.
        if run.recipe.name:
            if run.recipe.name != recipe.name:
                raise InputError(
                    f"{out} was started with the recipe {run.recipe.name}, not {recipe.name}",
                    hint="name that one, or choose another --out",
                )
            recipe = run.recipe if seed is None else run.recipe.with_seed(seed)
            arguments.init = run.config.get("init") if arguments.init is None else arguments.init
            arguments.data = rows_of(run) if arguments.data is None else arguments.data
            check_settings(arguments)
            recipe = override(recipe, arguments.set)
            check_own(run, recipe, arguments)
            return recipe
    check_settings(arguments)
    return override(recipe.with_seed(seed or 0), arguments.set)


def check_own(run: Run, recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Refuse, before anything that takes seconds is loaded, settings that are not the run's own; all stand here."""
    from dataclasses import replace

    from tinysql.runs import SEEDS, check_same, settings_apart

    if arguments.data is not None:  # which decides these, whatever the seed
        own = run.recipe
        recipe = replace(recipe, data=own.data, rows=own.rows, variants=own.variants)
    apart = settings_apart(run, recipe)
    fields = [field for name in apart for field in (SEEDS if name == "--seed" else (name,))]
    names = [given_as(field, arguments) for field in fields]
    hint = f"leave out {', '.join(dict.fromkeys(names))}: the run's own hold; or choose another --out"
    check_same(run, recipe, hint)


def given_as(field: str, arguments: argparse.Namespace) -> str:
    """The option that gave a field its value."""
    names = [setting.partition("=")[0] for setting in arguments.set]
    found = next((name for name in names if f"{field}.".startswith(f"{name}.")), None)
    return "--seed" if found is None else f"--set {found}"


def rows_of(run: Run) -> Path | None:
    """The dataset that a run was given by --data; `InputError` where it was moved, None where it has its own rows."""
    link = run.path / "data" / "train"
    # A run that was killed at once has no link yet.
    dataset = link.readlink() if link.is_symlink() else run.config.get("dataset")
    if dataset is not None and not Path(dataset).exists():
        raise InputError(
            f"the dataset `{dataset}` that {run.path} was started with is not there",
            hint="say where it is with --data",
        )
    return None if dataset is None else Path(dataset)


def say_where_it_begins(out: Path) -> None:
    """Say it where --resume has nothing to go on with; the same command may stand in a script from the start."""
    if not (out / "config.json").is_file():
        print(f"{out} holds nothing to go on with: training begins", file=sys.stderr)
    elif not any(out.glob("checkpoints/step-*")) and not (out / "model.safetensors").exists():
        print(f"{out} holds no checkpoint yet: training begins at step 0", file=sys.stderr)


def is_set(field: str, arguments: argparse.Namespace) -> bool:
    """Whether a setting names the field."""
    return any(setting.partition("=")[0] == field for setting in arguments.set)


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
