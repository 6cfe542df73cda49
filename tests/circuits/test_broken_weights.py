"""A weight that is not finite is said by name, also where fused attention takes a score of NaN for a masked one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import run_circuit
from circuits.graph import Graph
from circuits.judging.faithfulness import evaluate
from circuits.looking.ablation import ablate
from circuits.looking.contributions import contributions
from circuits.looking.lens import logit_lens
from circuits.looking.patching import patch_positions
from circuits.looking.patterns import attention_by_role
from circuits.looking.translators import TunedLensConfig, fit_tuned_lens
from circuits.methods.acdc import acdc
from circuits.methods.eap import eap
from circuits.methods.exact import exact
from circuits.methods.unit_scores import unit_scores
from circuits.metrics import check_weights
from data_gen.errors import InputError


def whole(case) -> Circuit:
    graph = Graph.of(case.model)
    return Circuit(graph, tuple(graph.edges))


READING: dict[str, Callable] = {
    "exact": lambda case: exact(case.model, case.pairs),
    "eap": lambda case: eap(case.model, case.pairs),
    "acdc": lambda case: acdc(case.model, case.pairs, threshold=0.1),
    "unit scores": lambda case: unit_scores(case.model, case.pairs, "blocks.1.mlp.hook_post"),
    "evaluate": lambda case: evaluate(case.model, whole(case), case.pairs),
    "run circuit": lambda case: run_circuit(case.model, whole(case), case.pairs),
    "lens": lambda case: logit_lens(case.model, case.pairs),
    "tuned lens": lambda case: fit_tuned_lens(case.model, case.pairs.clean, TunedLensConfig(steps=1)),
    "contributions": lambda case: contributions(case.model, case.pairs),
    "patterns": lambda case: attention_by_role(case.model, case.pairs.clean),
    "patching": lambda case: patch_positions(case.model, case.pairs),
    "ablation": lambda case: ablate(case.model, case.pairs, "zero"),
}
"""Everything that runs a model it is given."""


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", READING)
def test_a_weight_that_is_not_finite_is_named(random_case, name: str, value: float) -> None:
    case = random_case("*-")
    with torch.no_grad():
        case.model.blocks[0].attn.W_Q[1, 2, :2] = value
    sentence = r"weight `blocks.0.attn.W_Q` of the model has 2 of 576 numbers that are not finite"
    with pytest.raises(InputError, match=sentence):
        READING[name](case)


@pytest.mark.parametrize(("name", "what"), [("lens", "logit lens"), ("contributions", "contributions")])
def test_numbers_too_large_for_the_model_are_said(random_case, name: str, what: str) -> None:
    """Weights are finite, their products are not."""
    case = random_case("*-")
    case.model.float()
    with torch.no_grad():
        case.model.blocks[1].mlp.W_in.fill_(1e30)
        case.model.blocks[1].mlp.W_out.fill_(1e30)
    with pytest.raises(InputError, match=f"values of the {what} are not finite"):
        READING[name](case)


def test_finite_weights_whose_sum_is_not_are_let_through() -> None:
    check_weights([("loud", torch.full((4,), 3e38)), ("half", torch.full((4,), 6e4, dtype=torch.float16))])
    with pytest.raises(InputError, match="weight `half` of the model has 1 of 2 numbers"):
        check_weights([("loud", torch.full((4,), 3e38)), ("half", torch.tensor([-torch.inf, 6e4]).half())])
