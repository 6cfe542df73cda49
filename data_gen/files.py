"""Bytes and directories -> disk, whole or not at all: written beside, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_gen.errors import InputError

MARKERS = ("config.json", "unfinished.json")
"""Files that show a directory to be an output of ours, which `overwrite` may therefore empty."""


def _refusal(action: str, path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(
        f"cannot {action} `{path}`: {reason}",
        hint="free some space, or give a path that can be written; what was complete before is still there",
    )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(directory: Path) -> None:
    """Delete what a killed writer left half-written in `directory`."""
    for leftover in directory.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`; a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the disk is full, or the path cannot be written.
    """
    path = Path(path)
    part = _beside(path)
    try:
        with open(part, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise _refusal("write", path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Give an empty directory beside `path`, renamed to `path` when the block ends without an error.

    `path` must not exist, or be an empty directory.

    Raises:
        InputError: the disk is full, or the path cannot be written.
    """
    path = Path(path)
    part = _beside(path)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise _refusal("write", path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def claim_directory(path: Path | str, overwrite: bool = False) -> Path:
    """Make `path` an empty directory to write in.

    Raises:
        InputError: it holds something and `overwrite` is false; or it holds something that is no output
            of ours (no `config.json`), which is never deleted; or it cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"output `{path}` is a file, expected a directory", hint="choose another --out")
        if path.is_dir() and any(path.iterdir()):
            _empty(path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal("create", path, error) from error
    return path


def _empty(path: Path, overwrite: bool) -> None:
    if not overwrite:
        raise InputError(
            f"output directory `{path}` is not empty",
            hint="choose another --out, or pass --overwrite to replace what is there",
        )
    if not any((path / marker).is_file() for marker in MARKERS):
        raise InputError(
            f"output directory `{path}` holds no {' or '.join(f'`{marker}`' for marker in MARKERS)}, "
            "so it is not an output of tinysql and is not overwritten",
            hint="choose another --out, or empty the directory by hand",
        )
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in the file at `path`.

    Raises:
        InputError: the file is missing, unreadable, cut short, or holds something else than an object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror or error}", hint="check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"`{path}` is not whole JSON ({error})", hint="it was cut short or edited; write it again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"`{path}` holds a JSON {type(value).__name__}, expected an object")
    return value
