"""Shards -> written by several processes of this machine, or by a Ray cluster, with the bytes of one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import write_atomic
from data_gen.store.job import Job, Record
from data_gen.store.shards import write_shard

WAITING = 2
"""Shards that are asked for at once, per core: none waits for work, and neither orders nor shards pile up."""


def on_processes(job: Job, out: Path, shards: Sequence[int], *, workers: int) -> Iterator[tuple[int, str]]:
    """The engine of `workers` processes on this machine, each of which writes one shard after the other.

    Raises:
        InputError: a process was killed, or as `write_shard`.
    """
    # Spawned processes share nothing with this one, so its threads and locks cannot hang them.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    remaining, running = iter(shards), dict[Future[str], int]()
    try:
        while True:
            for shard in islice(remaining, WAITING * workers - len(running)):
                running[pool.submit(write_shard, job, out, shard)] = shard
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, perhaps for lack of memory; whole shards are kept",
            hint="repeat the command with --resume and fewer --workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """Let this worker end when its parent was killed; without it, it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_ray() -> None:
    """Look whether ray is there, before anything is written.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("ray") is None:
        raise InputError("engine `ray` needs ray, which is not installed", hint="pip install 'ray>=2.40'")


def on_ray(job: Job, out: Path, shards: Sequence[int]) -> Iterator[tuple[int, str]]:
    """The engine of a Ray cluster: its machines make shards, and this process writes them.

    The cluster is the one that is connected, else the one that RAY_ADDRESS names, else one of this machine alone.
    Its machines need tinysql installed, and no disk in common.

    Raises:
        InputError: a machine has other versions than this one, or as `write_shard`.
    """
    import ray

    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield from _gather(ray, job, out, shards)
    finally:
        if begun_here:
            ray.shutdown()


def _gather(ray: Any, job: Job, out: Path, shards: Sequence[int]) -> Iterator[tuple[int, str]]:
    make, waiting = ray.remote(_make), list(reversed(shards))
    running: dict[Any, int] = {}
    sent = ray.put(job)
    most = max(2, int(WAITING * ray.cluster_resources().get("CPU", 1)))
    while waiting or running:
        while waiting and len(running) < most:
            shard = waiting.pop()
            running[make.remote(sent, shard)] = shard
        [ready], _ = ray.wait(list(running), num_returns=1)
        shard = running.pop(ready)
        data, versions = ray.get(ready)
        if versions != job.header()["versions"]:
            raise InputError(
                f"a machine of the cluster has {versions}, this one {job.header()['versions']}: "
                "the bytes would differ",
                hint="install the same versions on all of them",
            )
        write_atomic(out / job.file(shard), data)
        yield shard, sha256(data).hexdigest()


def _make(job: Job, shard: int) -> tuple[bytes, Record]:
    return job.encode(shard), job.header()["versions"]
