"""Choices of a user -> a checked config, or one sentence."""

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"command_sets": ("cs11",)}, "no command set `cs11`; did you mean `cs1`"),
        ({"command_sets": ("cs4+limt",)}, "no skill `limt` in `cs4+limt`; did you mean `limit`"),
        ({"command_sets": ("cs1+limit",)}, "`cs1+limit` has `limit` without `order_by`"),
        ({"command_sets": ()}, "command_sets is empty"),
        ({"variant": "sin"}, "no variant `sin`; did you mean `syn`"),
        ({"variant": None}, "no variant `None`"),
        ({"split": "tset"}, "no split `tset`; did you mean `test`"),
        ({"lexicon": "ful"}, "no lexicon `ful`; did you mean `full`"),
        ({"min_columns": 0}, "columns from 0 to 12"),
        ({"min_columns": 5, "max_columns": 4}, "columns from 5 to 4"),
        ({"max_columns": 5000}, "columns from 2 to 5000"),
        ({"max_columns": 25, "split": "names", "lexicon": "demo"}, "columns from 2 to 25"),
        ({"max_columns": 2.5}, "max_columns is 2.5, expected a whole number"),
        ({"seed": "1"}, "seed is '1', expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"random_names": 1.5}, "random_names is 1.5"),
        ({"random_names": float("nan")}, "random_names is nan"),
        ({"test_fraction": 0}, "test_fraction is 0"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"max_keys": 0}, "max_keys is 0"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(values, reason):
    with pytest.raises(InputError) as caught:
        DataConfig(**values)
    assert reason in caught.value.message


def test_a_config_survives_json_form_and_fills_what_is_left_out():
    config = DataConfig(command_sets=("cs1", "cs9-cte"), seed=3, max_keys=2, variant="nat", split="novel")
    assert DataConfig.from_dict(config.to_dict()) == config
    assert DataConfig.from_dict({"command_sets": ["cs2"]}) == DataConfig(command_sets=("cs2",))
    assert DataConfig.from_dict({}) == DataConfig()


def test_a_list_of_command_sets_is_as_good_as_a_tuple():
    assert DataConfig(command_sets=["cs1"]) == DataConfig()
    assert hash(DataConfig(command_sets=["cs1"])) == hash(DataConfig())


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("max_columns=6", "max_columns", 6),
        ("random_names=0.3", "random_names", 0.3),
        ("max_keys=none", "max_keys", None),
        ("max_keys=2", "max_keys", 2),
        ("lexicon=demo", "lexicon", "demo"),
        ("variant=nat", "variant", "nat"),
        ("split=clauses", "split", "clauses"),
        ("command_sets=cs1,cs2", "command_sets", ("cs1", "cs2")),
        ("command_sets=cs4+limit-aggregate", "command_sets", ("cs4+limit-aggregate",)),
    ],
)
def test_a_setting_changes_its_field_and_no_other(setting, field, value):
    changed = DataConfig(command_sets=("cs3",)).with_settings([setting])
    assert getattr(changed, field) == value
    assert changed.to_dict() == DataConfig(command_sets=("cs3",)).to_dict() | {
        field: changed.to_dict()[field]
    }


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("max_colums=6", "no data setting `max_colums`; did you mean `max_columns`"),
        ("max_columns=six", "max_columns is `six`, expected a whole number"),
        ("random_names=often", "random_names is `often`, expected a number"),
        ("max_columns", "has no `=`"),
        ("split=nmes", "did you mean `names`"),
        ("variant=natural", "no variant `natural`"),
    ],
)
def test_a_bad_setting_is_one_sentence(setting, reason):
    with pytest.raises(InputError) as caught:
        DataConfig().with_settings([setting])
    assert reason in caught.value.message


def test_shares_of_new_names_that_exceed_the_rows_are_refused():
    with pytest.raises(InputError, match="random_names 0.6 and invented_names 0.5 add up to more than 1"):
        DataConfig(random_names=0.6, invented_names=0.5)
