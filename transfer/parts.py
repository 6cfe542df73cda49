"""Part of a long measuring -> what it found, on disk until the whole is written: what was cut off goes on.

Each part is one file in `.NAME.partial`, beside the directory NAME that the whole becomes, and appears there whole or
not at all. A part's name says what was measured, and `asked.json` of which models, under which plan and by which
versions; whatever is made on the way, such as a map, is made again.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import torch

from data_gen.errors import InputError
from data_gen.files import find_json, refusal, remove_leftovers, write_atomic
from tinysql.config import to_json
from tinysql.runs import code_of, holding, provenance
from transfer.behaviours.training import Subject

ASKED, ENDING = "asked.json", ".part"
REFUSED = "refused.txt"
"""Says that the run ended in a refusal of its input: its parts are in no other plan's way."""
ATTEMPTS = 10
"""To make and hold a directory; more than one are needed only where others delete it meanwhile."""
Found = TypeVar("Found")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What has been found so far; without a place nothing is kept."""

    place: Path | None = None

    def find(self, name: str, kind: Any, make: Callable[[], Found]) -> Found:
        """What the part of that name found, of the type `kind`: read where it is there, otherwise made and kept.

        Raises `InputError` for a part that is damaged, and as `make` does.
        """
        if self.place is None:
            return make()
        path = self.place / f"{quote(name, safe=' ')}{ENDING}"
        if path.is_file():
            try:
                found: Found = msgspec.msgpack.decode(path.read_bytes(), type=kind)
            except msgspec.MsgspecError as error:
                raise InputError(
                    f"`{path}` is no whole part ({error})", hint="delete it, and it is measured again"
                ) from error
            return found
        made = make()
        # Floats come back to the last bit, infinity too, which JSON has not.
        write_atomic(path, msgspec.msgpack.encode(made))
        return made

    @property
    def count(self) -> int:
        """How many there are."""
        return 0 if self.place is None else len(list(self.place.glob(f"*{ENDING}")))


NOTHING_KEPT = Parts()


def place_of(directory: Path) -> Path:
    """Where the parts of what is to become `directory` stand."""
    return directory.with_name(f".{directory.name}.partial")


@contextmanager
def keeping(
    directory: Path, wanted: Mapping[str, Any], *, resume: bool, overwrite: bool, say: Say
) -> Iterator[Parts]:
    """The parts of what is to become `directory`, deleted when the block ends without an error.

    `wanted` is what they belong to, as plain JSON values. With `resume` those that were found before a kill or an
    error are there; without, `overwrite` deletes them. Those of a run that was refused for its input are gone on with
    under the same `wanted` and deleted under another, without either. Where nothing has been found nothing is left
    behind. Raises `InputError` for parts that would be lost, for parts that belong to something else, naming the first
    field that differs, and while another process is at work on the same directory.
    """
    place = place_of(directory)
    parts = Parts(place)
    with _made_and_held(place):
        try:
            _begin(parts, wanted, resume=resume, overwrite=overwrite, say=say)
            try:
                yield parts
            except InputError as error:
                _mark_refused(place, error)
                raise
        except BaseException:
            if not parts.count:
                _remove(place)
            raise
        _remove(place)


def _mark_refused(place: Path, error: InputError) -> None:
    # A full disk or a damaged part says nothing against what was asked for.
    if not isinstance(error.__cause__, OSError | msgspec.MsgspecError):
        with suppress(InputError):  # the one that is raised is told
            write_atomic(place / REFUSED, error.message)


def _made_and_held(place: Path) -> ExitStack:
    """The directory made where it is missing and held; another process may delete it at any moment before that."""
    for _ in range(ATTEMPTS):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with ExitStack() as held:
                held.enter_context(holding(place))
                return held.pop_all()
        except (FileNotFoundError, FileExistsError) as error:
            failed = error
    raise refusal("create", place, failed) from failed


def _begin(parts: Parts, wanted: Mapping[str, Any], *, resume: bool, overwrite: bool, say: Say) -> None:
    """Make the place ready: empty, or with parts that belong to `wanted`."""
    place = parts.place
    assert place is not None
    remove_leftovers(place)
    now = json.loads(json.dumps(wanted))
    was_refused = (place / REFUSED).is_file()
    done = f"{parts.count} part{'' if parts.count == 1 else 's'} done, in {place}"
    if parts.count and (resume or (was_refused and not overwrite)):
        before = find_json(place / ASKED) or {}
        if before == now:
            (place / REFUSED).unlink(missing_ok=True)
            say(f"going on with {done}")
            return
        name, then, new = _difference(before, now)
        if not was_refused:
            raise InputError(
                f"{place} was begun with {name} {then!r}, not {new!r}",
                hint="repeat what it was begun with, or pass --overwrite without --resume to begin again",
            )
        say(f"beginning again: what was refused was begun with {name} {then!r}, not {new!r}")
    elif parts.count and not overwrite:
        raise InputError(
            f"{place.name[1:].removesuffix('.partial')} was cut off with {done}",
            hint="pass --resume to go on with it, or --overwrite to begin again",
        )
    _forget(place)
    write_atomic(place / ASKED, json.dumps(now, indent=1))
    # Last, so that a kill in between leaves no parts that block.
    (place / REFUSED).unlink(missing_ok=True)


def _forget(place: Path) -> None:
    for part in place.glob(f"*{ENDING}"):
        with suppress(FileNotFoundError):
            part.unlink()


def _remove(place: Path) -> None:
    # What they belong to goes last: parts that a kill leaves here can still be gone on with.
    _forget(place)
    shutil.rmtree(place, ignore_errors=True)


def _difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any]:
    """The first field that differs, dotted, and its two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*now, *(key for key in before if key not in now)):
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    return name, before, now


def made_with() -> dict[str, Any]:
    """The versions and the commit that numbers depend on; not the date, and not how the command was spelled."""
    made = provenance()
    kept = {name: value for name, value in made.items() if name not in ("date", "command")}
    return {**kept, "commit": code_of(made)}


def fingerprint(subject: Subject) -> dict[str, Any]:
    """What a subject is, whatever its directory is called: weights, shape, tokenizer, rows and behaviour."""
    weights = blake2b(digest_size=16)
    for name, tensor in subject.model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    tokenizer = subject.tokenizer.backend.to_str().encode()
    return {
        "weights": weights.hexdigest(),
        "model": to_json(subject.model.cfg),
        "tokenizer": blake2b(tokenizer, digest_size=16).hexdigest(),
        "data": to_json(subject.run.data),
        "behaviour": subject.behaviour.kind,
        "payload": subject.behaviour.payload,
        "seed": subject.behaviour.seed,
    }


def counted(say: Say, total: int) -> Say:
    """`say` with the number of what it says in front: `5 of 19: gaussian (20)`."""
    numbers = itertools.count(1)
    return lambda what: say(f"{next(numbers)} of {total}: {what}")
