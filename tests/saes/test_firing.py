"""Counts over all thresholds at once agree with trying every threshold by hand."""

import pytest
import torch
from torch import Tensor

from saes.firing import Firings, auroc, best_thresholds, detect, detector_counts, passing, shuffle_within

N_TOKENS, N_LATENTS, N_ROLES = 60, 7, 4


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Sparse, with many ties, one latent that never fires and one that always does."""
    generator = torch.Generator().manual_seed(3)
    value = torch.randint(1, 5, (N_TOKENS, N_LATENTS), generator=generator) / 4
    latents = value * (torch.rand(N_TOKENS, N_LATENTS, generator=generator) < 0.4)
    latents[:, 2] = 0.0
    latents[:, 3] = value[:, 3]
    return latents


@pytest.fixture(scope="module")
def roles() -> Tensor:
    return torch.randint(0, N_ROLES, (N_TOKENS,), generator=torch.Generator().manual_seed(5))


def naive_f1(fires: Tensor, wanted: Tensor) -> float:
    return 2 * int((fires & wanted).sum()) / max(int(fires.sum()) + int(wanted.sum()), 1)


def test_the_best_threshold_is_the_best_of_all(latents: Tensor, roles: Tensor) -> None:
    threshold, best = best_thresholds(Firings.from_dense(latents), roles, N_ROLES)
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            candidates = latents[:, j][latents[:, j] > 0].unique().tolist()
            by_hand = max((naive_f1(latents[:, j] >= h, roles == c) for h in candidates), default=0.0)
            assert float(best[j, c]) == pytest.approx(by_hand)
            assert naive_f1(latents[:, j] >= threshold[j, c], roles == c) == pytest.approx(by_hand)


def test_detection_counts_each_pair_at_its_own_threshold(latents: Tensor, roles: Tensor) -> None:
    threshold = torch.rand(N_LATENTS, N_ROLES, generator=torch.Generator().manual_seed(1))
    threshold[1, 1] = torch.inf
    threshold[0], threshold[3] = 0.5, 0.75
    firings = Firings.from_dense(latents)
    found = detect(firings, roles, threshold)
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            fires, wanted = latents[:, j] >= threshold[j, c], roles == c
            hits = int((fires & wanted).sum())
            assert int(passing(firings, threshold)[j, c]) == int(fires.sum())
            assert float(found.precision[j, c]) == pytest.approx(hits / max(int(fires.sum()), 1))
            assert float(found.recall[j, c]) == pytest.approx(hits / int(wanted.sum()))
            assert float(found.f1[j, c]) == pytest.approx(naive_f1(fires, wanted))


def test_auroc_is_the_chance_that_a_token_of_the_role_is_higher(latents: Tensor, roles: Tensor) -> None:
    found = auroc(Firings.from_dense(latents), roles, N_ROLES)
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            with_role, without = latents[roles == c, j][:, None], latents[roles != c, j][None]
            by_hand = ((with_role > without).double() + (with_role == without).double() / 2).mean()
            assert float(found[j, c]) == pytest.approx(float(by_hand))


def test_a_latent_that_never_fires_tells_nothing(latents: Tensor, roles: Tensor) -> None:
    assert torch.all(auroc(Firings.from_dense(latents), roles, N_ROLES)[2] == 0.5)


def test_among_is_the_same_as_leaving_rows_out_before(latents: Tensor) -> None:
    kept = torch.tensor([5, 3, 40, 41, 8])
    one, other = Firings.from_dense(latents).among(kept), Firings.from_dense(latents[kept])
    for firings in (one, other):
        dense = torch.zeros(5, N_LATENTS)
        dense[firings.token, firings.latent] = firings.value
        assert torch.equal(dense, latents[kept])


def test_counts_per_example_add_up_to_the_detection(latents: Tensor, roles: Tensor) -> None:
    example = torch.arange(N_TOKENS) // 6
    latent, role, threshold = (
        torch.tensor([0, 3, 2]),
        torch.tensor([1, 0, 2]),
        torch.tensor([0.5, 0.75, torch.inf]),
    )
    wanted = roles[None] == role[:, None]
    counts = detector_counts(Firings.from_dense(latents), example, wanted, latent=latent, threshold=threshold)
    assert counts.shape == (3, 3, 10)
    fires = torch.ge(latents[:, latent].T, threshold[:, None])
    by_hand = torch.stack([fires & wanted, fires, wanted]).double()
    torch.testing.assert_close(counts.sum(2), by_hand.sum(2))
    torch.testing.assert_close(counts[:, :, 4], by_hand[:, :, 24:30].sum(2))


def test_shuffling_keeps_every_token_in_its_example() -> None:
    example = torch.tensor([0] * 5 + [2] * 30 + [7] * 4)
    order = shuffle_within(example, seed=0)
    assert sorted(order.tolist()) == list(range(39))
    assert torch.equal(example[order], example)
    assert not torch.equal(order, torch.arange(39))
    assert torch.equal(order, shuffle_within(example, seed=0))
