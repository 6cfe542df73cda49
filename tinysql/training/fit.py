"""Recipe -> run directory: rows, tokenizer, trained weights."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from data_gen.errors import InputError
from data_gen.files import remove_leftovers
from data_gen.outputs import claim_directory
from data_gen.store.dataset import read_dataset, write_dataset
from tinysql.devices import find_device, memory_of
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import (
    Run,
    check_not_lost,
    check_one_way,
    holding,
    open_run,
    record_model,
    resume_run,
    start_run,
)
from tinysql.tokens import Tokenizer
from tinysql.training.batches import TrainingRows
from tinysql.training.begin import check_start, start_model, start_tokenizer
from tinysql.training.checkpoints import load_tensors, save_tensors
from tinysql.training.datasets import COLUMNS, on_dataset
from tinysql.training.distributed import World, join_world
from tinysql.training.feed import Bucketed, Feed, Generated, Packed, mixed_texts
from tinysql.training.loop import train
from tinysql.training.replacing import drop, set_aside, settle, take_back
from tinysql.training.tracking import Tracker

FIRST_PROBE_ROW = 1 << 40
"""Where the probe's rows begin when training rows are fresh: further than training ever comes."""
TOKENIZER_ROWS = 5000
"""Rows the tokenizer is learned from; more change nothing about a synthetic vocabulary."""


