"""A job and a directory -> the directory claimed for the job, and which of its shards are there already.

`unfinished.json` is the claim. It gets its name and its content at once, and only where there is none: of several
processes that begin at one moment one claims the directory, and the others find its job there. `config.json` is
written before `unfinished.json` goes, so there is always one of the two to be found.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from hashlib import file_digest
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import append_line, find_json, remove_leftovers, write_new
from data_gen.outputs import MARKERS, claim_directory
from data_gen.seeding import stable_hash
from data_gen.store.formats import count_rows
from data_gen.store.job import Job, Part, Record

FINISHED, UNFINISHED = MARKERS
ATTEMPTS = 10
"""A second look at the directory settles who claimed it; more are needed only if it is emptied meanwhile."""


def claim(job: Job, out: Path, part: Part | None, *, overwrite: bool, resume: bool) -> bool:
    """Make `out` ready for the shards that are missing; False if none is.

    Raises:
        InputError: it holds something else, or another job, or cannot be written.
    """
    joins = resume or part is not None
    for _ in range(ATTEMPTS):
        if out.is_dir():
            remove_leftovers(out)
        if joins:
            begun = begun_header(out)
            if begun is not None:
                check_same(job, begun, out)
                return not _is_done(job, out)
        elif not overwrite and (out / UNFINISHED).is_file() and not (out / FINISHED).is_file():
            raise InputError(
                f"output directory `{out}` holds an unfinished {job.kind}",
                hint="pass --resume to go on with it, or --overwrite to begin again",
            )
        if not _make_empty(out, overwrite, joins=joins):
            continue
        header = {**job.header(), "made_by": _made_by()}
        if write_new(out / UNFINISHED, json.dumps(header, indent=1) + "\n"):
            if not (out / FINISHED).is_file():
                return True
            # The others did all of the job since `out` was found empty.
            (out / UNFINISHED).unlink(missing_ok=True)
        # What another process begins from now on is not ours to delete.
        overwrite = False
    raise InputError(f"output directory `{out}` changes all the time", hint="end what else writes to it")


def _make_empty(out: Path, overwrite: bool, *, joins: bool) -> bool:
    """Claim the directory, in which others may be about to write `unfinished.json`; False if one of them has."""
    try:
        claim_directory(out, overwrite, kind="dataset")
    except InputError:
        if not out.is_dir():
            raise
        names = [path.name for path in out.iterdir()]
        if joins and (FINISHED in names or UNFINISHED in names):
            return False
        if not all(re.fullmatch(rf"\.{re.escape(UNFINISHED)}\..+\.tmp", name) for name in names):
            raise
    return True


def _is_done(job: Job, out: Path) -> bool:
    """Whether `out` is finished and whole; then nothing else of the work is left in it."""
    recorded = recorded_digests(out, job)
    done = (out / FINISHED).is_file() and all(is_whole(job, out, n, recorded) for n in range(job.count))
    if done:
        remove_traces(out)
    return done


def begun_header(out: Path) -> Record | None:
    """The header that the job in `out` was begun with; None if none was."""
    # Whoever finishes between the first two looks has written what the third one finds.
    for name in (FINISHED, UNFINISHED, FINISHED):
        try:
            header = find_json(out / name)
        except InputError as error:
            raise InputError(
                error.message, hint="pass --overwrite, without --resume, to begin again"
            ) from error
        if header is not None:
            return header
    return None


def check_finished(directory: Path) -> None:
    """Refuse a directory whose job is not at its end; what is no directory of ours is let through.

    Raises:
        InputError: as said.
    """
    if (directory / UNFINISHED).is_file() and not (directory / FINISHED).is_file():
        raise InputError(
            f"`{directory}` is unfinished: it has no `{FINISHED}`",
            hint="go on with it by --resume and the command that began it",
        )


def _made_by() -> Record:
    return {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}


def check_same(job: Job, found: Record, out: Path) -> None:
    """Raises `InputError` if the header that was found in `out` is that of another job."""
    for key, value in job.header().items():
        if found.get(key) != value:
            raise InputError(
                f"`{out}` holds another {job.kind}: its {key} is {json.dumps(found.get(key))}, not {json.dumps(value)}",
                hint="repeat the command that began it, or pass --overwrite to begin again",
            )


def _trace(job: Job) -> str:
    """The end of the names of the files that hold what this job has written, and none that began in its place."""
    return f"{stable_hash(json.dumps(job.header(), sort_keys=True)):016x}.sha256"


def record_digest(out: Path, job: Job, part: Part, name: str, sha256: str) -> None:
    """Note the SHA-256 of a shard that was written, in a file of this part alone, as `sha256sum` does.

    Raises:
        InputError: the disk is full.
    """
    append_line(out / f"unfinished-{part.number}-of-{part.parts}-{_trace(job)}", f"{sha256}  {name}")


def recorded_digests(out: Path, job: Job) -> dict[str, str]:
    """The SHA-256 of each shard that a part of the job noted or that `config.json` holds.

    A line that was cut short counts for nothing. A shard that only another job noted, whose directory this was or
    is to be, has "", which is that of no file.
    """
    noted: dict[str, str] = {}
    foreign: dict[str, str] = {}
    for path in sorted(out.glob("unfinished-*.sha256")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            # Another part has finished, and its `config.json`, which is read after this, says it all.
            continue
        lines = re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)
        if path.name.endswith(f"-{_trace(job)}"):
            noted |= {name: sha256 for sha256, name in lines}
        else:
            foreign |= {name: "" for _, name in lines}
    shards = (find_json(out / FINISHED) or {}).get("shards")
    listed = [shard for shard in shards if is_shard(shard)] if isinstance(shards, list) else []
    return {shard["file"]: shard["sha256"] for shard in listed} | foreign | noted


def remove_traces(out: Path) -> None:
    """Delete what is there only while the job runs; the claim goes last."""
    for path in (*out.glob("unfinished-*.sha256"), out / UNFINISHED):
        path.unlink(missing_ok=True)


def is_whole(job: Job, out: Path, shard: int, recorded: dict[str, str]) -> bool:
    """Whether a shard is there with the bytes that were written.

    Ours are renamed when whole, but a file may be cut or changed later. One that was put there by hand has no
    recorded digest, and is taken for whole if it has all of its rows.
    """
    name, (start, stop) = job.file(shard), job.range(shard)
    path = out / name
    if not path.is_file():
        return False
    if name in recorded:
        return digest(path) == recorded[name]
    return count_rows(path, job.format) == stop - start


def is_shard(shard: Any) -> bool:
    """Whether this is what `config.json` says of a shard: the name of a file beside it and its SHA-256."""
    if not isinstance(shard, dict):
        return False
    file, sha256 = shard.get("file"), shard.get("sha256")
    # A plain name, so that nothing outside the directory is read.
    return isinstance(file, str) and isinstance(sha256, str) and bool(re.fullmatch(r"\w[\w.-]*", file))


def digest(path: Path) -> str:
    """The SHA-256 of the shard at `path`.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read shard `{path}`: {error.strerror}",
            hint="write the data again, or look whether you may read it",
        ) from error
