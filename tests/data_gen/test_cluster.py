"""Shards by several processes, or a Ray cluster: the bytes of one process."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.store import cluster
from data_gen.store.dataset import dataset_rows, read_dataset, write_dataset
from data_gen.store.job import Job
from data_gen.store.shards import write_job

CONFIG = DataConfig(command_sets=("cs1", "cs5"), seed=5)


def bytes_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_several_processes_write_the_bytes_of_one(tmp_path):
    told = []
    write_dataset(CONFIG, 45, tmp_path / "one", shard_rows=10)
    write_dataset(
        CONFIG,
        45,
        tmp_path / "two",
        shard_rows=10,
        workers=2,
        report=lambda done, rows: told.append((done, rows)),
    )
    assert bytes_in(tmp_path / "two") == bytes_in(tmp_path / "one")
    assert len(told) == 5
    assert told[-1] == (45, 45)


def test_an_error_of_a_worker_is_the_error_of_the_job(tmp_path):
    job = Job(kind="dataset", settings={}, make=_refuse, split="train", stem="train", rows=20, shard_rows=10)
    with pytest.raises(InputError, match="^no rows$"):
        write_job(job, tmp_path, engine=partial(cluster.on_processes, workers=2))


def _refuse(start, stop):
    raise InputError("no rows")


def test_a_worker_that_is_killed_is_one_sentence(tmp_path):
    job = Job(kind="dataset", settings={}, make=_die, split="train", stem="train", rows=20, shard_rows=10)
    with pytest.raises(InputError, match=r"worker process was killed.*\nhint: .*--resume"):
        write_job(job, tmp_path, engine=partial(cluster.on_processes, workers=1))


def _die(start, stop):
    os.kill(os.getpid(), signal.SIGKILL)


PARALLEL = """
import sys
from data_gen.config import DataConfig
from data_gen.store.dataset import write_dataset

if __name__ == "__main__":
    write_dataset(
        DataConfig(command_sets=("cs1", "cs5"), seed=5), 1500, sys.argv[1], "jsonl", shard_rows=20, workers=2
    )
"""


def test_workers_end_with_a_parent_that_is_killed_and_resume_ends_with_the_same_bytes(tmp_path):
    out, script = tmp_path / "killed", tmp_path / "job.py"
    script.write_text(PARALLEL)
    parent = subprocess.Popen([sys.executable, str(script), str(out)], start_new_session=True)
    wait_for(lambda: len(list(out.glob("train-*.jsonl"))) > 3)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not members_of(parent.pid))
    with pytest.raises(InputError, match="is unfinished"):
        read_dataset(out)
    write_dataset(CONFIG, 1500, out, "jsonl", shard_rows=20, resume=True)
    write_dataset(CONFIG, 1500, tmp_path / "whole", "jsonl", shard_rows=20)
    killed, whole = bytes_in(out), bytes_in(tmp_path / "whole")
    # Another command began it.
    del killed["config.json"], whole["config.json"]
    assert killed == whole


def members_of(group):
    """The processes of a group that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, members = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(members) == group and state != "Z":
            found.append(status.parent.name)
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


ON_RAY = """
import sys

import ray
from ray.cluster_utils import Cluster

from data_gen.config import DataConfig
from data_gen.store.dataset import write_dataset

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
assert len([node for node in ray.nodes() if node["Alive"]]) == 2
write_dataset(DataConfig(command_sets=("cs1", "cs5"), seed=5), 45, sys.argv[1], shard_rows=10, engine="ray")
assert ray.is_initialized()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_a_ray_cluster_writes_the_bytes_of_one_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path / "ray")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    write_dataset(CONFIG, 45, tmp_path / "one", shard_rows=10)
    # Reading looks whether the shards are what `config.json` says.
    assert len(list(read_dataset(tmp_path / "ray"))) == 45
    found, wanted = bytes_in(tmp_path / "ray"), bytes_in(tmp_path / "one")
    del found["config.json"], wanted["config.json"]
    assert found == wanted


class LocalRay:
    """Acts like the parts of `ray` that the engine calls, in this process: work is done when it is fetched."""

    def __init__(self, cores, versions):
        self.cores, self.versions = cores, versions
        self.under_way, self.most = 0, 0

    def put(self, value):
        return value

    def cluster_resources(self):
        return {"CPU": self.cores}

    def remote(self, function):
        return SimpleNamespace(remote=lambda *arguments: self.begin(lambda: function(*arguments)))

    def begin(self, work):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return work

    def wait(self, begun, *, num_returns):
        assert num_returns == 1
        return begun[-1:], begun[:-1]

    def get(self, work):
        self.under_way -= 1
        data, versions = work()
        return data, {**versions, **self.versions}


def one_row_shards(rows):
    return Job(
        kind="dataset",
        settings={},
        make=partial(dataset_rows, CONFIG, False),
        split="train",
        stem="train",
        rows=rows,
        format="jsonl",
        shard_rows=1,
    )


def gather(out, ray, rows):
    job = one_row_shards(rows)
    return job, cluster._gather(ray, job, out, range(job.count))


def test_a_cluster_makes_no_more_shards_at_once_than_its_cores_need(tmp_path):
    ray = LocalRay(3, {})
    job, written = gather(tmp_path, ray, 20)
    digests = dict(written)
    assert ray.most == 6
    assert sorted(digests) == list(range(20))
    for shard, digest in digests.items():
        assert sha256((tmp_path / job.file(shard)).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("package", ["tinysql", "pyarrow"])
def test_a_machine_with_other_versions_is_refused_before_its_shard_is_written(tmp_path, package):
    _, written = gather(tmp_path, LocalRay(1, {package: "0.0.1"}), 2)
    with pytest.raises(InputError, match=f"'{package}': '0.0.1'.*\nhint: install the same versions"):
        next(written)
    assert list(tmp_path.iterdir()) == []


def test_processes_are_asked_for_no_more_shards_than_they_need(tmp_path):
    taken = []

    def shards():
        for shard in range(40):
            taken.append(shard)
            yield shard

    job = one_row_shards(40)
    written = cluster.on_processes(job, tmp_path, shards(), workers=1)
    given = 0
    for _ in written:
        given += 1
        assert len(taken) <= given + cluster.WAITING
    assert given == 40


def test_a_missing_ray_is_one_sentence_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs ray, which is not installed\nhint: pip install"):
        write_dataset(CONFIG, 45, tmp_path / "d", engine="ray")
    assert not (tmp_path / "d").exists()
