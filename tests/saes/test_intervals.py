"""Intervals come from drawing whole examples again, and first-order draws agree with ranking every draw anew."""

import numpy as np
import pytest
import torch
from torch import Tensor

from saes.truth.firing import Firings, Ranked, auroc, average_precision
from saes.truth.intervals import PerExample, interval, per_example, resamples

EXAMPLES, LENGTH = 80, 12


def drawn(signal: float) -> tuple[Tensor, Tensor, Tensor]:
    """One sparse latent with ties, the tokens it is to find, and the example of each."""
    rng = torch.Generator().manual_seed(2)
    n = EXAMPLES * LENGTH
    wanted = torch.rand(n, generator=rng) < 0.2
    value = (torch.rand(n, generator=rng) * 6).round() / 6 + signal * wanted
    value = value * (torch.rand(n, generator=rng) < 0.3 + 0.4 * wanted)
    return value, wanted, torch.arange(n) // LENGTH


def sums(value: Tensor, wanted: Tensor, example: Tensor, threshold: float = 0.5) -> PerExample:
    return per_example(
        Firings.from_dense(value[:, None]),
        example,
        wanted[None],
        latent=torch.tensor([0]),
        threshold=torch.tensor([threshold]),
    )


def exact(value: Tensor, wanted: Tensor) -> tuple[float, float]:
    ranked = Ranked.of(Firings.from_dense(value[:, None]), wanted.long(), 2)
    return float(auroc(ranked)[0, 1]), float(average_precision(ranked)[0, 1])


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0])
def test_every_example_once_gives_the_estimate_itself(signal: float) -> None:
    value, wanted, example = drawn(signal)
    found, once = sums(value, wanted, example), np.ones((1, EXAMPLES), np.float32)
    area, precision = exact(value, wanted)
    assert found.auroc(once)[0, 0] == pytest.approx(area, abs=1e-5)
    # Both kinds of placement have the area as their mean.
    assert found.over.sum() / found.wanted.sum() == pytest.approx(area, abs=1e-9)
    assert found.under.sum() / (found.tokens - found.wanted).sum() == pytest.approx(area, abs=1e-9)
    assert found.average_precision(once)[0, 0] == pytest.approx(precision, abs=1e-5)
    fires = value >= 0.5
    f1 = 2 * int((fires & wanted).sum()) / int(fires.sum() + wanted.sum())
    assert found.f1(once)[0, 0] == pytest.approx(f1, abs=1e-5)


@pytest.mark.parametrize("signal", [0.0, 0.3])
def test_first_order_draws_follow_those_ranked_anew(signal: float) -> None:
    value, wanted, example = drawn(signal)
    found, weight = sums(value, wanted, example), resamples(EXAMPLES, seed=1)[:150]
    tokens = torch.arange(len(value)).reshape(EXAMPLES, LENGTH)
    again = []
    for row in weight.astype(int):
        chosen = tokens[np.repeat(np.arange(EXAMPLES), row)].flatten()
        again.append(exact(value[chosen], wanted[chosen]))
    for draws, truth in zip(
        (found.auroc(weight)[:, 0], found.average_precision(weight)[:, 0]), np.array(again).T, strict=True
    ):
        assert np.corrcoef(draws, truth)[0, 1] > 0.99
        assert draws.std() == pytest.approx(truth.std(), rel=0.05)
        assert np.abs(draws - truth).mean() < 0.2 * truth.std()


def test_more_tokens_of_the_same_examples_are_no_more_evidence() -> None:
    value, wanted, example = drawn(0.3)
    weight = resamples(EXAMPLES, seed=0)
    one = sums(value, wanted, example)
    many = sums(value.repeat(5), wanted.repeat(5), example.repeat(5))
    for name in ("f1", "auroc", "average_precision"):
        spread, spread_of_many = (getattr(found, name)(weight).std() for found in (one, many))
        assert spread == pytest.approx(spread_of_many, rel=0.02)


def test_a_draw_has_as_many_examples_as_there_are() -> None:
    weight = resamples(50, seed=3)
    assert set(weight.sum(1).tolist()) == {50.0}
    # Half of 100 examples right: the standard error of the share is sqrt(p (1 - p) / n).
    right = np.repeat([1.0, 0.0], 50)
    assert (resamples(100, seed=0) @ right / 100).std() == pytest.approx(0.05, rel=0.1)
    assert interval(np.array([0.1, np.nan, 0.3])) == pytest.approx((0.105, 0.295))
