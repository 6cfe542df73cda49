"""The accuracy benchmark: a kill changes nothing, every answer is graded in its own cell, seeds are summed up."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from data_gen.errors import InputError
from tinysql.answering.verdicts import row_texts
from tinysql.recipes import find_recipe

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"
SHORT = ["--recipes", "tiny", "--seeds", "0", "--set", "train.hold_steps=2", "--set", "train.decay_steps=2"]
ROWS = 5
KILLED_BEHIND_A_SLICE = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import accuracy

def kept(job, run):
    if any((run.path / "accuracy").iterdir()):
        os.kill(os.getpid(), signal.SIGKILL)

accuracy.SLICE, accuracy.write_result = 2, kept
sys.exit(accuracy.main())
"""
"""The command line of the script, which a kill ends when the first slice is on disk and the second is graded."""


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, in slices of two rows."""
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setitem(sys.modules, "accuracy", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SLICE", 2)
    return module


@pytest.fixture
def measure(accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(out: Path, *options: str) -> int:
        monkeypatch.setattr(
            sys, "argv", ["accuracy.py", *SHORT, "--rows", str(ROWS), "--out", str(out), *options]
        )
        return accuracy.main()

    return call


def result(out: Path) -> dict[str, Any]:
    """What was found, without how long it took and what made it."""
    found = json.loads((out / "tiny-0.json").read_text())
    for name in ("answering_seconds", "made_by"):
        found.pop(name)
    return found


def slices(out: Path) -> list[Path]:
    return sorted((out / "runs" / "tiny-0" / "accuracy").glob("*.json"))


def test_a_kill_between_slices_changes_nothing(measure: Callable[..., int], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert measure(whole) == 0
    assert [file.name for file in slices(whole)] == [
        "000000-000002.json",
        "000002-000004.json",
        "000004-000005.json",
    ]
    shutil.copytree(whole / "runs", cut / "runs")
    for file in slices(cut):
        file.unlink()
    options = [str(SCRIPT.parent), *SHORT, "--rows", str(ROWS), "--out", str(cut)]
    ended = subprocess.run([sys.executable, "-c", KILLED_BEHIND_A_SLICE, *options], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(slices(cut)) == 1
    kept = {file: file.stat().st_mtime_ns for file in slices(cut)}
    assert measure(cut) == 0
    assert result(cut) == result(whole)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_every_answer_is_graded_in_its_own_cell_and_reported(
    accuracy: ModuleType,
    measure: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = accuracy.cells_of(find_recipe("tiny").data)["cs2 syn"]
    right = dict(row_texts(config, range(ROWS)))

    def answer(model: object, tokenizer: object, prompts: list[str], **_: object) -> list[str]:
        return [right.get(prompt, "SELECT") for prompt in prompts]

    monkeypatch.setattr("tinysql.answering.generation.answer", answer)
    assert measure(tmp_path) == 0
    cells = result(tmp_path)["cells"]
    assert {name for name, cell in cells.items() if cell["execution"]} == {"cs2 syn"}
    assert {cell["total"] for cell in cells.values()} == {ROWS}
    assert (cells["cs2 syn"]["exact"], cells["cs2 syn"]["wrong"]) == (ROWS, [])
    run = json.loads((tmp_path / "runs" / "tiny-0" / "config.json").read_text())
    assert result(tmp_path)["commits"] == [run["made_by"]["commit"]]
    assert [wrong["index"] for wrong in cells["novel"]["wrong"]] == list(range(ROWS))
    capsys.readouterr()
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "table.json"
    assert measure(tmp_path, "--report", "--json", str(table)) == 0
    printed = capsys.readouterr().out
    for name in cells:
        assert f"| {name} | 1 | {ROWS} | {'100.00' if name == 'cs2 syn' else '0.00'} |" in printed
    assert "| CS2 | 0.00 | 100.00 | 0.00 |" in printed
    assert set(json.loads(table.read_text())["tiny"]) == set(cells)


def test_a_budget_that_is_spent_ends_the_command_and_a_repeat_goes_on(
    accuracy: ModuleType, measure: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure(tmp_path, "--budget-seconds", "0") == 0
    assert not slices(tmp_path)
    looks = iter((False, False, True))
    with monkeypatch.context() as patch:
        patch.setattr(accuracy.Budget, "spent", property(lambda _: next(looks)))
        assert measure(tmp_path) == 0
    assert len(slices(tmp_path)) == 2
    assert {cell["total"] for cell in result(tmp_path)["cells"].values()} == {4}
    assert measure(tmp_path) == 0
    assert {cell["total"] for cell in result(tmp_path)["cells"].values()} == {ROWS}


def test_the_cells_are_those_of_every_set_variant_and_split(accuracy: ModuleType) -> None:
    recipe = find_recipe("bm1")
    cells = accuracy.cells_of(recipe.data)
    assert len(cells) == 37
    assert {config.split for name, config in cells.items() if " " in name} == {"test"}
    assert {config.seed for config in cells.values()} == {accuracy.TEST_SEED}
    assert cells == accuracy.cells_of(recipe.with_seed(1).data)
    assert {name for name in cells if " " not in name} == {
        "tables", "columns", "names", "templates", "novel", "recombined", "invented"
    }  # fmt: skip
    for name, config in cells.items():
        assert " " in name or config.split == name
        assert not config.random_names + config.invented_names + config.invented_openings


def seed_result(seed: int, right: int, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    cells = {"cs1 base": {"total": 50, "execution": right}}
    return {"recipe": "tiny", "seed": seed, "settings": settings, "cells": cells}


def test_the_table_names_every_commit_that_trained_or_answered(accuracy: ModuleType) -> None:
    def made(seed: int, commits: list[str | None]) -> dict[str, Any]:
        rest = {"trained": None, "parameters": 1, "active": 1, "answering_seconds": 0.0, "commits": commits}
        made_by = {"gpu": None, "precision": "float32", "commit": "f" * 40}
        return {**seed_result(seed, 1), **rest, "made_by": made_by}

    table = accuracy.markdown(
        {"tiny": [made(0, ["a" * 40, "b" * 40 + "+changes"]), made(1, ["a" * 40, None])]}
    )
    assert "| aaaaaaa / bbbbbbb+changes / ? |" in table
    assert "fffffff" not in table


def test_seeds_are_summed_up_by_hand(accuracy: ModuleType) -> None:
    found = accuracy.aggregate([seed_result(0, 40), seed_result(1, 50), seed_result(2, 45)])["cs1 base"]
    assert (found["mean"], found["min"], found["max"], found["seeds"]) == (0.9, 0.8, 1.0, 3)
    # Wilson's interval of 45 of 50: the rows of the three seeds are the same, and count once.
    assert found["interval95"] == pytest.approx([0.7864, 0.9565], abs=1e-4)


def test_results_of_different_settings_are_not_mixed(accuracy: ModuleType, tmp_path: Path) -> None:
    for seed, settings in ((0, ()), (1, ("train.lr=1",))):
        (tmp_path / f"tiny-{seed}.json").write_text(json.dumps(seed_result(seed, 1, settings)))
    with pytest.raises(InputError, match="results of tiny with several settings"):
        accuracy.read_results(tmp_path)
    with pytest.raises(InputError, match="has no results"):
        accuracy.read_results(tmp_path / "nowhere")
