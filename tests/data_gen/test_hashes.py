"""Sets of hashes hold what sets of Python hold, and prompts with two answers are found whatever the order."""

import sys
from random import Random

import numpy as np
import pytest

from data_gen.review import hashes
from data_gen.review.hashes import Answers, HashSet


@pytest.mark.parametrize("fresh", [1, 7, 1 << 20])
def test_a_set_of_hashes_is_a_set(fresh: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "FRESH", fresh)
    rng, found, wanted = Random(0), HashSet(), set[int]()
    for _ in range(40):
        some = [rng.randrange(-50, 50) << 57 for _ in range(rng.randrange(5))]
        found.extend(some)
        wanted |= set(some)
        asked = [number << 57 for number in range(-50, 50)]
        assert found.contain(asked).tolist() == [number in wanted for number in asked]
        assert len(found) == len(wanted)


def test_nothing_is_in_an_empty_set() -> None:
    assert HashSet().contain([1, 2]).tolist() == [False, False]
    assert len(HashSet()) == 0


def test_a_set_takes_eight_bytes_a_number() -> None:
    found = HashSet()
    found.extend(range(200_000))
    assert len(found) == 200_000
    assert found.known is not None
    assert found.known.nbytes + sys.getsizeof(found.fresh) < 8 * 200_000 + 1000


def test_the_first_row_with_a_prompt_has_the_right_answer_and_later_ones_with_another_are_told() -> None:
    rows = [(7, 1, 0), (8, 1, 1), (7, 1, 2), (7, 2, 3), (9, 5, 4), (8, 3, 5), (7, 2, 6)]
    for seed in range(10):
        shuffled, one, other = Random(seed).sample(rows, len(rows)), Answers(), Answers()
        for number, (prompt, sql, row) in enumerate(shuffled):
            # Hashes have 64 bits and no sign.
            (one, other)[number % 2].add(prompt + 2**63, sql + 2**63, row)
        one.extend(other)
        assert list(one.second()) == [(3, 0), (5, 1), (6, 0)]


def test_no_rows_have_no_second_answer() -> None:
    assert list(Answers().second()) == []


def test_answers_take_two_dozen_bytes_a_row() -> None:
    found = Answers()
    for row in range(100_000):
        found.add(row, row, row)
    size = sum(sys.getsizeof(part) for part in (found.prompts, found.sqls, found.rows))
    # Arrays grow in steps.
    assert size < 24 * 100_000 * 1.15
    assert np.frombuffer(found.rows, np.int64)[-1] == 99_999
