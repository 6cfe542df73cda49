"""Config -> a dataset on disk: whole or resumable, never half-read, the same bytes however it is written."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen import files
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.query import Query
from data_gen.store.columns import COLUMNS, arrow_schema
from data_gen.store.dataset import (
    DATABASES,
    PAIR_COLUMNS,
    read_dataset,
    write_dataset,
    write_pairs,
)
from data_gen.store.job import Part
from data_gen.text import Span, Text

CONFIG = DataConfig(command_sets=("cs1", "cs2"), seed=5)
every_format = pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
SIDE_FILES = {"parquet": [], "jsonl": [], "arrow": ["dataset_info.json", "state.json"]}


def bytes_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def names(count, form, stem="train"):
    return [f"{stem}-{shard:05d}-of-{count:05d}.{form}" for shard in range(count)]


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
        assert Text(f"{row['prompt']} {row['sql_statement']}", spans) == example.text
    assert json.loads((tmp_path / "d" / "config.json").read_text())["config"] == CONFIG.to_dict()


def test_parquet_has_plain_strings_for_whoever_reads_it(tmp_path):
    import pyarrow.parquet as pq

    write_dataset(CONFIG, 25, tmp_path, shard_rows=10)
    for shard in tmp_path.glob("*.parquet"):
        assert pq.read_schema(shard).equals(arrow_schema())
        assert pq.read_metadata(shard).num_row_groups == 1


@every_format
def test_some_columns_are_read_alone(tmp_path, form):
    write_dataset(CONFIG, 25, tmp_path, form, shard_rows=10)
    whole = list(read_dataset(tmp_path))
    some = list(read_dataset(tmp_path, columns=("sql_statement", "index")))
    assert some == [{name: row[name] for name in ("sql_statement", "index")} for row in whole]


@every_format
def test_a_dataset_is_shards_a_card_and_a_config_that_names_their_digests(tmp_path, form):
    write_dataset(CONFIG, 25, tmp_path, form, shard_rows=10)
    shards = names(3, form)
    assert sorted(bytes_in(tmp_path)) == sorted(["README.md", "config.json", *SIDE_FILES[form], *shards])
    config = json.loads((tmp_path / "config.json").read_text())
    assert [shard["file"] for shard in config["shards"]] == shards
    assert config["rows"] == 25


@pytest.mark.parametrize(
    ("rows", "count"), [(900, 1), (7_500, 8), (8_000, 8), (80_000, 8), (100_000, 10), (99_999, 10)]
)
def test_data_of_some_size_come_in_several_files(rows, count):
    from data_gen.store.job import Job

    job = Job(
        kind="dataset", settings={}, make=lambda start, stop: None, split="train", stem="train", rows=rows
    )
    assert len(list(job.files)) == job.count == count
    ranges = [job.range(shard) for shard in range(count)]
    assert [row for start, stop in ranges for row in (start, stop)][1:-1] == [
        place for stop in [stop for _, stop in ranges[:-1]] for place in (stop, stop)
    ]
    assert (ranges[0][0], ranges[-1][1]) == (0, rows)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_load_dataset_reads_the_directory_by_its_card(tmp_path, form, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    config = DataConfig(command_sets=("cs2",), split="novel")
    write_dataset(config, 25, tmp_path / "d", form, shard_rows=10)
    loaded = datasets.load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))
    assert {split: data.num_rows for split, data in loaded.items()} == {"novel": 25}
    rows = list(read_dataset(tmp_path / "d"))
    assert list(loaded["novel"]) == rows


def test_load_from_disk_reads_arrow_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    write_dataset(CONFIG, 25, tmp_path, "arrow", shard_rows=10)
    loaded = datasets.load_from_disk(str(tmp_path))
    assert list(loaded) == list(read_dataset(tmp_path))
    assert (str(loaded.split), loaded.features) == (
        "train",
        datasets.Features.from_arrow_schema(loaded.data.schema),
    )


def test_the_card_tells_how_to_make_the_rows_again(tmp_path):
    config = DataConfig(command_sets=("cs1", "cs2+limit"), variant="syn", seed=3, split="test", max_columns=5)
    write_dataset(config, 25, tmp_path / "d", shard_rows=10)
    card = (tmp_path / "d" / "README.md").read_text()
    [line] = [line for line in card.splitlines() if line.startswith("tinysql data make")]
    words = shlex.split(line.replace("DIR", str(tmp_path / "again")))
    import argparse

    from data_gen.commands import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(words[2:])
    arguments.call(arguments)
    first, again = bytes_in(tmp_path / "d"), bytes_in(tmp_path / "again")
    for found in (first, again):
        found["config.json"] = json.loads(found["config.json"]) | {"made_by": None}
    assert first == again


@every_format
def test_the_same_job_writes_the_same_bytes(tmp_path, form):
    for name in ("a", "b"):
        write_dataset(CONFIG, 25, tmp_path / name, form, shard_rows=10)
    assert bytes_in(tmp_path / "a") == bytes_in(tmp_path / "b")


@every_format
def test_parts_in_any_order_are_together_what_one_process_writes(tmp_path, form):
    write_dataset(CONFIG, 45, tmp_path / "whole", form, shard_rows=10)
    for number in (2, 0, 1):
        with pytest.raises(InputError, match=r"is unfinished|is no dataset"):
            read_dataset(tmp_path / "parts")
        write_dataset(CONFIG, 45, tmp_path / "parts", form, shard_rows=10, part=Part(number, 3))
    assert bytes_in(tmp_path / "parts") == bytes_in(tmp_path / "whole")


def test_parts_of_different_directories_are_joined_by_copying_and_resume(tmp_path):
    write_dataset(CONFIG, 45, tmp_path / "whole", shard_rows=10)
    for number in range(2):
        write_dataset(CONFIG, 45, tmp_path / str(number), shard_rows=10, part=Part(number, 2))
    shards = [bytes_in(tmp_path / str(number)) for number in range(2)]
    assert [sorted(name for name in found if name.startswith("train")) for found in shards] == [
        names(5, "parquet")[0::2],
        names(5, "parquet")[1::2],
    ]
    for name, data in shards[1].items():
        if name.startswith("train"):
            (tmp_path / "0" / name).write_bytes(data)
    write_dataset(CONFIG, 45, tmp_path / "0", shard_rows=10, resume=True)
    assert bytes_in(tmp_path / "0") == bytes_in(tmp_path / "whole")


def test_parts_of_another_job_and_parts_that_would_delete_each_other_are_refused(tmp_path):
    write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10, part=Part(0, 2))
    with pytest.raises(InputError, match="its rows is 45, not 50"):
        write_dataset(CONFIG, 50, tmp_path, "jsonl", shard_rows=10, part=Part(1, 2))
    with pytest.raises(InputError, match="cannot overwrite with one part"):
        write_dataset(CONFIG, 45, tmp_path, "jsonl", shard_rows=10, part=Part(1, 2), overwrite=True)


@pytest.mark.parametrize("text", ["3/2", "2/2", "0/0", "a/2", "1", "-1/2", "1/2/3", "", "1/", "1.0/2", "٣/٤"])
def test_a_part_that_is_none_is_one_sentence(text):
    with pytest.raises(InputError, match="shards is .*expected") as caught:
        Part.parse(text)
    assert "\n" not in caught.value.message


def test_more_parts_than_files_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        InputError, match="25 rows make 1 file, fewer than the 4 parts\nhint: .*--shard-rows 8"
    ):
        write_dataset(CONFIG, 25, tmp_path / "d", part=Part(0, 4))
    assert not (tmp_path / "d").exists()
    for number in range(4):
        write_dataset(CONFIG, 25, tmp_path / "d", "jsonl", part=Part(number, 4), shard_rows=8)
    assert len(list(read_dataset(tmp_path / "d"))) == 25


def test_resume_goes_on_with_the_missing_shards_and_the_same_bytes(tmp_path):
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
    first = tmp_path / "cut" / names(5, "jsonl")[0]
    written = first.stat().st_mtime_ns
    told = []
    write_dataset(
        CONFIG,
        45,
        tmp_path / "cut",
        "jsonl",
        shard_rows=10,
        resume=True,
        report=lambda *row: told.append(row),
    )
    assert told == [(20, 45), (30, 45), (40, 45), (45, 45)]
    assert first.stat().st_mtime_ns == written
    assert bytes_in(tmp_path / "cut") == bytes_in(tmp_path / "whole")


KILLED = """
import os, signal, sys
from hashlib import sha256
from pathlib import Path
from data_gen.config import DataConfig
from data_gen.store.dataset import write_dataset

