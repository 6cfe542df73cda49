"""Names -> what a model is taught on: small pairs for a CPU, and any recipe of tinysql for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_gen.config import DataConfig
from data_gen.errors import InputError, nearest
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.recipes import RECIPES as TINYSQL
from tinysql.recipes import Recipe
from tinysql.training.config import TrainConfig


def _small(pattern: str, d_model: int) -> Recipe:
    """CS1 with two columns on the small lexicon: right on nearly all prompts after half a minute on one core."""
    return Recipe(
        data=DataConfig(command_sets=("cs1",), lexicon="demo", min_columns=2, max_columns=2),
        rows=8000,
        probe_rows=64,
        train=TrainConfig(
            model=ModelConfig(
                pattern=pattern,
                d_model=d_model,
                n_heads=4,
                n_ctx=128,
                mamba=MambaConfig(d_head=16, d_state=16),
            ),
            vocab_size=700,
            hold_steps=400,
            decay_steps=200,
            warmup_steps=40,
            prompt_loss=0.3,
        ),
    )


def small() -> Recipe:
    """Width 64."""
    return _small("*-*-", 64)


def wider() -> Recipe:
    """Width 96, otherwise as `small`."""
    return _small("*-*-", 96)


RECIPES: dict[str, Callable[[], Recipe]] = {"small": small, "wider": wider}


def find_recipe(name: str) -> Recipe:
    """A recipe of this package or of tinysql, of one variant; `InputError` with the nearest name otherwise."""
    known = {**TINYSQL, **RECIPES}
    if name not in known:
        raise InputError(f"no recipe `{name}`{nearest(name, known)}", hint=f"recipes: {', '.join(known)}")
    return replace(known[name](), variants=())
