"""Edges kept at the tokens of their roles alone: mixed prompts are the oracle, and all roles together are the edge."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine import forward
from circuits.engine.forward import Scattered, metric_by_role, metric_of
from circuits.engine.roles import random_tokens
from circuits.graph import Graph
from circuits.judging.controls import RandomParts
from circuits.judging.curves import faithfulness_curve
from circuits.judging.ratios import ratios_of
from circuits.judging.role_curves import (
    RoleCurve,
    crossing,
    evaluate_by_role,
    reach,
    role_curve,
    top_parts,
    top_role_edges,
)
from circuits.methods.eap_ig import eap_ig
from circuits.methods.role_scores import role_scores
from circuits.metrics import logit_diff
from circuits.select import top_edges
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


def test_random_tokens_are_as_many_as_the_role_has_and_no_padding() -> None:
    roles = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 0, 2, 2, 2]])  # 2 is padding
    member = torch.nn.functional.one_hot(roles, 3)[..., :2].float()
    kept = random_tokens(member, (roles < 2).float(), np.array([0, 1, 0, 1, 0, 1]), np.random.default_rng(0))
    assert kept.sum(-1).tolist() == [[3, 1], [3, 2]] * 3
    assert not kept[:, 1, 3:].any()
    assert len({tuple(row) for row in kept[:, 0].tolist()}) > 3


def test_an_edge_at_random_tokens_is_one_at_a_role_that_those_tokens_have(
    random_case, with_roles, monkeypatch
) -> None:
    """The tokens that were drawn are made a role of their own, and the edge is kept at that."""
    case = random_case("*-*")
    graph = Graph.of(case.model)
    drawn = []

    def recorded(*given):
        drawn.append(random_tokens(*given))
        return drawn[-1]

    monkeypatch.setattr(forward, "random_tokens", recorded)
    edge = np.zeros_like(graph.mask)
    edge[0, [reader.name for reader in graph.readers].index("blocks.0.attn.v.1")] = True
    rest = graph.mask & ~edge
    kept = np.stack([rest | edge, rest])
    pairs = with_roles(case.pairs, parity)
    found = metric_by_role(case.model, [Scattered(kept, edge, 7)], ROLES, pairs, logit_diff)
    [tokens] = drawn
    rows = pairs.position.argsort(stable=True).tolist()
    at_random = {(rows[i], column) for i, column in tokens[0].nonzero().tolist()}
    assert at_random != {
        (row, column) for row, column in pairs.clean.ids.nonzero().tolist() if column % 2 == 0
    }
    named = with_roles(case.pairs, lambda row, column: "drawn" if (row, column) in at_random else "left")
    expected = metric_by_role(case.model, [kept], ("drawn", "left"), named, logit_diff)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    unmoved = metric_by_role(case.model, [kept], ROLES, pairs, logit_diff)
    assert not torch.allclose(found, unmoved, rtol=1e-3)


def test_a_position_that_is_looked_at_again_is_no_further_token_to_draw(
    random_case, with_roles, monkeypatch
) -> None:
    """Of whole answers the last position is repeated: an edge of one of two tokens is kept at one of the two."""
    case = random_case("*-", n=1)
    graph, last = Graph.of(case.model), case.pairs.position
    several = {
        name: torch.stack([getattr(case.pairs, name)] * 4, dim=1)
        for name in ("clean_answer", "corrupt_answer")
    }
    position = torch.stack([last - 1, last, last, last], dim=1)
    pairs = replace(with_roles(case.pairs, parity), position=position, **several)
    drawn = []

    def recorded(*given):
        drawn.append(random_tokens(*given)[0, 0].tolist())
        return random_tokens(*given)

    monkeypatch.setattr(forward, "random_tokens", recorded)
    edge = np.zeros_like(graph.mask)
    edge[0, -1] = True
    for role in range(2):
        kept = np.zeros((2, *edge.shape), bool)
        kept[role] = edge
        metric_by_role(
            case.model, [Scattered(kept, edge, seed) for seed in range(8)], ROLES, pairs, logit_diff
        )
    assert {tuple(tokens) for tokens in drawn} == {(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)}
    assert len(drawn) == 16


def test_other_seeds_and_other_batches_draw_other_tokens(random_case, with_roles, monkeypatch) -> None:
    """Four copies of a pair in batches of one: tokens depend on the seed and the batch, and on nothing else."""
    case = random_case("*-", n=1)
    graph, pairs = Graph.of(case.model), with_roles(case.pairs[torch.zeros(4, dtype=torch.long)], parity)
    drawn = []

    def recorded(*given):
        drawn.append(random_tokens(*given))
        return drawn[-1]

    monkeypatch.setattr(forward, "random_tokens", recorded)
    kept = np.stack([graph.mask, graph.mask & False])
    circuits = [Scattered(kept, graph.mask, seed) for seed in (0, 1, 0)]
    metric_by_role(case.model, circuits, ROLES, pairs, logit_diff, batch_size=1)
    first = drawn[:: len(drawn) // 12]  # of each circuit on each batch, at the first block
    places = [tuple(one.flatten().tolist()) for one in first]
    assert len(places) == 12
    assert places[0::3] == places[2::3]
    assert len(set(places)) == 8


def test_edges_whose_role_every_token_has_stay_when_their_tokens_are_drawn(
    random_case, shape, with_roles
) -> None:
    case = random_case(**shape)
    graph, pairs = Graph.of(case.model), with_roles(case.pairs, lambda row, column: "only")
    kept = graph.mask[None] & (np.random.default_rng(0).random(graph.mask.shape) < 0.6)
    both = [kept, Scattered(kept, np.ones_like(graph.mask), 0), Scattered(kept, graph.mask & False, 0)]
    placed, *others = metric_by_role(case.model, both, ["only"], pairs, logit_diff, batch_size=2)
    for other in others:
        torch.testing.assert_close(other, placed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [np.s_[:, :-1], np.s_[:-1], np.s_[0]])
def test_edges_at_random_tokens_are_a_matrix_of_writers_and_readers(random_case, with_roles, cut) -> None:
    case = random_case("*-", n=2)
    graph, pairs = Graph.of(case.model), with_roles(case.pairs, parity)
    kept = np.stack([graph.mask, graph.mask])
    wrong = Scattered(kept, graph.mask[cut], 0)
    shapes = f"{re.escape(str(graph.mask[cut].shape))}, expected {re.escape(str(graph.mask.shape))}"
    with pytest.raises(InputError, match=f"edges at random tokens have shape {shapes}: writers and readers"):
        metric_by_role(case.model, [wrong], ROLES, pairs, logit_diff)


def test_of_many_circuits_only_the_live_edges_are_held(random_case, with_roles) -> None:
    case = random_case("*-", n=2)
    pairs = with_roles(case.pairs, parity)
    roles = [*ROLES, *(f"role {i}" for i in range(500))]
    one = np.broadcast_to(Graph.of(case.model).mask & False, (len(roles), *Graph.of(case.model).mask.shape))
    tracemalloc.start()
    try:
        metric_by_role(case.model, (one.copy() for _ in range(50)), roles, pairs, logit_diff)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15 * one.size  # bytes, of fifty masks of as many


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
    sizes = [0, int((scores.values != 0).sum())]
    points = role_curve(case.model, scores, pairs, sizes, random_circuits=1).points
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


def test_a_curve_has_bands_that_hold_what_random_parts_reach_and_reads_back(copied_name) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores = role_scores(case.model, pairs)
    curve = role_curve(case.model, scores, pairs, random_circuits=6, seed=1)
    assert curve.n_parts_model == (scores.values != 0).sum()
    assert all(point.n_parts <= curve.n_parts_model for point in curve.points)
    assert max(point.faithfulness.value - point.matched.mean for point in curve.points) > 0.5
    assert all(
        point.other_roles.low <= point.other_roles.mean <= point.other_roles.high for point in curve.points
    )
    assert RoleCurve.from_json(curve.to_json()) == curve
    # A random circuit of every scored part is the circuit of them all.
    (whole,) = role_curve(case.model, scores, pairs, [curve.n_parts_model], random_circuits=2, seed=1).points
    assert whole.other_roles.mean == pytest.approx(whole.faithfulness.value)
    assert whole.matched.mean == pytest.approx(whole.faithfulness.value)
    with pytest.raises(InputError, match="not a curve of role-aware edges"):
        RoleCurve.from_json({"points": [{}]})


def test_the_bands_are_what_their_draws_reach(random_case, with_roles) -> None:
    case = random_case("*-*-")
    pairs = with_roles(case.pairs, parity)
    scores = role_scores(case.model, pairs, steps=1)
    (point,) = role_curve(case.model, scores, pairs, [12], random_circuits=4, seed=3).points
    chosen = top_parts(scores, 12)
    draws = RandomParts.draw(scores.graph, (scores.values != 0).numpy(), 4, seed=3)
    ratios = ratios_of(case.model, scores.graph, pairs, logit_diff, seed=3, batch_size=None)
    for band, drawn in (
        (point.matched, draws.layer_matched(chosen)),
        (point.other_roles, draws.edge_matched(chosen)),
    ):
        values = metric_by_role(case.model, drawn, scores.roles, pairs, logit_diff).double().numpy()
        assert band.mean == pytest.approx(ratios.of(values).mean(), rel=1e-5, abs=1e-6)
    means = {point.matched.mean, point.other_roles.mean, point.faithfulness.value}
    assert len({round(value, 6) for value in means}) == 3


def test_a_circuit_of_the_top_parts_is_the_point_of_the_curve(copied_name) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores = role_scores(case.model, pairs)
    circuit = top_role_edges(scores, 5)
    (point,) = role_curve(case.model, scores, pairs, [5], random_circuits=3, seed=2).points
    assert evaluate_by_role(case.model, circuit, scores, pairs, random_circuits=3, seed=2) == point


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_edges_reach_a_level_where_one_less_does_not(copied_name, level: float) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores, roles = eap_ig(case.model, pairs), role_scores(case.model, pairs)
    most = len(roles.graph.edges), int((roles.values != 0).sum())
    # All of them alone: what is less has to be run.
    curves = (
        faithfulness_curve(case.model, scores, pairs, [most[0]], random_circuits=1),
        role_curve(case.model, roles, pairs, [most[1]], random_circuits=1),
    )
    found = reach(case.model, scores, roles, pairs, curves, level=level)
    assert found.plain is not None
    assert found.role_aware is not None
    assert found.plain < most[0]
    assert found.role_aware < most[1]
    ratios = ratios_of(case.model, roles.graph, pairs, logit_diff, seed=0, batch_size=None)
    kept = [top_parts(roles, n) for n in (found.role_aware - 1, found.role_aware)]
    below, above = ratios.of(
        metric_by_role(case.model, kept, roles.roles, pairs, logit_diff).double().numpy()
    )
    assert below < level <= above
    edges = [top_edges(scores, n) for n in (found.plain - 1, found.plain) if n]
    *below, above = ratios.of(metric_of(case.model, edges, pairs, logit_diff).double().numpy())
    assert all(value < level for value in below)
    assert above >= level


def test_a_crossing_lies_in_front_of_the_first_size_that_reaches_it() -> None:
    known = [(1, 0.0), (10, 0.5), (100, 0.9), (1000, 0.2)]
    tried: list[int] = []

    def faithfulness(size: int) -> float:
        tried.append(size)
        return 0.8 if size >= 37 else 0.7

    assert crossing(faithfulness, known, 0.8) == 37
    assert all(10 < size < 100 for size in tried)
    assert len(tried) <= 7
    assert crossing(faithfulness, known, 1.0) is None
