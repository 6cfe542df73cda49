"""Counts over all thresholds at once agree with trying every threshold by hand."""

import pytest
import torch
from torch import Tensor

from saes.roles import Roles
from saes.truth import firing
from saes.truth.firing import (
    Firings,
    Ranked,
    auroc,
    average_precision,
    best_thresholds,
    detect,
    passing,
    shuffle_within,
)
from saes.truth.scoring import Halves, by_half, tabulate

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


def rank(latents: Tensor, roles: Tensor) -> Ranked:
    return Ranked.of(Firings.from_dense(latents), roles, N_ROLES)


def naive_f1(fires: Tensor, wanted: Tensor) -> float:
    return 2 * int((fires & wanted).sum()) / max(int(fires.sum()) + int(wanted.sum()), 1)


def test_the_best_threshold_is_the_best_of_all(latents: Tensor, roles: Tensor) -> None:
    threshold, best = best_thresholds(rank(latents, roles))
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
    found = detect(rank(latents, roles), threshold)
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            fires, wanted = latents[:, j] >= threshold[j, c], roles == c
            hits = int((fires & wanted).sum())
            assert int(passing(firings, threshold)[j, c]) == int(fires.sum())
            assert float(found.precision[j, c]) == pytest.approx(hits / max(int(fires.sum()), 1))
            assert float(found.recall[j, c]) == pytest.approx(hits / int(wanted.sum()))
            assert float(found.f1[j, c]) == pytest.approx(naive_f1(fires, wanted))


def test_auroc_is_the_chance_that_a_token_of_the_role_is_higher(latents: Tensor, roles: Tensor) -> None:
    found = auroc(rank(latents, roles))
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            with_role, without = latents[roles == c, j][:, None], latents[roles != c, j][None]
            by_hand = ((with_role > without).double() + (with_role == without).double() / 2).mean()
            assert float(found[j, c]) == pytest.approx(float(by_hand))


def test_average_precision_is_that_of_scikit_learns_definition(latents: Tensor, roles: Tensor) -> None:
    found = average_precision(rank(latents, roles))
    for j in range(N_LATENTS):
        for c in range(N_ROLES):
            area, recall = 0.0, 0.0
            for h in latents[:, j].unique().flip(0).tolist():
                fires, wanted = latents[:, j] >= h, roles == c
                hits = int((fires & wanted).sum())
                area += (hits / int(wanted.sum()) - recall) * hits / int(fires.sum())
                recall = hits / int(wanted.sum())
            assert float(found[j, c]) == pytest.approx(area)
    assert torch.allclose(found[2], torch.bincount(roles).double() / N_TOKENS)  # a latent that never fires


def test_a_latent_that_never_fires_tells_nothing(latents: Tensor, roles: Tensor) -> None:
    assert torch.all(auroc(rank(latents, roles))[2] == 0.5)


def test_among_is_the_same_as_leaving_rows_out_before(latents: Tensor) -> None:
    kept = torch.tensor([5, 3, 40, 41, 8])
    one, other = Firings.from_dense(latents).among(kept), Firings.from_dense(latents[kept])
    for firings in (one, other):
        dense = torch.zeros(5, N_LATENTS)
        dense[firings.token, firings.latent] = firings.value
        assert torch.equal(dense, latents[kept])


def test_shuffling_keeps_every_token_in_its_example() -> None:
    example = torch.tensor([0] * 5 + [2] * 30 + [7] * 4)
    order = shuffle_within(example, seed=0)
    assert sorted(order.tolist()) == list(range(39))
    assert torch.equal(example[order], example)
    assert not torch.equal(order, torch.arange(39))
    assert torch.equal(order, shuffle_within(example, seed=0))
    orders = torch.stack([shuffle_within(example, seed) for seed in range(300)])
    assert len(orders.unique(dim=0)) == 300
    # Every token of an example comes to each of its places as often.
    assert orders[:, :5].double().mean(0).tolist() == pytest.approx([2.0] * 5, abs=0.25)
    assert orders[:, 5:35].double().mean(0).tolist() == pytest.approx([19.5] * 30, abs=2)


def test_scores_do_not_depend_on_which_latents_are_ranked_together(
    latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = latents.repeat(10, 1)
    halves = Halves.of(torch.arange(len(rows)) // 12, seed=0)
    roles = Roles.of(tuple("abcd"[i % 4] for i in range(len(rows))))
    sides = roles.at(halves.choose), roles.at(halves.measure)
    whole = tabulate(by_half(Firings.from_dense(rows), halves), *sides)
    for chunk in (1, 100, 301):
        monkeypatch.setattr(firing, "CHUNK", chunk)
        pieces = tabulate(by_half(Firings.from_dense(rows), halves), *sides)
        for name in ("threshold", "chosen_f1", "precision", "recall", "f1", "auroc", "average_precision"):
            assert torch.equal(getattr(whole, name), getattr(pieces, name))


@pytest.mark.parametrize("threads", [1, 2])
def test_firings_in_any_order_are_sorted_in_parts_as_they_are_at_once(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "CHUNK", 50)
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(40, 30, generator=generator) * (torch.rand(40, 30, generator=generator) < 0.3)
    dense[:, 7] = 0
    token, latent = dense.nonzero(as_tuple=True)
    order = torch.randperm(len(token), generator=generator)
    token, latent = token[order], latent[order]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = Firings.of(token, latent, dense[token, latent], n_tokens=40, n_latents=30)
    finally:
        torch.set_num_threads(before)
    by_hand = sorted(
        (j, -float(dense[t, j]), t) for t, j in zip(token.tolist(), latent.tolist(), strict=True)
    )
    assert found.latent.tolist() == [j for j, _, _ in by_hand]
    assert found.value.tolist() == [-value for _, value, _ in by_hand]
    assert found.token.tolist() == [t for _, _, t in by_hand]


def test_no_firing_at_all_is_no_error() -> None:
    found = Firings.from_dense(torch.zeros(5, 3))
    assert found.fired.tolist() == [0, 0, 0]
    assert len(found.among(torch.tensor([1, 2])).token) == 0


@pytest.mark.parametrize(
    "fired", [[4, 0, 0], [0, 0, 0], [2, 2, 0], [9, 0, 3, 1, 0], [0, 4], [1, 1, 1], [0, 0, 8]]
)
def test_every_latent_is_in_one_range_whatever_fires(
    fired: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "CHUNK", 4)
    bounds = firing.ranges(torch.tensor(fired))
    assert [j for first, last in bounds for j in range(first, last)] == list(range(len(fired)))
    assert all(sum(fired[first:last]) < 4 + max(fired) or not sum(fired) for first, last in bounds)
