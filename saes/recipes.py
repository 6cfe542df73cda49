"""Recipes: named functions that return the training configuration of an SAE, and the hook to train on."""

from __future__ import annotations

from collections.abc import Callable

from data_gen.errors import InputError, nearest
from saes.training_config import SAEConfig
from tinysql.models.config import ModelConfig


def topk() -> SAEConfig:
    """A TopK SAE of four latents per dimension, a quarter of a minute on two quiet CPU cores."""
    return SAEConfig()


def batchtopk() -> SAEConfig:
    """As many active latents on average, but more of them at tokens that need more."""
    return SAEConfig(architecture="batchtopk")


def matryoshka() -> SAEConfig:
    """BatchTopK whose first latents alone must already reconstruct, so that they are the general ones."""
    return SAEConfig(architecture="matryoshka")


def standard() -> SAEConfig:
    """ReLU with an L1 penalty."""
    return SAEConfig(architecture="standard")


def gated() -> SAEConfig:
    """Which latents are active and how much, decided apart; the L1 penalty acts on the first alone."""
    return SAEConfig(architecture="gated")


def jumprelu() -> SAEConfig:
    """A trained threshold per latent, with an L0 penalty."""
    return SAEConfig(architecture="jumprelu")


RECIPES: dict[str, Callable[[], SAEConfig]] = {
    recipe.__name__: recipe for recipe in (topk, batchtopk, matryoshka, standard, gated, jumprelu)
}


def find_recipe(name: str) -> SAEConfig:
    """The recipe of that name; `InputError` with the nearest name otherwise."""
    if name not in RECIPES:
        raise InputError(
            f"unknown SAE recipe `{name}`{nearest(name, list(RECIPES))}", hint=f"known: {', '.join(RECIPES)}"
        )
    return RECIPES[name]()


def default_hook(config: ModelConfig) -> str:
    """The residual stream two thirds up the model: `*-*-*-` -> `blocks.3.hook_resid_post`.

    There the words of the prompt have been gathered, and the next token is not yet all that is left.
    """
    return f"blocks.{max(2 * len(config.pattern) // 3 - 1, 0)}.hook_resid_post"
