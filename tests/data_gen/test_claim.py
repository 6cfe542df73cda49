"""Several parts of a job in one directory: whatever they do between each other's steps, the bytes are those of one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.store import claim, shards
from data_gen.store.dataset import read_dataset, write_dataset
from data_gen.store.job import Job, Part
from data_gen.store.shards import read_header

CONFIG = DataConfig(command_sets=("cs1", "cs2"), seed=5)

INTERLEAVED = """
import os, sys
from hashlib import sha256
from pathlib import Path
from data_gen.config import DataConfig
from data_gen.store.dataset import write_dataset
from data_gen.store.job import Part

CONFIG = DataConfig(command_sets=("cs1", "cs2"), seed=5)
base, finished_before = Path(sys.argv[1]), sys.argv[2] == "finished"

def in_child(work):
    # Everything is imported and drawn once, and each part has a process of its own.
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def write(out, **options):
    write_dataset(CONFIG, 4, out, "jsonl", shard_rows=2, **options)

def digests(out):
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}

def with_the_other_at(moment, out):
    # All of the other part happens in front of one of this part's looks at the disk, or changes of it.
    calls = 0
    def interrupted(real):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == moment:
                for module, name, its in reals:
                    setattr(module, name, its)
                options_of_other = {"resume": True} if finished_before else {"part": Part(1, 2)}
                assert in_child(lambda: write(out, **options_of_other)) == 0
            return real(*arguments, **options)
        return call
    names = ("is_file", "is_dir", "exists", "iterdir", "glob", "read_bytes", "read_text", "mkdir", "unlink")
    reals = [(os, name, getattr(os, name)) for name in ("fsync", "replace", "link")]
    reals += [(Path, name, getattr(Path, name)) for name in names]
    for module, name, real in reals:
        setattr(module, name, interrupted(real))
    write(out, part=Part(0, 2))
    os._exit(0 if calls >= moment else 9)

write(base / "whole")
moment = 1
while True:
    out = base / f"at-{moment}"
    code = in_child(lambda: with_the_other_at(moment, out))
    if code == 9:
        break
    assert code == 0, moment
    assert digests(out) == digests(base / "whole"), (moment, digests(out))
    moment += 1
