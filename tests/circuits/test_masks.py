"""Learned masks: played on the runs of circuits, differentiated, held to a number of edges, and true."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.engine.batching import batched
from circuits.engine.forward import Stage
from circuits.engine.ports import frozen
from circuits.engine.recording import Machine
from circuits.graph import Graph
from circuits.methods.masks import HardConcrete, edge_masks, masked_logits
from circuits.metrics import logit_diff
from data_gen.errors import InputError


def stage_of(case) -> Stage:
    with torch.no_grad():
        (batch,) = batched(case.model, case.pairs, len(case.pairs))
        return Stage(Machine(case.model), batch)


def test_a_mask_of_zeros_and_ones_is_a_circuit(random_case, shape) -> None:
    case = random_case(**shape)
    graph, stage = Graph.of(case.model), stage_of(case)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for share in (0.0, 0.5, 0.8, 1.0):
            mask = graph.mask & (rng.random(graph.mask.shape) < share)
            played = masked_logits(stage, torch.from_numpy(mask).double())
            torch.testing.assert_close(played, stage.logits(graph.live(mask)))


def test_the_gradient_at_a_mask_is_what_the_logits_move_by(random_case, shape) -> None:
    case = random_case(**shape)
    graph, stage = Graph.of(case.model), stage_of(case)
    generator = torch.Generator().manual_seed(0)
    mask = (0.2 + 0.6 * torch.rand(graph.mask.shape, generator=generator).double()) * torch.from_numpy(
        graph.mask
    )
    way = torch.randn(graph.mask.shape, generator=generator).double() * torch.from_numpy(graph.mask)

    def value(at):
        return logit_diff(masked_logits(stage, at), case.pairs).sum()

    with frozen(case.model):
        (gradient,) = torch.autograd.grad(value(mask.requires_grad_()), mask)
        with torch.no_grad():
            by_difference = (value(mask + 1e-6 * way) - value(mask - 1e-6 * way)) / 2e-6
    assert by_difference.abs() > 1e-3
    assert (gradient * way).sum().item() == pytest.approx(by_difference.item(), rel=1e-4)


def test_masks_are_drawn_as_hard_concrete_says() -> None:
    """Shares of 0 and of 1, against `P(z <= t) = sigmoid(β logit((t - l) / (r - l)) - a)` at the ends of the clamp."""
    odds = torch.linspace(-3, 3, 7).double()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([HardConcrete.draw(odds, generator) for _ in range(10_000)])
    assert draws.min() == 0
    assert draws.max() == 1
    torch.testing.assert_close((draws > 0).double().mean(0), HardConcrete.kept(odds), atol=0.015, rtol=0)
    whole = (odds - 2 / 3 * math.log(1.1 / 0.1)).sigmoid()
    torch.testing.assert_close((draws == 1).double().mean(0), whole, atol=0.015, rtol=0)


@pytest.mark.parametrize("loss", ["kl", logit_diff], ids=["kl", "logit_diff"])
def test_the_wired_edges_are_kept_and_no_others(planted, loss) -> None:
    scores = edge_masks(planted.model, planted.pairs[:10], loss, share=4 / 110, updates=100)
    ranked = scores.ranked()
    assert set(ranked[: len(planted.edges)]) == planted.edges
    assert scores.metadata["expected_edges"] < 8
    assert all(scores[edge] > 0.9 for edge in planted.edges)


def test_a_seed_gives_the_same_masks_and_another_one_others(random_case) -> None:
    case = random_case("*-")
    first, again, other = (
        edge_masks(case.model, case.pairs, share=0.3, updates=5, seed=seed, batch_size=2)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.per_example, again.per_example)
    assert not torch.equal(first.per_example, other.per_example)
    assert not any(parameter.grad is not None for parameter in case.model.parameters())


def test_half_of_the_edges_are_kept_when_half_are_asked_for(random_case) -> None:
    case = random_case("*-*-")
    for share in (0.2, 0.6):
        scores = edge_masks(case.model, case.pairs, share=share, updates=100)
        kept = scores.metadata["expected_edges"] / len(scores.graph.edges)
        assert kept == pytest.approx(share, abs=0.02)
        assert scores.of_edges().sum().item() == pytest.approx(scores.metadata["expected_edges"], rel=1e-5)


@pytest.mark.parametrize("factor", [-1, 10])
def test_neither_sign_nor_unit_of_a_metric_changes_the_masks(random_case, factor: int) -> None:
    """It is to be met from above as from below, and the loss counts in shares of the corrupt run's."""
    case = random_case("*-")
    plain, other = (
        edge_masks(case.model, case.pairs, loss, updates=5)
        for loss in (logit_diff, lambda logits, pairs: factor * logit_diff(logits, pairs))
    )
    torch.testing.assert_close(plain.per_example, other.per_example)


def test_what_cannot_be_learned_is_refused(random_case) -> None:
    case = random_case("*")
    for share in (0.0, 1.0, 0.01):
        with pytest.raises(InputError, match=f"share is {share}, which of 13 edges is not at least one"):
            edge_masks(case.model, case.pairs, share=share)
    with pytest.raises(InputError, match="updates is 0, expected at least 1"):
        edge_masks(case.model, case.pairs, share=0.5, updates=0)
    with pytest.raises(InputError, match="there is nothing to keep"):
        edge_masks(case.model, replace(case.pairs, corrupt=case.pairs.clean), share=0.5)
