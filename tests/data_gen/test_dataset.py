"""Config -> a dataset on disk: whole or resumable, never half-read."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen import files
from data_gen.config import DataConfig
from data_gen.counterfactual import counterfactuals
from data_gen.dataset import COLUMNS, read_config, read_dataset, write_dataset, write_pairs
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.query import Query
from data_gen.text import Span, Text

CONFIG = DataConfig(command_sets=("cs1", "cs2"), seed=5)
every_format = pytest.mark.parametrize("form", ["parquet", "jsonl"])


def bytes_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@every_format
def test_rows_come_back_as_they_were_made(tmp_path, form):
    write_dataset(CONFIG, 25, tmp_path / "d", form, shard_rows=10)
    rows = list(read_dataset(tmp_path / "d"))
    assert [row["index"] for row in rows] == list(range(25))
    for row in rows:
        example = make_example(CONFIG, row["index"])
        assert list(row) == list(COLUMNS)
        assert Query.from_json(row["query"]) == example.query
        spans = tuple(Span(**role) for role in row["roles"])
        assert Text(f"{row['prompt']} {row['sql']}", spans) == example.text
        assert (row["english"], row["schema"]) == (example.english.string, example.schema_text.string)
        assert (row["command_set"], row["split"]) == (example.query.command_set, "train")
    assert read_config(tmp_path / "d") == CONFIG


@every_format
def test_a_dataset_is_shards_and_a_config_that_names_their_digests(tmp_path, form):
    write_dataset(CONFIG, 25, tmp_path, form, shard_rows=10)
    shards = [f"train-0000{shard}.{form}" for shard in range(3)]
    assert sorted(bytes_in(tmp_path)) == ["config.json", *shards]
    config = json.loads((tmp_path / "config.json").read_text())
    assert [shard["file"] for shard in config["shards"]] == shards
    assert config["rows"] == 25


def test_datasets_of_the_hub_library_load_the_shards(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_dataset(CONFIG, 25, tmp_path / "d", shard_rows=10)
    loaded = datasets.Dataset.from_parquet(
        [str(path) for path in sorted((tmp_path / "d").glob("*.parquet"))], cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 25
    assert loaded[24]["sql"] == make_example(CONFIG, 24).sql.string


@every_format
def test_the_same_job_writes_the_same_bytes(tmp_path, form):
    for name in ("a", "b"):
        write_dataset(CONFIG, 25, tmp_path / name, form, shard_rows=10)
    assert bytes_in(tmp_path / "a") == bytes_in(tmp_path / "b")


def test_resume_goes_on_after_the_last_whole_shard_with_the_same_bytes(tmp_path):
    write_dataset(CONFIG, 45, tmp_path / "whole", "jsonl", shard_rows=10)
    done = []

    def stop_after_two(rows, _):
        done.append(rows)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(CONFIG, 45, tmp_path / "cut", "jsonl", shard_rows=10, report=stop_after_two)
    with pytest.raises(InputError, match=r"is unfinished.*\n.*--resume"):
        read_dataset(tmp_path / "cut")
    first = tmp_path / "cut" / "train-00000.jsonl"
    written = first.stat().st_mtime_ns
    write_dataset(CONFIG, 45, tmp_path / "cut", "jsonl", shard_rows=10, resume=True)
    assert first.stat().st_mtime_ns == written
    assert bytes_in(tmp_path / "cut") == bytes_in(tmp_path / "whole")


KILLED = """
import os, signal, sys
from data_gen import files
from data_gen.config import DataConfig
from data_gen.dataset import write_dataset

real, calls = os.fsync, []

def fsync(descriptor):
    calls.append(descriptor)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

