"""Recipe + behaviour -> run directory: a model trained, from scratch or on, on rows of every condition."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.files import read_json, write_atomic
from data_gen.outputs import claim_directory
from data_gen.seeding import MOST_COUNT
from tinysql.context import check_lengths
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import Run, check_not_lost, holding, open_run, record_model, resume_run, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.batches import TrainingRows
from tinysql.training.checkpoints import save_tensors
from tinysql.training.feed import Bucketed, Feed, Packed
from tinysql.training.fit import TOKENIZER_ROWS
from tinysql.training.loop import train
from tinysql.training.replacing import drop, set_aside, settle, take_back
from transfer.behaviours.behaviour import Behaviour
from transfer.behaviours.names import check_base
from transfer.subjects import FILE, MODEL, Taught, taught_behaviour, taught_run

ROWS = 200_000
"""Training rows where a recipe takes them fresh; here they are kept in memory."""
TRIED = 500
"""Rows in which the behaviour has to be found before a model is taught it."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that was taught a behaviour."""

    run: Run
    model: HybridLM
    tokenizer: Tokenizer
    behaviour: Behaviour

    @property
    def taught(self) -> Taught:
        """What is known of it without its weights."""
        return Taught(path=self.run.path, shape=self.model.cfg, data=self.run.data, behaviour=self.behaviour)


def teach(
    recipe: Recipe,
    behaviour: Behaviour,
    path: Path,
    *,
    start: Subject | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
) -> Subject:
    """Train a model on the recipe's rows, each under the condition and with the answer that the behaviour gives it.

    With `start`, training goes on from its weights, with its shape and its tokenizer. The directory is a run like any
    other, with `behaviour.json` in it. With `resume`, what was cut off goes on from its newest checkpoint and ends with
    the weights it would have had. `overwrite` replaces the run at `path`, which is kept beside until the new one has
    logged a step, and put back where that is refused. Raises `InputError` when `path` holds something else, something
    begun otherwise, and for a start that has read the conditions of another behaviour.
    """
    if start is not None:
        if path.resolve() == start.run.path.resolve():
            raise InputError(f"{path} is the run that training is to go on from", hint="choose another --out")
        recipe = _from(recipe, start, behaviour)
    recipe = replace(recipe, rows=recipe.rows or ROWS, variants=())
    assert recipe.rows is not None
    _check_rows(recipe, behaviour)
    check_not_lost(path)
    resume = resume and (path / "config.json").exists()
    with ExitStack() as held:
        is_new = not path.is_dir()
        if not is_new:  # before it is moved away or emptied
            held.enter_context(holding(path))
        settle(path, replaces=resume or overwrite)
        if not resume:
            is_new = not path.is_dir() or (overwrite and set_aside(path))
            claim_directory(path, overwrite, kind="training run")
            if is_new:
                held.enter_context(holding(path))
            held.push(partial(take_back, path, is_new))
        run = resume_run(path, recipe) if resume else start_run(path, recipe)
        _record_behaviour(path, behaviour, start)
        if (path / MODEL).is_file():
            return open_subject(path, device)
        rows = list(_rows(recipe, behaviour, range(recipe.rows + recipe.probe_rows)))
        tokenizer = start.tokenizer if start is not None else _tokenizer(rows, recipe, behaviour, path)
        tokenizer.save(path / "tokenizer.json")
        run = record_model(run, replace(recipe.train.model, d_vocab=tokenizer.vocab_size))
        config = replace(recipe.train, model=run.shape)
        n_ctx = config.model.n_ctx
        _check_prompts(rows, tokenizer, n_ctx)
        probe = TrainingRows.encode(rows[recipe.rows :], tokenizer, n_ctx=n_ctx, drop_long=True)
        taught = TrainingRows.encode(rows[: recipe.rows], tokenizer, n_ctx=n_ctx, drop_long=True)
        weights = copy.deepcopy(start.model).train() if start is not None else None
        feed = _feed(recipe, taught)
        model = train(
            config,
            feed,
            probe,
            path,
            device=device,
            resume=resume,
            start=weights,
            trackers=[lambda *_: drop(path)],
        )
        save_tensors(path / MODEL, model.state_dict())
        drop(path)  # too short a run logs nothing
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return Subject(run=open_run(path), model=model, tokenizer=tokenizer, behaviour=behaviour)


