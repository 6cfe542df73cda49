"""Recipe -> run directory: rows, tokenizer, trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from data_gen.errors import InputError
from data_gen.files import claim_directory
from data_gen.store.dataset import read_dataset, write_dataset
from tinysql.batches import TrainingRows
from tinysql.checkpoints import save_tensors
from tinysql.feed import Bucketed, Feed, Generated, Packed, mixed_texts
from tinysql.recipes import Recipe
from tinysql.runs import Run, open_run, record_model, resume_run, start_run
from tinysql.tokens import Tokenizer
from tinysql.training import train

FIRST_PROBE_ROW = 1 << 40
"""Where the probe's rows begin when training rows are fresh: further than training ever comes."""
TOKENIZER_ROWS = 5000
"""Rows the tokenizer is learned from; more change nothing about a synthetic vocabulary."""


def fit(
    recipe: Recipe,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    """Make the rows, learn the tokenizer and train the model of `recipe` in the directory `path`.

    Every step leaves a whole artefact or none; with `resume`, steps that are done are not repeated, and
    training goes on from its newest checkpoint. `InputError` when `path` holds something else.
    """
    if resume and (path / "config.json").exists():
        run = resume_run(path, recipe)
    else:
        claim_directory(path, overwrite, kind="training run")
        run = start_run(path, recipe)
    if finished(run):
        return run
    if recipe.rows is not None:
        write_dataset(recipe.data, recipe.rows, path / "data" / "train", resume=True)
    tokenizer = _tokenizer(recipe, path)
    config = replace(recipe.train, model=replace(recipe.train.model, d_vocab=tokenizer.vocab_size))
    record_model(run, config.model)
    probe = TrainingRows.encode(_probe_rows(recipe), tokenizer, n_ctx=config.model.n_ctx)
    feed = make_feed(recipe, path, tokenizer)
    model = train(config, feed, probe, path, device=device, resume=resume)
    save_tensors(path / "model.safetensors", model.state_dict())
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return open_run(path)


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
    """Whether the run has a whole model; one that is cut short is removed, so that it is trained again."""
    weights = run.path / "model.safetensors"
    if not weights.exists():
        return False
    try:
        run.load()
    except InputError:
        weights.unlink()
        return False
    return True


def _tokenizer(recipe: Recipe, path: Path) -> Tokenizer:
    file = path / "tokenizer.json"
    if file.exists():
        return Tokenizer.load(file)
    rows = (
        _rows(path) if recipe.rows is not None else iter(mixed_texts(recipe.sources, range(TOKENIZER_ROWS)))
    )
    texts = (f"{prompt} {sql}" for (prompt, sql), _ in zip(rows, range(TOKENIZER_ROWS), strict=False))
    tokenizer = Tokenizer.train(texts, vocab_size=recipe.train.vocab_size)
    tokenizer.save(file)
    return tokenizer


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    rows = read_dataset(path / "data" / "train", columns=("prompt", "sql_statement"))
    return ((row["prompt"], row["sql_statement"]) for row in rows)


def _probe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Rows behind those that are trained on."""
    first = recipe.rows if recipe.rows is not None else FIRST_PROBE_ROW
    return mixed_texts(recipe.sources, range(first, first + recipe.probe_rows))
