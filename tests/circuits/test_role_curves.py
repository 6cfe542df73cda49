"""Edges kept at the tokens of their roles alone: mixed prompts are the oracle, and all roles together are the edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import metric_by_role, metric_of
from circuits.graph import Graph
from circuits.judging.role_curves import role_curve, top_parts
from circuits.methods.role_scores import role_scores
from circuits.metrics import logit_diff
from data_gen.errors import InputError

ROLES = ("even", "odd")


def parity(row: int, column: int) -> str:
    return ROLES[column % 2]


def test_an_edge_kept_at_every_role_is_the_edge(random_case, shape, with_roles) -> None:
    case = random_case(**shape)
    graph, pairs = Graph.of(case.model), with_roles(case.pairs, parity)
    rng = np.random.default_rng(0)
    masks = [graph.mask & (rng.random(graph.mask.shape) < share) for share in (0.3, 0.7, 1.0)]
    whole = metric_of(case.model, [Circuit(graph, graph.named(mask)) for mask in masks], pairs, logit_diff)
    found = metric_by_role(
        case.model, [np.stack([mask, mask]) for mask in masks], ROLES, pairs, logit_diff, batch_size=2
    )
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_embeddings_kept_at_one_role_are_a_prompt_that_is_clean_there(random_case, shape, with_roles) -> None:
    """The model itself, run on prompts mixed token by token, is the oracle."""
    case = random_case(**shape)
    model, pairs = case.model, with_roles(case.pairs, parity)
    graph = Graph.of(model)
    others = graph.mask.copy()
    others[0] = False
    even = torch.arange(pairs.clean.ids.shape[1]) % 2 == 0
    mixed = torch.where(even, pairs.clean.ids, pairs.corrupt.ids)
    rows = torch.arange(len(pairs))
    expected = logit_diff(model(mixed)[rows, pairs.position], pairs).detach().float()
    found = metric_by_role(model, [np.stack([graph.mask, others])], ROLES, pairs, logit_diff)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_planted_copy_needs_its_edges_at_the_name_and_the_question_alone(copied_name) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores = role_scores(case.model, pairs)
    graph, roles = scores.graph, scores.roles
    kept = np.stack([graph.mask & (role != "other") for role in roles])
    without = np.stack([graph.mask & (role != "name") for role in roles])
    whole = np.stack([graph.mask] * len(roles))
    found = metric_by_role(case.model, [whole, kept, without, whole & False], roles, pairs, logit_diff).mean(
        1
    )
    # The planted head's softmax leaves a little to the other tokens, so their edges are not worth nothing.
    assert (found[1] - found[3]) / (found[0] - found[3]) == pytest.approx(1, abs=0.005)
    # Where the prompts are the same nothing can be carried.
    torch.testing.assert_close(found[2], found[3])
    assert abs(found[0] - found[3]) > 1
    points = role_curve(case.model, scores, pairs, [0, int((scores.values != 0).sum())])
    assert [point.faithfulness.value for point in points] == pytest.approx([0, 1], abs=1e-3)
    assert points[0].n_edges == 0 < points[1].n_edges < points[1].n_parts


def test_the_top_parts_are_the_largest(random_case, with_roles) -> None:
    case = random_case("*-")
    scores = role_scores(case.model, with_roles(case.pairs, parity), steps=1)
    chosen = torch.from_numpy(top_parts(scores, 5))
    sizes = scores.values.abs()
    assert chosen.sum() == 5
    assert sizes[chosen].min() >= sizes[~chosen].max()
    with pytest.raises(InputError, match="parts of edges have a score"):
        top_parts(scores, 10**6)


def test_what_is_of_another_model_is_refused(random_case, with_roles) -> None:
    case, other = random_case("*-"), random_case("*-*")
    pairs = with_roles(case.pairs, parity)
    scores = role_scores(case.model, pairs, steps=1)
    with pytest.raises(InputError, match="the roles are of a model of"):
        role_curve(other.model, scores, pairs, [1])
    with pytest.raises(InputError, match="a mask has shape"):
        metric_by_role(other.model, [top_parts(scores, 1)], scores.roles, pairs, logit_diff)