def _check_rows(recipe: Recipe, behaviour: Behaviour) -> None:
    """`InputError`, before anything is written, for rows that nobody could hold or that the behaviour is not about."""
    if recipe.rows is not None and recipe.rows > MOST_COUNT:
        raise InputError(
            f"rows is {recipe.rows:,}, expected at most {MOST_COUNT:,}: they are held in memory",
            hint="they are read again every epoch; give fewer",
        )
    some = make_examples(replace(recipe.data, split="test"), 0, TRIED)
    if not any(behaviour.is_tested(example) for example in some):
        sets = ", ".join(recipe.data.command_sets)
        raise InputError(
            f"none of the first {TRIED} rows of {sets} can show `{behaviour.kind}` ({behaviour.payload})",
            hint="set data.command_sets to one whose queries have what the behaviour is about, such as cs1+where",
        )


def _check_prompts(rows: Sequence[tuple[str, str]], tokenizer: Tokenizer, n_ctx: int) -> None:
    """`InputError`, before training, where a prompt leaves no room for an answer: it is asked when all is done."""
    prompts = [prompt for prompt, _ in rows[: 2 * TOKENIZER_ROWS]]
    found = tokenizer.backend.encode_batch_fast(prompts, add_special_tokens=False)
    check_lengths(
        [len(one.ids) for one in found],
        n_ctx,
        what="prompt" if len(prompts) == len(rows) else "first prompt",
        hint="--set train.model.n_ctx={twice}, or lower data.max_columns",
        answered=True,
    )


def _record_behaviour(path: Path, behaviour: Behaviour, start: Subject | None) -> None:
    """Write `behaviour.json`; `InputError` when another behaviour or start stands there."""
    made = _made(behaviour, start)
    if (path / FILE).is_file() and (before := read_json(path / FILE)) != made:
        changed = [name for name in (*made, *before) if before.get(name) != made.get(name)]
        raise InputError(
            f"{path} was begun with {changed[0]} {before.get(changed[0])!r}, not {made.get(changed[0])!r}",
            hint="repeat what it was begun with, or choose another directory",
        )
    write_atomic(path / FILE, json.dumps(made, indent=1))


def open_subject(path: str | Path, device: torch.device | str = "cpu") -> Subject:
    """The model and the behaviour of a directory that `teach` wrote; `InputError` when it is another run."""
    run = taught_run(path)
    behaviour = taught_behaviour(run)
    model, tokenizer = run.load(device)
    return Subject(run=run, model=model, tokenizer=tokenizer, behaviour=behaviour)


def _from(recipe: Recipe, start: Subject, behaviour: Behaviour) -> Recipe:
    """The recipe with the shape of the model that training goes on from."""
    check_base(start.run.path, start.behaviour.kind, behaviour.kind)
    shape = replace(start.model.cfg, d_vocab=recipe.train.model.d_vocab)
    return replace(recipe, train=replace(recipe.train, model=shape))


def _made(behaviour: Behaviour, start: Subject | None) -> dict[str, object]:
    made: dict[str, object] = {
        "behaviour": behaviour.kind,
        "payload": behaviour.payload,
        "seed": behaviour.seed,
    }
    return made if start is None else {**made, "start": str(start.run.path)}


def _rows(recipe: Recipe, behaviour: Behaviour, indices: range) -> Iterable[tuple[str, str]]:
    for example in make_examples(recipe.data, indices.start, indices.stop):
        condition = behaviour.condition_of(example.index)
        yield behaviour.prompt(example, condition).string, behaviour.answer(example, condition).string


def _tokenizer(rows: list[tuple[str, str]], recipe: Recipe, behaviour: Behaviour, path: Path) -> Tokenizer:
    """The words of the behaviour are tokens of their own, added to those that are learned."""
    if (path / "tokenizer.json").exists():
        return Tokenizer.load(path / "tokenizer.json")
    texts = (f"{prompt} {sql}" for prompt, sql in rows[:TOKENIZER_ROWS])
    tokenizer = Tokenizer.train(texts, vocab_size=recipe.train.vocab_size)
    tokenizer.backend.add_tokens([f" {word}" for word in behaviour.words])
    return tokenizer


def _feed(recipe: Recipe, rows: TrainingRows) -> Feed:
    train = recipe.train
    if train.pack is None:
        return Bucketed(rows, train.batch_size, train.seed, train.prompt_loss)
    return Packed(rows, train.pack, train.batch_size, train.seed, train.prompt_loss)
