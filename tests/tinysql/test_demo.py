"""The demo is a list of public commands; it goes on where it stopped, and never mixes seeds."""

import shutil
from pathlib import Path

import pytest

import tinysql.cli
from tinysql.cli import NOUNS, Parser, main
from tinysql.demo import steps
from tinysql.floors import load_ours
from tinysql.recipes import find_recipe
from tinysql.runs import kept_place, start_run


def test_every_step_is_a_command_that_parses() -> None:
    for step in steps(Path("runs/demo"), "demo", 3):
        noun, *arguments = step.command
        parser = Parser(prog=noun)
        load_ours(NOUNS[noun].module).add_arguments(parser)
        assert hasattr(parser.parse_args(arguments), "call")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Commands that the demo would run; all but training only leave the artefact their step promises."""
    found: list[str] = []
    real = tinysql.cli.run

    def plain(arguments: list[str]) -> list[str]:
        return [a for a in arguments if a not in ("--resume", "--overwrite")]

    def pretend(arguments: list[str]) -> None:
        found.append(arguments[0])
        if arguments[0] == "train":
            real(arguments)
            return
        [step] = [s for s in steps(tmp_path / "run", "tiny", 0) if plain(s.command) == plain(arguments)]
        step.makes.parent.mkdir(parents=True, exist_ok=True)
        step.makes.write_text("")

    monkeypatch.setattr(tinysql.cli, "run", lambda args: real(args) if args[0] == "demo" else pretend(args))
    return found


def test_a_stopped_demo_goes_on_with_the_first_step_not_done(commands: list[str], tmp_path: Path) -> None:
    arguments = ["demo", "--recipe", "tiny", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert commands == [step.command[0] for step in steps(tmp_path / "run", "tiny", 0)]
    commands.clear()
    (tmp_path / "run" / "saes" / "topk" / "truth.json").unlink()
    assert main([*arguments, "--resume"]) == 0
    assert commands == ["sae", "report"]
    commands.clear()
    assert main([*arguments, "--resume"]) == 0
    assert commands == []
    (tmp_path / "run" / "model.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="no checkpoint is left: training begins at step 0"):
        assert main([*arguments, "--resume"]) == 0
    assert commands == [step.command[0] for step in steps(tmp_path / "run", "tiny", 0)]


def test_a_demo_of_another_seed_cannot_be_resumed(
    commands: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_run(tmp_path / "run", find_recipe("tiny"))
    assert main(["demo", "--recipe", "tiny", "--out", str(tmp_path / "run"), "--resume", "--seed", "1"]) == 2
    assert (
        "was started with --seed 0, not 1\nhint: repeat what it was started with" in capsys.readouterr().err
    )
    assert commands == []


def test_a_demo_that_is_refused_says_of_whom_its_hint_is_and_deletes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_run(tmp_path / "run", find_recipe("tiny"))
    (tmp_path / "run" / "model.safetensors").write_bytes(b"mine")
    demo = ["demo", "--recipe", "bm1", "--out", str(tmp_path / "run"), "--overwrite"]
    assert main(demo) == 2
    said = capsys.readouterr().err
    assert (
        f"hint: of `tinysql train bm1 --out {tmp_path / 'run'} --seed 0 --overwrite`: pass --device" in said
    )
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"mine"


def test_a_demo_made_anew_does_every_step_again(commands: list[str], tmp_path: Path) -> None:
    arguments = ["demo", "--recipe", "tiny", "--out", str(tmp_path / "run")]
    every = [step.command[0] for step in steps(tmp_path / "run", "tiny", 0)]
    for again in ([], ["--overwrite"]):
        assert main([*arguments, *again]) == 0
        assert commands == every
        commands.clear()


@pytest.mark.parametrize("made", [False, True])
def test_a_demo_keeps_the_run_that_a_killed_one_was_to_replace_until_it_is_asked_to(
    made: bool, commands: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, every = tmp_path / "run", [step.command[0] for step in steps(tmp_path / "run", "tiny", 0)]
    arguments = ["demo", "--recipe", "tiny", "--out", str(run)]
    for again in ("", "--resume", "--overwrite"):
        start_run(kept_place(run), find_recipe("tiny"))
        (kept_place(run) / "model.safetensors").write_bytes(b"mine")
        if made:
            run.mkdir()
        if again:
            with pytest.warns(UserWarning, match="run.replaced keeps the run that .*run replaces"):
                assert main([*arguments, again]) == 0
            assert commands == every
        else:
            with pytest.warns(UserWarning, match="no step was done: it is put back"):
                assert main(arguments) == 2
            assert (run / "model.safetensors").read_bytes() == b"mine"
            assert "is not empty" in capsys.readouterr().err
        assert not kept_place(run).exists()
        commands.clear()
        shutil.rmtree(run)
