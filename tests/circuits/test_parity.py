"""Scores and circuits equal those of EAP-IG's own code (Hanna et al., arXiv 2403.17806), computed once and kept.

`fixtures/eap_ig.json` says which commit made the numbers and on which models. Theirs are means over pairs (the code
was given the sum over a batch, for it divides by the number of pairs itself) and integrate by the left rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.engine.attribution import attribute
from circuits.engine.forward import metric_of
from circuits.graph import Edge
from circuits.methods.eap import eap
from circuits.metrics import logit_diff
from circuits.scores import EdgeScores
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs, Tokens

FIXTURE = Path(__file__).parent / "fixtures" / "eap_ig.json"
CASES: dict[str, dict[str, Any]] = json.loads(FIXTURE.read_text())["cases"]
CLOSE = {"rtol": 0.0, "atol": 1e-5}


class Case(NamedTuple):
    model: HybridLM
    pairs: TokenPairs
    theirs: dict[str, Any]


def set_weights(model: HybridLM) -> None:
    """Weights from a formula, so that no random generator has to stay as it is."""
    gains = {"w": 0.4, "W_E": 1.5, "W_pos": 0.7, "W_O": 0.6, "W_out": 0.6}
    with torch.no_grad():
        for number, (name, weight) in enumerate(model.named_parameters()):
            kind = name.rsplit(".", 1)[-1]
            steps = torch.arange(weight.numel(), dtype=torch.float64)
            wave = torch.sin(0.37 * steps.square() + 1.3 * steps + number).reshape(weight.shape)
            weight.copy_(gains.get(kind, 0.5) * wave + (1.0 if kind == "w" else 0.0))


def tokens(ids: list[list[int]], position: Tensor) -> Tokens:
    found = torch.tensor(ids)
    return Tokens(
        ids=found,
        mask=torch.ones_like(found, dtype=torch.bool),
        roles=tuple(("prompt.markup",) * found.shape[1] for _ in ids),
        answer_start=position + 1,
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    theirs = CASES[request.param]
    config = {name: tuple(v) if isinstance(v, list) else v for name, v in theirs["config"].items()}
    model = HybridLM(ModelConfig(**config)).double()
    set_weights(model)
    position = torch.tensor(theirs["position"])
    pairs = TokenPairs(
        edit="table",
        clean=tokens(theirs["clean"], position),
        corrupt=tokens(theirs["corrupt"], position),
        position=position,
        clean_answer=torch.tensor(theirs["clean_answer"]),
        corrupt_answer=torch.tensor(theirs["corrupt_answer"]),
    )
    return Case(model, pairs, theirs)


def as_theirs(scores: EdgeScores, case: Case) -> Tensor:
    """Their matrix in our columns: they score each query head's share of a shared key or value, we their sum."""
    each = case.model.cfg.n_heads // case.model.cfg.kv_heads
    names = [reader.name for reader in scores.graph.readers]
    matrix = torch.zeros(len(scores.graph.writers), len(names))
    for column, reader in zip(
        torch.tensor(case.theirs[scores.method]).T, case.theirs["readers"], strict=True
    ):
        stem, _, number = reader.rpartition(".")
        shared = each > 1 and stem.endswith((".k", ".v"))
        matrix[:, names.index(f"{stem}.{int(number) // each}" if shared else reader)] += column
    assert [writer.name for writer in scores.graph.writers] == case.theirs["writers"]
    return matrix


def test_eap_scores_are_eap_igs_own(case: Case) -> None:
    scores = eap(case.model, case.pairs)
    assert scores.values.abs().max() > 0.1
    torch.testing.assert_close(scores.values.float(), as_theirs(scores, case), **CLOSE)


def test_integrated_scores_are_eap_igs_own_under_its_left_rule(case: Case) -> None:
    left = tuple(step / 5 for step in range(5))
    scores = attribute(case.model, case.pairs, logit_diff, method="left", mixes=left, batch_size=2)
    assert not torch.allclose(scores.values, eap(case.model, case.pairs).values, atol=0.01)
    torch.testing.assert_close(scores.values.float(), as_theirs(scores, case), **CLOSE)


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if "circuit" in case], indirect=True)
def test_a_circuit_computes_what_eap_igs_evaluation_computes(case: Case) -> None:
    """Without the model of shared heads: there their edges are of query heads, ours of the heads that these share."""
    edges = tuple(Edge.parse(edge) for edge in case.theirs["circuit"])
    graph = eap(case.model, case.pairs).graph
    found = metric_of(case.model, [Circuit(graph, edges)], case.pairs, logit_diff)[0]
    whole = metric_of(case.model, [Circuit(graph, graph.edges)], case.pairs, logit_diff)[0]
    assert (found - whole).abs().max() > 0.1, "the circuit is not the model"
    torch.testing.assert_close(found, torch.tensor(case.theirs["circuit_metric"]), **CLOSE)
