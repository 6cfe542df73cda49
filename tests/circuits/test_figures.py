"""Figures of the looking tools by hand: every number stands at its name, interval, sign, panel and colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.drawing.style import LOWERS, RAISES
from circuits.looking.ablation import Ablation, AblationEffects
from circuits.looking.by_role import Means, Targets
from circuits.looking.contributions import Contributions
from circuits.looking.figures import (
    DIVERGING,
    MARGIN,
    SERIES,
    ablation_figure,
    contributions_figure,
    lens_figure,
    patching_figure,
    pattern_figure,
    swap_figure,
)
from circuits.looking.lens import LensReading
from circuits.looking.patching import Direction, PatchEffects
from circuits.looking.patterns import RolePatterns
from circuits.looking.swaps import SwapTest
from data_gen.errors import InputError

TARGETS = Targets(
    row=torch.tensor([0, 0, 1, 1, 2]),
    position=torch.zeros(5, dtype=torch.long),
    token=torch.zeros(5, dtype=torch.long),
    other=None,
    role=torch.tensor([0, 1, 0, 1, 1]),
    roles=("sql.column", "sql.table"),
)
"""Of three rows two tokens are columns and three are tables."""


def reading(lens: str, *ranks: list[int]) -> LensReading:
    rank = torch.tensor(ranks)
    depths = ("embed", *(f"blocks.{block}" for block in range(rank.shape[1] - 1)))
    zero = torch.zeros(rank.shape)
    return LensReading(lens=lens, depths=depths, targets=TARGETS, rank=rank, log_prob=zero, kl=zero)


def axes_of(figure, letter: str) -> list[str]:
    return [getattr(trace, f"{letter}axis") or letter for trace in figure.data]


def test_a_lens_has_a_panel_with_its_name_its_tokens_and_a_scale_from_none_to_all() -> None:
    logit = reading("logit", [3, 1], [2, 2], [1, 1], [4, 4], [9, 1])
    tuned = reading("tuned", [1, 1], [1, 1], [1, 1], [1, 1], [1, 1])
    figure = lens_figure(logit, tuned)
    first, second = figure.data
    assert [note.text for note in figure.layout.annotations] == ["logit lens", "tuned lens"]
    assert axes_of(figure, "x") == ["x", "x2"]
    assert list(first.y) == ["sql.column (2)", "sql.table (3)"]
    np.testing.assert_allclose(first.z, [[1 / 2, 1], [0, 1 / 3]])
    np.testing.assert_allclose(second.z, 1)
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(0, 1)}
    assert [trace.showscale for trace in figure.data] == [True, False], "one scale serves both"
    assert "in 3 rows" in figure.layout.title.text


def test_a_cell_says_its_interval_from_low_to_high_and_its_number_where_there_is_room() -> None:
    (trace,) = lens_figure(reading("logit", [3, 1], [2, 2], [1, 1], [4, 4], [9, 1])).data
    top = reading("logit", [3, 1], [2, 2], [1, 1], [4, 4], [9, 1]).on_top()
    np.testing.assert_allclose(trace.customdata, np.stack([top.low, top.high], -1))
    assert (trace.customdata[..., 0] < trace.customdata[..., 1]).any()
    assert (trace.customdata[..., 0] <= trace.z).all()
    assert trace.hovertemplate == (
        "%{y}, %{x}: %{z:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>"
    )
    assert trace.texttemplate == "%{z:.2f}"
    wide = reading("logit", *[[1] * (MARGIN + 1)] * 5)
    assert lens_figure(wide).data[0].texttemplate is None


def added(values: list[list[float]], total: list[float]) -> Contributions:
    names = tuple(f"blocks.{block}.mlp" for block in range(len(values[0])))
    return Contributions(names=names, values=torch.tensor(values), total=torch.tensor(total), targets=TARGETS)


def test_bars_are_the_largest_of_the_asked_role_with_interval_colour_and_pattern_of_their_sign() -> None:
    """Of tables (tokens 1, 3 and 4) the writers add 3, -4 and 1/2; of columns something else."""
    values = [[9, 9, 9], [1, -1, 0.5], [9, 9, 9], [2, -2, 0.5], [6, -9, 0.5]]
    found = added(values, [7.0, 1.0, 7.0, 2.0, 6.0])
    figure = contributions_figure(found, role="sql.table", top=2)
    bars, helps, hurts = figure.data
    assert list(bars.y) == ["blocks.1.mlp", "blocks.0.mlp"]
    assert list(bars.x) == pytest.approx([-4, 3])
    assert list(bars.marker.color) == [RAISES, LOWERS]
    assert list(bars.marker.pattern.shape) == ["/", ""]
    look = [(trace.name, trace.marker.color, trace.marker.pattern.shape) for trace in (helps, hurts)]
    assert look == [("for the right token", LOWERS, ""), ("against it", RAISES, "/")]
    means = found.means()
    low, high = (part[1][[1, 0]] for part in (means.low, means.high))
    assert not bars.error_x.symmetric
    np.testing.assert_allclose(bars.x + bars.error_x.array, high)
    np.testing.assert_allclose(bars.x - bars.error_x.arrayminus, low)
    assert not np.allclose(bars.error_x.array, bars.error_x.arrayminus)
    assert figure.layout.title.text == "Direct logit attribution, sql.table: 3.00 nats over 3 tokens"
    assert "sql.column: 7.00 nats over 2 tokens" in contributions_figure(found).layout.title.text


def patterns() -> RolePatterns:
    """Three heads of an attention block, and two of a Mamba block behind it."""
    drawn = np.random.default_rng(0).random((5, 2, 2))
    mass, margin = (torch.tensor(part, dtype=torch.float32) for part in (drawn, drawn / 10))
    return RolePatterns(
        roles=("english", "sql"),
        blocks=(0, 2),
        kinds=("attn", "mamba"),
        mass=(mass[:3], mass[3:]),
        margin=(margin[:3], margin[3:]),
        uniform=torch.full((2, 2), 0.5),
        rows=torch.tensor([4, 7]),
    )


def test_heads_stand_row_by_row_with_their_own_intervals() -> None:
    found = patterns()
    figure = pattern_figure(found, 0)
    assert [note.text for note in figure.layout.annotations] == ["head 0", "head 1", "head 2"]
    # Head 1 stands right of head 0, head 2 below it.
    places = [(figure.layout[f"xaxis{n}"].domain, figure.layout[f"yaxis{n}"].domain) for n in ("", 2, 3)]
    assert places[0][1] == places[1][1] != places[2][1]
    assert places[0][0] == places[2][0] != places[1][0]
    assert list(zip(axes_of(figure, "x"), axes_of(figure, "y"), strict=True)) == [
        ("x", "y"),
        ("x2", "y2"),
        ("x3", "y3"),
    ]
    for block, number in ((0, 0), (2, 1)):
        for head, trace in enumerate(pattern_figure(found, block).data):
            mass, half = found.mass[number][head], found.margin[number][head]
            np.testing.assert_allclose(trace.customdata, np.stack([mass - half, mass + half], -1))
        assert (list(trace.x), list(trace.y)) == (["english", "sql"],) * 2
    assert pattern_figure(found, 2).layout.title.text.startswith("Block 2 (mamba)")
    assert "over 7 rows" in figure.layout.title.text


def test_lines_of_a_pattern_look_and_columns_are_looked_at() -> None:
    figure = pattern_figure(patterns(), 2)
    x = {axis.title.text for axis in figure.select_xaxes()} - {None}
    y = {axis.title.text for axis in figure.select_yaxes()} - {None}
    assert (x, y) == ({"role that is looked at"}, {"role that looks"})
    assert all(axis.autorange == "reversed" for axis in figure.select_yaxes()), "the first role on top"


def test_a_pattern_of_few_roles_has_room_for_its_words() -> None:
    figure = pattern_figure(patterns(), 0)
    # Some 7 pixels a letter of the title, 6.5 of a panel's; two panels share what the roles' names leave.
    assert figure.layout.width >= 7 * len(figure.layout.title.text)
    assert (figure.layout.width - 330) / 2 >= 6.5 * len("role that is looked at")


def patched(shares: list[list[float]], sets: tuple[str, ...], direction: str = "denoise") -> PatchEffects:
    """Two pairs whose runs differ by 1 and 3, of one share each by hook and set."""
    share, base = torch.tensor(shares), torch.tensor([1.0, 2.0])
    other = base + torch.tensor([1.0, 3.0])
    wobble = torch.tensor([0.9, 1 + 0.1 / 3])[:, None, None]
    return PatchEffects(
        hooks=tuple(f"blocks.{block}.hook_resid_post" for block in range(len(shares))),
        sets=sets,
        direction=Direction(direction),
        metric="logit_diff",
        edit="schema.table",
        values=base[:, None, None] + share * wobble * (other - base)[:, None, None],
        base=base,
        other=other,
        roles=(("english", "schema", "sql"), ("schema", "sql", "english")),
    )


def test_what_comes_along_is_drawn_and_traces_of_it_are_left_out() -> None:
    found = patched([[0.5, 0.001, -0.2], [0.9, -0.002, 0.1]], ("a", "b", "c"))
    figure = patching_figure(found)
    (trace,) = figure.data
    assert (list(trace.x), list(trace.y)) == (["a", "c"], list(found.hooks))
    np.testing.assert_allclose(trace.z, [[0.5, -0.2], [0.9, 0.1]], rtol=1e-5)
    share = found.share()
    np.testing.assert_allclose(trace.customdata[..., 0], share.low[:, [0, 2]])
    np.testing.assert_allclose(trace.customdata[..., 1], share.high[:, [0, 2]])
    # Only what lowers the metric leaves a column too.
    assert list(patching_figure(patched([[-0.4, 0.0]], ("a", "b"))).data[0].x) == ["a"]


@pytest.mark.parametrize("name", ["a", "schema.columns.0.name"])
def test_one_hook_has_room_for_its_words_and_a_scale(name: str) -> None:
    layout = patching_figure(patched([[0.5]], (name,))).layout
    slanted = 7 * len(name) / 2**0.5  # at 45 degrees, below what the words under an axis need
    left = layout.height - layout.margin.t - layout.margin.b - slanted
    assert left >= 6.5 * len("hook, depth upwards")


@pytest.mark.parametrize(("share", "limit"), [(0.5, 1.0), (-1.75, 1.75), (2.5, 2.5)])
def test_no_change_is_white_and_the_scale_holds_every_share(share: float, limit: float) -> None:
    (trace,) = patching_figure(patched([[share]], ("a",))).data
    assert (trace.zmin, trace.zmax) == pytest.approx((-limit, limit))
    assert [color for _, color in DIVERGING] == [RAISES, "#ffffff", LOWERS]
    assert [color for _, color in trace.colorscale] == [RAISES, "#ffffff", LOWERS]


@pytest.mark.parametrize(
    ("direction", "words"),
    [("denoise", "clean values in the corrupt run"), ("noise", "corrupt values in the clean run")],
)
def test_a_patching_says_which_way_it_goes(direction: str, words: str) -> None:
    assert patching_figure(patched([[1.0]], ("a",), direction)).layout.title.text == (
        f"Patching schema.table: {words}, 2 pairs, share of logit_diff"
    )


def test_one_pair_has_its_own_numbers_and_roles_and_no_other_is_there() -> None:
    found = patched([[0.5, 0.25, 0.75]], ("0", "1", "2"))
    for pair, names in enumerate((["0 english", "1 schema", "2 sql"], ["0 schema", "1 sql", "2 english"])):
        (trace,) = patching_figure(found, pair=pair).data
        assert list(trace.x) == names
        np.testing.assert_allclose(trace.z, found.per_example[pair])
        np.testing.assert_allclose(trace.customdata[..., 0], trace.customdata[..., 1])
    for pair in (-1, 2):
        with pytest.raises(InputError, match=f"there is no pair {pair} among 2"):
            patching_figure(found, pair=pair)


def ablated(kind: str, *drops: list[float]) -> AblationEffects:
    """From what each pair loses without each unit; with everything in place the pairs have 5 and 7."""
    clean, lost = torch.tensor([5.0, 7.0]), torch.tensor(drops)
    return AblationEffects(
        kind=Ablation(kind),
        units=tuple(f"unit {number}" for number in range(lost.shape[1])),
        metric="logit_diff",
        edit="schema.table",
        values=clean[:, None] - lost,
        kl=torch.zeros(lost.shape),
        clean=clean,
    )


def test_units_come_by_the_largest_drop_of_any_kind_each_kind_at_its_own_height() -> None:
    zero = ablated("zero", [1.0, -2.0, 0.1, 0.0], [1.5, -3.0, 0.1, 0.0])
    mean = ablated("mean", [0.5, 0.5, 0.1, 4.0], [0.5, 0.5, 0.1, 5.0])
    figure = ablation_figure(zero, mean, top=3)
    order = ["unit 3", "unit 1", "unit 0"]
    assert list(figure.layout.yaxis.ticktext) == order
    assert tuple(figure.layout.yaxis.tickvals) == (0, 1, 2)
    assert figure.layout.yaxis.range == (2.5, -0.5), "the largest on top"
    for trace, effects, shift in zip(figure.data, (zero, mean), (-0.2, 0.2), strict=True):
        drop = effects.drop()
        places = [3, 1, 0]
        assert list(trace.text) == order
        np.testing.assert_allclose(trace.y, np.arange(3) + shift)
        np.testing.assert_allclose(trace.x, drop.value[places])
        np.testing.assert_allclose(trace.x + trace.error_x.array, drop.high[places], atol=1e-6)
        np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, drop.low[places], atol=1e-6)
        assert min(*trace.error_x.array, *trace.error_x.arrayminus) >= -1e-6
        assert trace.hovertemplate == f"%{{text}}: %{{x:.3f}}<extra>{effects.kind}</extra>"
    assert figure.layout.title.text == "Ablation on schema.table, 2 pairs; 6.00 with everything in place"
    assert figure.layout.xaxis.title.text == "drop of logit_diff, nats (95 % interval)"


def test_ablations_that_cannot_be_drawn_together_are_refused() -> None:
    one = ablated("zero", [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(InputError, match="there are 0 ablations to draw, expected 1 to 6"):
        ablation_figure()
    with pytest.raises(InputError, match="there are 7 ablations"):
        ablation_figure(*[one] * (len(SERIES) + 1))
    with pytest.raises(
        InputError, match="`zero` ablation is of 2 units and the `mean` one of 1 or of others"
    ):
        ablation_figure(one, ablated("mean", [1.0], [1.0]))
    with pytest.raises(InputError, match="`mean` one of 2 or of others"):
        ablation_figure(one, replace(one, kind=Ablation.MEAN, units=("unit 0", "unit 9")))
    with pytest.raises(InputError, match="top is 0, expected at least 1"):
        ablation_figure(one, top=0)
    with pytest.raises(InputError, match="top is 0, expected at least 1"):
        contributions_figure(added([[1.0]] * 5, [1.0] * 5), top=0)
    with pytest.raises(InputError, match="there is no reading to draw"):
        lens_figure()


def test_both_ways_of_a_swap_have_their_panel_and_each_place_its_look() -> None:
    sets = ("english", "schema", "sql")
    lost = patched([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], sets, "noise")
    back = patched([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], sets, "denoise")
    figure = swap_figure(SwapTest(needed=lost, enough=back))
    assert [note.text for note in figure.layout.annotations] == [
        "lost: corrupt values in the clean run",
        "recovered: clean values in the corrupt run",
    ]
    assert axes_of(figure, "x") == ["x"] * 3 + ["x2"] * 3
    for effects, traces in ((lost, figure.data[:3]), (back, figure.data[3:])):
        share: Means = effects.share()
        for column, (trace, word) in enumerate(
            zip(traces, ("instruction", "schema", "answer so far"), strict=True)
        ):
            np.testing.assert_allclose(trace.y, share.value[:, column])
            np.testing.assert_allclose(trace.y + trace.error_y.array, share.high[:, column])
            np.testing.assert_allclose(trace.y - trace.error_y.arrayminus, share.low[:, column])
            assert (trace.marker.color, trace.marker.symbol) == SERIES[column]
            assert trace.line.color == SERIES[column][0]
            assert trace.hovertemplate == f"%{{x}}: %{{y:.3f}}<extra>{word}</extra>"
    assert [trace.showlegend for trace in figure.data] == [True] * 3 + [False] * 3
    assert figure.layout.title.text == "Where the name is read, schema.table, 2 pairs (95 % interval)"
    assert figure.layout.yaxis.title.text == "share of logit_diff"


def test_the_stream_in_front_of_the_first_block_is_the_embedding() -> None:
    found = replace(
        patched([[0.1], [0.2]], ("english",)), hooks=("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")
    )
    assert list(swap_figure(SwapTest(needed=found, enough=found)).data[0].x) == ["embed", "blocks.0"]
