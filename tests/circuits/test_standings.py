"""Tables of a leaderboard by hand: every number in its column, means over seeds, and files that come back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuits.bench.standings import MEASURES, Row, markdown, read_rows
from circuits.judging.agreement import Agreement
from circuits.judging.bootstrap import interval
from circuits.judging.curves import Area
from circuits.judging.ratios import Band, Estimate
from circuits.judging.recovery import Recovery
from data_gen.errors import InputError

MADE_BY = {
    "command": "tinysql bench circuits",
    "commit": "abc123",
    "date": "2026-11-26",
    "device": "cpu",
    "versions": {"torch": "2.0"},
}


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1)


def area(value: float) -> Area:
    return Area(
        value=estimate(value), random=Band(value + 1, value, value + 2), matched=Band(value + 3, 0.0, 9.0)
    )


def row(subject: str = "copy", seed: int = 0, method: str = "eap", auroc: float = 0.5, **more: Any) -> Row:
    """A row of a planted model; every number is another."""
    settings: dict[str, Any] = {
        "edit": None,
        "n_pairs": 8,
        "n_edges": 110,
        "seconds": 1.25,
        "recovery": Recovery(
            method=method, n_true=2, n_edges=100, auroc=auroc, average_precision=0.6, found=0.7
        ),
        "agreement": Agreement(
            method=method,
            oracle="exact",
            n_pairs=8,
            n_edges=110,
            pearson=estimate(0.8),
            spearman=0.85,
            top=20,
            top_shared=0.9,
        ),
        "n_held_out": 6,
        "cmd": area(0.2),
        "cpr": area(1.1),
    }
    return Row(subject=subject, seed=seed, method=method, **(settings | more))


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a Markdown text, line by line, without the line under its head."""
    found = [part for part in text.split("\n\n") if part.startswith("| ")]
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in part.splitlines()
            if "---" not in line
        ]
        for part in found
    ]


def test_every_measure_is_the_rows_own_number() -> None:
    assert {name: measure(row()) for name, measure in MEASURES.items()} == {
        "AUROC": 0.5,
        "AP": 0.6,
        "true edges found": 0.7,
        "Pearson with `exact`": 0.8,
        "Spearman": 0.85,
        "top shared": 0.9,
        "CMD": 0.2,
        "CPR": 1.1,
        "seconds": 1.25,
    }
    bare = row(recovery=None, agreement=None, cmd=None, cpr=None, refused="why")
    assert {measure(bare) for measure in MEASURES.values()} == {None}
    unsigned = row(method="acdc")
    assert (MEASURES["Pearson with `exact`"](unsigned), MEASURES["Spearman"](unsigned)) == (None, 0.85)


def test_a_mean_is_over_models_within_a_seed_and_then_over_seeds() -> None:
    """Seed 0 has two models, .2 and .4, and seed 4 one, .9: .3 and .9, not three rows alike."""
    rows = [row("a", 0, auroc=0.2), row("b", 0, auroc=0.4), row("a", 4, auroc=0.9)]
    methods, by_model, _ = tables(markdown(rows, MADE_BY))
    low, high = interval(np.array([0.3, 0.9]))
    assert methods[0][:2] == ["method", "AUROC"]
    assert methods[1][:2] == ["`eap`", f"0.600 ({low:.3f} to {high:.3f})"]
    assert by_model[0] == ["planted model", "true", "edges", "`eap`"]
    low, high = interval(np.array([0.2, 0.9]))
    assert by_model[1:] == [
        ["a", "2", "110", f"0.550 ({low:.3f} to {high:.3f})"],
        ["b", "2", "110", "0.400"],
    ]
    assert "## Planted circuits, seeds 0 to 4" in markdown(rows, MADE_BY)
    assert "`tinysql bench circuits`, commit abc123, 2026-11-26, on cpu, torch 2.0." in markdown(
        rows, MADE_BY
    )


def test_an_interval_over_many_seeds_is_of_95_percent() -> None:
    values = np.random.default_rng(0).random(200)
    methods, *_ = tables(markdown([row(seed=seed, auroc=v) for seed, v in enumerate(values)], MADE_BY))
    low, high = (float(word) for word in methods[1][1].partition("(")[2].rstrip(")").split(" to "))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 200**0.5, rel=0.1)


