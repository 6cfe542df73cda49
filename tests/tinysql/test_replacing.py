"""An older run is there, whole, until the one that --overwrite puts in its place has done a step."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from data_gen.errors import InputError
from tinysql.cli import main
from tinysql.config import override
from tinysql.recipes import Recipe, find_recipe
from tinysql.runs import holding, kept_place, open_run
from tinysql.training.fit import fit
from tinysql.training.loop import Trainer

Killer = Callable[[int], AbstractContextManager[None]]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def older() -> Recipe:
    few = [
        "rows=60",
        "train.hold_steps=8",
        "train.decay_steps=4",
        "train.warmup_steps=2",
        "train.probe_every=10",
    ]
    return override(find_recipe("tiny"), few)


@pytest.fixture(scope="module")
def newer(older: Recipe) -> Recipe:
    return override(older, ["train.lr=0.001"])


@pytest.fixture(scope="module")
def original(older: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(older, tmp_path_factory.mktemp("older") / "run").path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def files(path: Path) -> Files:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_what_is_refused_before_the_first_step_leaves_the_older_run(older: Recipe, run: Path) -> None:
    before = files(run)
    with pytest.raises(InputError, match="tokens and the model's context is 20"):
        fit(override(older, ["train.model.n_ctx=20"]), run, overwrite=True)
    assert files(run) == before
    assert os.listdir(run.parent) == ["run"]


def test_a_batch_that_does_not_fit_at_the_first_step_leaves_the_older_run(
    newer: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Trainer, batch: object) -> None:
        raise InputError("the batch does not fit")

    monkeypatch.setattr(Trainer, "step", full)
    before = files(run)
    with pytest.raises(InputError, match="does not fit"):
        fit(newer, run, overwrite=True)
    assert files(run) == before
    assert os.listdir(run.parent) == ["run"]


def test_the_older_run_goes_with_the_first_line_of_the_log(
    newer: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, step = [], Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self, batch: there.append(kept_place(run).is_dir()) or step(self, batch)
    )
    assert fit(newer, run, overwrite=True).recipe == newer
    assert there == [True] * 10 + [False] * 2
    assert os.listdir(run.parent) == ["run"]


def test_a_run_too_short_for_a_line_of_the_log_replaces_the_older(newer: Recipe, run: Path) -> None:
    short = override(newer, ["train.hold_steps=4", "train.decay_steps=2"])
    assert fit(short, run, overwrite=True).recipe == short
    assert (run / "metrics.jsonl").read_bytes() == b""
    assert os.listdir(run.parent) == ["run"]


def test_to_replace_a_run_and_go_on_with_it_at_once_is_refused(newer: Recipe, run: Path) -> None:
    before = files(run)
    with pytest.raises(InputError, match="cannot both overwrite and resume"):
        fit(newer, run, resume=True, overwrite=True)
    assert files(run) == before


def test_a_kill_before_the_first_line_keeps_both_and_resume_goes_on(
    newer: Recipe, run: Path, killed_at: Killer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run)
    with killed_at(3):
        fit(newer, run, overwrite=True)
    assert files(kept_place(run)) == before
    with pytest.raises(InputError, match="holds no finished model; .*run.replaced beside it keeps the run"):
        open_run(run).weights_file()
    (run / "metrics.jsonl").write_text('{"step": 9, "lo')  # killed while it wrote the first line
    says = "run.replaced keeps the run that .*run replaces, until a step is logged; to have it back"
    with pytest.warns(UserWarning, match=says), pytest.raises(InputError, match="is not empty"):
        fit(newer, run)
    capsys.readouterr()
    assert main(["train", "tiny", "--out", str(run)]) == 2
    assert capsys.readouterr().err.startswith(f"{kept_place(run)} keeps the run that {run} replaces")
    # So it is said where a new run that was refused is half deleted, and its first file has another name.
    (run / "config.json").rename(run / "unfinished.json")
    assert main(["train", "tiny", "--out", str(run)]) == 2
    assert capsys.readouterr().err.startswith(f"{kept_place(run)} keeps the run that {run} replaces")
    (run / "unfinished.json").rename(run / "config.json")
    # Replaced once more, it is the older run that is kept, and not what has done no step.
    with pytest.warns(UserWarning, match=says), killed_at(3):
        fit(newer, run, overwrite=True)
    assert files(kept_place(run)) == before
    with pytest.warns(UserWarning, match=says):
        assert fit(newer, run, resume=True).recipe == newer
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.parametrize("made", [False, True])
def test_a_kill_before_anything_of_the_new_run_is_written_puts_the_older_back(
    made: bool, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run)
    run.rename(kept_place(run))
    if made:
        run.mkdir()
    with pytest.warns(UserWarning, match="run was to be replaced and no step was done: it is put back"):
        assert main(["train", "tiny", "--out", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"output directory `{run}` is not empty\n" in said
    assert files(run) == before
    assert os.listdir(run.parent) == ["run"]


def test_another_process_that_is_replacing_the_run_is_left_alone(newer: Recipe, run: Path) -> None:
    before = files(run)
    run.rename(kept_place(run))  # and has not yet made a directory in its place
    for asked in ({}, {"resume": True}, {"overwrite": True}):
        with (
            holding(kept_place(run)),
            pytest.raises(InputError, match="another process is at work in .*run.replaced"),
        ):
            fit(newer, run, **asked)
    assert os.listdir(run.parent) == [kept_place(run).name]
    assert files(kept_place(run)) == before


def test_a_kill_between_the_first_line_and_the_removal_ends_in_the_removal(
    newer: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinysql.training.fit.drop", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(newer, run, overwrite=True)
    monkeypatch.undo()
    assert kept_place(run).is_dir()
    # It may be half removed, so nobody is told that it is kept there.
    capsys.readouterr()
    assert main(["train", "tiny", "--out", str(run)]) == 2
    assert capsys.readouterr().err.startswith(f"tinysql: output directory `{run}` is not empty")
    with pytest.warns(UserWarning, match="run.replaced, which .*run has replaced, is removed"):
        assert fit(newer, run, resume=True).recipe == newer
    assert os.listdir(run.parent) == ["run"]


def test_a_run_without_a_step_is_not_kept(
    older: Recipe, newer: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    for recipe in (older, newer):
        with killed_at(3):
            fit(recipe, tmp_path / "run", overwrite=True)
        assert os.listdir(tmp_path) == ["run"]


def test_a_disk_of_its_own_is_emptied_as_it_stands(
    newer: Recipe, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(here: Path, there: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("tinysql.training.replacing.os.rename", refused)
    assert fit(newer, run, overwrite=True).recipe == newer
    assert os.listdir(run.parent) == ["run"]


def test_a_directory_that_cannot_be_moved_is_emptied_as_it_stands(
    newer: Recipe, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    assert fit(newer, tmp_path / "link", overwrite=True).recipe == newer
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(run)
    for place in (Path(), run):
        assert fit(newer, place, overwrite=True).recipe == newer
    assert (run / "model.safetensors").is_file()
    assert sorted(os.listdir(tmp_path)) == ["link", "run"]
