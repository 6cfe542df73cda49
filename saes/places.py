"""Run + name -> where an SAE stands or is to stand, without anything that computes: a refusal comes at once."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.errors import InputError, nearest
from data_gen.outputs import check_directory
from saes.again import options_again
from tinysql.runs import Run, check_one_way
from tinysql.written import read_written

LONGEST_NAME = 100
"""Bytes of a name, to which come those of a member of a grid, of a part and of the machine; 255 are a disk's limit."""
VALIDATION, LEAST_VALIDATION = 200, 20
"""Examples that a training is followed on unless told otherwise, and at least: fewer score hardly a role."""
WEIGHTS = "weights"
"""Under which name `config.json` has the fingerprint of the model's weights."""
TRUTH, CHOICE = "truth.json", ".choice.json"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a training of one name leaves what it makes, and what it needs while it lasts."""

    run: Path
    path: Path
    state: Path
    activations: Path
    choice: Path
    """Which member of a grid was chosen."""

    @staticmethod
    def of(run: Path, name: str) -> Place:
        """The place of that name in a run directory; `InputError` for a name with a slash in it."""
        check_name(name)
        path = run / "saes" / name
        return Place(
            run=run,
            path=path,
            state=path.with_name(f".{name}.training"),
            activations=path.with_name(f".{name}.activations"),
            choice=path.with_name(f"{name}{CHOICE}"),
        )

    def of_member(self, member: str) -> Path:
        """Where the member of a grid of this name stands."""
        return self.path.with_name(f"{self.path.name},{member}")

    def clear(self) -> None:
        """Remove what only a training needs."""
        for path in (self.state, self.activations):
            # No kill may leave half a directory under its own name.
            gone = path.with_name(f"{path.name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            if path.exists():
                path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def check_begin(place: Place, rows: int, validation: int, *, overwrite: bool, resume: bool) -> None:
    """Raise `InputError` for too few rows, for going on and beginning again at once, and where a cut-off training would
    be lost."""
    check_one_way(resume=resume, overwrite=overwrite)
    if rows < 1:
        raise InputError(
            f"--rows is {rows}, expected at least 1", hint="2000 rows of the demo are some 100,000 tokens"
        )
    if validation < 0 or 0 < validation < LEAST_VALIDATION:
        raise InputError(
            f"--validation is {validation}, expected 0 or at least {LEAST_VALIDATION}",
            hint=f"{VALIDATION} examples are enough to follow a training, 0 leaves it out",
        )
    if place.state.is_dir() and not resume and not overwrite:
        raise InputError(
            f"a training of `{place.path.name}` in {place.run} was cut off",
            hint="pass --resume to go on with it, or --overwrite to begin again",
        )


def check_free(place: Place, path: Path, overwrite: bool) -> None:
    """Raise `InputError` where there is an SAE at `path` already, unless `overwrite`, or there can be none."""
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise InputError(
            f"{place.run} has an SAE `{path.name}` already",
            hint="choose another --name, or pass --overwrite",
        )
    check_directory(path, overwrite)


def found(run: Path) -> list[str]:
    """Names of the SAEs in a run directory."""
    return sorted(path.parent.name for path in (run / "saes").glob("[!.]*/cfg.json"))


def directory_of(run: Run, name: str) -> Path:
    """The directory of an SAE of the run.

    Raises `InputError` with the nearest name when there is none, and when it was trained on other weights than the
    run's.
    """
    check_name(name)
    path = run.path / "saes" / name
    if not path.is_dir():
        there = found(run.path)
        raise InputError(
            f"{run.path} has no SAE `{name}`{nearest(name, there)}",
            hint=f"it has: {', '.join(there)}" if there else f"train one with: tinysql sae train {run.path}",
        )
    made = read_made(path) if (path / "config.json").exists() else {}
    of = made.get(WEIGHTS)  # what was made before this was kept, or elsewhere, names none
    if of is not None and of != (now := run.fingerprint()):
        options = options_again(made)
        named = shlex.quote(name)
        raise InputError(
            f"SAE `{name}` was trained on another model: on weights {of}, and those of {run.path} are {now}",
            hint=f"train one on these, as you set it: tinysql sae train {run.path} --name {named} --overwrite"
            if options is None
            else f"train one like it with `tinysql sae train {run.path} --name {named} {options} --overwrite`",
        )
    return path


def read_made(path: Path) -> dict[str, Any]:
    """The `config.json` of a dictionary's directory; `InputError` where it is not there or damaged."""
    # Nothing but that file says what stands there and that it is ours, so `--overwrite` does not replace it.
    return read_written(path / "config.json", f"restore it, or remove {path} and train it again")


def scored_in(run: Run, name: str) -> Path:
    """As `directory_of`; `InputError` when the SAE was not scored, too."""
    path = directory_of(run, name)
    if not (path / TRUTH).exists():
        raise InputError(
            f"SAE `{name}` of {run.path} was not scored",
            hint=f"score it with: tinysql sae eval {run.path} --name {name}",
        )
    return path


def check_name(name: str) -> None:
    """Raise `InputError` for what is no plain name of a directory."""
    if not name or Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise InputError(
            f"SAE name {name!r} is not a plain directory name",
            hint="choose a name such as `topk`, which begins with no dot",
        )
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(
            f"SAE name {name[:20]!r}... has {len(name.encode())} bytes, expected at most {LONGEST_NAME}",
            hint="choose a shorter name",
        )
