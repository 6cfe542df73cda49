"""The interval of a margin covers what it should, and agrees with what was published of its formula."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from tinysql.answering.shares import Share
from transfer.evaluation.margin import paired_margin, percentile, unpaired_margin


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Outcomes of two vectors on the same prompts, by how many prompts have which."""
    own = [True] * (both + first) + [False] * (second + neither)
    return own, [True] * both + [False] * first + [True] * second + [False] * neither


def interval_of(table: tuple[int, int, int, int]) -> tuple[float, float]:
    own, other = pairs(*table)
    return paired_margin(own, [other]).interval


@pytest.mark.parametrize(
    ("first", "second", "prompts", "published"),
    [(9, 3, 10, (0.1705, 0.8090)), (6, 2, 7, (0.0582, 0.8062)), (0, 0, 10, (-0.2775, 0.2775))],
)
def test_from_shares_it_is_newcombes_interval_for_independent_groups(
    first: int, second: int, prompts: int, published: tuple[float, float]
) -> None:
    """Statistics in Medicine 17, 873 (1998), table II, method 10."""
    found = unpaired_margin(first / prompts, [second / prompts], prompts)
    assert found.interval == pytest.approx(published, abs=5e-5)
    assert found.value == pytest.approx((first - second) / prompts)
    assert not found.is_paired


def test_prompt_by_prompt_it_is_newcombes_interval_for_pairs() -> None:
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2850 (2014): -.507 to -.026 of 1, 1, 7 and 12."""
    assert interval_of((1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    "table", [(36, 12, 2, 0), (14, 5, 0, 22), (3, 9, 8, 1), (0, 5, 5, 0), (990, 4, 0, 6)]
)
def test_it_is_the_formula_in_counts(table: tuple[int, int, int, int]) -> None:
    """Method 10 as it is written for the four counts of a table, with Wilson's intervals of `Share`."""
    both, first, second, neither = table
    n = sum(table)
    (one, other) = (Share(right=count, total=n) for count in (both + first, both + second))
    agreement = both * neither - first * second
    agreement = max(agreement - n / 2, 0) if agreement > 0 else agreement
    phi = agreement / math.sqrt(math.prod((both + first, second + neither, both + second, first + neither)))
    (low, high), (lowest, highest) = one.interval, other.interval
    down, up = one.value - low, high - one.value
    below, above = other.value - lowest, highest - other.value
    value = one.value - other.value
    expected = (
        value - math.sqrt(down**2 - 2 * phi * down * above + above**2),
        value + math.sqrt(up**2 - 2 * phi * up * below + below**2),
    )
    assert interval_of(table) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "chances", [(0.6, 0.15, 0.05, 0.2), (0.3, 0.4, 0.1, 0.2), (0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1)]
)
def test_it_holds_the_true_difference_about_95_times_in_100(chances: Sequence[float]) -> None:
    """All tables of 20 pairs, each with its chance. The two vectors agree, differ, and disagree."""
    n = 20
    true = chances[1] - chances[2]
    covered = 0.0
    for both, first, second in product(range(n + 1), repeat=3):
        neither = n - both - first - second
        if neither < 0:
            continue
        table = (both, first, second, neither)
        chance = math.factorial(n) * math.prod(
            p**k / math.factorial(k) for p, k in zip(chances, table, strict=True)
        )
        low, high = interval_of(table)
        covered += chance * (low <= true <= high)
    assert 0.94 < covered < 0.98


def test_a_few_prompts_that_all_point_one_way_are_not_enough() -> None:
    """The exact test of McNemar asks for six of six; a bootstrap would do with four."""
    found = {n: interval_of((990, n, 0, 10 - n)) for n in (1, 4, 5, 6, 8)}
    assert {n: low <= 0 <= high for n, (low, high) in found.items()} == {
        1: True,
        4: True,
        5: True,
        6: False,
        8: False,
    }


def test_of_several_draws_the_bar_is_their_percentile_prompt_by_prompt() -> None:
    own = np.random.default_rng(0).permutation([True] * 48 + [False] * 12).tolist()
    drawn = [[i < right for i in range(60)] for right in (30, *range(19))]
    found = paired_margin(own, drawn)
    shares = [sum(draw) / 60 for draw in drawn]
    # A twentieth of the way from the second largest, 18 of 60, to the largest, 30.
    assert percentile(shares) == pytest.approx((18 + 12 / 20) / 60)
    assert found.value == pytest.approx(48 / 60 - percentile(shares))
    assert (found.draws, found.prompts, found.is_paired) == (20, 60, True)
    assert found.interval[0] < found.value < found.interval[1]
    # Draws that are the same on every prompt are one draw.
    same = paired_margin(own, [drawn[0]] * 20)
    assert same.interval == pytest.approx(paired_margin(own, drawn[:1]).interval)


def test_what_agrees_on_most_prompts_is_told_apart_more_narrowly_than_from_shares() -> None:
    own, other = pairs(80, 10, 2, 8)
    paired, unpaired = paired_margin(own, [other]), unpaired_margin(0.9, [0.82], 100)
    assert paired.value == pytest.approx(unpaired.value)
    assert unpaired.interval[0] < paired.interval[0] < paired.interval[1] < unpaired.interval[1]
    assert (paired.holds_zero, unpaired.holds_zero) == (False, True)


def test_shares_at_the_ends_have_an_interval_and_none_beyond() -> None:
    assert interval_of((0, 0, 0, 1000)) == pytest.approx((-0.00383, 0.00383), abs=1e-5)
    low, high = interval_of((0, 1000, 0, 0))
    assert (low, high) == (pytest.approx(0.99459, abs=1e-5), 1.0)
