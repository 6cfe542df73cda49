"""Bytes and directories -> disk, whole or not at all: written beside, then renamed."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
from argparse import ArgumentTypeError
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_gen.errors import InputError

MARKERS = ("config.json", "unfinished.json")
"""Files whose keys show a directory to be an output of ours, which `overwrite` may therefore empty."""
KINDS = {
    "dataset": {"kind", "shard_rows"},
    "training run": {"recipe"},
    "steering vector": {"hook", "metadata"},
    "analysis": {"made_by"},
}
"""What a directory of ours is, and the keys that a marker of that kind holds; the first that fits."""


DEVICES, PROCESSES = Path("/dev"), Path("/proc")
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOENT: "make the directory that it is to stand in, or choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What helps against an error of the system; against the others, another path does."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
"""What disks without hard links answer to one."""


def read_path(text: str) -> str:
    """A path as the command line gives it: anything but nothing, which would be the current directory.

    Raises:
        argparse.ArgumentTypeError: it is empty; argparse names the option in front of the sentence.
    """
    if not text:
        raise ArgumentTypeError("the path is empty, expected a name, or `.` for the current directory")
    return text


def _refusal(action: str, path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "give a path that can be written")
    return InputError(
        f"cannot {action} `{path}`: {reason}", hint=f"{remedy}; what was complete before is still there"
    )


def _host() -> str:
    # Several machines may write to one directory, and each gives out process ids of its own.
    return re.sub(r"[^0-9A-Za-z]", "-", platform.node())


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")


def remove_leftovers(
    directory: Path, names: Container[str] | None = None, *, elsewhere: bool = False
) -> None:
    """Delete what killed writers of this machine left half-written in `directory`, or of these `names` in it.

    The parts of writers that still run are kept, and those of other machines unless `elsewhere`: nobody can look
    whether their writers still run.
    """
    for leftover in directory.glob(".*.tmp"):
        part = re.fullmatch(r"\.(.+)\.([0-9A-Za-z-]*)\.([0-9]+)\.tmp", leftover.name, re.DOTALL)
        if part is None or (names is not None and part[1] not in names):
            continue
        if _is_alive(int(part[3])) if part[2] == _host() else not elsewhere:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        # Of another user; or no process id, so not a name that we gave.
        return True
    try:  # one that has ended, and that nobody has asked for yet, writes no more
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):  # a system without /proc, or it is gone now
        return True


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`; a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the disk is full, or the path cannot be written.
    """
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[IO[bytes]]:
    """Give an open file that becomes `path` when the block ends without an error.

    Raises:
        InputError: as `write_atomic`.
    """
    path = Path(path)
    part = _beside(path)
    try:
        _check_replaceable(path)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise _refusal("write", path, error) from error
    finally:
        # Where the directory is missing, or the path no directory, there is no part either.
        with suppress(OSError):
            part.unlink()


def _check_replaceable(path: Path) -> None:
    """Refuse a device, a pipe or a directory: a file renamed to that name would be put in its place.

    What stands in /dev or /proc is refused too: /dev/stdout is a link to the file that stdout goes to.
    """
    parent = path.parent.resolve()
    is_system = parent == DEVICES or PROCESSES in (parent, *parent.parents)
    if is_system or (path.exists() and not path.is_file()):
        raise InputError(
            f"output `{path}` is no file, and only files are written whole",
            hint="write to a file, and `cat` it to where it shall go",
        )


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
            raise InputError(f"output `{path}` exists, as a directory", hint="choose another --out")
        _check_replaceable(path)
        if path.exists() and not overwrite:
            raise InputError(
                f"output `{path}` exists", hint="choose another --out, or pass --overwrite to replace it"
            )
        part = _beside(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise _refusal("write", path, error) from error


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
                hint="choose an --out outside of it",
            )


def _real(path: Path) -> Path:
    """The path without links; unlike `Path.resolve` it takes those that lead round in a circle."""
    return Path(os.path.realpath(path))


def write_new(path: Path | str, data: str) -> bool:
    """Write as `write_atomic`, but only where there is no `path` yet; False where there is one, which stays.

    Of several processes that do so at one moment one is told True.

    Raises:
        InputError: as `write_atomic`.
    """
    path = Path(path)
    part = _beside(path)
    try:
        with open(part, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
        _link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise _refusal("write", path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()
    return True


def _link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links nothing can be had at once with a name of its own and with its content.
        if path.exists():
            raise FileExistsError from error
        os.replace(part, path)


def append_line(path: Path | str, line: str) -> None:
    """Append `line` to the file at `path`, which is made if there is none; a killed writer may leave it cut short.

    Raises:
        InputError: as `write_atomic`.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise _refusal("write", Path(path), error) from error


@contextmanager
def atomic_directory(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty directory beside `path`, renamed to `path` when the block ends without an error.

    `path` must not exist, or be an empty directory, unless `overwrite` lets it be any other directory. What killed
    writers of `path` left is deleted.

    Raises:
        InputError: the disk is full, or the path cannot be written.
    """
    path = Path(path)
    part, old = _beside(path), _beside(path.with_name(f"{path.name}.replaced"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        remove_leftovers(path.parent, (path.name, f"{path.name}.replaced"))
        yield part
        if overwrite and path.is_dir():
            # A directory that holds something takes no other's name, so it is moved away until the new one stands.
            os.replace(path, old)
        os.replace(part, path)
    except OSError as error:
        raise _refusal("write", path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def claim_directory(path: Path | str, overwrite: bool = False, kind: str | None = None) -> Path:
    """Make `path` an empty directory to write in.

    Raises:
        InputError: it holds something and `overwrite` is false; or it holds something that is no output
            of ours (no `config.json` with our keys) or not of this one of the `KINDS`, which is never
            deleted; or it cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"output `{path}` is a file, expected a directory", hint="choose another --out")
        if path.is_dir() and any(path.iterdir()):
            _empty(path, overwrite, kind)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal("create", path, error) from error
    return path


def _one(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _empty(path: Path, overwrite: bool, kind: str | None) -> None:
    if not overwrite:
        raise InputError(
            f"output directory `{path}` is not empty",
            hint="choose another --out, or pass --overwrite to replace what is there"
            + (" or --resume to go on with it" if kind == _kind_of(path) == "training run" else ""),
        )
    found = _kind_of(path)
    if found is None:
        raise InputError(
            f"output directory `{path}` holds no {' or '.join(f'`{marker}`' for marker in MARKERS)} that "
            "tinysql wrote, so it is not an output of tinysql and is not overwritten",
            hint="choose another --out, or empty the directory by hand",
        )
    if kind not in (None, found):
        raise InputError(
            f"output directory `{path}` holds {_one(found)}, which {_one(kind)} does not overwrite",
            hint="choose another --out, or delete the directory by hand",
        )
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


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in the file at `path`.

    Raises:
        InputError: the file is missing, unreadable, cut short, or holds something else than an object.
    """
    path = Path(path)
    value = find_json(path)
    if value is None:
        raise InputError(f"cannot read `{path}`: {os.strerror(errno.ENOENT)}", hint="check the path")
    return value


def find_json(path: Path | str) -> dict[str, Any] | None:
    """The JSON object in the file at `path`; None where there is no such file.

    Looking first whether it is there, and reading it then, would fail where another process deletes it in between.

    Raises:
        InputError: as `read_json`, but for a missing file.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror or error}", hint="check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"`{path}` is not whole JSON ({error})", hint="it was cut short or edited; write it again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"`{path}` holds a JSON {type(value).__name__}, expected an object",
            hint="check the path, or write the file again",
        )
    return value
