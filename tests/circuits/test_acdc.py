"""ACDC against the plain loop of its paper, and what it finds in a wired model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.batching import by_length
from circuits.engine.forward import metric_of, run_circuit
from circuits.graph import Edge, Graph
from circuits.losses import loss_of
from circuits.methods.acdc import acdc, acdc_scores
from circuits.methods.exact import exact
from circuits.metrics import answer_log_prob, logit_diff
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, MoEConfig


def plain_loop(case, loss, threshold) -> frozenset[Edge]:
    """Algorithm 1 of arXiv 2304.14997 as it is written: one circuit run whole for every edge."""
    graph, metric = Graph.of(case.model), lost(case, loss)
    kept, now = set(graph.edges), 0.0
    for reader in reversed(graph.readers):
        for writer in reversed(graph.writers):
            edge = Edge(writer.name, reader.name)
            if edge in kept:
                without = Circuit(graph, tuple(kept - {edge}))
                then = metric_of(case.model, [without], case.pairs, metric).double().mean().item()
                if then - now < threshold:
                    kept, now = kept - {edge}, then
    return frozenset(kept)


def lost(case, loss):
    """The loss as a metric; all pairs must be in one batch, as the whole model's logits are theirs."""
    graph = Graph.of(case.model)
    (batch,) = by_length(case.model, case.pairs, None).batches
    whole = run_circuit(case.model, Circuit(graph, graph.edges), batch)
    return lambda logits, pairs: loss_of(loss, logits, whole, pairs)


def median_effect(case, loss) -> float:
    """Just above that of single edges on the whole model: at such a threshold some edges stay and some go."""
    return 1.03 * exact(case.model, case.pairs, lost(case, loss)).of_edges().mean(0).abs().median().item()


@pytest.mark.parametrize("loss", ["kl", logit_diff], ids=["kl", "logit_diff"])
def test_acdc_is_the_plain_loop(random_case, shape, loss) -> None:
    case = random_case(**shape)
    threshold = median_effect(case, loss)
    found = acdc(case.model, case.pairs, loss, threshold=threshold, rows=20)
    assert frozenset(found.edges) == plain_loop(case, loss, threshold)
    assert 0 < len(found) < len(found.graph.edges)


def test_neither_batches_nor_how_many_trials_ride_together_change_the_circuit(random_case) -> None:
    case = random_case("*-*-")
    threshold = median_effect(case, "kl")
    ways = [{}, {"batch_size": 2}, {"rows": 1}, {"batch_size": 3, "rows": 12}]
    found = [acdc(case.model, case.pairs, threshold=threshold, **way) for way in ways]
    assert len({circuit.edges for circuit in found}) == 1
    assert found[2].metadata["runs"] <= len(found[2].graph.edges), "one at a time, nothing is tried twice"


def test_its_loss_is_that_of_the_circuit_run_alone(random_case) -> None:
    case = random_case(
        "ME*-",
        n_kv_heads=1,
        mamba=MambaConfig(n_heads=2, d_head=6, d_state=5, chunk=4),
        moe=MoEConfig(n_experts=3, n_active=2, d_expert=8, d_shared=8),
    )
    for loss in ("kl", answer_log_prob):
        circuit = acdc(case.model, case.pairs, loss, threshold=2 * median_effect(case, loss))
        alone = metric_of(case.model, [circuit], case.pairs, lost(case, loss)).mean().item()
        assert circuit.metadata["loss"] == pytest.approx(alone, rel=1e-5)


def test_whole_answers_are_one_behaviour(random_case) -> None:
    case = random_case("*-*")
    last = case.pairs.position
    pairs = replace(
        case.pairs,
        position=torch.stack([last - 2, last, last], dim=1),
        clean_answer=torch.stack([case.pairs.clean_answer, case.pairs.clean_answer, last], dim=1),
        corrupt_answer=torch.stack([case.pairs.corrupt_answer, case.pairs.corrupt_answer, last], dim=1),
    )
    case = replace(case, pairs=pairs)
    threshold = median_effect(case, "kl")
    found = acdc(case.model, pairs, threshold=threshold)
    assert frozenset(found.edges) == plain_loop(case, "kl", threshold)


def test_a_wired_circuit_is_what_is_left(planted) -> None:
    for loss, threshold in (("kl", 0.05), (logit_diff, 0.5)):
        found = acdc(planted.model, planted.pairs, loss, threshold=threshold)
        assert set(found.connected().edges) == planted.edges


def test_scores_are_the_largest_threshold_that_keeps_an_edge(random_case) -> None:
    case = random_case("*-")
    thresholds = [4 * median_effect(case, "kl"), median_effect(case, "kl")]
    scores = acdc_scores(case.model, case.pairs, thresholds=thresholds)
    circuits = [acdc(case.model, case.pairs, threshold=threshold) for threshold in thresholds]
    for edge in scores.graph.edges:
        kept = [t for t, circuit in zip(thresholds, circuits, strict=True) if edge in circuit.edges]
        assert scores[edge] == pytest.approx(max(kept, default=0.0))
    assert scores.metadata["runs"] == sum(circuit.metadata["runs"] for circuit in circuits)


def test_thresholds_are_the_corrupt_runs_loss_halved_once_to_twelve_times(random_case) -> None:
    case = random_case("*-", n=3)
    nothing = Circuit(Graph.of(case.model), ())
    whole = metric_of(case.model, [nothing], case.pairs, lost(case, "kl")).double().mean().item()
    tried = acdc_scores(case.model, case.pairs).metadata["edges_at_threshold"]
    assert [float(text) for text in tried] == pytest.approx(
        [whole / 2**step for step in range(12, 0, -1)], rel=1e-5
    )


def test_true_edges_stay_at_larger_thresholds_than_all_others(planted) -> None:
    scores = acdc_scores(planted.model, planted.pairs)
    assert set(scores.ranked()[: len(planted.edges)]) == planted.edges


def test_what_cannot_be_searched_is_refused(random_case) -> None:
    case = random_case("*")
    with pytest.raises(InputError, match="threshold is 0.0, expected more than 0"):
        acdc(case.model, case.pairs, threshold=0.0)
    with pytest.raises(InputError, match="threshold is nan"):
        acdc(case.model, case.pairs, threshold=float("nan"))
    with pytest.raises(InputError, match="the loss is 'cl', expected 'kl' or a metric"):
        acdc(case.model, case.pairs, "cl", threshold=1.0)
    with pytest.raises(InputError, match="there is no threshold"):
        acdc_scores(case.model, case.pairs, thresholds=[])
    same = replace(case.pairs, corrupt=case.pairs.clean)
    with pytest.raises(InputError, match="the corrupt run loses"):
        acdc_scores(case.model, same)
