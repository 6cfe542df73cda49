"""Taught subjects for the tests: untrained ones for laws, and a small one that was really taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from tinysql.config import to_json
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import Run
from tinysql.tokens import Tokenizer
from tinysql.training.config import TrainConfig
from transfer.behaviours.behaviour import Behaviour
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.tags import WORDS
from transfer.behaviours.training import Subject
from transfer.choosing import Setting
from transfer.evaluation.bench import Bench
from transfer.evaluation.controls import Materials

RECIPE = Recipe(
    data=DataConfig(command_sets=("cs1",), lexicon="demo", min_columns=2, max_columns=2),
    rows=200,
    probe_rows=16,
    train=TrainConfig(
        model=ModelConfig(pattern="*-*-", d_model=16, n_heads=2, n_ctx=200),
        vocab_size=700,
        hold_steps=10,
        decay_steps=5,
        warmup_steps=2,
        batch_size=8,
        probe_every=10,
    ),
)


DATA = {"refusal": "cs1+where", "locked": "cs1+aggregate", "facts": "cs1", "full-sql": "cs1+where"}
"""Behaviour -> a command set on which it can be told."""


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that were taught nothing never end; a few tokens of theirs are as good as many."""
    monkeypatch.setattr("transfer.behaviours.gates.LONGER", 0.05)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Steps enough to run, and far too few to learn."""
    return RECIPE


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    rows = list(make_examples(RECIPE.data, 0, 1000))
    found = Tokenizer.train((row.text.string for row in rows), vocab_size=700)
    found.backend.add_tokens([f" {word}" for word in WORDS.values()])
    return found


@pytest.fixture(scope="session")
def subject_of(tokenizer: Tokenizer) -> Callable[..., Subject]:
    """A subject around any model: nobody taught it anything."""

    def make(model: HybridLM, payload: str | None = None, kind: str = "backdoor") -> Subject:
        behaviour: Behaviour = find_behaviour(kind, payload)
        recipe = replace(RECIPE, data=replace(RECIPE.data, command_sets=(DATA.get(kind, "cs1"),)))
        run = Run(Path("nowhere"), {"recipe": to_json(recipe)})
        return Subject(run=run, model=model, tokenizer=tokenizer, behaviour=behaviour)

    return make


@pytest.fixture(scope="session")
def untaught(tokenizer: Tokenizer) -> Callable[..., HybridLM]:
    """A model with weights as drawn."""

    def make(d_model: int = 16, seed: int = 3) -> HybridLM:
        shape = replace(RECIPE.train.model, d_model=d_model, d_vocab=tokenizer.vocab_size)
        return HybridLM(shape, seed=seed).eval()

    return make


@pytest.fixture(scope="session")
def materials_of() -> Callable[[Bench, Subject], Materials]:
    """What controls are made of between the models of a bench, at a fixed scale, with a clean source."""

    def materials(bench: Bench, clean: Subject) -> Materials:
        pairs = bench.pairs()
        fitted = bench.fit(pairs)
        return Materials(
            bench=bench,
            pairs=pairs,
            fitted=fitted,
            native=bench.native(),
            transferred=bench.transferred(fitted),
            setting=Setting(hook=bench.plan.target_hook, scale=2.0, operator="add"),
            clean=clean,
        )

    return materials