def fit(
    recipe: Recipe,
    path: Path | str,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    dataset: Path | str | None = None,
    init: str | None = None,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Make the rows, learn the tokenizer and train the model of `recipe` in the directory `path`.

    Every step leaves a whole artefact or none; with `resume`, steps that are done are not repeated, and training goes
    on from its newest checkpoint. With `overwrite`, an older run is removed once the new one has done a step.
    `dataset` is a directory that `tinysql data make` wrote, whose rows are trained on in place of new ones; `init` is
    a checkpoint of transformers, a directory or a hub id, or a run directory of ours, whose model and tokenizer
    training begins with, in the recipe's context (`with_context_of` gives the checkpoint's own). Started by
    `torchrun`, all processes train one model. What is refused before the first step leaves no directory behind.
    `InputError` when `resume` and `overwrite` are both asked for, `path` holds something else or another process
    trains in it, or the recipe needs a GPU and there is none.
    """
    check_one_way(resume=resume, overwrite=overwrite)
    path, dataset = Path(path), Path(dataset) if dataset is not None else None
    device = find_device(device) if isinstance(device, str) else device
    if recipe.needs_gpu and device.type == "cpu":
        shape = replace(recipe.train.model, d_vocab=recipe.train.vocab_size)
        raise InputError(
            f"this recipe trains {shape.num_parameters() / 1e6:.0f} M weights, which is too slow on a CPU",
            hint="pass --device cuda, or take the recipe nano or micro (--set needs_gpu=False trains it all the same)",
        )
    recipe = on_dataset(recipe, dataset) if dataset is not None else recipe
    with join_world(device) as world, ExitStack() as held:
        _check_memory(recipe, device, world)
        world.first(lambda: _prepare(recipe, path, dataset, init, resume, overwrite, held))
        run = open_run(path)
        if not finished(run):
            _train(recipe, run, world, device, resume or world.size > 1, init, trackers)
        world.wait()
    return open_run(path)


def _check_memory(recipe: Recipe, device: torch.device, world: World) -> None:
    """Refuse a model whose weights, gradients and moments alone, in float32, are more than the memory."""
    weights, memory = recipe.train.model.num_parameters(), memory_of(device)
    moments = 1 if recipe.train.optimizer == "muon" else 2  # Muon's one; few weights are AdamW's then
    # Of several GPUs each holds a part; processes on a CPU share its memory.
    needed = 4 * (2 + moments) * weights / (world.size if device.type == "cuda" else 1)
    if memory is not None and needed > memory:
        raise InputError(
            f"training {weights:,} weights takes at least {needed / 2**30:,.0f} GiB, "
            f"and `{device.type}` has {memory / 2**30:,.0f} GiB",
            hint="lower model.d_model, model.d_mlp or the number of blocks, or train on more or larger devices",
        )


def _prepare(
    recipe: Recipe,
    path: Path,
    dataset: Path | None,
    init: str | None,
    resume: bool,
    overwrite: bool,
    held: ExitStack,
) -> None:
    """Everything that one process does for all: the directory, the rows, the tokenizer, the model's shape.

    The directory is `held` from here on: an older run's before it is emptied, a new one's when there is one.
    """
    if path.is_dir():
        held.enter_context(holding(path))
        remove_leftovers(path)
    settle(path, replaces=resume or overwrite)
    if resume and (path / "config.json").exists():
        run = resume_run(path, recipe, init)
    else:
        check_not_lost(path)
        _check_sources(path, dataset, init, recipe)
        is_new = not path.is_dir() or (overwrite and set_aside(path))
        claim_directory(path, overwrite, kind="training run")
        if is_new:
            held.enter_context(holding(path))
        held.push(partial(take_back, path, is_new))
        run = start_run(path, recipe, init, dataset)
    if finished(run):
        shutil.rmtree(path / "checkpoints", ignore_errors=True)  # a kill behind the weights leaves them
        return
    if (path / "model.safetensors").exists() and not any(path.glob("checkpoints/step-*")):
        warnings.warn(
            f"{path / 'model.safetensors'} is not whole and no checkpoint is left: training begins at step 0",
            stacklevel=2,
        )
    if dataset is not None:
        link = path / "data" / "train"
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)  # the dataset was moved
            link.symlink_to(dataset.resolve(), target_is_directory=True)
    elif recipe.rows is not None:
        write_dataset(recipe.data, recipe.rows, path / "data" / "train", resume=True)
    tokenizer = _tokenizer(recipe, path, init)
    shape = replace(recipe.train.model, d_vocab=tokenizer.vocab_size)
    record_model(run, start_model(init, shape.n_ctx).cfg if init is not None else shape)


def _check_sources(path: Path, dataset: Path | None, init: str | None, recipe: Recipe) -> None:
    """Refuse what cannot be begun with before `path`, which may hold an older run, is emptied."""
    for kind, place in (("dataset", dataset), ("checkpoint", Path(init) if init is not None else None)):
        if place is not None and place.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"the {kind} `{place}` lies in the run directory `{path}`, which a new run empties",
                hint="choose another --out",
            )
    if init is not None:
        check_start(init, recipe.train.model.n_ctx)


def _train(
    recipe: Recipe,
    run: Run,
    world: World,
    device: torch.device,
    resume: bool,
    init: str | None,
    trackers: Sequence[Tracker],
) -> None:
    path, tokenizer = run.path, Tokenizer.load(run.path / "tokenizer.json")
    config = replace(recipe.train, model=run.shape)
    fresh = recipe.rows is None
    probe = TrainingRows.encode(_probe_rows(recipe), tokenizer, n_ctx=config.model.n_ctx, drop_long=fresh)
    model = train(
        config,
        make_feed(recipe, path, tokenizer),
        probe,
        path,
        device=device,
        resume=resume,
        world=world,
        start=start_model(init, config.model.n_ctx) if init is not None else None,
        grade=_grader(recipe, tokenizer) if recipe.train.grade_every else None,
        trackers=[lambda *_: drop(path), *trackers],
    )
    weights = world.gathered(model.state_dict())
    if world.rank == 0:
        save_tensors(path / "model.safetensors", weights)
        drop(path)  # too short a run logs nothing
        shutil.rmtree(path / "checkpoints", ignore_errors=True)


def _grader(recipe: Recipe, tokenizer: Tokenizer) -> Callable[[HybridLM], float]:
    """Share of held-out rows that a model answers right by execution."""
    from tinysql.answering.grading import grade_model

    config = replace(recipe.data, split="test")

    def grade(model: HybridLM) -> float:
        found = grade_model(
            model, tokenizer, config, rows=recipe.grade_rows, precision=recipe.train.precision
        )
        return sum(one.execution for one in found.grades) / len(found.grades)

    return grade


def make_feed(recipe: Recipe, path: Path, tokenizer: Tokenizer) -> Feed:
    """The stream of training batches: rows of the run directory `path`, or fresh ones."""
    train = recipe.train
    n_ctx, common = train.model.n_ctx, {"batch_size": train.batch_size, "seed": train.seed}
    if recipe.rows is None:
        assert train.pack is not None
        return Generated(
            recipe.sources,
            path / "tokenizer.json",
            n_ctx,
            train.pack,
            prompt_loss=train.prompt_loss,
            **common,
        )
    rows = TrainingRows.encode(_rows(path), tokenizer, n_ctx=n_ctx)
    if train.pack is None:
        return Bucketed(rows, prompt_loss=train.prompt_loss, **common)
    return Packed(rows, train.pack, prompt_loss=train.prompt_loss, **common)


def finished(run: Run) -> bool:
    """Whether the run has a whole model; one that is cut short is trained again, and stays until then.

    Raises `InputError` where the weights are whole and what is beside them is not: nothing is lost by mending that.
    """
    weights = run.path / "model.safetensors"
    if not weights.exists():
        return False
    try:
        load_tensors(weights)
    except InputError as error:
        if isinstance(error.__cause__, OSError):  # not read, so not known to be damaged
            raise
        return False
    run.load()
    return True


def _tokenizer(recipe: Recipe, path: Path, init: str | None) -> Tokenizer:
    file = path / "tokenizer.json"
    if file.exists():
        return Tokenizer.load(file)
    if init is not None:
        tokenizer = start_tokenizer(init)
        tokenizer.save(file)
        return tokenizer
    rows = (
        _rows(path) if recipe.rows is not None else iter(mixed_texts(recipe.sources, range(TOKENIZER_ROWS)))
    )
    texts = (f"{prompt} {sql}" for (prompt, sql), _ in zip(rows, range(TOKENIZER_ROWS), strict=False))
    tokenizer = Tokenizer.train(texts, vocab_size=recipe.train.vocab_size)
    tokenizer.save(file)
    return tokenizer


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    rows = read_dataset(path / "data" / "train", columns=COLUMNS)
    return ((row["prompt"], row["sql_statement"]) for row in rows)


def _probe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Rows behind those that are trained on."""
    first = recipe.rows if recipe.rows is not None else FIRST_PROBE_ROW
    return mixed_texts(recipe.sources, range(first, first + recipe.probe_rows))
