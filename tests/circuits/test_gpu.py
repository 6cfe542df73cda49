"""On a GPU: the same scores, effects and circuits as on a CPU, in float32."""

from __future__ import annotations

import copy

import pytest
import torch

from circuits.engine.forward import metric_of
from circuits.methods.eap import relp
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.methods.flows import flows
from circuits.metrics import logit_diff
from circuits.select import top_edges
from data_gen.errors import InputError

pytestmark = pytest.mark.gpu


@pytest.fixture
def both(random_case, shape):
    """The same model on both devices, in float32, and its pairs."""
    case = random_case(**shape)
    cpu = case.model.float()
    return cpu, copy.deepcopy(cpu).cuda(), case.pairs


@pytest.mark.parametrize("method", [eap_ig, relp, exact])
def test_scores_are_those_of_a_cpu(both, method) -> None:
    cpu, gpu, pairs = both
    expected, found = method(cpu, pairs).per_example, method(gpu, pairs).per_example
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_a_circuit_gives_the_metric_it_gives_on_a_cpu(both) -> None:
    cpu, gpu, pairs = both
    scores = eap_ig(cpu, pairs)
    circuit = top_edges(scores, max(1, len(scores.graph.edges) // 3))
    expected, found = (metric_of(model, [circuit], pairs, logit_diff) for model in (cpu, gpu))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_flows_are_those_of_a_cpu(both) -> None:
    cpu, gpu, pairs = both
    if not set(cpu.cfg.pattern) & set("*M"):  # nothing flows between positions
        with pytest.raises(InputError, match="has no heads"):
            flows(gpu, pairs)
        return
    expected, found = flows(cpu, pairs).values, flows(gpu, pairs).values
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
