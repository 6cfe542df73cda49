"""Configurations survive JSON, and settings that do not fit are refused by name."""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from data_gen.errors import InputError
from tinysql.config import from_json, override, to_json
from tinysql.models.config import RotaryScaling
from tinysql.recipes import RECIPES, Recipe, find_recipe
from tinysql.training.config import TrainConfig


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
        ("=3", "setting '=3' names no field in front of `=`"),
        ("train.lr=fast", "train.lr is 'fast', expected float\nhint: give a number, such as 0.001"),
        ("train.model.n_heads=2.5", "n_heads is 2.5, expected int\nhint: give a whole number, such as 8"),
        ("train.recompute=1", "recompute is 1, expected bool\nhint: give True or False"),
        ("train.model.norm=rsm", "norm is 'rsm'.*`rms`"),
        ("rows.x=1", "`rows` has no fields"),
        ("train.batch_size=0", "batch_size is 0"),
        ("train.model.n_heads=0", "n_heads is 0"),
        ("train.model.d_model=-8", "d_model is -8"),
        ("train.betas=0.9", "betas is"),
        ("train.betas=0.9,x", "betas is 'x', expected float"),
        ("train.betas=0.9,nan", "betas is nan, expected a finite number"),
        ("train.lr=nan", "train.lr is nan, expected a finite number"),
        ("train.lr=-Infinity", "train.lr is -Infinity, expected a finite number"),
        ("train.lr=1e999", "train.lr is inf, expected a finite number"),
        ("train.lr=0", "lr is 0.0, expected a finite number above 0"),
        ("train.probe_target=nan", "probe_target is nan, expected a finite number"),
        ("train.lr=0", "lr is 0"),
        ("train.seed=9223372036854775808", "seed is 9223372036854775808"),
        ("train.warmup_steps=-1", "warmup_steps is -1"),
        ("train.max_hold_steps=3", "max_hold_steps is 3"),
        ("probe_rows=0", "probe_rows is 0"),
        ("rows=3", "rows is 3, fewer than one batch of 16"),
        (f"train.lr=1{'0' * 400}", "train.lr is a whole number of 401 digits"),
        ("train.weight_decay=1e999", "weight_decay is inf, expected a finite number"),
        ("train.balance_loss=1e999", "balance_loss is inf, expected a finite number"),
        ("train.vocab_size=10000000000000", "vocab_size is 10,000,000,000,000, expected at most 1,000,000"),
        ("train.model.mamba=5", "mamba is 5, expected the fields of MambaConfig\nhint: give an object"),
        (
            "train.model.rotary_scaling.factor=8",
            "rotary_scaling` has no fields\nhint: .*set it whole.*'factor'",
        ),
        ("train.model.rotary_base=0", "rotary_base is 0.0, expected a finite number above 0"),
        ("train.model.rotary_base=1e999", "rotary_base is inf"),
        ("train.model.eps=-1", "eps is -1.0, expected a finite number of at least 0"),
        ("train.model.eps=1e999", "eps is inf"),
        ("train.model.attention_scale=0", "attention_scale is 0.0"),
        ("train.model.mamba.dt_max=0", "mamba.dt_max is 0.0"),
        ("train.model.moe.scale=-1", "moe.scale is -1.0"),
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


def test_what_is_none_until_it_is_set_can_be_set_whole() -> None:
    found = override(find_recipe("tiny"), ["train.model.rotary_scaling={'factor': 8}"])
    assert found.train.model.rotary_scaling == RotaryScaling(factor=8.0)


NAMES = """
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.training.config import TrainConfig
for kind, fields in (
    (TrainConfig, {"optimizer": "sgd"}),
    (TrainConfig, {"precision": "float16"}),
    (ModelConfig, {"norm": "lay"}),
    (ModelConfig, {"positions": "alibi"}),
    (ModelConfig, {"activation": "swish"}),
    (ModelConfig, {"biases": ("qkv", "out")}),
    (ModelConfig, {"biases": "qkv"}),
):
    try:
        print("taken:", kind(**fields))
    except InputError as error:
        print(error.message)
"""


def test_names_that_are_none_of_the_known_are_refused_where_no_types_are_checked() -> None:
    # In a process of its own: in this one, types are checked when functions are called.
    ran = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "optimizer is 'sgd'",
        "precision is 'float16'; did you mean `bfloat16`?",
        "norm is 'lay'; did you mean `layer`?",
        "positions is 'alibi'",
        "activation is 'swish'",
        "biases is 'out'",
        "biases is 'q'; did you mean `qkv`?",
    ]


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="weight_decay is nan, expected a finite number"):
        TrainConfig(weight_decay=float("nan"))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown recipe `nanno`.*`nano`"):
        find_recipe("nanno")


def test_an_unknown_key_in_a_file_is_refused() -> None:
    values = {**to_json(find_recipe("tiny")), "rowz": 3}
    with pytest.raises(InputError, match="config.json: unknown key `rowz`.*`rows`"):
        from_json(Recipe, values, where="config.json")


@dataclass(frozen=True, kw_only=True)
class Several:
    a: int
    b: int
    c: int
    d: int
    e: int
    f: int = 6
    g: list[int] = field(default_factory=list)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "here is incomplete: it has no `e`"),
        ({"a": 1, "b": 2, "c": 3}, "here is incomplete: it has no `d`, no `e`"),
        ({}, "here is incomplete: it has no `a`, no `b`, no `c`, no `d` and 1 more"),
    ],
)
def test_keys_that_are_missing_are_named_and_those_with_a_default_are_not(
    there: dict[str, int], said: str
) -> None:
    with pytest.raises(InputError) as refused:
        from_json(Several, there, where="here")
    assert refused.value.message == said
