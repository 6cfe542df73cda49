"""Path of an output -> a place to write in, or a refusal before the work whose result it is to hold."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from data_gen.errors import InputError
from data_gen.files import beside, check_replaceable, find_json, refusal, remove_leftovers

MARKERS = ("config.json", "unfinished.json")
"""Files whose keys show a directory to be an output of ours, which `overwrite` may therefore empty."""
KINDS = {
    "dataset": {"kind", "shard_rows"},
    "training run": {"recipe"},
    "steering vector": {"hook", "metadata"},
    "analysis": {"made_by"},
}
"""What a directory of ours is, and the keys that a marker of that kind holds; the first that fits."""


def check_output(path: Path | str, *, overwrite: bool, sources: Iterable[Path | str]) -> None:
    """Refuse the file `path` before the work whose result it is to hold, if it cannot be written or must stay.

    Raises:
        InputError: it is one of the `sources` that the work reads, or stands in one; it exists and `overwrite` is
            false; it is no file; or its directory is missing or cannot be written.
    """
    path = Path(path)
    check_apart(path, sources)
    try:
        if path.is_dir():
            raise InputError(f"output `{path}` exists, as a directory", hint="choose another output")
        check_replaceable(path)
        if os.path.lexists(path) and not overwrite:
            raise InputError(
                f"output `{path}` exists", hint="choose another output, or pass --overwrite to replace it"
            )
        _try_writing(beside(path))
    except OSError as error:
        raise refusal("write", path, error) from error


def claim_file(path: Path | str) -> Path:
    """Make the directory of a file of ours, which is replaced, and see before the work that it can be written.

    Raises:
        InputError: it cannot, or it is no file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise InputError(
                f"output `{path}` is a directory, expected a file", hint="delete it or move it away"
            )
    except OSError as error:
        raise refusal("write", path, error) from error
    check_output(path, overwrite=True, sources=[])
    return path


def check_apart(path: Path, sources: Iterable[Path | str]) -> None:
    """Refuse an output that is one of the `sources`, stands in one, or holds one, by whatever links.

    Raises:
        InputError: as said.
    """
    place = _real(path)
    for source in map(Path, sources):
        root = _real(source)
        if root.is_file() and any((root.parent / marker).is_file() for marker in MARKERS):
            root = root.parent  # one shard stands for its dataset
        # Files of the source may be links, whose names or targets would be replaced.
        linked = {_real(entry) for entry in root.rglob("*") if entry.is_symlink()} if root.is_dir() else set()
        if place in linked or root in (place, *place.parents) or place in root.parents:
            raise InputError(
                f"output `{path}` would replace what is read from `{source}`",
                hint="choose an output outside of it",
            )


def _real(path: Path) -> Path:
    """The path without links; unlike `Path.resolve` it takes those that lead round in a circle."""
    return Path(os.path.realpath(path))


def claim_directory(path: Path | str, overwrite: bool = False, kind: str | None = None) -> Path:
    """Make `path` an empty directory to write in.

    Raises:
        InputError: it holds something and `overwrite` is false; or it holds something that is no output
            of ours (no `config.json` with our keys) or not of this one of the `KINDS`, which is never
            deleted; or it cannot be written.
    """
    path = Path(path)
    try:
        if _is_replaced(path, overwrite, kind):
            _empty(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal("create", path, error) from error
    return path


def check_directory(path: Path | str, overwrite: bool = False, kind: str | None = None) -> None:
    """Refuse before the work what `claim_directory` would refuse after it; nothing is made or emptied.

    Raises:
        InputError: as `claim_directory`.
    """
    path = Path(path)
    try:
        _is_replaced(path, overwrite, kind)
        # It is written beside, in a directory that is made where it is missing.
        part = beside(path).name
        _try_writing(next(place for place in path.parents if place.exists()) / part)
    except OSError as error:
        raise refusal("create", path, error) from error


def _try_writing(part: Path) -> None:
    """Make the file and remove it; `OSError` where that cannot be."""
    part.touch()
    part.unlink()


def _one(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _is_replaced(path: Path, overwrite: bool, kind: str | None) -> bool:
    """Whether the directory holds something, which may be deleted; `InputError` where it may not."""
    if os.path.lexists(path) and not path.is_dir():
        what = "a file" if path.exists() else "a link to nothing"
        raise InputError(f"output `{path}` is {what}, expected a directory", hint="choose another output")
    # Who was killed while it wrote the first marker left a directory that nobody could know as ours.
    remove_leftovers(path, MARKERS)
    if not path.is_dir() or not any(path.iterdir()):
        return False
    found = _kind_of(path)
    if not overwrite:
        is_ours = found is not None and kind in (None, found)  # or --overwrite would be refused
        raise InputError(
            f"output directory `{path}` is not empty",
            hint="choose another output"
            + (", or pass --overwrite to replace what is there" if is_ours else "")
            + (" or --resume to go on with it" if kind == "training run" and _is_run(path) else ""),
        )
    if found is None:
        raise InputError(
            f"output directory `{path}` holds no {' or '.join(f'`{marker}`' for marker in MARKERS)} that "
            "tinysql wrote, so it is not an output of tinysql and is not overwritten",
            hint="choose another output, or empty the directory by hand",
        )
    if kind not in (None, found):
        raise InputError(
            f"output directory `{path}` holds {_one(found)}, which {_one(kind)} does not overwrite",
            hint="choose another output, or delete the directory by hand",
        )
    return True


def _is_run(path: Path) -> bool:
    """Whether it is a training run, and not one that is half deleted."""
    return _kind_of(path) == "training run" and (path / MARKERS[0]).is_file()


def _empty(path: Path) -> None:
    if _is_run(path):  # what is half deleted must not be gone on with, by settings that were to be replaced
        os.replace(path / MARKERS[0], path / MARKERS[1])
    # The markers go last: a process killed meanwhile leaves a directory that is still known as ours.
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name in MARKERS):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _kind_of(path: Path) -> str | None:
    """Which of the `KINDS` the directory is, by the keys of its markers; None for a foreign one."""
    for marker in (path / name for name in MARKERS):
        try:
            keys = (find_json(marker) or {}).keys()
        except InputError:
            if _holds_shards_alone(path):
                return "dataset"
            continue
        found = next((kind for kind, needed in KINDS.items() if needed <= keys), None)
        if found is not None:
            return found
    return None


def _holds_shards_alone(path: Path) -> bool:
    """Whether a directory whose marker is broken is a dataset of ours, by its card and by the names of all in it."""
    card = path / "README.md"
    if not card.is_file() or not card.read_bytes().startswith(_CARD):
        return False
    return all(re.fullmatch(_DATASET, entry.name) for entry in path.iterdir())


_CARD = b"---\npretty_name: 'TinySQL "
_DATASET = (
    r"config\.json|unfinished\.json|README\.md|dataset_info\.json|state\.json|unfinished-\d+-of-\d+\.sha256|"
    r"[\w-]+-\d{5}-of-\d{5}\.(parquet|jsonl|arrow)"
)
"""How the card of a dataset begins, and the names that the files of one have."""
