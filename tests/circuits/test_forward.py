"""Running only a circuit's edges, and `exact` against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import Reached, fitting, metric_of, run_circuit
from circuits.engine.recording import ALIGNED, Machine, Room, normed
from circuits.graph import Edge, Graph
from circuits.methods.exact import exact
from circuits.metrics import logit_diff
from data_gen.errors import InputError


def logits(case, side):
    with torch.no_grad():
        return case.model(side.ids)[torch.arange(len(case.pairs)), case.pairs.position]


def test_all_edges_are_the_model_and_none_is_the_corrupt_run(random_case, shape) -> None:
    case = random_case(**shape)
    graph = Graph.of(case.model)
    clean, corrupt = logits(case, case.pairs.clean), logits(case, case.pairs.corrupt)
    assert (clean - corrupt).abs().max() > 0.1
    torch.testing.assert_close(run_circuit(case.model, Circuit(graph, graph.edges), case.pairs), clean)
    torch.testing.assert_close(run_circuit(case.model, Circuit(graph, ()), case.pairs), corrupt)


def test_exact_is_the_model_without_one_edge(random_case, shape) -> None:
    """The naive way: run all edges but one, for every edge."""
    case = random_case(**shape)
    graph = Graph.of(case.model)
    fast = exact(case.model, case.pairs, rows=7)
    without = [Circuit(graph, tuple(other for other in graph.edges if other != edge)) for edge in graph.edges]
    slow = metric_of(case.model, without, case.pairs, logit_diff) - logit_diff(
        logits(case, case.pairs.clean), case.pairs
    )
    assert slow.abs().max() > 0.1
    torch.testing.assert_close(fast.of_edges(), slow.T.float(), rtol=1e-4, atol=1e-5)


def test_q_k_and_v_of_one_head_have_inputs_of_their_own(random_case) -> None:
    """An edge into `v` leaves the head's attention pattern at the corrupt run's."""
    case = random_case("*")
    graph = Graph.of(case.model)
    circuit = Circuit(graph, (Edge("embed", "blocks.0.attn.v.1"), Edge("blocks.0.attn.head.1", "logits")))
    _, corrupt = case.model.run_with_cache(case.pairs.corrupt.ids)
    _, clean = case.model.run_with_cache(case.pairs.clean.ids)
    name = "blocks.0.attn"
    q, k, v = (corrupt[f"{name}.hook_{port}"].clone() for port in "qkv")
    v[:, :, 1] = clean[f"{name}.hook_v"][:, :, 1]
    z = case.model.blocks[0].attn.attend(q, k, v)
    moved = (z - corrupt[f"{name}.hook_z"])[:, :, 1] @ case.model.blocks[0].attn.W_O[1]
    rows = torch.arange(len(case.pairs))
    everywhere = case.model.unembed(case.model.ln_final(corrupt["blocks.0.hook_resid_post"] + moved)).detach()
    expected = everywhere[rows, case.pairs.position]
    torch.testing.assert_close(run_circuit(case.model, circuit, case.pairs), expected)


def test_dead_ends_change_nothing(random_case) -> None:
    case = random_case()
    graph = Graph.of(case.model)
    path = (Edge("embed", "blocks.0.attn.v.1"), Edge("blocks.0.attn.head.1", "logits"))
    dead = (Edge("blocks.0.attn.head.0", "logits"), Edge("embed", "blocks.2.attn.q.0"))
    with_dead, without = (
        run_circuit(case.model, Circuit(graph, edges), case.pairs) for edges in ((*path, *dead), path)
    )
    assert torch.equal(with_dead, without)
    assert not torch.allclose(without, logits(case, case.pairs.corrupt))


def test_many_circuits_at_once_equal_each_alone(random_case) -> None:
    case = random_case()
    graph = Graph.of(case.model)
    circuits = [Circuit(graph, graph.edges[::step]) for step in (1, 2, 3)]
    together = metric_of(case.model, circuits, case.pairs, logit_diff, batch_size=2)
    alone = [logit_diff(run_circuit(case.model, circuit, case.pairs), case.pairs) for circuit in circuits]
    torch.testing.assert_close(together, torch.stack(alone).float())


def test_a_circuit_of_another_model_is_refused(random_case) -> None:
    case = random_case("*-")
    graph = Graph(pattern="*-*-", n_heads=3)
    with pytest.raises(InputError, match="belongs to a model of pattern '\\*-\\*-'"):
        run_circuit(case.model, Circuit(graph, graph.edges), case.pairs)


def test_a_batch_in_pieces_is_the_batch(random_case, shape, monkeypatch) -> None:
    """Circuits one after the other in the same room, the largest neither first nor last."""
    case = random_case(**shape)
    graph = Graph.of(case.model)
    rng = np.random.default_rng(0)
    masks = [graph.mask & (rng.random(graph.mask.shape) < share) for share in (0.3, 1.0, 0.6)]
    circuits = [Circuit(graph, graph.named(mask)) for mask in masks]
    whole = metric_of(case.model, circuits, case.pairs, logit_diff)
    monkeypatch.setattr("circuits.engine.forward.ROOM_BYTES", (1, 1))
    assert [len(piece) for piece in fitting(Machine(case.model), [case.pairs[:2], case.pairs[2:]])] == [1] * 5
    assert whole.std(0).max() > 0.1
    torch.testing.assert_close(metric_of(case.model, circuits, case.pairs, logit_diff), whole)


def test_positions_that_nothing_clean_reaches_change_nothing(random_case, shape, monkeypatch) -> None:
    """They stand in front of where a pair's prompts part, and behind the last that the metric looks at."""
    case = random_case(**shape)
    graph = Graph.of(case.model)
    rng = np.random.default_rng(0)
    circuits = [Circuit(graph, graph.named(graph.mask & (rng.random(graph.mask.shape) < 0.7)))]
    reached = Reached.of(case.pairs)
    assert 0 < len(reached.places) < reached.number.numel()
    found = metric_of(case.model, circuits, case.pairs, logit_diff)

    def everything(pairs):
        return Reached(torch.ones(len(pairs), int(pairs.position.max()) + 1, dtype=torch.bool))

    monkeypatch.setattr(Reached, "of", everything)
    torch.testing.assert_close(metric_of(case.model, circuits, case.pairs, logit_diff), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_the_fused_norm_is_the_models_in_every_precision(random_case, norm, dtype) -> None:
    model = random_case(norm=norm, biases=("norm",)).model.to(dtype)
    x = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.testing.assert_close(normed(model.ln_final, x), model.ln_final(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_room_is_used_again_where_it_is_large_enough(dtype) -> None:
    room, like = Room(), torch.zeros(2, 3, 4, dtype=dtype)
    first = room.rows(5, like)
    assert (first.shape, first.dtype) == ((5, 2, 3, 4), dtype)
    assert first.data_ptr() % ALIGNED == 0
    assert room.rows(2, like).data_ptr() == first.data_ptr()
    assert room.rows(6, like).shape == (6, 2, 3, 4)
