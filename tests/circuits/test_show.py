"""Figures say what the data say, and leave plotly as it was."""

from __future__ import annotations

import plotly.io
import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.judging.faithfulness import Band, Curve, CurvePoint, Estimate
from circuits.scores import EdgeScores
from circuits.select import top_edges
from circuits.show import LOWERS, RAISES, faithfulness_figure, show

GRAPH = Graph(pattern="*-", n_heads=2)


@pytest.fixture
def circuit() -> Circuit:
    per_example = torch.zeros(1, *GRAPH.mask.shape)
    per_example[(0, *GRAPH.index(Edge("embed", "blocks.0.attn.q.1")))] = -2.0
    per_example[(0, *GRAPH.index(Edge("blocks.0.attn.head.1", "logits")))] = 1.0
    scores = EdgeScores(graph=GRAPH, per_example=per_example, method="eap", metric="logit_diff", edit="x")
    return top_edges(scores, 2)


def lines(figure):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.x[0] is not None]


def test_width_is_the_absolute_score_and_colour_and_dash_its_sign(circuit: Circuit) -> None:
    thin, thick = lines(show(circuit))
    assert (thick.line.color, thick.line.dash) == (LOWERS, "solid")
    assert (thin.line.color, thin.line.dash) == (RAISES, "dash")
    assert thick.line.width > thin.line.width > 0


def test_an_edge_runs_upwards_between_its_ends(circuit: Circuit) -> None:
    thin, _ = lines(show(circuit))
    assert thin.x[0] == pytest.approx(1.0)  # head 1
    assert thin.x[-1] == pytest.approx(0.5)  # the logits stand in the middle
    assert list(thin.y) == sorted(thin.y)


def test_every_node_and_edge_can_be_hovered(circuit: Circuit) -> None:
    figure = show(circuit)
    texts = [text for trace in figure.data for text in (trace.text or ()) if "→" in str(text)]
    assert any("blocks.0.attn.head.1 → logits" in text and "score 1" in text for text in texts)
    nodes = next(trace for trace in figure.data if trace.customdata is not None)
    assert [text.split("<br>")[0] for text in nodes.customdata] == [
        *(writer.name for writer in GRAPH.writers),
        "logits",
    ]


def test_a_circuit_without_scores_or_edges_can_be_drawn() -> None:
    assert len(lines(show(Circuit(GRAPH, GRAPH.edges)))) == len(GRAPH.edges)
    assert not lines(show(Circuit(GRAPH, ())))


def test_plotly_keeps_its_theme(circuit: Circuit) -> None:
    before = plotly.io.templates.default
    show(circuit)
    assert plotly.io.templates.default == before


def test_the_curve_shows_band_levels_and_sizes() -> None:
    points = tuple(
        CurvePoint(n_edges=n, faithfulness=Estimate(v, v - 0.1, v + 0.1), random=Band(0.0, -0.1, 0.2))
        for n, v in ((1, 0.2), (10, 0.8), (13, 1.0))
    )
    curve = Curve(
        edit="x",
        method="eap",
        metric="logit_diff",
        n_pairs=8,
        n_edges_model=13,
        random_circuits=5,
        seed=0,
        points=points,
    )
    figure = faithfulness_figure(curve)
    band, _, line = figure.data
    assert list(band.y) == [0.2, 0.2, 0.2, -0.1, -0.1, -0.1]
    assert list(line.y) == [0.2, 0.8, 1.0]
    assert figure.layout.xaxis.type == "log"
    assert {note.text for note in figure.layout.annotations} == {"full model", "corrupt run"}
