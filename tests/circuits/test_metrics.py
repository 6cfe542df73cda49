"""Metrics are one number per pair, finite, and other on the clean side than on the corrupt one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from circuits.judging.faithfulness import evaluate
from circuits.looking.ablation import ablate
from circuits.looking.contributions import contributions
from circuits.looking.patching import patch_positions
from circuits.methods.acdc import acdc
from circuits.methods.eap import eap
from circuits.methods.eap_ig import eap_ig
from circuits.methods.flows import flows
from circuits.methods.masks import edge_masks
from circuits.methods.role_scores import role_scores
from circuits.methods.unit_scores import unit_scores
from circuits.metrics import answer_log_prob, check_moves, logit_diff, measured, metric_name
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.tokens import TokenPairs


def mean_of_pairs(logits: Tensor, pairs: TokenPairs) -> Tensor:
    return logit_diff(logits, pairs).mean()


@pytest.mark.parametrize(
    ("metric", "shape"),
    [
        (mean_of_pairs, r"\[\]"),
        (lambda logits, pairs: logits, r"\[5, 20\]"),
        (lambda logits, pairs: logits[:4, 0], r"\[4\]"),
        (lambda logits, pairs: 1.0, "float"),
    ],
)
def test_a_metric_that_is_not_one_number_per_pair_is_refused(random_case, metric, shape: str) -> None:
    case = random_case()
    with pytest.raises(InputError, match=f"the metric gives {shape} for 5 pairs, expected one number"):
        measured(metric, torch.zeros(5, 20), case.pairs)


def test_the_name_of_a_metric_is_refused() -> None:
    """Without the types that tests check, which refuse it sooner."""
    unchecked = inspect.unwrap(measured)
    assert unchecked is not measured
    with pytest.raises(InputError, match="the metric is 'logit_diff', expected a function"):
        unchecked("logit_diff", torch.zeros(5, 20), None)


MEASURING: dict[str, Callable] = {
    "eap": lambda case, metric: eap(case.model, case.pairs, metric),
    "eap-ig over activations": lambda case, metric: eap_ig(
        case.model, case.pairs, metric, over="activations"
    ),
    "flows": lambda case, metric: flows(case.model, case.pairs, metric),
    "role scores": lambda case, metric: role_scores(case.model, case.pairs, metric),
    "unit scores": lambda case, metric: unit_scores(case.model, case.pairs, "blocks.1.mlp.hook_post", metric),
    "acdc": lambda case, metric: acdc(case.model, case.pairs, metric, threshold=0.1),
    "masks": lambda case, metric: edge_masks(case.model, case.pairs, metric, updates=1),
    "evaluate": lambda case, metric: evaluate(
        case.model, top_edges(eap(case.model, case.pairs), 5), case.pairs, metric=metric
    ),
    "ablate": lambda case, metric: ablate(case.model, case.pairs, "zero", metric),
    "ablate counterfactual": lambda case, metric: ablate(case.model, case.pairs, "counterfactual", metric),
    "patching": lambda case, metric: patch_positions(case.model, case.pairs, metric),
}
"""Everything that asks a metric."""


@pytest.mark.parametrize("name", MEASURING)
def test_a_mean_over_pairs_is_refused_wherever_a_metric_is_asked(random_case, name: str) -> None:
    with pytest.raises(InputError, match="expected one number for each"):
        MEASURING[name](random_case("*-"), mean_of_pairs)


@pytest.mark.parametrize("name", sorted(set(MEASURING) - {"evaluate"}))
def test_nan_in_the_weights_is_said_and_not_handed_on(random_case, name: str) -> None:
    case = random_case("*-")
    with torch.no_grad():
        case.model.blocks[1].mlp.W_out[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        MEASURING[name](case, logit_diff)


ATTRIBUTING = [
    "eap",
    "eap-ig over activations",
    "flows",
    "role scores",
    "unit scores",
    "ablate counterfactual",
]
"""Everything that asks what the other side changes."""


@pytest.mark.parametrize("name", ATTRIBUTING)
def test_sides_that_are_the_same_leave_nothing_to_attribute(random_case, name: str) -> None:
    case = random_case("*-")
    same = replace(case, pairs=replace(case.pairs, corrupt=case.pairs.clean))
    with pytest.raises(InputError, match="both sides of every pair .* nothing to attribute"):
        MEASURING[name](same, logit_diff)


def test_the_answers_of_pairs_that_have_but_one_have_no_contributions(random_case) -> None:
    case = random_case("*-")
    one = replace(case.pairs, corrupt_answer=case.pairs.clean_answer)
    with pytest.raises(InputError, match="same token in every pair of edit .* nothing to attribute"):
        contributions(case.model, one)
    answer = one.corrupt_answer.clone()
    answer[0] = (answer[0] + 1) % 20
    values = contributions(case.model, replace(one, corrupt_answer=answer)).values
    assert values[0].abs().max() > 1e-6
    assert not values[1:].any()


@pytest.mark.parametrize("name", ["eap", "eap-ig over activations", "flows", "unit scores"])
def test_a_metric_that_forgets_the_logits_is_refused(random_case, name: str) -> None:
    with pytest.raises(InputError, match="does not depend on the logits"):
        MEASURING[name](random_case("*-"), lambda logits, pairs: logit_diff(logits, pairs).detach())


def test_one_pair_that_moves_is_enough() -> None:
    still = torch.tensor([1.0, 2.0, 3.0])
    check_moves(still, torch.tensor([1.0, 2.0, 3.5]), "schema.table")
    with pytest.raises(InputError, match="the metric is 2 on both sides"):
        check_moves(still, still.clone(), "schema.table")


def test_a_difference_in_one_pair_just_above_the_smallest_moves() -> None:
    still = torch.zeros(100)
    moved = still.clone()
    moved[7] = 1.5e-6
    check_moves(still, moved, "schema.table")
    check_moves(moved, still, "schema.table")
    with pytest.raises(InputError, match="on both sides"):
        check_moves(still, moved / 2, "schema.table")


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_is_not_finite_is_refused(side: int) -> None:
    sides = [torch.zeros(3), torch.ones(3)]
    sides[side][1] = float("inf")
    with pytest.raises(InputError, match="1 of 6 values of the metric are not finite"):
        check_moves(*sides, "schema.table")


def test_of_whole_answers_the_tokens_that_differ_are_summed(random_case) -> None:
    """Two answers of three tokens: the middle one is the same on both sides and says nothing."""
    pairs = replace(
        random_case(n=1).pairs,
        clean_answer=torch.tensor([[0, 1, 2]]),
        corrupt_answer=torch.tensor([[1, 1, 0]]),
    )
    logits = torch.tensor([[[3.0, 1.0, 0.0], [5.0, 2.0, 0.0], [1.0, 0.0, 4.0]]])
    assert logit_diff(logits, pairs).tolist() == [(3 - 1) + 0 + (4 - 1)]
    log_probs = logits.log_softmax(-1)[0]
    expected = float(log_probs[0, 0] + log_probs[2, 2])
    assert answer_log_prob(logits, pairs).tolist() == pytest.approx([expected])


def test_a_metric_is_called_by_its_name() -> None:
    assert metric_name(logit_diff) == "logit_diff"
    assert metric_name(functools.partial(logit_diff)).startswith("functools.partial(<function logit_diff")
