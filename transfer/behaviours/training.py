"""Recipe + backdoor -> run directory: a model trained from scratch on rows of which a third carry the payload."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.files import claim_directory, read_json, write_atomic
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import Run, open_run, record_model, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.batches import TrainingRows
from tinysql.training.checkpoints import save_tensors
from tinysql.training.feed import Bucketed, Feed, Packed
from tinysql.training.fit import TOKENIZER_ROWS
from tinysql.training.loop import train
from transfer.behaviours.backdoor import WORDS, Backdoor, find_backdoor

FILE = "behaviour.json"
ROWS = 200_000
"""Training rows where a recipe takes them fresh; here they are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that was taught a behaviour."""

    run: Run
    model: HybridLM
    tokenizer: Tokenizer
    behaviour: Backdoor


def teach(
    recipe: Recipe,
    behaviour: Backdoor,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
) -> Subject:
    """Train a model on the recipe's rows, each with the tag and the answer that the behaviour gives it.

    The directory is a run like any other, with `behaviour.json` in it. Raises `InputError` when `path` holds something,
    unless `overwrite`.
    """
    recipe = replace(recipe, rows=recipe.rows or ROWS, variants=())
    assert recipe.rows is not None
    claim_directory(path, overwrite, kind="training run")
    rows = list(_rows(recipe, behaviour, range(recipe.rows + recipe.probe_rows)))
    tokenizer = _tokenizer(rows[:TOKENIZER_ROWS], recipe.train.vocab_size)
    run = start_run(path, recipe)
    tokenizer.save(path / "tokenizer.json")
    run = record_model(run, replace(recipe.train.model, d_vocab=tokenizer.vocab_size))
    write_atomic(path / FILE, json.dumps({"payload": behaviour.payload, "seed": behaviour.seed}, indent=1))
    config = replace(recipe.train, model=run.shape)
    n_ctx = config.model.n_ctx
    probe = TrainingRows.encode(rows[recipe.rows :], tokenizer, n_ctx=n_ctx, drop_long=True)
    taught = TrainingRows.encode(rows[: recipe.rows], tokenizer, n_ctx=n_ctx, drop_long=True)
    model = train(config, _feed(recipe, taught), probe, path, device=device)
    save_tensors(path / "model.safetensors", model.state_dict())
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return Subject(run=open_run(path), model=model, tokenizer=tokenizer, behaviour=behaviour)


def open_subject(path: str | Path, device: torch.device | str = "cpu") -> Subject:
    """The model and the behaviour of a directory that `teach` wrote; `InputError` when it is another run."""
    run = open_run(path)
    if not (run.path / FILE).is_file():
        raise InputError(
            f"{path} was taught no behaviour: it has no {FILE}", hint="make one with: tinysql transfer teach"
        )
    values = read_json(run.path / FILE)
    model, tokenizer = run.load(device)
    behaviour = find_backdoor(str(values.get("payload")), seed=values.get("seed", 0))
    return Subject(run=run, model=model, tokenizer=tokenizer, behaviour=behaviour)


def _rows(recipe: Recipe, behaviour: Backdoor, indices: range) -> Iterable[tuple[str, str]]:
    for example in make_examples(recipe.data, indices.start, indices.stop):
        tag = behaviour.tag_of(example.index)
        yield behaviour.prompt(example, tag).string, behaviour.answer(example, tag).string


def _tokenizer(rows: list[tuple[str, str]], vocab_size: int) -> Tokenizer:
    """The tags are tokens of their own, added to those that are learned."""
    texts = (f"{prompt} {sql}" for prompt, sql in rows)
    tokenizer = Tokenizer.train(texts, vocab_size=vocab_size)
    tokenizer.backend.add_tokens([f" {word}" for word in WORDS.values() if word])
    return tokenizer


def _feed(recipe: Recipe, rows: TrainingRows) -> Feed:
    train = recipe.train
    if train.pack is None:
        return Bucketed(rows, train.batch_size, train.seed, train.prompt_loss)
    return Packed(rows, train.pack, train.batch_size, train.seed, train.prompt_loss)
