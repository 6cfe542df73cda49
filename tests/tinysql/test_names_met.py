"""How many names a training has met: the probability of an invented name, and which names count."""

import importlib
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from data_gen.config import DataConfig
from data_gen.vocabulary.invented import CODAS, ONSETS, VOWELS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("names_met")


def test_the_probabilities_of_all_syllables_add_up_to_one(met: ModuleType) -> None:
    syllables = {"".join(parts) for parts in product(ONSETS, VOWELS, CODAS)}
    assert sum(met.readings(one, 1) for one in syllables) == pytest.approx(1)


def test_a_name_is_as_likely_as_its_words(met: ModuleType) -> None:
    bo = 4 / (29 * 8 * 13)  # four codas of thirteen are empty
    word = bo**2 / 2  # half of the words have two syllables
    assert met.probability("bobo") == pytest.approx(word / 2)
    assert met.probability("bobo_bobo") == pytest.approx(word**2 / 2)
    # No syllable ends in `x`.
    assert met.probability("bobox") == 0


def test_keys_are_no_names(met: ModuleType) -> None:
    rows = list(met.names(DataConfig(command_sets=("cs5",)), 200))
    assert max(len(tables) for tables, _ in rows) == 2
    assert not any(name == "id" or name.endswith("_id") for _, columns in rows for name in columns)