CONFIG = DataConfig(command_sets=("cs1", "cs2"), seed=5)
base, form = Path(sys.argv[1]), sys.argv[2]

def in_child(work):
    # Everything is imported and drawn once, and each run has a process of its own.
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def write(out, **options):
    write_dataset(CONFIG, 4, out, form, shard_rows=2, **options)

def digests(out):
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}

def killed_at(moment, out):
    # Dies in front of, and behind, each call that changes the disk.
    calls = 0
    def dying(real):
        def call(*arguments, **options):
            nonlocal calls
            for before in (True, False):
                calls += 1
                if calls == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                if before:
                    result = real(*arguments, **options)
            return result
        return call
    for module, name in ((os, "fsync"), (os, "replace"), (os, "link"), (Path, "mkdir"), (Path, "unlink")):
        setattr(module, name, dying(getattr(module, name)))
    write(out)

write(base / "whole")
moment, seen = 1, set()
while True:
    out = base / f"killed-{moment}"
    code = in_child(lambda: killed_at(moment, out))
    assert code in (0, -signal.SIGKILL), code
    if code == 0:
        break
    seen.add(tuple(path.name for path in sorted(out.iterdir())) if out.exists() else None)
    assert in_child(lambda: write(out, resume=True)) == 0, moment
    assert digests(out) == digests(base / "whole"), moment
    moment += 1