print(moment)
"""


@pytest.mark.parametrize("other", ["part", "finished"])
def test_a_part_may_happen_between_any_two_steps_of_another(tmp_path, other):
    done = subprocess.run(
        [sys.executable, "-c", INTERLEAVED, str(tmp_path), other],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


def test_of_two_jobs_that_begin_at_one_moment_the_later_is_refused(tmp_path, monkeypatch):
    write_new = claim.write_new

    def after_the_other(path, data):
        monkeypatch.undo()
        write_dataset(CONFIG, 9, tmp_path, "jsonl", shard_rows=2, part=Part(0, 2))
        return write_new(path, data)

    monkeypatch.setattr(claim, "write_new", after_the_other)
    with pytest.raises(InputError, match="its rows is 9, not 8"):
        write_dataset(CONFIG, 8, tmp_path, "jsonl", shard_rows=2, part=Part(1, 2))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_job_that_loses_the_directory_to_another_deletes_nothing_of_it(tmp_path, monkeypatch, overwrite):
    write_new = claim.write_new

    def after_the_other(path, data):
        monkeypatch.undo()
        write_dataset(CONFIG, 9, tmp_path, "jsonl", shard_rows=2)
        return write_new(path, data)

    monkeypatch.setattr(claim, "write_new", after_the_other)
    with pytest.raises(InputError, match="is not empty"):
        write_dataset(CONFIG, 8, tmp_path, "jsonl", overwrite=overwrite)
    assert len(list(read_dataset(tmp_path))) == 9
    assert not (tmp_path / "unfinished.json").exists()


OTHER = DataConfig(command_sets=("cs1", "cs2"), seed=6)


def meanwhile(work):
    """A report that does `work` when the first shard is written."""
    calls = []

    def report(done, total):
        calls.append(done)
        if len(calls) == 1:
            work()

    return report


def test_of_two_jobs_that_overwrite_each_other_the_first_does_not_finish_the_second(tmp_path):
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2)

    def other():
        write_dataset(OTHER, 4, tmp_path, "jsonl", overwrite=True, shard_rows=2)

    with pytest.raises(InputError, match="holds another dataset: its config is"):
        write_dataset(CONFIG, 4, tmp_path, "jsonl", overwrite=True, shard_rows=2, report=meanwhile(other))
    assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == 6
    with pytest.raises(InputError, match="is cut short or changed"):
        read_dataset(tmp_path)


def test_a_shard_that_another_job_wrote_meanwhile_is_made_again(tmp_path):
    class Killed(Exception):
        pass

    def killed():
        raise Killed

    def other():
        with pytest.raises(Killed):
            write_dataset(OTHER, 4, tmp_path, "jsonl", overwrite=True, shard_rows=2, report=meanwhile(killed))

    with pytest.raises(InputError, match="holds another dataset"):
        write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, report=meanwhile(other))
    write_dataset(OTHER, 4, tmp_path, "jsonl", shard_rows=2, resume=True)
    write_dataset(OTHER, 4, tmp_path / "alone", "jsonl", shard_rows=2)
    assert list(read_dataset(tmp_path)) == list(read_dataset(tmp_path / "alone"))
    assert not list(tmp_path.glob("unfinished*"))


def test_a_part_begins_where_a_killed_writer_of_another_machine_left_its_marker_half_written(tmp_path):
    (tmp_path / ".unfinished.json.another-machine.7.tmp").write_text("{")
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, part=Part(0, 2))
    assert (tmp_path / "unfinished.json").exists()


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_shard_with_all_of_its_rows_but_other_bytes_is_made_again(tmp_path, form, finished):
    options = {"shard_rows": 10, **({} if finished else {"part": Part(0, 2)})}
    write_dataset(CONFIG, 30, tmp_path, form, **options)
    write_dataset(
        DataConfig(command_sets=("cs1", "cs2"), seed=6), 30, tmp_path / "other", form, shard_rows=10
    )
    shard = tmp_path / f"train-00000-of-00003.{form}"
    right = shard.read_bytes()
    shard.write_bytes((tmp_path / "other" / shard.name).read_bytes())
    write_dataset(CONFIG, 30, tmp_path, form, resume=True, shard_rows=10)
    assert shard.read_bytes() == right
    assert len(list(read_dataset(tmp_path))) == 30


def test_digests_of_shards_are_noted_for_sha256sum_until_the_job_is_finished(tmp_path):
    write_dataset(CONFIG, 30, tmp_path, "jsonl", shard_rows=10, part=Part(0, 2))
    [noted] = tmp_path.glob("unfinished-0-of-2-*.sha256")
    checked = subprocess.run(
        ["sha256sum", "--check", noted.name], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert checked.stdout.splitlines() == [f"train-0000{n}-of-00003.jsonl: OK" for n in (0, 2)]
    noted.write_text(noted.read_text()[:-1] + "\nff  tr")
    write_dataset(CONFIG, 30, tmp_path, "jsonl", shard_rows=10, part=Part(1, 2))
    assert not list(tmp_path.glob("unfinished*"))
    assert len(list(read_dataset(tmp_path))) == 30


def test_digests_that_vanish_as_the_last_part_finishes_are_in_its_config(tmp_path, monkeypatch):
    write_dataset(CONFIG, 30, tmp_path, "jsonl", shard_rows=10, part=Part(0, 2))
    read_text = Path.read_text

    def after_the_end(path, **options):
        monkeypatch.undo()
        write_dataset(CONFIG, 30, tmp_path, "jsonl", shard_rows=10, part=Part(1, 2))
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", after_the_end)
    same = job(30, format="jsonl", shard_rows=10, settings={"config": CONFIG.to_dict()})
    found = claim.recorded_digests(tmp_path, same)
    assert found == {s["file"]: s["sha256"] for s in read_header(tmp_path)["shards"]}


def test_digests_that_were_noted_are_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "digest", lambda path: pytest.fail(f"read {path}"))
    write_dataset(CONFIG, 30, tmp_path, "jsonl", shard_rows=10)
    monkeypatch.undo()
    assert len(list(read_dataset(tmp_path))) == 30


def test_a_finished_directory_has_nothing_that_writers_of_other_machines_left(tmp_path):
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, part=Part(0, 2))
    left = tmp_path / ".train-00001-of-00002.jsonl.another-machine.7.tmp"
    left.write_text("{")
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, part=Part(1, 2))
    assert not left.exists()


def job(rows, settings=None, **options):
    given = {"kind": "dataset", "split": "train", "stem": "train", "make": lambda *_: None}
    return Job(**given, settings=settings or {}, rows=rows, **options)


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        (10**20, {}, "expected at most 100,000,000,000"),
        (10**10, {}, "1,000,000 files of 10,000 rows.*\nhint: pass --shard-rows 100000 or more"),
        (10**7, {"shard_rows": 10**7}, "shard_rows is 10,000,000, expected at most 1,000,000"),
        (100_001, {"shard_rows": 1}, "100,001 files of 1 rows.*\nhint: pass --shard-rows 2"),
    ],
)
def test_more_rows_than_can_be_written_are_refused_at_once(rows, options, reason):
    with pytest.raises(InputError, match=reason):
        job(rows, **options)


def test_the_largest_job_is_planned_without_a_list_of_its_files():
    largest = job(10**11, shard_rows=10**6)
    assert largest.file(99_999) == "train-99999-of-100000.parquet"
    assert largest.range(99_999) == (99_999_000_000, 10**11)
    assert job(5, shard_rows=10**9).count == 1


def test_the_versions_of_what_chooses_databases_are_in_the_config(tmp_path):
    import platform
    import sqlite3

    write_dataset(CONFIG, 4, tmp_path, "jsonl", databases=True)
    versions = json.loads((tmp_path / "config.json").read_text())["versions"]
    assert list(versions) == ["tinysql", "pyarrow", "python", "sqlite"]
    assert versions["python"] == platform.python_version()
    assert versions["sqlite"] == sqlite3.sqlite_version
    assert f"sqlite {sqlite3.sqlite_version}" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("rows", "parts"), [(5, 4), (9, 2), (3, 4), (1, 2), (100, 100), (10_000, 3333), (150_000, 99_999)]
)
def test_the_hint_to_a_part_that_has_no_shard_helps(rows, parts):
    with pytest.raises(InputError, match="fewer than the") as caught:
        Part(0, parts).shards(job(rows))
    [most] = re.findall(r"--shard-rows (\d+)", caught.value.hint)
    fewer = re.findall(r"up to ([\d,]+) with", caught.value.hint)
    parts = int(fewer[0].replace(",", "")) if fewer else parts
    assert len(Part(parts - 1, parts).shards(job(rows, shard_rows=int(most)))) > 0


def test_overwriting_and_resuming_exclude_each_other(tmp_path):
    write_dataset(CONFIG, 4, tmp_path, "jsonl")
    with pytest.raises(InputError, match=r"cannot both overwrite and resume.*\nhint: "):
        write_dataset(CONFIG, 4, tmp_path, "jsonl", overwrite=True, resume=True)
    assert len(list(read_dataset(tmp_path))) == 4


def test_a_dataset_whose_config_is_broken_is_overwritten_and_not_resumed(tmp_path):
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2)
    (tmp_path / "config.json").write_text('{"kind": "data')
    with pytest.raises(InputError, match=r"is not whole JSON.*\nhint: pass --overwrite"):
        write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, resume=True)
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, overwrite=True)
    assert len(list(read_dataset(tmp_path))) == 4


def test_a_broken_config_beside_a_whole_claim_is_overwritten(tmp_path):
    write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, part=Part(0, 2))
    (tmp_path / "config.json").write_text("{")
    write_dataset(CONFIG, 4, tmp_path, "jsonl", overwrite=True)
    assert len(list(read_dataset(tmp_path))) == 4


@pytest.mark.parametrize("change", ["another card", "another file"])
def test_a_directory_with_a_broken_config_that_may_be_of_others_is_kept(tmp_path, change):
    write_dataset(CONFIG, 4, tmp_path, "jsonl")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / {"another card": "README.md", "another file": "notes.txt"}[change]).write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="is not an output of tinysql"):
        write_dataset(CONFIG, 4, tmp_path, "jsonl", overwrite=True)
    assert sorted(tmp_path.iterdir()) == before


def test_the_config_names_the_command_that_began_the_job(tmp_path, monkeypatch):
    for number in range(2):
        monkeypatch.setattr(sys, "argv", ["tinysql", f"part-{number}"])
        write_dataset(CONFIG, 4, tmp_path, "jsonl", shard_rows=2, part=Part(number, 2))
    made_by = json.loads((tmp_path / "config.json").read_text())["made_by"]
    assert made_by == {"command": "tinysql part-0"}
