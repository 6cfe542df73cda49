"""A run that `teach` is to replace is kept beside until the new one has done a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.errors import InputError
from tinysql.recipes import Recipe
from tinysql.runs import kept_place
from tinysql.training.loop import read_log
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.training import teach

BEHAVIOUR = find_behaviour("backdoor", "drop", seed=0)


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


@pytest.fixture
def taught(recipe: Recipe, tmp_path: Path) -> Path:
    return teach(recipe, BEHAVIOUR, tmp_path / "run").run.path


@pytest.mark.parametrize("n_ctx", [8, 32])
def test_one_that_is_refused_leaves_the_older_run(recipe: Recipe, taught: Path, n_ctx: int) -> None:
    """Also where some rows fit: their prompts are asked when training is done."""
    before = contents(taught)
    short = replace(recipe, train=replace(recipe.train, model=replace(recipe.train.model, n_ctx=n_ctx)))
    with pytest.raises(
        InputError, match=f"the model's context is {n_ctx}, so there is no room for an answer"
    ):
        teach(short, BEHAVIOUR, taught, overwrite=True)
    assert contents(taught) == before
    assert not kept_place(taught).exists()


def test_one_that_is_killed_before_its_first_step_keeps_it_beside(
    recipe: Recipe, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(taught)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("transfer.behaviours.training.train", killed)
        with pytest.raises(KeyboardInterrupt):
            teach(recipe, BEHAVIOUR, taught, overwrite=True)
    assert contents(kept_place(taught)) == before
    with pytest.warns(UserWarning, match=r"run\.replaced keeps the run that .*run replaces"):
        teach(recipe, BEHAVIOUR, taught, resume=True)
    assert not kept_place(taught).exists()
    # The same command and seed: the same model.
    assert contents(taught)["model.safetensors"] == before["model.safetensors"]


def test_one_that_has_done_a_step_replaces_it(
    recipe: Recipe, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transfer.behaviours.training.save_tensors", full)
    with pytest.raises(KeyboardInterrupt):
        teach(recipe.with_seed(1), BEHAVIOUR, taught, overwrite=True)
    assert read_log(taught / "metrics.jsonl")
    assert not kept_place(taught).exists()
