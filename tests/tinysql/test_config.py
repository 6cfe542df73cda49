"""Configurations survive JSON, and settings that do not fit are refused by name."""

import json

import pytest

from data_gen.errors import InputError
from tinysql.config import from_json, override, to_json
from tinysql.recipes import RECIPES, Recipe, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    recipe = find_recipe(name)
    assert from_json(Recipe, json.loads(json.dumps(to_json(recipe))), where="here") == recipe


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("train.lr=1e-4", lambda r: r.train.lr == 1e-4),
        ("train.lr=1", lambda r: r.train.lr == 1.0 and isinstance(r.train.lr, float)),
        ("train.model.pattern=**-", lambda r: r.train.model.pattern == "**-"),
        ("train.model.d_mlp=None", lambda r: r.train.model.d_mlp is None),
        ("train.model.d_mlp=64", lambda r: r.train.model.d_mlp == 64),
        ("data.command_sets=cs1", lambda r: r.data.command_sets == ("cs1",)),
        ("data.command_sets=cs2,cs1", lambda r: r.data.command_sets == ("cs2", "cs1")),
    ],
)
def test_settings_reach_their_field(setting: str, read: object) -> None:
    assert read(override(find_recipe("tiny"), [setting]))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.lrr=1", "unknown key `lrr`.*`lr`"),
        ("trian.lr=1", "unknown key `trian`.*`train`"),
        ("train.lr", "has no `=`"),
        ("train.lr=fast", "train.lr is 'fast', expected float"),
        ("train.model.n_heads=2.5", "n_heads is 2.5, expected int"),
        ("train.model.norm=rsm", "norm is 'rsm'.*`rms`"),
        ("rows.x=1", "`rows` has no fields"),
        ("train.batch_size=0", "batch_size is 0"),
        ("train.model.n_heads=0", "n_heads is 0"),
        ("train.model.d_model=-8", "d_model is -8"),
        ("train.betas=0.9", "betas is"),
        ("train.betas=0.9,x", "betas is 'x', expected float"),
        ("train.lr=0", "lr is 0"),
        ("train.seed=9223372036854775808", "seed is 9223372036854775808"),
        ("train.warmup_steps=-1", "warmup_steps is -1"),
        ("train.max_hold_steps=3", "max_hold_steps is 3"),
        ("probe_rows=0", "probe_rows is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        override(find_recipe("tiny"), [setting])


@pytest.mark.parametrize(
    "settings",
    [
        ["rows=None", "variants=base,syn", "train.pack=300"],
        ["train.hold_steps=70", "train.max_hold_steps=90"],
        ["train.model.d_model=48", "train.model.n_heads=3"],
    ],
)
def test_settings_that_fit_together_may_come_in_any_order(settings: list[str]) -> None:
    base = override(find_recipe("tiny"), ["train.max_hold_steps=65"])
    assert override(base, settings) == override(base, settings[::-1])


def test_the_last_of_two_settings_of_a_field_holds() -> None:
    assert override(find_recipe("tiny"), ["train.lr=1", "rows=50", "train.lr=2"]).train.lr == 2.0


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown recipe `nanno`.*`nano`"):
        find_recipe("nanno")


def test_an_unknown_key_in_a_file_is_refused() -> None:
    values = {**to_json(find_recipe("tiny")), "rowz": 3}
    with pytest.raises(InputError, match="config.json: unknown key `rowz`.*`rows`"):
        from_json(Recipe, values, where="config.json")
