"""Faithfulness as a ratio of means: where it exists, its bands and intervals, by hand."""

from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
import pytest

from circuits.judging.bootstrap import draw_counts, interval, plain
from circuits.judging.ratios import Band, Estimate, Ratios, band, estimate, span
from data_gen.errors import InputError


def ratios(clean: list[float]) -> Ratios:
    return Ratios(np.array(clean), np.zeros(len(clean)), 0, "schema.table")


@pytest.mark.parametrize("sign", [1, -1])
def test_two_standard_errors_are_not_enough_and_more_are(sign: int) -> None:
    """Of c, c, 1 + c, 1 + c the mean is 1/2 + c, the standard deviation (of n - 1) 0.577, the error half of that."""
    assert ratios([sign * x for x in (0.08, 0.08, 1.08, 1.08)]).span.mean() == pytest.approx(sign * 0.58)
    with pytest.raises(InputError, match=r"differs by -?0.57 ± 0.29 \(standard error over 4 pairs\)"):
        ratios([sign * x for x in (0.07, 0.07, 1.07, 1.07)])


def test_one_pair_has_no_error_and_no_difference_is_none() -> None:
    assert float(ratios([1e-5]).of(np.array([5e-6]))) == pytest.approx(0.5)
    with pytest.raises(InputError, match="does not tell clean from corrupt"):
        ratios([1e-7])


def test_a_ratio_of_means_is_no_mean_of_ratios() -> None:
    found = ratios([2.0, 3.0])
    assert float(found.of(np.array([1.0, 0.0]))) == pytest.approx(1 / 5)


def test_the_interval_resamples_both_sides_of_the_ratio_together() -> None:
    """Where every pair has the same share, every draw has it, however its size varies."""
    found = ratios([1.0, 2.0, 5.0, 9.0]).estimate(np.array([0.5, 1.0, 2.5, 4.5]))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_band_runs_from_the_5th_to_the_95th_percentile_and_an_interval_holds_95_percent() -> None:
    even = np.arange(1001) / 1000
    assert astuple(band(even)) == pytest.approx((0.5, 0.05, 0.95))
    assert astuple(estimate(0.4, even)) == pytest.approx((0.4, 0.025, 0.975))


def test_values_that_are_not_finite_are_said_to_be_so() -> None:
    with pytest.raises(InputError, match="1 of 4 values of the metric are not finite"):
        ratios([1.0, float("inf")])


def test_a_draw_takes_as_many_examples_as_there_are_with_replacement() -> None:
    """One of n examples is left out of a draw with probability (1 - 1/n)^n, .3487 for ten."""
    counts = draw_counts(10, seed=0)
    assert (counts.sum(1) == 10).all()
    assert (counts == 0).mean() == pytest.approx(0.9**10, abs=0.01)


def test_an_interval_of_half_the_draws_is_a_third_as_wide() -> None:
    """A mean of 400 values is nearly normal: .674 standard errors to either side hold half of it."""
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = interval(values, level=0.5)
    assert high - low == pytest.approx(2 * 0.674 * values.std() / 20, rel=0.1)


def test_intervals_depend_on_the_seed_alone() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values, seed=0) == interval(values, seed=0) != interval(values, seed=1)
    clean = 3 + np.random.default_rng(1).normal(size=30)
    first, again, other = (
        Ratios(clean, np.zeros(30), seed, "schema.table").estimate(values) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first.value == other.value


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(InputError, match="there are no examples to resample"):
        interval(np.zeros((0, 3)))
    with pytest.raises(InputError, match="seed is -1, expected at least 0"):
        interval(np.ones(3), seed=-1)
    for level in (0.0, 1.0, 95.0, float("nan")):
        with pytest.raises(InputError, match=f"level is {level}, expected a share between 0 and 1"):
            interval(np.ones(3), level=level)


def test_estimates_and_bands_are_written_low_to_high() -> None:
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 (95 % interval 0.250 to 0.750)"
    assert str(Band(0.5, 0.25, 0.75)) == "0.500 (5-95 %: 0.250 to 0.750)"


def test_a_draw_of_pairs_that_do_not_differ_has_no_ratio_and_does_not_pull_the_interval() -> None:
    """One draw in 256 is of the last pair alone, four times over; all others have a ratio of 1/2."""
    found = ratios([1.0, 1.0, 1.0, 0.0])
    assert (draw_counts(4, seed=0)[:, 3] == 4).any()
    assert found.draws(np.array([0.5, 0.5, 0.5, 0.0])) == pytest.approx(np.full(1000, 0.5))


def test_one_pair_has_no_interval() -> None:
    """All draws of one pair are alike: an interval without width would look certain."""
    found = ratios([2.0]).estimate(np.array([1.0]))
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert str(found) == "0.500 (no interval with one pair)"
    assert np.isnan(interval(np.ones((1, 3)))).all()
    assert span(found.low, found.high) == "none"
    assert str(band(np.array([0.25]))) == "0.250 (one circuit alone)"


def test_what_has_no_interval_is_null_in_json_and_is_read_again() -> None:
    found = plain({"a": [Estimate(0.5, float("nan"), float("nan")).__dict__, "text", 1, None]})
    assert (
        json.dumps(found, allow_nan=False)
        == '{"a": [{"value": 0.5, "low": null, "high": null}, "text", 1, null]}'
    )
    again = Estimate.from_json(found["a"][0])
    assert again.value == 0.5
    assert np.isnan([again.low, again.high]).all()
