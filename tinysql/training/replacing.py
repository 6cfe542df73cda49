"""The run that --overwrite replaces -> kept beside until the new one has done a step, or put back if it does none.

It is moved to `.RUN.replaced` by one rename, and back by one. So a kill at any moment leaves it whole there, unless the
new run has done a step, which its log says before anything of the old one is removed.
"""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

from data_gen.errors import InputError
from data_gen.outputs import check_directory, claim_directory
from tinysql.runs import holding, kept_place


def has_begun(path: Path) -> bool:
    """Whether a run has done a step."""
    if (path / "model.safetensors").exists() or any(path.glob("checkpoints/step-*")):
        return True
    log = path / "metrics.jsonl"
    if not log.is_file():
        return False
    with log.open("rb") as lines:
        return lines.readline().endswith(b"\n")  # a kill may cut the first line short


def what_is_kept(path: Path) -> str | None:
    """The sentence that says where the run is that a new one at `path` is to replace.

    None where none is, or the new one has done a step, behind which what is kept may be half removed.
    """
    return _kept(path) if kept_place(path).is_dir() and not has_begun(path) else None


def set_aside(path: Path) -> bool:
    """Move a run away that is to be replaced; False where it has done no step, or stands where it cannot be moved.

    Raises `InputError` for what is no run of ours, which is not replaced.
    """
    # Of one that is half replaced already, the older run is kept.
    if os.path.lexists(kept_place(path)) or not (path / "config.json").is_file() or not has_begun(path):
        return False
    try:
        # A link, or the directory that we stand in, would not lead to the new run.
        if path.is_symlink() or Path.cwd().is_relative_to(os.path.realpath(path)):
            return False
        if not os.access(kept_place(path).parent, os.W_OK):
            return False
        check_directory(path, overwrite=True, kind="training run")
        os.rename(path, kept_place(path))
    except OSError:  # a disk of its own
        return False
    return True


def put_back(path: Path) -> None:
    """Move the run back to where no other stands now."""
    if kept_place(path).is_dir():
        os.rename(kept_place(path), path)


def take_back(path: Path, is_new: bool, kind: object, error: BaseException | None, trace: object) -> None:
    """Leave nothing of a run that was refused before its first step, and put back the one that it was to replace.

    What mends it would ask for --overwrite.

    What the system refused, as a full disk, goes on with --resume and stays.
    """
    if not isinstance(error, InputError) or isinstance(error.__cause__, OSError):
        return
    if (path / "bad_batch.safetensors").exists() or any(path.glob("checkpoints/*")):
        return
    if (path / "config.json").exists() and not has_begun(path):
        with suppress(InputError, OSError):  # what cannot be removed must not hide what was refused
            claim_directory(path, overwrite=True, kind="training run")
            if is_new:
                path.rmdir()
            put_back(path)


def drop(path: Path) -> None:
    """Remove the run that was replaced at `path`, if one was."""
    shutil.rmtree(kept_place(path), ignore_errors=True)


def settle(path: Path, *, replaces: bool) -> None:
    """See to what a kill left of a run that was to be replaced at `path`, and warn of it in a line.

    It is removed where the new one has done a step, and put back where there is nothing of a new one, unless what is
    asked for `replaces` it again. Raises `InputError` when another process is replacing it now.
    """
    place = kept_place(path)
    if not place.is_dir():
        return
    with holding(place):
        if has_begun(path):
            drop(path)
            said = f"{place}, which {path} has replaced, is removed"
        elif not replaces and not (path.is_dir() and any(path.iterdir())):
            put_back(path)
            said = f"{path} was to be replaced and no step was done: it is put back"
        else:
            said = _kept(path)
    warnings.warn(said, stacklevel=2)


def _kept(path: Path) -> str:
    return (
        f"{kept_place(path)} keeps the run that {path} replaces, until a step is logged; "
        f"to have it back, remove {path} and rename it"
    )
