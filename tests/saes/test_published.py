"""Coverage and query reconstruction agree with counting by hand, and what is told of a query is what fires in it."""

import pytest
import torch
from torch import Tensor

from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.published import coverage_by_step, detectors, published, query_facts

NAMES = ("sql.limit", "sql.select.0.column", "sql.select.1.column", "sql.where.column")
N = 120


@pytest.fixture(scope="module")
def latents() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    value = torch.rand(N, 6, generator=rng) * (torch.rand(N, 6, generator=rng) < 0.4)
    value[:, 4] = 0
    return value


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.randint(0, len(NAMES), (N,), generator=torch.Generator().manual_seed(1))


def roles(labels: Tensor) -> Roles:
    return Roles.of(tuple(NAMES[c] for c in labels.tolist()))


def test_coverage_by_step_is_that_of_trying_every_latent_and_threshold(
    latents: Tensor, labels: Tensor
) -> None:
    found = coverage_by_step(Firings.from_dense(latents), roles(labels).slots)
    assert found.shape == (10, len(NAMES))
    for step in range(10):
        fires = latents > latents.amax(0) * step / 10
        for c in range(len(NAMES)):
            wanted = (labels == c)[:, None]
            f1 = 2 * (fires & wanted).sum(0) / (fires.sum(0) + wanted.sum()).clamp_min(1)
            assert float(found[step, c]) == pytest.approx(float(f1.max()), abs=1e-6)


def test_a_threshold_per_role_covers_no_less_than_one_for_all(latents: Tensor, labels: Tensor) -> None:
    firings, labelled = Firings.from_dense(latents), roles(labels)
    found = published(firings, firings, (labelled, labelled), torch.arange(N) // 10)
    assert found.coverage >= found.coverage_one_threshold
    steps = coverage_by_step(firings, labelled.slots)
    assert found.coverage == pytest.approx(float(steps.amax(0).mean()))
    assert found.coverage_one_threshold == pytest.approx(float(steps[round(found.threshold * 10)].mean()))


def test_detectors_are_precise_and_fire_often_enough() -> None:
    labels = torch.tensor([0] * 40 + [1] * 40 + [2] * 20 + [3] * 20)
    latents = torch.zeros(N, 3)
    latents[:20, 0] = 1.0  # precise
    latents[:9, 1] = 1.0  # precise, but nine firings
    latents[:20, 2], latents[40:60, 2] = 1.0, 0.35  # precise only from 0.4 on
    found = detectors(Firings.from_dense(latents), roles(labels).slots)
    assert found[:, 0, 0].all()
    assert not found[:, 1].any()
    assert found[:, 2, 0].tolist() == [step >= 4 for step in range(10)]


def test_a_perfect_dictionary_tells_every_query_and_a_silent_one_none() -> None:
    labels = torch.tensor(
        [0, 1, 1, 1, 2, 1, 1, 0, 1, 2] * 12
    )  # every two examples of five: {0,1,2}, {0,1,2} ...
    labels[::10] = 1  # .. and of these, one without 0
    example = torch.arange(N) // 5
    perfect = torch.nn.functional.one_hot(labels, len(NAMES)).float()
    labelled = roles(labels)
    firings = Firings.from_dense(perfect)
    found = published(firings, firings, (labelled, labelled), example)
    assert (found.reconstruction, found.exact, found.facts, found.detected) == (1.0, 1.0, 1, 3)
    told, true = query_facts(firings, firings, (labelled, labelled), example)
    assert told.tolist() == true.tolist() == [[c == 1] for c in range(2)] * 12
    silent = Firings.from_dense(torch.zeros_like(perfect))
    told, _ = query_facts(silent, silent, (labelled, labelled), example)
    assert not told.any()
    # Detectors are those of the half that is not told of.
    for choose, measure in ((silent, firings), (firings, silent)):
        assert not query_facts(choose, measure, (labelled, labelled), example)[0].any()
