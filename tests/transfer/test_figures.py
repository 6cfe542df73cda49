"""A figure says what it shows, in which units, and shows the numbers of the report."""

import plotly.graph_objects as go
import pytest

from transfer.figures import layer_figure, outcome_figure, rank_figure, switch_figure


def share(right: int, total: int = 100) -> dict[str, object]:
    return {"share": right / total, "interval95": [right / total - 0.05, right / total + 0.05]}


POINTS = [
    {
        "vector": name,
        "target_hook": f"blocks.{i}.hook_resid_post",
        "rank": None,
        "right": share(10 * i + extra),
    }
    for i in range(3)
    for name, extra in (("native", 5), ("transferred", 0))
]
NOTHING = {"vector": "none", "target_hook": "blocks.1.hook_resid_post", "rank": None, "right": share(1)}
RANKS = [{**NOTHING, "vector": "transferred", "rank": rank, "right": share(10 * rank)} for rank in (1, 4)]
REPORT = {
    "aim": {"start": "prod", "wanted": "right"},
    "transfer": {"verdict": "transferred"},
    "outcomes": [
        {"name": "native", "control": None, "right": [share(90)], "shown": [share(5)]},
        {"name": "gaussian", "control": 3, "right": [share(0), share(20)], "shown": [share(80), share(90)]},
    ],
}
SWITCH = {
    "verdict": "switch",
    "arms": [
        {"name": "off", "shown": share(95), "parameter_share": 0.0},
        {"name": "map", "shown": share(5), "parameter_share": 0.04},
    ],
}


def says_what_it_shows(figure: go.Figure) -> None:
    layout = figure.layout
    assert layout.title.text
    units = f"{layout.xaxis.title.text} {layout.yaxis.title.text}"
    assert "%" in units
    assert all(trace.name for trace in figure.data)
    assert figure.layout.showlegend or len(figure.data) > 1


def test_outcomes_are_bars_with_intervals() -> None:
    figure = outcome_figure(REPORT)
    says_what_it_shows(figure)
    right, shown = figure.data
    assert list(right.x) == pytest.approx([90, 10])
    assert list(shown.x) == pytest.approx([5, 85])
    assert list(right.error_x.array) == pytest.approx([5, 10])
    assert list(right.y) == ["native", "gaussian (3)"]
    assert "transferred (right is wanted)" in figure.layout.title.text
    close = {"verdict": "transferred", "margin": {"value": 0.02, "prompts": 100, "holds_zero": True}}
    title = outcome_figure({**REPORT, "transfer": close}).layout.title.text
    assert "transferred by 2 prompts of 100 (the interval holds 0)" in title


def test_layers_are_two_lines_over_no_steering() -> None:
    figure = layer_figure([NOTHING, *POINTS], "right")
    says_what_it_shows(figure)
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("native", [0, 1, 2], [5, 15, 25]),
        ("transferred", [0, 1, 2], [0, 10, 20]),
    ]
    assert figure.layout.annotations[0].text == "no steering"


def test_ranks_are_a_line() -> None:
    figure = rank_figure([*POINTS, *RANKS], "right")
    says_what_it_shows(figure)
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([1, 4], [10, 40])


def test_arms_stand_at_what_they_cost() -> None:
    figure = switch_figure(SWITCH)
    says_what_it_shows(figure)
    assert [(trace.name, trace.x[0], trace.y[0]) for trace in figure.data] == [("off", 0, 95), ("map", 4, 5)]
