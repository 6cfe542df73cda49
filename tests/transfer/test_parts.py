"""What a killed measuring had found is found again, exactly, and never taken for that of another one."""

import fcntl
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from data_gen.errors import InputError
from tinysql.cli import main
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import holding, provenance
from transfer.artefacts import curves_to, evaluate_to, switch_to
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import Gate
from transfer.behaviours.training import Subject, open_subject, teach
from transfer.choosing import Choice, Setting, Trial
from transfer.evaluation.bench import Bench
from transfer.evaluation.plan import Plan
from transfer.parts import ENDING, Parts, fingerprint, keeping, made_with, place_of
from transfer.switching.plan import SwitchPlan

HOOK = "blocks.1.hook_resid_post"
SMALL = {"map_rows": 20, "vector_rows": 6, "choose_rows": 3, "test_rows": 4, "draws": 2, "scales": "1.0,4.0"}
OPEN_GATES = (Gate(bars=()), Gate(bars=()))
KILLED = """
import os, signal, sys
import transfer.behaviours.gates, transfer.commands, transfer.evaluation.evaluate
from tinysql.cli import main
from transfer.behaviours.gates import Gate

# Three steps teach nothing, so the gates are left open and answers that never end are short.
transfer.evaluation.evaluate._gates = lambda *_: (Gate(bars=()), Gate(bars=()))
transfer.behaviours.gates.LONGER = 0.05

def say(what):
    if sys.argv[1] in what:
        os.kill(os.getpid(), signal.SIGKILL)

transfer.commands._say = say
main(sys.argv[2:])
"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, brief: None) -> None:
    """Gates that models pass which were taught nothing."""
    monkeypatch.setattr("transfer.evaluation.evaluate._gates", lambda *_: OPEN_GATES)


@pytest.fixture(scope="module")
def runs(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, payload, seed in (("source", "drop", 0), ("target", "drop", 1), ("clean", "none", 0)):
        teach(recipe.with_seed(seed), find_behaviour("backdoor", payload, seed=0), folder / name)
    return folder


def command(verb: str, runs: Path, out: Path, *more: str) -> list[str]:
    hooks = ["--source-hook", HOOK, "--target-hook", HOOK]
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    both = [str(runs / "source"), str(runs / "target")]
    return ["transfer", verb, *both, *hooks, *settings, "--out", str(out), *more]


def report(out: Path) -> str:
    """Everything but who made it and when."""
    values = json.loads((out / "report.json").read_text())
    del values["made_by"]
    return json.dumps(values, indent=1)


def kept(out: Path) -> list[str]:
    return sorted(path.name.removesuffix(ENDING) for path in place_of(out).glob(f"*{ENDING}"))


def kill(at: str, arguments: list[str]) -> None:
    """Run a command that is killed when it says what holds `at`."""
    done = subprocess.run([sys.executable, "-c", KILLED, at, *arguments], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.usefixtures("opened")
def test_an_evaluation_killed_between_two_controls_ends_with_the_report_of_one_that_was_not(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = ["--clean", str(runs / "clean")]
    assert main(command("eval", runs, tmp_path / "whole", *clean)) == 0
    out = tmp_path / "out"
    again = command("eval", runs, out, *clean)
    kill("sign flip", again)
    assert not out.exists()
    controls = ["native 0", "no steering 0", "scale of native", "scale of transferred", "transferred 0"]
    drawn = [f"{name} {draw}" for name in ("gaussian", "top components") for draw in (0, 1)]
    assert kept(out) == sorted([*controls, *drawn, "gates"])

    # It is neither forgotten nor taken for another's.
    capsys.readouterr()
    assert main(again) == 2
    assert "was cut off with 10 parts done" in capsys.readouterr().err
    for other, said in (
        (command("eval", runs, out, *clean, "--set", "test_rows=5"), "plan.test_rows 4, not 5"),
        (command("eval", runs, out), "clean.weights '"),
        (command("eval", runs, out, *clean, "--only", "gaussian"), "only None, not ['gaussian']"),
        (command("eval", runs, out, *clean, "--seed", "1"), "plan.seed 0, not 1"),
        (command("curve", runs, out), "command 'transfer eval', not 'transfer curve'"),
    ):
        assert main([*other, "--resume"]) == 2
        assert f"was begun with {said}" in capsys.readouterr().err
    assert len(kept(out)) == 10

    assert main([*again, "--resume"]) == 0
    said = capsys.readouterr().err
    assert "going on with 10 parts done" in said
    assert "10 of 23: sign flip (1)" in said
    assert report(out) == report(tmp_path / "whole")
    assert not place_of(out).exists()
    same = [path.relative_to(out) for path in out.rglob("*.safetensors")]
    assert len(same) == 3
    assert [(out / one).read_bytes() for one in same] == [
        (tmp_path / "whole" / one).read_bytes() for one in same
    ]


@pytest.fixture
def bench(runs: Path) -> Bench:
    source, target = (open_subject(runs / name) for name in ("source", "target"))
    plan = Plan(source_hook=HOOK, target_hook=HOOK, **{**SMALL, "scales": (1.0, 4.0)})
    return Bench(source=source, target=target, plan=plan)


def stopping(at: str) -> Callable[[str], None]:
    def say(what: str) -> None:
        if at in what:
            raise KeyboardInterrupt

    return say


@pytest.mark.usefixtures("opened")
def test_what_was_kept_is_what_is_reported(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_to(bench, out, only=["gaussian"], say=stopping("damage"))
    right = Verdict(shown=False, right=True, taught=False, valid=True)
    part = place_of(out) / f"gaussian 1{ENDING}"
    part.write_bytes(msgspec.msgpack.encode([right] * 4))
    found = evaluate_to(bench, out, only=["gaussian"], resume=True)
    gaussian = next(one for one in found.outcomes if one.name == "gaussian")
    assert [one.right for one in gaussian.right] == [0, 4]


@pytest.mark.usefixtures("opened")
def test_other_weights_and_another_version_are_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_to(bench, out, only=["gaussian"], say=stopping("gaussian"))
    with monkeypatch.context() as later:
        later.setattr(
            "transfer.parts.provenance", lambda: {**provenance(), "commit": "later", "date": "later"}
        )
        with pytest.raises(InputError, match=r"was begun with made_with\.commit .*, not 'later'"):
            evaluate_to(bench, out, only=["gaussian"], resume=True)
    with torch.no_grad():
        bench.target.model.state_dict()["unembed.W_U"][0, 0] += 1
    with pytest.raises(
        InputError, match=r"was begun with target\.weights '[0-9a-f]{32}', not '[0-9a-f]{32}'"
    ):
        evaluate_to(bench, out, only=["gaussian"], resume=True)


@pytest.mark.usefixtures("opened")
def test_overwrite_begins_again(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_to(bench, out, only=["gaussian"], say=stopping("damage"))
    wrong = place_of(out) / f"gaussian 0{ENDING}"
    wrong.write_bytes(b"\xc1")
    with pytest.raises(InputError, match="gaussian 0.part` is no whole part"):
        evaluate_to(bench, out, only=["gaussian"], resume=True)
    found = evaluate_to(bench, out, only=["gaussian"], overwrite=True)
    assert [one.name for one in found.outcomes] == ["native", "transferred", "no steering", "gaussian"]
    assert not place_of(out).exists()


@pytest.mark.usefixtures("opened")
def test_a_whole_whose_parts_were_not_yet_deleted_is_written_again(bench: Bench, tmp_path: Path) -> None:
    out, aside = tmp_path / "out", tmp_path / "aside"
    with pytest.raises(KeyboardInterrupt):
        evaluate_to(bench, out, only=["gaussian"], say=stopping("damage"))
    place_of(out).rename(aside)
    evaluate_to(bench, out, only=["gaussian"])
    before = report(out)
    aside.rename(place_of(out))
    with pytest.raises(InputError, match="is not empty"):
        evaluate_to(bench, out, only=["gaussian"])
    evaluate_to(bench, out, only=["gaussian"], resume=True)
    assert (report(out), place_of(out).exists()) == (before, False)


@pytest.mark.usefixtures("opened")
def test_a_whole_that_something_else_gave_is_not_replaced_by_what_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    out, aside = tmp_path / "out", tmp_path / "aside"
    with pytest.raises(KeyboardInterrupt):
        evaluate_to(bench, out, only=["gaussian"], say=stopping("damage"))
    place_of(out).rename(aside)
    evaluate_to(replace(bench, plan=replace(bench.plan, seed=1)), out, only=["gaussian"])
    before = report(out)
    aside.rename(place_of(out))
    with pytest.raises(InputError, match="is not empty"):
        evaluate_to(bench, out, only=["gaussian"], resume=True)
    assert report(out) == before


def test_a_file_written_into_the_tree_makes_no_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = []
    for commit in ("abc", "abc+changes", None):
        monkeypatch.setattr("transfer.parts.provenance", lambda at=commit: {**provenance(), "commit": at})
        versions.append(made_with())
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.usefixtures("opened")
def test_curves_go_on_too(bench: Bench, tmp_path: Path) -> None:
    bench = replace(bench, plan=replace(bench.plan, scales=(4.0,), test_rows=2))
    whole = curves_to(bench, tmp_path / "whole", [1])
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        curves_to(bench, out, [1], say=stopping("blocks.2"))
    assert kept(out)[:3] == ["gates", "native at blocks.0.hook_resid_post", f"native at {HOOK}"]
    said: list[str] = []
    assert curves_to(bench, out, [1], resume=True, say=said.append) == whole
    assert said[0].startswith("going on with 6 parts done")
    assert said[-1] == "6 of 6: rank 1"
    assert report(out) == report(tmp_path / "whole")


@pytest.mark.usefixtures("brief")
def test_a_switch_goes_on_too(
    runs: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.switching.measure.check", lambda *_, **__: Gate(bars=()))
    base = open_subject(runs / "clean")
    tuned = teach(recipe, find_behaviour("backdoor", "drop", seed=0), tmp_path / "tuned", start=base)
    plan = SwitchPlan(hook=HOOK, map_rows=20, test_rows=4, ood_rows=2, lora_steps=2)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        switch_to(base, tuned, plan, out, say=stopping("all blocks"))
    first = {name: (place_of(out) / f"{name}{ENDING}").read_bytes() for name in kept(out)}
    assert {"off", "map", "direct patch"} <= set(first)
    said: list[str] = []
    found = switch_to(base, tuned, plan, out, resume=True, say=said.append)
    # Times too, which no second measuring would repeat.
    assert {name: msgspec.msgpack.encode(found.arm(name)) for name in first} == first
    # The map is fitted where off is measured.
    assert said[1:] == [
        f"{i} of {len(found.arms)}: {name}"
        for i, name in enumerate(["fitting the map", *(one.name for one in found.arms[1:])], 1)
    ]


def test_a_part_is_made_once_and_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    setting = Setting(hook=HOOK, scale=0.1 + 0.2, operator="add-and-ablate")
    trial = Trial(setting=setting, effect=1 / 3, damage=math.inf)
    choice = Choice(trials=(trial, replace(trial, damage=5e-324)), most_damage=0.02, best=None)
    parts = Parts(tmp_path)
    assert parts.find("a / b", Choice, lambda: choice) == choice
    assert parts.find("a / b", Choice, lambda: pytest.fail("made twice")) == choice
    assert parts.count == 1


def test_one_process_at_a_time_and_nothing_is_left_where_nothing_was_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(InputError, match="is refused"),
        keeping(out, {}, resume=False, overwrite=False, say=print),
    ):
        raise InputError("it is refused")
    assert list(tmp_path.iterdir()) == []
    place_of(out).mkdir()
    with (
        holding(place_of(out)),
        pytest.raises(InputError, match="another process is at work"),
        keeping(out, {}, resume=True, overwrite=True, say=print),
    ):
        pass


@pytest.mark.parametrize("where", ["transfer.parts.holding", "tinysql.runs.fcntl.flock"])
def test_a_directory_that_another_process_deletes_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out = tmp_path / "out"
    place = place_of(out)
    real = {"transfer.parts.holding": holding, "tinysql.runs.fcntl.flock": fcntl.flock}[where]
    deleted: list[Path] = []

    def late(*given: Any) -> Any:
        if not deleted:
            deleted.append(place)
            place.rmdir()
        return real(*given)

    monkeypatch.setattr(where, late)
    with keeping(out, {}, resume=False, overwrite=False, say=print) as parts:
        assert parts.find("one", int, lambda: 1) == 1
        monkeypatch.undo()
        # It holds what is there, not what was deleted.
        with pytest.raises(InputError, match="another process is at work"), holding(place):
            pass
    assert (deleted, place.exists()) == ([place], False)


def test_a_directory_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    place_of(tmp_path / "out").write_text("mine")
    with (
        pytest.raises(InputError, match=r"cannot create `.*partial`: File exists"),
        keeping(tmp_path / "out", {}, resume=False, overwrite=False, say=print),
    ):
        pass


def test_what_parts_belong_to_is_deleted_behind_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in between leaves no parts of which nobody knows what they are."""
    out, left = tmp_path / "out", []
    monkeypatch.setattr(
        "transfer.parts.shutil.rmtree", lambda place, **_: left.extend(one.name for one in place.iterdir())
    )
    with keeping(out, {"seed": 0}, resume=False, overwrite=False, say=print) as parts:
        parts.find("one", int, lambda: 1)
    assert left == ["asked.json"]
    with keeping(out, {"seed": 0}, resume=True, overwrite=False, say=print) as parts:
        assert parts.find("one", int, lambda: 2) == 2


@pytest.mark.usefixtures("opened")
def test_an_evaluation_refused_behind_its_gates_is_corrected(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ranked = replace(bench, plan=replace(bench.plan, method="low-rank", rank=99))
    with pytest.raises(InputError, match="rank is 99, expected 1 to"):
        evaluate_to(ranked, out, only=["gaussian"])
    assert kept(out) == ["gates"]
    corrected = replace(bench, plan=replace(bench.plan, method="low-rank", rank=4))
    evaluate_to(corrected, out, only=["gaussian"])
    assert ((out / "report.json").is_file(), place_of(out).exists()) == (True, False)


def test_a_fingerprint_knows_weights_and_shape_and_not_directories(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    first, again, other, wide = (untaught(seed=seed) for seed in (3, 3, 4, 3))
    wide.cfg = replace(wide.cfg, eps=1e-3)
    one, same, *others = (fingerprint(subject_of(model)) for model in (first, again, other, wide))
    assert one == same
    assert [[name for name in one if one[name] != it[name]] for it in others] == [["weights"], ["model"]]