files.os.fsync = fsync
write_dataset(DataConfig(command_sets=("cs1", "cs2"), seed=5), 100, sys.argv[1], sys.argv[2], shard_rows=10)
"""


@every_format
def test_a_job_killed_in_the_middle_of_a_shard_is_resumed_to_the_same_bytes(tmp_path, form):
    out = tmp_path / "killed"
    child = subprocess.run([sys.executable, "-c", KILLED, str(out), form], check=False)
    assert child.returncode == -signal.SIGKILL
    left = sorted(bytes_in(out))
    assert [name.endswith(".tmp") for name in left] == [True, False, False, False]
    assert left[1:] == [f"train-00000.{form}", f"train-00001.{form}", "unfinished.json"]
    with pytest.raises(InputError, match="is unfinished"):
        read_dataset(out)
    write_dataset(CONFIG, 100, out, form, shard_rows=10, resume=True)
    write_dataset(CONFIG, 100, tmp_path / "whole", form, shard_rows=10)
    killed, whole = bytes_in(out), bytes_in(tmp_path / "whole")
    begun, at_once = (json.loads(found.pop("config.json")) for found in (killed, whole))
    assert killed == whole
    assert begun.pop("made_by") == {"command": shlex.join(["-c", str(out), form])}
    assert at_once.pop("made_by")
    assert begun == at_once
    assert len(list(read_dataset(out))) == 100


def test_resume_of_another_job_is_refused_and_names_the_difference(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl")
    with pytest.raises(InputError, match="its rows is 10, not 11"):
        write_dataset(CONFIG, 11, tmp_path / "d", "jsonl", resume=True)
    with pytest.raises(InputError, match="its config is"):
        write_dataset(DataConfig(seed=6), 10, tmp_path / "d", "jsonl", resume=True)


def test_resume_of_a_finished_dataset_changes_nothing_and_of_nothing_begins(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl", resume=True)
    before = bytes_in(tmp_path / "d")
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl", resume=True)
    assert bytes_in(tmp_path / "d") == before


def test_a_dataset_says_which_command_and_versions_made_it(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["/bin/tinysql", "data", "make", "--out", "my data"])
    with pytest.raises(KeyboardInterrupt):
        write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10, report=interrupt)
    monkeypatch.setattr(sys, "argv", ["/bin/tinysql", "data", "make", "--out", "my data", "--resume"])
    write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10, resume=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["made_by"] == {"command": "tinysql data make --out 'my data'"}
    assert list(config["versions"]) == ["tinysql"]


def test_a_directory_that_holds_something_is_kept_unless_overwritten(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl")
    before = bytes_in(tmp_path / "d")
    with pytest.raises(InputError, match=r"not empty\nhint: .*--overwrite"):
        write_dataset(CONFIG, 20, tmp_path / "d", "jsonl")
    assert bytes_in(tmp_path / "d") == before
    write_dataset(CONFIG, 20, tmp_path / "d", "parquet", overwrite=True)
    assert sorted(bytes_in(tmp_path / "d")) == ["config.json", "train-00000.parquet"]


def test_an_unfinished_dataset_is_not_begun_again_unasked(tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10, report=interrupt)
    with pytest.raises(InputError, match=r"holds an unfinished dataset\nhint: pass --resume"):
        write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10)
    write_dataset(CONFIG, 5, tmp_path, "jsonl", overwrite=True)
    assert len(list(read_dataset(tmp_path))) == 5


@every_format
def test_a_shard_that_is_cut_short_is_refused_before_any_row(tmp_path, form):
    write_dataset(CONFIG, 25, tmp_path, form, shard_rows=10)
    shard = tmp_path / f"train-00002.{form}"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=rf"train-00002.{form}` is cut short or changed: its SHA-256 is .*expected"
    ):
        read_dataset(tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match="cannot read shard"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", '{"format": "parquet"', '{"format": "csv", "shards": []}'])
def test_a_directory_that_is_no_dataset_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "shard",
    [
        1,
        None,
        {},
        {"file": 5, "sha256": "a"},
        {"file": "train-00000.jsonl", "sha256": None},
        {"file": "../secret.jsonl", "sha256": "a"},
        {"file": "/etc/passwd", "sha256": "a"},
        {"file": "..", "sha256": "a"},
        {"file": "a\x00", "sha256": "a"},
        {"file": "", "sha256": "a"},
    ],
)
def test_a_shard_that_is_no_file_of_the_directory_is_refused(tmp_path, shard):
    (tmp_path / "config.json").write_text(json.dumps({"format": "jsonl", "shards": [shard]}))
    with pytest.raises(InputError, match="expected the name of a file beside it") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint


def test_a_full_disk_keeps_whole_shards_and_leaves_no_half(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full_on_the_third(descriptor):
        calls.append(descriptor)
        if len(calls) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full_on_the_third)
    with pytest.raises(InputError, match=r"cannot write .*train-00001.jsonl`: No space left on device"):
        write_dataset(CONFIG, 45, tmp_path / "d", "jsonl", shard_rows=10)
    assert sorted(bytes_in(tmp_path / "d")) == ["train-00000.jsonl", "unfinished.json"]
    monkeypatch.undo()
    write_dataset(CONFIG, 45, tmp_path / "d", "jsonl", shard_rows=10, resume=True)
    assert len(list(read_dataset(tmp_path / "d"))) == 45


@pytest.mark.parametrize(
    ("rows", "form", "reason"),
    [(0, "jsonl", "rows is 0"), (-5, "jsonl", "rows is -5"), (5, "json", "did you mean `jsonl`")],
)
def test_a_job_that_makes_no_sense_is_refused_before_anything_is_written(tmp_path, rows, form, reason):
    with pytest.raises(InputError, match=reason):
        write_dataset(CONFIG, rows, tmp_path / "d", form)
    assert not (tmp_path / "d").exists()


@every_format
def test_pairs_on_disk_are_the_pairs_of_the_library(tmp_path, form):
    config = DataConfig(command_sets=("cs2",), split="test")
    write_pairs(config, "order_by.0.direction", 12, tmp_path, form, shard_rows=5)
    rows = list(read_dataset(tmp_path))
    pairs = counterfactuals(config, edit="order_by.0.direction", n=12)
    for row, pair in zip(rows, pairs, strict=True):
        assert row["edit"] == pair.edit
        for side, example in (("clean", pair.clean), ("corrupt", pair.corrupt)):
            assert row[f"{side}_prompt"] == example.prompt.string
            assert row[f"{side}_sql"] == example.sql.string
            assert tuple(Span(**role) for role in row[f"{side}_roles"]) == example.text.spans


def test_pairs_that_cannot_be_made_write_nothing(tmp_path):
    with pytest.raises(InputError, match="needs ORDER BY"):
        write_pairs(DataConfig(), "order_by.0.direction", 5, tmp_path / "d")
    assert not (tmp_path / "d").exists()
