"""The benchmark of ways to look: on a model wired by hand it names the wired units, the source and where it ends."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from circuits.looking.ablation import Ablation, ablate
from circuits.planted.cases import planted as plant

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
looking = importlib.import_module("benchmarks.looking")
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


@pytest.fixture(scope="module")
def wired():
    return plant("copy-attention-name", 0)


@pytest.fixture(scope="module")
def subject(wired) -> SimpleNamespace:
    return SimpleNamespace(
        name="wired",
        set="cs1",
        seed=0,
        model=wired.model,
        pairs=lambda edit, n, seed: wired.pairs[6 * seed : 6 * seed + 6],
    )


@pytest.fixture(scope="module")
def unit_rows(wired, subject) -> list:
    return looking.unit_rows(subject, wired.pairs.edit)


def test_the_wired_heads_are_the_largest_units_and_every_kind_is_measured(wired, unit_rows) -> None:
    rows = unit_rows
    assert [row["kind"] for row in rows] == [
        "counterfactual",
        *(kind for kind in Ablation if kind != "counterfactual"),
        "direct contribution",
    ]
    truth = dict(zip(rows[0]["units"], rows[0]["drops"], strict=True))
    writers = {edge.writer for edge in wired.edges} & set(truth)
    largest = sorted(truth, key=lambda unit: -abs(truth[unit]))[: len(writers)]
    assert set(largest) == writers
    # What a unit adds to the logits is one number; what it is needed for is another: only the last one writes them.
    direct = np.abs(rows[-1]["drops"])
    assert rows[0]["units"][int(direct.argmax())] == max(writers)
    for row in rows[1:]:
        expected = np.abs(row["drops"]).sum() / np.abs(rows[0]["drops"]).sum()
        assert row["sum_to_truth"] == pytest.approx(expected)
        assert -1 <= row["pearson"]["low"] <= row["pearson"]["high"] <= 1


def test_what_stands_in_for_a_unit_comes_from_other_pairs(wired, unit_rows) -> None:
    (row,) = (row for row in unit_rows if row["kind"] == Ablation.MEAN)

    def drops(reference) -> list[float]:
        found = ablate(wired.model, wired.pairs[:6], Ablation.MEAN, units=row["units"], reference=reference)
        return found.drops.double().numpy().mean(0).tolist()

    assert row["drops"] == pytest.approx(drops(wired.pairs[6:12]))
    assert row["drops"] != pytest.approx(drops(wired.pairs[:6]))


def test_both_lenses_read_rows_of_the_test_split_and_one_is_fitted_on_those_of_training(
    subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = {
        "open_run": lambda path: SimpleNamespace(split=str),
        "rows_of": lambda subject, split, n: f"{split} rows",
        "fit_tuned_lens": lambda model, rows: f"fitted on {rows}",
        "logit_lens": lambda model, rows: rows,
        "tuned_lens": lambda model, rows, fitted: f"{rows}, {fitted}",
        "_lens": lambda reading: {"reading": reading},
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(looking, name, fake)
    read = [row["reading"] for row in looking.lens_rows(Path("run"), subject)]
    assert read == ["test rows", "test rows, fitted on train rows"]


def test_what_is_copied_goes_from_its_source_to_where_the_answer_is(wired, subject, with_roles) -> None:
    some = wired.pairs[:6]
    differs = some.clean.ids != some.corrupt.ids

    def role(row: int, column: int) -> str:
        if differs[row, column]:
            return "changed"
        return "asked" if column == some.position[row] else "other"

    pairs = with_roles(some, role)
    named = SimpleNamespace(**{**vars(subject), "pairs": lambda *_: pairs})
    source, answer = looking.move_rows(named, pairs.edit)
    assert (source["part"], source["role"]) == ("source", "changed")
    assert (answer["part"], answer["role"]) == ("answer", "asked")
    assert source["share"][0] == pytest.approx(1)
    assert answer["share"][0] == pytest.approx(0)
    assert source["share"][-1] == pytest.approx(0, abs=1e-4)
    assert answer["share"][-1] == pytest.approx(1)
    assert source["others"] == answer["others"]
    assert source["others"][-1] == pytest.approx(0, abs=1e-4)


def test_the_tables_have_a_cell_for_every_column(wired, unit_rows, subject) -> None:
    found = {"units": unit_rows, "moves": looking.move_rows(subject, wired.pairs.edit)}
    for table in looking.printed(found).split("\n\n"):
        lines = table.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) > 3
