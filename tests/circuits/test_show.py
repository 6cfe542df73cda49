"""Figures say what the data say, for every kind of block, and leave plotly as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import plotly.io
import pytest
import torch

from circuits.circuit import Circuit
from circuits.drawing.curve import faithfulness_figure
from circuits.drawing.edges import stops_of
from circuits.drawing.layout import MOST_COLUMNS, layout
from circuits.drawing.style import LOWERS, NEUTRAL, RAISES
from circuits.graph import Edge, Graph
from circuits.judging.compare import compare
from circuits.judging.curves import Area, Areas, Curve, CurvePoint
from circuits.judging.ratios import Band, Estimate
from circuits.judging.role_curves import RoleCurve, RolePoint
from circuits.methods.role_scores import RoleScores
from circuits.scores import EdgeScores
from circuits.select import top_edges
from circuits.show import show, show_difference
from data_gen.errors import InputError

GRAPH = Graph(pattern="*-", n_heads=2)
HYBRID = Graph("MEM*EME", n_heads=12, n_kv_heads=4, mamba_heads=24, mamba_groups=4, n_experts=32)
"""150 writers and more."""
QUERY, OUT = Edge("embed", "blocks.0.attn.q.1"), Edge("blocks.0.attn.head.1", "logits")


def scores_of(graph: Graph, given: dict[Edge, list[float]]) -> EdgeScores:
    """Scores of every example by edge, zero elsewhere."""
    per_example = torch.zeros(len(next(iter(given.values()))), *graph.mask.shape)
    for edge, values in given.items():
        per_example[(slice(None), *graph.index(edge))] = torch.tensor(values)
    return EdgeScores(graph=graph, per_example=per_example, method="eap", metric="logit_diff", edit="x")


@pytest.fixture
def scores() -> EdgeScores:
    return scores_of(GRAPH, {QUERY: [-2.0, -2.5, -1.5], OUT: [1.0, 1.0, 1.0]})


@pytest.fixture
def circuit(scores: EdgeScores) -> Circuit:
    return top_edges(scores, 2)


def lines(figure):
    return {trace.name: trace for trace in figure.data if " -> " in (trace.name or "")}


def labels(figure) -> dict[str, str]:
    """By name of a lit square, its label."""
    traces = [trace for trace in figure.data if trace.customdata is not None]
    return {
        text.split("<br>")[0]: name
        for trace in traces
        for text, name in zip(trace.customdata, trace.text, strict=True)
    }


def letters(figure) -> list[str]:
    return [
        text
        for trace in figure.data
        if trace.mode == "markers+text" and trace.customdata is None
        for text in trace.text
    ]


def test_width_is_the_absolute_score_and_colour_and_dash_its_sign(circuit: Circuit) -> None:
    drawn = lines(show(circuit))
    thick, thin = drawn[str(QUERY)], drawn[str(OUT)]
    assert (thick.line.color, thick.line.dash) == (LOWERS, "solid")
    assert (thin.line.color, thin.line.dash) == (RAISES, "dash")
    assert thick.line.width > thin.line.width > 0
    assert list(drawn) == [str(OUT), str(QUERY)], "the strongest lies on top"


def looks(figure) -> dict[str, tuple[str, str]]:
    """By entry of the legend its colour and dash."""
    return {trace.name: (trace.line.color, trace.line.dash) for trace in figure.data if trace.showlegend}


def test_width_grows_with_the_root_of_the_share_of_the_largest(circuit: Circuit) -> None:
    """Sizes 2 and 1: the whole and half of the largest."""
    widths = {name: trace.line.width for name, trace in lines(show(circuit)).items()}
    assert widths == {str(QUERY): 6.8, str(OUT): round(0.8 + 6 * 0.5**0.5, 2)}


def test_the_legend_names_what_is_drawn(circuit: Circuit) -> None:
    assert looks(show(circuit)) == {
        "corrupt value lowers the metric: carries the behaviour": (LOWERS, "solid"),
        "corrupt value raises the metric": (RAISES, "dash"),
    }
    plain = show(Circuit(GRAPH, (QUERY, OUT)))
    assert looks(plain) == {"edge of the circuit": (NEUTRAL, "solid")}
    assert {(trace.line.color, trace.line.width) for trace in lines(plain).values()} == {(NEUTRAL, 1.5)}


def test_the_title_says_what_is_drawn_unless_one_is_given(circuit: Circuit) -> None:
    total = len(GRAPH.edges)
    assert f"2 of {total} edges for x, by eap" in show(circuit).layout.title.text
    assert show(Circuit(GRAPH, (QUERY,))).layout.title.text == f"1 of {total} edges"
    assert show(circuit, title="mine").layout.title.text == "mine"


def test_scores_are_drawn_by_their_strongest_edges() -> None:
    graph = Graph("*-*-", n_heads=2)
    scores = scores_of(graph, {edge: [float(place - 20)] for place, edge in enumerate(graph.edges)})
    assert list(lines(show(scores, top=3))) == [str(edge) for edge in reversed(scores.ranked()[:3])]
    assert len(lines(show(scores, top=10_000))) == len(graph.edges) > 40
    assert len(lines(show(scores))) == 40


def test_scores_that_are_given_count_and_not_those_that_the_circuit_was_found_with(
    circuit: Circuit, scores: EdgeScores
) -> None:
    turned = replace(scores, per_example=-scores.per_example)
    assert lines(show(circuit, scores=turned))[str(QUERY)].line.color == RAISES
    bare = lines(show(Circuit(GRAPH, circuit.edges), scores=scores))
    assert [trace.line.color for trace in bare.values()] == [RAISES, LOWERS]


def test_an_edge_runs_upwards_between_its_ends(circuit: Circuit) -> None:
    figure = show(circuit)
    places, thin = layout(GRAPH, circuit.edges), lines(figure)[str(OUT)]
    assert thin.x[0] == pytest.approx(places.nodes["blocks.0.attn.head.1"].x)
    assert thin.x[-1] == pytest.approx(places.nodes["logits"].x)
    assert list(thin.y) == sorted(thin.y)


def test_an_edge_says_its_score_interval_sign_and_q(circuit: Circuit, scores: EdgeScores) -> None:
    text = lines(show(circuit, scores=scores))[str(QUERY)].text
    q = scores.table(1)[0]["q"]
    assert text.startswith("embed → blocks.0.attn.q.1<br>score -2 (95 % ")
    assert f"same sign in 100% of 3 pairs, q = {q:.2g}" in text
    assert lines(show(circuit))[str(OUT)].text == "blocks.0.attn.head.1 → logits<br>score 1"


def test_an_edge_says_at_which_role_it_is_read_most(circuit: Circuit) -> None:
    values = torch.zeros(2, *GRAPH.mask.shape)
    values[(0, *GRAPH.index(QUERY))], values[(1, *GRAPH.index(QUERY))] = 0.5, -2.5
    roles = RoleScores(
        graph=GRAPH, roles=("a", "b"), values=values, errors=values.abs() / 5, metric="m", edit="x", n_pairs=3
    )
    drawn = lines(show(circuit, roles=roles))
    assert drawn[str(QUERY)].text.endswith("most at b: -2.5 ± 0.5")
    assert "most at" not in drawn[str(OUT)].text
    large = torch.zeros(2, *HYBRID.mask.shape)
    with pytest.raises(InputError, match="the roles are of a model of pattern"):
        show(circuit, roles=replace(roles, graph=HYBRID, values=large, errors=large))


def test_a_square_with_an_edge_has_a_label_and_every_square_a_name(circuit: Circuit) -> None:
    figure = show(circuit)
    assert labels(figure) == {"embed": "emb", "blocks.0.attn.head.1": "h1", "logits": "log"}
    assert letters(figure) == ["q"]
    idle = next(trace for trace in figure.data if trace.mode == "markers")
    assert set(idle.text) == {*(writer.name for writer in GRAPH.writers), "logits"}


def test_the_slider_keeps_the_strongest_edges_and_what_they_touch() -> None:
    given = {edge: [float(place + 1)] for place, edge in enumerate(reversed(GRAPH.edges))}
    scores = scores_of(GRAPH, given)
    figure = show(scores)
    (slider,) = figure.layout.sliders
    for step, stop in zip(slider.steps, stops_of(len(GRAPH.edges)), strict=True):
        seen = [trace for trace, on in zip(figure.data, step.args[0]["visible"], strict=True) if on]
        kept = {str(edge) for edge in scores.ranked()[:stop]}
        assert step.label == str(stop)
        assert {trace.name for trace in seen if " -> " in (trace.name or "")} == kept
        touched = {name for edge in kept for name in (Edge.parse(edge).writer,)}
        assert touched <= {
            text.split("<br>")[0]
            for trace in seen
            if trace.customdata is not None
            for text in trace.customdata
        }
    assert slider.active == len(slider.steps) - 1
    assert stops_of(1) == [1]
    assert all(low < high for low, high in pairwise(stops_of(998)))


@pytest.mark.parametrize(
    "graph",
    [
        HYBRID,
        Graph("*-E", n_heads=4, n_kv_heads=2, n_experts=5),
        Graph("M", mamba_heads=3, mamba_groups=3),
        GRAPH,
    ],
    ids=str,
)
def test_every_writer_and_reader_of_every_kind_of_block_has_its_own_place(graph: Graph) -> None:
    places = layout(graph, graph.edges)
    assert set(places.nodes) == {*(writer.name for writer in graph.writers), "logits"}
    assert set(places.ports) == {reader.name for reader in graph.readers}
    for found in (places.nodes.values(), [port.place for port in places.ports.values()]):
        spots = [(round(place.x, 6), round(place.y, 6)) for place in found]
        assert len(set(spots)) == len(spots)
        assert all(abs(x) <= places.half_width for x, _ in spots)
    heights = [places.bend(edge, np.array([0.0, 1.0]))[1] for edge in graph.edges]
    assert all(low < high for low, high in heights)


def test_what_is_shared_stands_under_a_bracket_over_all_it_feeds() -> None:
    places = layout(HYBRID, ())
    port = places.ports["blocks.0.mamba.B.1"]
    group = [places.nodes[f"blocks.0.mamba.head.{head}"].x for head in range(6, 12)]
    assert port.span is not None
    assert port.span[0] < min(group)
    assert max(group) < port.span[1]
    assert port.place.y < places.ports["blocks.0.mamba.dt.7"].place.y
    assert places.ports["blocks.0.mamba.dt.7"].owner == "blocks.0.mamba.head.7"
    assert (places.ports["blocks.1.moe.router"].letter, places.ports["blocks.3.attn.k.2"].letter) == (
        "router",
        "k",
    )


def test_of_very_many_experts_only_those_with_an_edge_are_drawn() -> None:
    graph = Graph("E-", n_experts=MOST_COLUMNS + 20)
    edges = (Edge("blocks.0.moe.expert.7", "blocks.1.mlp"), Edge("embed", "blocks.0.moe.expert.50"))
    places = layout(graph, edges)
    assert list(places.nodes) == [
        "embed",
        "logits",
        "blocks.0.moe.expert.7",
        "blocks.0.moe.expert.50",
        "blocks.1.mlp",
    ]
    assert places.rows[1] == "0 experts,<br>2 of 61"
    assert set(lines(show(Circuit(graph, edges)))) == set(map(str, edges))


def test_a_difference_tells_what_one_has_from_what_both_have(scores: EdgeScores) -> None:
    direct = Edge("embed", "logits")
    first = Circuit(GRAPH, (QUERY, OUT), {"scores": {str(QUERY): -2.0, str(OUT): -1.0}})
    second = Circuit(GRAPH, (OUT, direct), {"scores": {str(OUT): 0.5, str(direct): 0.1}})
    figure = show_difference(first, second, names=("A", "B"))
    looks = {name: (trace.line.color, trace.line.dash) for name, trace in lines(figure).items()}
    assert looks == {
        str(QUERY): (LOWERS, "solid"),
        str(OUT): (NEUTRAL, "dot"),
        str(direct): (RAISES, "dash"),
    }
    assert lines(figure)[str(OUT)].text.endswith("A: -1<br>B: 0.5")
    assert lines(figure)[str(QUERY)].text.endswith("A: -2<br>not in B")
    assert {trace.name for trace in figure.data if trace.showlegend} == {"only A: 1", "only B: 1", "both: 1"}
    with pytest.raises(InputError, match="no edges in common"):
        show_difference(first, Circuit(HYBRID, ()))


def test_each_circuit_of_a_difference_is_measured_by_its_own_largest_score() -> None:
    """Of the first -8 is the whole and -2 a quarter, of the second 1 the whole; an edge of both has the mean."""
    direct, value = Edge("embed", "logits"), Edge("embed", "blocks.0.attn.v.0")
    first = Circuit(GRAPH, (QUERY, OUT), {"scores": {str(QUERY): -8.0, str(OUT): -2.0}})
    second = Circuit(
        GRAPH, (OUT, direct, value), {"scores": {str(OUT): 1.0, str(direct): 0.09, str(value): 0.04}}
    )
    figure = show_difference(first, second, names=("A", "B"))
    shares = {QUERY: 1.0, OUT: (0.25 + 1) / 2, direct: 0.09, value: 0.04}
    assert {name: trace.line.width for name, trace in lines(figure).items()} == {
        str(edge): pytest.approx(0.6 * round(0.8 + 6 * share**0.5, 2)) for edge, share in shares.items()
    }
    assert list(lines(figure)) == [str(edge) for edge in (value, direct, OUT, QUERY)], "the strongest on top"
    assert looks(figure) == {
        "only A: 1": (LOWERS, "solid"),
        "only B: 2": (RAISES, "dash"),
        "both: 1": (NEUTRAL, "dot"),
    }
    found = compare(first, second)
    assert figure.layout.title.text == (
        f"A and B: Jaccard index {found.jaccard:.2f}, by chance {found.chance_jaccard:.2f}"
    )
    assert f"{found.jaccard:.2f}" != f"{found.chance_jaccard:.2f}"
    assert show_difference(first, second, title="mine").layout.title.text == "mine"


def test_an_edge_without_a_score_is_as_wide_as_the_widest() -> None:
    first, second = Circuit(GRAPH, (QUERY,)), Circuit(GRAPH, (OUT,), {"scores": {str(OUT): -0.5}})
    assert {trace.line.width for trace in lines(show_difference(first, second)).values()} == {0.6 * 6.8}


def test_a_circuit_without_scores_or_edges_can_be_drawn() -> None:
    assert len(lines(show(Circuit(GRAPH, GRAPH.edges)))) == len(GRAPH.edges)
    assert not lines(show(Circuit(GRAPH, ())))
    assert not lines(show_difference(Circuit(GRAPH, ()), Circuit(GRAPH, ())))


def test_plotly_keeps_its_theme(circuit: Circuit) -> None:
    before = plotly.io.templates.default
    show(circuit)
    assert plotly.io.templates.default == before


def curve_of(*, matched: bool, areas: Areas | None) -> Curve:
    band = Band(0.1, 0.0, 0.3) if matched else None
    points = tuple(
        CurvePoint(
            n_edges=n, faithfulness=Estimate(v, v - 0.1, v + 0.1), random=Band(0.0, -0.1, 0.2), matched=band
        )
        for n, v in ((1, 0.2), (10, 0.8), (13, 1.0))
    )
    return Curve(
        edit="x",
        method="eap",
        metric="logit_diff",
        n_pairs=8,
        n_edges_model=13,
        random_circuits=5,
        seed=0,
        points=points,
        areas=areas,
    )


def test_the_curve_shows_both_bands_levels_and_sizes() -> None:
    figure = faithfulness_figure(curve_of(matched=True, areas=None))
    band, _, matched, _, line = figure.data
    assert list(band.y) == [0.2, 0.2, 0.2, -0.1, -0.1, -0.1]
    assert list(matched.y) == [0.3, 0.3, 0.3, 0.0, 0.0, 0.0]
    assert list(line.y) == [0.2, 0.8, 1.0]
    assert figure.layout.xaxis.type == "log"
    assert {note.text for note in figure.layout.annotations} == {"full model", "corrupt run"}
    assert len(faithfulness_figure(curve_of(matched=False, areas=None)).data) == 3


def role_curve_of(sizes: tuple[int, ...], values: tuple[float, ...]) -> RoleCurve:
    band = Band(0.1, 0.0, 0.3)
    points = tuple(
        RolePoint(
            n_parts=n, n_edges=n, faithfulness=Estimate(v, v - 0.1, v + 0.1), matched=band, other_roles=band
        )
        for n, v in zip(sizes, values, strict=True)
    )
    counts = {"n_pairs": 8, "n_parts_model": 40, "random_circuits": 1, "seed": 0}
    return RoleCurve(edit="x", metric="logit_diff", points=points, **counts)


@pytest.mark.parametrize(
    ("sizes", "values", "is_one"),
    [
        ((1, 10, 13), (0.2, 0.8, 1.0), True),
        ((1, 10, 13), (0.196, 0.804, 1.0), True),
        ((1, 10, 13), (0.2, 0.806, 1.0), False),
        ((1, 10, 12), (0.2, 0.8, 1.0), False),
        ((1, 10), (0.2, 0.8), False),
    ],
)
def test_that_two_lines_are_one_everywhere_is_said(sizes, values, is_one) -> None:
    by_role = role_curve_of(sizes, values)
    title = faithfulness_figure(curve_of(matched=True, areas=None), by_role=by_role).layout.title.text
    assert ("coincide: at no size are they more than 0.005 apart" in title) is is_one


def test_names_say_whether_edges_are_plain_or_role_aware_and_what_is_counted() -> None:
    by_role = role_curve_of((1, 10, 13), (0.1, 0.7, 1.0))
    figure = faithfulness_figure(curve_of(matched=True, areas=None), by_role=by_role)
    assert [trace.name for trace in figure.data] == [
        "plain edges: 5 random circuits, 5–95 %",
        "plain edges: 5 random circuits, mean",
        "plain edges: 5 layer-matched ones, 5–95 %",
        "plain edges: 5 layer-matched ones, mean",
        "plain edges: the top by eap, 95 % interval",
        "role-aware edges: the same edges at random roles, 1 draw, 5–95 %",
        "role-aware edges: the same edges at random roles, 1 draw, mean",
        "role-aware edges: the top by eap-ig, counted in role-aware edges, 95 % interval",
    ]
    units = [trace.hovertemplate for trace in figure.data if trace.hovertemplate]
    assert (
        units
        == ["%{x} edges: %{y:.3f}<extra></extra>"] * 3
        + ["%{x} role-aware edges: %{y:.3f}<extra></extra>"] * 2
    )


def test_the_curve_has_its_areas_in_the_title() -> None:
    area = Area(value=Estimate(0.25, 0.2, 0.3), random=Band(0.9, 0.8, 1.0), matched=Band(0.7, 0.6, 0.8))
    curve = curve_of(matched=True, areas=Areas(cmd=area, cpr=area, cmd_log=area, cpr_log=area))
    told = "CMD 0.250 (0.200 to 0.300), of layer-matched random circuits 0.700"
    assert f">{told}" in faithfulness_figure(curve).layout.title.text
    # Role-aware edges have no areas.
    both = faithfulness_figure(curve, by_role=role_curve_of((1, 10, 13), (0.2, 0.8, 1.0)))
    assert f">Plain edges: {told}" in both.layout.title.text