print(moment, len(seen))
"""


@every_format
def test_a_job_killed_at_any_moment_is_resumed_to_the_same_bytes(tmp_path, form):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), form], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    moments, states = map(int, done.stdout.split())
    # Two shards, a card and two markers, each written and renamed, are moments enough.
    assert moments > 25
    assert states > 8


def test_resume_of_another_job_is_refused_and_names_the_difference(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl")
    with pytest.raises(InputError, match="its rows is 10, not 11"):
        write_dataset(CONFIG, 11, tmp_path / "d", "jsonl", resume=True)
    with pytest.raises(InputError, match="its config is"):
        write_dataset(DataConfig(seed=6), 10, tmp_path / "d", "jsonl", resume=True)
    with pytest.raises(InputError, match="its databases is null, not true"):
        write_dataset(CONFIG, 10, tmp_path / "d", "jsonl", resume=True, databases=True)


def test_resume_of_a_finished_dataset_changes_nothing_and_of_nothing_begins(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl", resume=True)
    before = bytes_in(tmp_path / "d")
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl", resume=True)
    assert bytes_in(tmp_path / "d") == before


def test_resume_of_a_finished_dataset_writes_a_shard_that_was_lost(tmp_path):
    write_dataset(CONFIG, 25, tmp_path / "d", "jsonl", shard_rows=10)
    before = bytes_in(tmp_path / "d")
    (tmp_path / "d" / names(3, "jsonl")[1]).unlink()
    write_dataset(CONFIG, 25, tmp_path / "d", "jsonl", shard_rows=10, resume=True)
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
    assert list(config["versions"]) == ["tinysql", "pyarrow"]


def test_a_directory_that_holds_something_is_kept_unless_overwritten(tmp_path):
    write_dataset(CONFIG, 10, tmp_path / "d", "jsonl")
    before = bytes_in(tmp_path / "d")
    with pytest.raises(InputError, match=r"not empty\nhint: .*--overwrite"):
        write_dataset(CONFIG, 20, tmp_path / "d", "jsonl")
    assert bytes_in(tmp_path / "d") == before
    write_dataset(CONFIG, 20, tmp_path / "d", "parquet", overwrite=True)
    assert sorted(bytes_in(tmp_path / "d")) == ["README.md", "config.json", *names(1, "parquet")]


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
    shard = tmp_path / names(3, form)[2]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=rf"{shard.name}` is cut short or changed: its SHA-256 is .*expected"
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
    with pytest.raises(
        InputError, match=r"cannot write .*train-00001-of-00005.jsonl`: No space left on device"
    ):
        write_dataset(CONFIG, 45, tmp_path / "d", "jsonl", shard_rows=10)
    [trace] = [path.name for path in (tmp_path / "d").glob("unfinished-0-of-1-*.sha256")]
    assert sorted(bytes_in(tmp_path / "d")) == [names(5, "jsonl")[0], trace, "unfinished.json"]
    monkeypatch.undo()
    write_dataset(CONFIG, 45, tmp_path / "d", "jsonl", shard_rows=10, resume=True)
    assert len(list(read_dataset(tmp_path / "d"))) == 45


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"rows": -5}, "rows is -5"),
        ({"format": "json"}, "did you mean `jsonl`"),
        ({"shard_rows": 0}, "shard_rows is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"engine": "rya"}, "did you mean `ray`"),
        ({"engine": "ray", "workers": 2}, "workers is 2, but Ray"),
        ({"part": Part(2, 2)}, "shards is 2/2"),
        ({"part": Part(0, -1)}, "shards is 0/-1"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_before_anything_is_written(tmp_path, options, reason):
    options = {"rows": 5, **options}
    with pytest.raises(InputError, match=reason):
        write_dataset(CONFIG, options.pop("rows"), tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def test_databases_are_a_column_on_request(tmp_path):
    import sqlite3

    config = DataConfig(command_sets=("cs1", "cs5"))
    write_dataset(config, 6, tmp_path / "d", databases=True)
    for row in read_dataset(tmp_path / "d"):
        assert list(row) == [*COLUMNS, DATABASES]
        assert row[DATABASES]
        for inserts in row[DATABASES]:
            connection = sqlite3.connect(":memory:")
            connection.executescript(";".join([row["create_statement"], *inserts]))
            connection.execute(row["sql_statement"]).fetchall()
            connection.close()


@every_format
def test_pairs_on_disk_are_the_pairs_of_the_library(tmp_path, form):
    config = DataConfig(command_sets=("cs2",), split="test")
    write_pairs(config, "order_by.0.direction", 12, tmp_path, form, shard_rows=5)
    rows = list(read_dataset(tmp_path))
    pairs = counterfactuals(config, edit="order_by.0.direction", n=12)
    for row, pair in zip(rows, pairs, strict=True):
        assert list(row) == list(PAIR_COLUMNS)
        assert row["edit"] == pair.edit
        for side, example in (("clean", pair.clean), ("corrupt", pair.corrupt)):
            assert row[f"{side}_prompt"] == example.prompt.string
            assert row[f"{side}_sql_statement"] == example.sql.string
            assert Query.from_json(row[f"{side}_query"]) == example.query
            assert tuple(Span(**role) for role in row[f"{side}_roles"]) == example.text.spans


def test_pairs_that_cannot_be_made_write_nothing(tmp_path):
    with pytest.raises(InputError, match=r"order_by"):
        write_pairs(DataConfig(), "order_by.0.direction", 5, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_an_empty_split_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="no query of `cs1`"):
        write_dataset(DataConfig(command_sets=("cs4", "cs1"), split="clauses"), 10, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("format", ["parquet", "jsonl", "arrow"])
def test_a_shard_that_was_cut_short_is_made_again(format, tmp_path):
    config = DataConfig(command_sets=("cs1",))
    whole = write_dataset(config, 30, tmp_path / "data", format, shard_rows=10)
    cut, *_ = sorted(whole.glob(f"*.{format}"))
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    write_dataset(config, 30, whole, format, resume=True, shard_rows=10)
    assert cut.read_bytes() == content
