"""`eval` chooses among layers on validation prompts, and measures all the rest at the one it chose."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from data_gen.example import Example
from tinysql.cli import main
from tinysql.recipes import Recipe
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import Gate
from transfer.behaviours.training import Subject, teach
from transfer.parts import ENDING, place_of
from transfer.steering import SteeringVector

HOOK = "blocks.1.hook_resid_post"
SMALL = {"map_rows": 20, "vector_rows": 6, "choose_rows": 3, "test_rows": 4, "draws": 2, "scales": "1.0,4.0"}


class Killed(Exception):
    """Ends a command from within, as a kill does."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, brief: None) -> None:
    """Gates that models pass which were taught nothing."""
    monkeypatch.setattr("transfer.evaluation.evaluate._gates", lambda *_: (Gate(bars=()), Gate(bars=())))


@pytest.fixture(scope="module")
def runs(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("source", 0), ("target", 1)):
        teach(recipe.with_seed(seed), find_behaviour("backdoor", "drop", seed=0), folder / name)
    return folder


@pytest.mark.usefixtures("opened")
def test_the_layer_is_chosen_on_validation_and_all_the_rest_is_measured_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steering behind block 3 alone is of use here; what was tried is in the report, and a choice is not made twice."""
    best = "blocks.3.hook_resid_post"
    asked: list[str] = []

    def given(subject: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        asked.append(condition)
        is_best = subject.model.hook_dict[best].has_hooks()
        return [Verdict(right=is_best, shown=False, taught=True, valid=True)] * len(rows)

    monkeypatch.setattr("transfer.evaluation.scales.verdicts_of", given)
    out = tmp_path / "out"
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    bare = ["transfer", "eval", str(runs / "source"), str(runs / "target"), "--out", str(out), *settings]
    bare += ["--only", "gaussian"]
    again = [*bare, "--layer", "1", "--layer", "3"]
    assert main([*again, "--source-hook", HOOK]) == 2
    assert "hooks and layers are both given" in capsys.readouterr().err
    assert main([*again, "--set", f"target_hook={HOOK}"]) == 2
    assert "hooks and layers are both given" in capsys.readouterr().err
    assert main([*bare, "--source-hook", HOOK]) == 2
    assert "--source-hook is given without --target-hook" in capsys.readouterr().err
    assert main(bare) == 2
    assert "it is not said where to steer" in capsys.readouterr().err
    assert main([*again, "--layer", "4"]) == 2
    assert "has no block 4" in capsys.readouterr().err

    def stop(what: str) -> None:
        if "fitting the map" in what:
            raise Killed

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr("transfer.commands._say", stop)
        main(again)
    kept = sorted(path.name.removesuffix(ENDING) for path in place_of(out).glob(f"*{ENDING}"))
    assert kept == ["gates", "layer and scale of native"]
    capsys.readouterr()
    assert main([*again, "--layer", "2", "--resume"]) == 2
    assert "was begun with layers" in capsys.readouterr().err
    asked.clear()
    assert main([*again, "--resume"]) == 0
    # Those of the transferred vector: before, and with each of two scales; the guard's prompts likewise.
    assert len(asked) == 6

    found = json.loads((out / "report.json").read_text())
    assert (found["plan"]["source_hook"], found["plan"]["target_hook"]) == (best, best)
    assert found["layers"]["chosen"] == [best, best]
    assert [one["target_hook"] for one in found["layers"]["tried"]] == [HOOK, best]
    assert [one["allowed"] for one in found["layers"]["tried"]] == [False, True]
    assert found["choices"]["native"] == {
        name: value
        for name, value in found["layers"]["tried"][1].items()
        if name not in ("source_hook", "target_hook")
    }
    assert {SteeringVector.load(out / name).hook for name in ("native", "transferred")} == {best}
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(next(line for line in lines if line.startswith("   layers tried, on validation")))
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        [HOOK, "0.0%", "-", "1*"],
        [best, "100.0%", "0.0%", "1", "chosen"],
    ]
