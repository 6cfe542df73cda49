"""No tensor of the CPU meets one of the model's device in what attributes, runs and patches edges, and none is lost."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from circuits.engine.forward import Scattered, metric_by_role, metric_of
from circuits.methods.eap import clean_corrupt, eap, relp
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.methods.role_scores import role_scores
from circuits.metrics import logit_diff
from circuits.select import top_edges
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

FILE = Path(__file__).parents[1] / "transfer" / "test_devices.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("elsewhere", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["elsewhere"] = module
    spec.loader.exec_module(module)
    return module


devices = _load()
Both = tuple[HybridLM, HybridLM, TokenPairs]


@pytest.fixture
def both(random_case, shape, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """The same model here and on a device that is not there, and its pairs."""
    case = random_case(**shape)
    here = case.model.float()
    there, is_on = copy.deepcopy(here), torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != devices.NAME and is_on(kind))
    with devices.elsewhere(monkeypatch) as name:
        yield here, there.to(name), case.pairs


@pytest.mark.parametrize("method", [eap, eap_ig, clean_corrupt, relp, exact])
def test_scores(both: Both, method) -> None:
    here, there, pairs = both
    expected, found = (method(model, pairs).per_example for model in (here, there))
    torch.testing.assert_close(found, expected)


def test_circuits(both: Both) -> None:
    here, there, pairs = both
    scores = eap_ig(here, pairs)
    circuits = [top_edges(scores, max(1, len(scores.graph.edges) // part)) for part in (1, 2, 5)]
    expected, found = (metric_of(model, circuits, pairs, logit_diff) for model in (here, there))
    torch.testing.assert_close(found, expected)
    assert expected.std() > 0


def test_role_aware_circuits(both: Both) -> None:
    here, there, pairs = both
    expected, found = (role_scores(model, pairs) for model in (here, there))
    torch.testing.assert_close(found.values, expected.values)
    kept = (expected.values != 0).numpy()
    some = [kept, Scattered(kept, kept.any(0), 0)]
    values = (metric_by_role(model, some, expected.roles, pairs, logit_diff) for model in (here, there))
    torch.testing.assert_close(*values)
