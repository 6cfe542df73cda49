"""Bytes and directories -> disk, whole or not at all: written beside, then renamed."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
from argparse import ArgumentTypeError
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from data_gen.errors import InputError

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


def refusal(action: str, path: Path, error: OSError) -> InputError:
    """What the system refused, such as to `write` the path, with what helps against it."""
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "give a path that can be written")
    return InputError(
        f"cannot {action} `{path}`: {reason}", hint=f"{remedy}; what was complete before is still there"
    )


def _host() -> str:
    # Several machines may write to one directory, and each gives out process ids of its own.
    return re.sub(r"[^0-9A-Za-z]", "-", platform.node())


def beside(path: Path) -> Path:
    """Where this process writes what is to become `path`. Raises `InputError` for one without a name, such as `.`."""
    if path.name in ("", ".."):
        raise InputError(
            f"output `{path}` has no name of its own", hint="name something that is to stand in it"
        )
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
    part = beside(path)
    try:
        check_replaceable(path)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise refusal("write", path, error) from error
    finally:
        # Where the directory is missing, or the path no directory, there is no part either.
        with suppress(OSError):
            part.unlink()


def check_replaceable(path: Path) -> None:
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


def write_new(path: Path | str, data: str) -> bool:
    """Write as `write_atomic`, but only where there is no `path` yet; False where there is one, which stays.

    Of several processes that do so at one moment one is told True.

    Raises:
        InputError: as `write_atomic`.
    """
    path = Path(path)
    part = beside(path)
    try:
        with open(part, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
        _link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise refusal("write", path, error) from error
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
        raise refusal("write", Path(path), error) from error


@contextmanager
def atomic_directory(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty directory beside `path`, renamed to `path` when the block ends without an error.

    `path` must not exist, or be an empty directory, unless `overwrite` lets it be any other directory. What killed
    writers of `path` left is deleted.

    Raises:
        InputError: the disk is full, or the path cannot be written.
    """
    path = Path(path)
    part, old = beside(path), beside(path.with_name(f"{path.name}.replaced"))
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
        raise refusal("write", path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


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
            f"`{path}` is not whole JSON ({error})",
            hint="it was cut short or edited, or is no JSON; write it again, or name another",
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"`{path}` holds a JSON {type(value).__name__}, expected an object",
            hint="check the path, or write the file again",
        )
    return value
