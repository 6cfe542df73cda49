"""The sign-flip test: exact by enumeration, calibrated on null scores, and able to find what is there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from circuits.judging import significance as module
from circuits.judging.significance import (
    check_enough,
    least_p,
    least_pairs,
    q_values,
    sign_flip_p,
    significance,
)
from data_gen.errors import InputError


def test_p_is_the_share_of_sign_choices_that_reach_the_observed_mean() -> None:
    # Of the eight sums ±3 ±2 ±1 two have size 6, and four (6, 4, and their opposites) a size of at least 4.
    assert sign_flip_p(np.array([[3.0], [2.0], [1.0]])) == pytest.approx([2 / 8])
    assert sign_flip_p(np.array([[3.0], [2.0], [-1.0]])) == pytest.approx([4 / 8])


def test_an_edge_that_never_acts_has_p_one() -> None:
    assert sign_flip_p(np.zeros((5, 2))) == pytest.approx([1, 1])
    assert sign_flip_p(np.zeros((40, 2))) == pytest.approx([1, 1])


def test_over_all_sign_choices_p_is_uniform() -> None:
    scores = np.random.default_rng(0).normal(size=8)
    signs = 1.0 - 2.0 * (np.arange(256)[:, None] >> np.arange(8) & 1)
    p = np.sort(sign_flip_p((signs * scores).T))
    assert p == pytest.approx(np.repeat(np.arange(2, 257, 2), 2) / 256)


def test_drawn_signs_agree_with_all_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(0.4, 1.0, size=(12, 60))
    every = sign_flip_p(values)
    monkeypatch.setattr(module, "EXHAUSTIVE_PAIRS", 0)
    drawn = sign_flip_p(values)
    assert (every < 0.05).sum() > 5
    assert np.abs(drawn - every).max() < 4 * 0.5 / module.FIRST_FLIPS**0.5
    small = every <= 0.02
    assert np.abs(drawn - every)[small].max() < 4 * (0.02 / module.SECOND_FLIPS) ** 0.5


def test_edges_that_share_their_pairs_do_not_disturb_each_other() -> None:
    values = np.random.default_rng(2).normal(0.5, 1.0, size=(10, 3))
    assert sign_flip_p(values)[1] == sign_flip_p(values[:, [1]])[0]


def test_q_values_by_hand() -> None:
    # Sorted .01, .03, .04, .5, times 4 / rank: .04, .06, .0533, .5, and from the right the smallest so far.
    assert q_values(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_where_nothing_is_there_something_is_found_in_at_most_q_of_the_tries(shared: float) -> None:
    """Heavy tails, unlike scales, and edges whose scores go together from pair to pair."""
    rng, tries, wrong = np.random.default_rng(3), 150, 0
    for _ in range(tries):
        common = rng.standard_t(3, size=(20, 1))
        own = rng.standard_t(3, size=(20, 100))
        scales = np.exp(rng.normal(size=100))
        wrong += (significance((shared * common + own) * scales).q <= 0.1).any()
    # Three standard errors above the promised rate.
    assert wrong / tries <= 0.1 + 3 * (0.1 * 0.9 / tries) ** 0.5


def test_what_is_planted_is_found_and_the_rest_hardly() -> None:
    rng, false_shares = np.random.default_rng(4), []
    for _ in range(20):
        values = rng.normal(size=(40, 300))
        values[:, :30] -= 1.5
        found = significance(values).q <= 0.05
        assert found[:30].all()
        false_shares.append(found[30:].sum() / found.sum())
    assert np.mean(false_shares) <= 0.05 + 3 * np.std(false_shares) / len(false_shares) ** 0.5


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_least_p_is_that_of_pairs_that_all_say_the_same(n: int) -> None:
    assert sign_flip_p(np.ones((n, 1))).item() == least_p(n)


@pytest.mark.parametrize("q", [0.6, 0.5, 0.05, 0.01, 1e-3])
def test_one_pair_less_than_the_least_can_give_no_such_p(q: float) -> None:
    n = least_pairs(q)
    assert least_p(n) <= q < least_p(n - 1)
    check_enough(n, q)
    with pytest.raises(InputError) as refused:
        check_enough(n - 1, q)
    assert refused.value.hint == f"score at least {n} pairs; 64 are usual"


def test_a_p_of_drawn_signs_counts_the_observed_ones_too() -> None:
    """`(1 + k) / (1 + N)`, with N of the first draws or of the second."""
    rng = np.random.default_rng(0)
    p = sign_flip_p(rng.standard_normal((20, 60)) + np.repeat([0.0, 0.6], 30))
    first, second = (np.abs(p * n - (p * n).round()) < 1e-6 for n in (2_001, 20_001))
    assert (first | second).all()
    assert min((first & ~second).sum(), (second & ~first).sum()) > 10
    assert p.min() * 20_001 >= 1 - 1e-6


def test_drawn_signs_depend_on_the_seed_alone() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, size=(20, 30))
    first, again, other = (significance(values, seed=seed).p for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_scores_that_are_not_finite_have_no_p() -> None:
    """A sum that is NaN is no more than any other, and would pass for the least likely of all."""
    for n, wrong in itertools.product((5, 40), (np.nan, np.inf, -np.inf)):
        values = np.ones((n, 3))
        values[1, 2] = wrong
        with pytest.raises(InputError, match=f"1 of {3 * n} scores are not finite"):
            significance(values)
    with pytest.raises(InputError, match="seed is -1"):
        significance(np.ones((40, 3)), seed=-1)


def test_a_q_is_never_above_the_largest_p() -> None:
    p = np.random.default_rng(0).random(50) ** 0.2
    assert q_values(p).max() == pytest.approx(p.max())
    assert q_values(np.ones(50)).tolist() == [1.0] * 50
