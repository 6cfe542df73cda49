"""Figures of the looking tools carry the numbers of their data, named and with units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.io
import pytest

from circuits.looking.ablation import ablate
from circuits.looking.by_role import part
from circuits.looking.contributions import contributions
from circuits.looking.figures import (
    ablation_figure,
    contributions_figure,
    lens_figure,
    patching_figure,
    pattern_figure,
    swap_figure,
)
from circuits.looking.lens import logit_lens
from circuits.looking.patching import patch_positions, patch_roles
from circuits.looking.patterns import attention_by_role
from circuits.looking.swaps import SwapTest
from data_gen.errors import InputError

ROLES = ("english.table", "schema.table", "sql.table")


@pytest.fixture
def case(random_case):
    made = random_case("*-*-")
    roles = tuple(
        tuple(ROLES[j % 3] if role else "" for j, role in enumerate(row)) for row in made.pairs.clean.roles
    )
    return replace(made, pairs=replace(made.pairs, clean=replace(made.pairs.clean, roles=roles)))


def titles(figure) -> list[str]:
    axes = [figure.layout[name] for name in figure.layout if name.startswith(("xaxis", "yaxis"))]
    return [axis.title.text for axis in axes if axis.title.text] + [figure.layout.title.text]


def test_a_lens_panel_per_reading(case) -> None:
    reading = logit_lens(case.model, case.pairs)
    figure = lens_figure(reading, reading)
    assert len(figure.data) == 2
    np.testing.assert_allclose(figure.data[0].z, reading.on_top().value)
    assert list(figure.data[0].x) == list(reading.depths)
    assert "role of the right next token (tokens)" in titles(figure)


def test_bars_are_the_largest_contributions_with_their_unit(case) -> None:
    found = contributions(case.model, case.pairs)
    figure = contributions_figure(found, top=3)
    values = dict(zip(found.names, found.means().value[0], strict=True))
    assert [values[name] for name in figure.data[0].y] == list(figure.data[0].x)
    assert min(abs(x) for x in figure.data[0].x) >= sorted(abs(v) for v in values.values())[-3]
    assert any("nats" in title for title in titles(figure))
    with pytest.raises(
        InputError, match="no right token has the role `schema.tabel`; did you mean `schema.table`"
    ):
        contributions_figure(found, role="schema.tabel")


def test_a_panel_per_head(case) -> None:
    patterns = attention_by_role(case.model, case.pairs.clean)
    figure = pattern_figure(patterns, 2)
    assert len(figure.data) == 3
    for head, trace in enumerate(figure.data):
        np.testing.assert_allclose(trace.z, patterns.of(2)[head])
    with pytest.raises(InputError, match="block 1 has no attention"):
        pattern_figure(patterns, 1)


def test_patches_by_role_and_of_one_pair_by_position(case) -> None:
    roles = patch_roles(case.model, case.pairs)
    figure = patching_figure(roles)
    columns = [roles.sets.index(name) for name in figure.data[0].x]
    np.testing.assert_allclose(figure.data[0].z, roles.share().value[:, columns])
    assert "role patched" in titles(figure)
    positions = patch_positions(case.model, case.pairs)
    figure = patching_figure(positions, pair=1)
    columns = [int(name.split()[0]) for name in figure.data[0].x]
    np.testing.assert_allclose(figure.data[0].z, positions.per_example[1][:, columns])
    assert all(
        name.split()[1] == case.pairs.clean.roles[1][int(name.split()[0])] for name in figure.data[0].x
    )
    with pytest.raises(InputError, match="no pair 9 among 5"):
        patching_figure(positions, pair=9)


def test_a_marker_per_kind_of_ablation(case) -> None:
    kinds = [ablate(case.model, case.pairs, kind) for kind in ("zero", "mean")]
    figure = ablation_figure(*kinds, top=4)
    assert [trace.name for trace in figure.data] == ["zero", "mean"]
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 2
    drop = dict(zip(kinds[1].units, kinds[1].drop().value, strict=True))
    assert [drop[name] for name in figure.data[1].text] == list(figure.data[1].x)


def test_a_line_per_part_and_plotly_keeps_its_theme(case) -> None:
    before = plotly.io.templates.default
    ways = [patch_roles(case.model, case.pairs, group=part, direction=way) for way in ("noise", "denoise")]
    figure = swap_figure(SwapTest(needed=ways[0], enough=ways[1]))
    assert [trace.name for trace in figure.data] == ["instruction", "schema", "answer so far"] * 2
    np.testing.assert_allclose(figure.data[1].y, ways[0].share().value[:, 1])
    assert list(figure.data[0].x) == ["embed", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert plotly.io.templates.default == before


@pytest.mark.parametrize(
    "call",
    [
        lambda case, whole: logit_lens(case.model, whole),
        lambda case, whole: contributions(case.model, whole),
        lambda case, whole: ablate(case.model, whole, "zero"),
        lambda case, whole: ablate(case.model, case.pairs, "mean", reference=whole),
        lambda case, whole: patch_positions(case.model, whole),
        lambda case, whole: patch_roles(case.model, whole),
    ],
)
def test_pairs_of_whole_answers_are_refused_where_one_position_is_looked_at(case, call) -> None:
    names = ("position", "clean_answer", "corrupt_answer")
    whole = replace(case.pairs, **{name: getattr(case.pairs, name)[:, None].repeat(1, 2) for name in names})
    with pytest.raises(InputError, match="ask for up to 2 tokens of each answer, expected one"):
        call(case, whole)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda case: ablate(case.model, case.pairs, "zero", units=[]), "no unit to take out"),
        (lambda case: patch_positions(case.model, case.pairs, hooks=[]), "no hook to patch"),
        (lambda case: attention_by_role(case.model, case.pairs.clean[:0]), "no tokens to look at"),
    ],
)
def test_nothing_to_look_at_is_said(case, call, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        call(case)
