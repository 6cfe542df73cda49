"""Recipes: named functions that return everything a training run needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from data_gen.config import DataConfig
from data_gen.errors import InputError, nearest
from tinysql.models.config import ModelConfig
from tinysql.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Data, tokenizer, model and training of one run."""

    data: DataConfig
    rows: int
    """Training rows that are made."""
    probe_rows: int = 256
    """Rows behind the training rows that are never trained on; they decide when decay begins."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("rows", "probe_rows"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected at least 1", hint="give a larger number"
                )

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with data, weights and batch order drawn from another seed."""
        return replace(self, data=replace(self.data, seed=seed), train=replace(self.train, seed=seed))


def demo() -> Recipe:
    """CS1 and CS2 on the small lexicon, a transformer of 0.77 M weights: minutes on two CPU cores."""
    return Recipe(
        data=DataConfig(
            command_sets=("cs1", "cs2"),
            lexicon="demo",
            min_columns=2,
            max_columns=4,
            max_keys=2,
            random_names=0.3,
        ),
        rows=50_000,
        train=TrainConfig(
            model=ModelConfig(pattern="*-*-*-", d_model=128, n_heads=4, n_ctx=160),
            vocab_size=800,
            batch_size=16,
            lr=1.5e-3,
            prompt_loss=0.3,
            hold_steps=1500,
            max_hold_steps=3000,
            decay_steps=500,
        ),
    )


def tiny() -> Recipe:
    """A model too small to be right: for tests and for trying commands, seconds on one core."""
    return Recipe(
        data=DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", min_columns=2, max_columns=3),
        rows=400,
        probe_rows=32,
        train=TrainConfig(
            model=ModelConfig(pattern="*-*-", d_model=32, n_heads=2, n_ctx=160),
            vocab_size=800,
            hold_steps=60,
            decay_steps=20,
            warmup_steps=5,
            probe_every=10,
            checkpoint_every=10,
        ),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"demo": demo, "tiny": tiny}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; `InputError` with the nearest name otherwise."""
    if name not in RECIPES:
        raise InputError(
            f"unknown recipe `{name}`{nearest(name, list(RECIPES))}", hint=f"known: {', '.join(RECIPES)}"
        )
    return RECIPES[name]()
