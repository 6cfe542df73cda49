"""Recipes: models of the sizes they are named for, twins of equal cost, and data that fits them."""

import pytest
import torch

import tinysql.models.hybrid as hybrid
from tinysql.recipes import RECIPES, find_recipe

MILLIONS = {
    "nano": 0.7,
    "micro": 3.4,
    "bm1": 26.2,
    "bm2": 358.8,
    "bm3": 975.2,
    "t33": 29.2,
    "t33-plain": 28.2,
    "t33-dense": 21.1,
    "t200": 160.8,
    "t600": 511.9,
    "t1b": 865.5,
}
"""Weights, with the vocabulary of 512 that a shape has before a tokenizer is learned."""


@pytest.mark.parametrize("name", RECIPES)
def test_the_formula_counts_the_weights_of_every_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "draw_weights", lambda model, seed: None)
    config = find_recipe(name).train.model
    with torch.device("meta"):
        model = hybrid.HybridLM(config)
    assert model.num_parameters() == config.num_parameters()
    if name in MILLIONS:
        assert config.num_parameters() / 1e6 == pytest.approx(MILLIONS[name], abs=0.06)


def test_the_twins_of_t33_cost_a_token_alike() -> None:
    active = {
        name: find_recipe(name).train.model.num_active_parameters()
        for name in ("t33", "t33-plain", "t33-dense")
    }
    assert max(active.values()) < 1.15 * min(active.values()), active


@pytest.mark.parametrize("name", RECIPES)
def test_rows_fit_the_context_of_every_recipe(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.train.pack is None or recipe.train.pack >= recipe.train.model.n_ctx
    assert recipe.sources[0].command_sets


@pytest.mark.parametrize("name", [name for name in RECIPES if find_recipe(name).needs_gpu])
def test_rows_for_a_gpu_have_names_and_openings_that_must_be_read(name: str) -> None:
    data = find_recipe(name).data
    assert min(data.random_names, data.invented_names, data.invented_openings) > 0