def test_each_method_has_a_line_of_its_own_rows_and_a_column_by_model() -> None:
    rows = [row(method="eap", auroc=0.2, cmd=area(0.3)), row(method="relp", auroc=0.8, cmd=area(0.6))]
    rows += [row("other", method="eap", auroc=0.4, recovery=replace(rows[0].recovery, n_true=5))]
    methods, auroc, cmd = tables(markdown(rows, MADE_BY))
    assert [line[0] for line in methods] == ["method", "`eap`", "`relp`"]
    assert methods[2][1] == "0.800"
    assert auroc[0] == ["planted model", "true", "edges", "`eap`", "`relp`"]
    assert auroc[1] == ["copy", "2", "110", "0.200", "0.800"]
    assert auroc[2] == ["other", "5", "110", "0.200", ""]
    assert cmd[1][3:] == ["0.300", "0.600"]
    several = [row(), row(seed=1, recovery=replace(rows[0].recovery, n_true=7))]
    assert tables(markdown(several, MADE_BY))[1][1][1] == "2/7", "true edges differ from seed to seed"


def test_a_run_has_its_agreement_and_its_areas_beside_the_layer_matched_ones() -> None:
    known = {"edit": "schema.table", "recovery": None}
    rows = [row("runs/a", **known), row("runs/a", method="acdc", **known)]
    rows += [row("runs/a", method="exact", **known, agreement=None, cmd=None, cpr=None)]
    (table,) = tables(markdown(rows, MADE_BY))
    start = ["runs/a", "`schema.table`", "8 + 6", "110"]
    areas = ["0.200 (0.100 to 0.300)", "3.200", "1.100 (1.000 to 1.200)", "1.25"]
    assert table[0] == [
        *("run", "edit", "pairs", "edges", "method", "Pearson", "Spearman", "top shared"),
        *("CMD", "matched", "CPR", "seconds"),
    ]
    assert table[1] == [*start, "`eap`", "0.800 (0.700 to 0.900)", "0.850", "0.90 of 20", *areas]
    assert table[2] == [*start, "`acdc`", "", "0.850", "0.90 of 20", *areas]
    assert table[3] == [*start, "`exact`", "", "", "", "", "", "", "1.25"]


def test_a_refusal_is_said_once_and_has_no_line_among_runs() -> None:
    nothing = {"recovery": None, "agreement": None, "cmd": None, "cpr": None, "refused": "no MLP to score"}
    rows = [row(seed=seed, method="relp", **nothing) for seed in range(3)]
    rows += [row("runs/a", method="relp", edit="schema.table", **nothing)]
    text = markdown([*rows, row()], MADE_BY)
    assert text.count("- `relp` on copy: no MLP to score") == 1
    assert "- `relp` on runs/a: no MLP to score" in text
    assert "## Trained runs" not in text
    assert tables(text)[0][1] == ["`relp`", *[""] * len(MEASURES)], "seconds of a refusal are none of scoring"


def test_a_rounded_zero_has_no_minus() -> None:
    assert "| -0.000" not in markdown([row(auroc=-0.0004, cmd=area(0.0))], MADE_BY)


def test_rows_come_back_with_every_field(tmp_path: Path) -> None:
    rows = [
        row(),
        row("runs/a", 3, "exact", edit="schema.table", recovery=None, agreement=None),
        row(cmd=None, cpr=None, refused="why"),
    ]
    written = json.dumps({"rows": [asdict(one) for one in rows]}, allow_nan=False)
    (tmp_path / "leaderboard.json").write_text(written)
    assert read_rows(tmp_path) == rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"rows": [', "is not whole JSON"),
        ("[]", "holds a JSON list"),
        ("{}", "is no leaderboard: KeyError"),
        ('{"rows": null}', "is no leaderboard"),
        ('{"rows": ["x"]}', "is no leaderboard"),
        ('{"rows": [{"recovery": null, "agreement": []}]}', "is no leaderboard"),
        ('{"rows": [{"recovery": {"x": 1}, "agreement": null}]}', "is no leaderboard"),
        ('{"rows": [{"recovery": null, "agreement": null, "cmd": [1]}]}', "is no leaderboard"),
    ],
)
def test_a_file_that_is_no_leaderboard_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "leaderboard.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_rows(tmp_path)
