"""Query -> how it is said: what is remembered of names."""

import re
from dataclasses import replace

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.pairs.counterfactual import make_pair
from data_gen.review.check import check_rows
from data_gen.say import style
from data_gen.seeding import Draws
from data_gen.store.dataset import read_dataset, write_dataset
from data_gen.vocabulary.invented import KNOWN, invented_word
from data_gen.vocabulary.phrases import Pattern


@pytest.mark.parametrize("variant", ["syn", "nat"])
def test_what_is_remembered_of_names_is_forgotten_before_it_fills_the_memory(variant):
    words = style._Words("demo", variant)
    for number in range(17_000):
        words[f"name_{number}"]
    assert 0 < len(words) < 16_500
    assert words["name_1"] == style._Words("demo", variant)["name_1"]


OWN = DataConfig(command_sets=("cs1", "cs8"))
OPENED = replace(OWN, invented_openings=0.3)


def test_openings_are_invented_in_the_share_that_was_asked_for_and_nothing_else_changes():
    pairs = [(make_example(OWN, index), make_example(OPENED, index)) for index in range(600)]
    assert all(a.query == b.query and a.style.number == b.style.number for a, b in pairs)
    changed = [(a, b) for a, b in pairs if a.english.string != b.english.string]
    # Five deviations of a share of 600 rows are at most 0.1.
    assert len(changed) / 600 == pytest.approx(0.3, abs=0.1)
    assert all(a.style == b.style for a, b in pairs if (a, b) not in changed)


def test_an_invented_opening_stands_before_the_columns_and_is_no_word_of_ours():
    opened = [make_example(replace(OPENED, invented_openings=1.0), index) for index in range(100)]
    words = [re.search(r"(\w+)( the)? \{columns\}", each.style.pattern.text)[1] for each in opened]
    assert len(set(words)) == 100
    assert not set(words) & KNOWN
    for word, example in zip(words, opened, strict=True):
        place = example.english.string.index(word)
        assert example.english.roles_of([(place, place + len(word))]) == ["english.template"]


@pytest.mark.parametrize(
    ("instruction", "opened"),
    [
        ("show me the {columns} from {table}", "W the {columns} from {table}"),
        ("list {columns}", "W {columns}"),
        ("for all {table}, list the {columns}", "for all {table} W the {columns}"),
        ("from {table} give me {columns}", "from {table} W {columns}"),
    ],
)
def test_only_what_stands_before_the_columns_is_invented(instruction, opened):
    found = style.reopened(Pattern.parse(instruction), 7)
    assert found.text == opened.replace("W", invented_word(Draws(7, 0)))


def test_openings_are_invented_for_training_alone_and_not_in_pairs():
    config = replace(OPENED, invented_openings=1.0)
    test = replace(config, split="test")
    assert make_example(test, 3) == make_example(replace(test, invented_openings=0.0), 3)
    pair, plain = (make_pair(one, "select.0.column", 0, seed=0) for one in (config, OWN))
    assert pair.clean.english.string == plain.clean.english.string


def test_a_dataset_with_invented_openings_is_read_again_and_passes_its_audit(tmp_path):
    write_dataset(replace(OPENED, invented_openings=1.0), 40, tmp_path / "set")
    rows = list(read_dataset(tmp_path / "set"))
    expected = [make_example(replace(OPENED, invented_openings=1.0), index) for index in range(40)]
    assert [row["english_prompt"] for row in rows] == [one.english.string for one in expected]
    audit = check_rows(tmp_path / "set", duckdb=False)
    assert audit.rows == 40
    assert not +audit.failed
