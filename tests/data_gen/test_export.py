"""Dataset on disk -> one file, a directory for `datasets`, or a repository of the hub."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.store import export
from data_gen.store.columns import COLUMNS, PUBLISHED, published_table
from data_gen.store.dataset import read_dataset, write_dataset, write_pairs
from data_gen.store.export import export_dataset, push_dataset
from tinysql.cli import main

CONFIG = DataConfig(command_sets=("cs1", "cs4"), split="test", seed=5)


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(CONFIG, 25, tmp_path / "dataset", shard_rows=10)


def read(path, form):
    if form == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if form == "parquet":
        return pq.read_table(path).to_pylist()
    import datasets

    return list(datasets.load_from_disk(str(path)))


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
def test_an_export_holds_all_rows_in_order(dataset, tmp_path, form):
    out = export_dataset(dataset, tmp_path / f"rows.{form}", format=form)
    assert read(out, form) == list(read_dataset(dataset))


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
def test_the_published_columns_are_those_and_no_others(dataset, tmp_path, form):
    rows = read(export_dataset(dataset, tmp_path / "rows", format=form, columns="published"), form)
    for row, whole in zip(rows, read_dataset(dataset), strict=True):
        assert list(row) == list(PUBLISHED)
        assert row == {name: whole[name] for name in PUBLISHED} | {
            "command_set": int(whole["command_set"][2:])
        }


def test_a_file_that_exists_is_kept_unless_overwritten(dataset, tmp_path):
    before = export_dataset(dataset, tmp_path / "rows").read_bytes()
    with pytest.raises(InputError, match=r"rows` exists\nhint: .*--overwrite"):
        export_dataset(dataset, tmp_path / "rows", columns="published")
    assert (tmp_path / "rows").read_bytes() == before
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state.json").write_text("{}")
    for form in ("parquet", "arrow"):
        with pytest.raises(InputError, match="folder` exists"):
            export_dataset(dataset, tmp_path / "folder", format=form, overwrite=True)
    assert (tmp_path / "folder" / "state.json").exists()


NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
FOREIGN = {
    "notebook.ipynb": json.dumps(NOTEBOOK, indent=1).encode(),
    "line.ipynb": json.dumps(NOTEBOOK).encode(),
    "script.py": b"print(1)\n",
    "list.jsonl": b"[1, 2]\n",
    "deep.json": b"[" * 100_000,
    "bytes": b"\xff\xfe\x00",
    "cut.parquet": b"PAR1 is how it begins",
}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_no_export_is_kept(dataset, tmp_path, capsys, name, form, overwrite):
    out = tmp_path / name
    out.write_bytes(FOREIGN[name])
    words = ["data", "export", dataset, "--out", out, "--format", form, *overwrite]
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"tinysql: output `.*` exists and is no file of rows .*\nhint: .*by hand\n", said.err)
    assert out.read_bytes() == FOREIGN[name]


def test_overwrite_keeps_another_table(dataset, tmp_path):
    pq.write_table(pa.table({"index": [1], "sql_statement": ["SELECT 1"]}), tmp_path / "mine.parquet")
    before = (tmp_path / "mine.parquet").read_bytes()
    with pytest.raises(InputError, match="is no file of rows or pairs"):
        export_dataset(dataset, tmp_path / "mine.parquet", overwrite=True)
    assert (tmp_path / "mine.parquet").read_bytes() == before


@pytest.mark.parametrize("columns", ["all", "published"])
@pytest.mark.parametrize("before", ["parquet", "jsonl"])
def test_overwrite_replaces_an_export_whatever_its_columns_and_format(dataset, tmp_path, before, columns):
    out = export_dataset(dataset, tmp_path / "rows", format=before, columns=columns)
    export_dataset(dataset, out, overwrite=True)
    assert read(out, "parquet") == list(read_dataset(dataset))


def test_overwrite_replaces_pairs_and_a_file_that_is_empty(tmp_path):
    pairs = write_pairs(DataConfig(command_sets=("cs2",)), "order_by.0.direction", 5, tmp_path / "pairs")
    (tmp_path / "out").touch()
    for form in ("jsonl", "parquet", "jsonl"):
        export_dataset(pairs, tmp_path / "out", format=form, overwrite=True)
        assert read(tmp_path / "out", form) == list(read_dataset(pairs))


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
def test_an_export_never_replaces_the_dataset_that_it_reads(dataset, tmp_path, form):
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    (tmp_path / "link").symlink_to(dataset)
    for out in (*dataset.iterdir(), dataset, tmp_path / "link" / "config.json", dataset / "new", tmp_path):
        with pytest.raises(InputError, match="would replace what is read from"):
            export_dataset(dataset, out, format=form, overwrite=True)
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before


def test_an_arrow_export_replaces_an_earlier_one_when_told_and_no_other_directory(dataset, tmp_path):
    out = tmp_path / "rows"
    export_dataset(dataset, out, format="arrow", columns="published")
    with pytest.raises(InputError, match=r"rows` exists\nhint: .*--overwrite"):
        export_dataset(dataset, out, format="arrow")
    export_dataset(dataset, out, format="arrow", overwrite=True)
    assert read(out, "arrow") == list(read_dataset(dataset))
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds more than an export"):
        export_dataset(dataset, out, format="arrow", overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "rows"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow"])
def test_an_export_that_is_interrupted_leaves_nothing_that_looks_whole(dataset, tmp_path, form, monkeypatch):
    seen = []

    def stop_at_the_second(table):
        seen.append(table)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return published_table(table)

    monkeypatch.setattr(export, "published_table", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        export_dataset(dataset, tmp_path / "rows", format=form, columns="published")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


KILLED = """
import os, signal, sys
from data_gen.store import export, formats

real = export.published_table
def kill_at_the_second(table, seen=[]):
    seen.append(table)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(table)
export.published_table = kill_at_the_second
export.export_dataset(sys.argv[1], sys.argv[2], format=sys.argv[3], columns="published")
"""


@pytest.mark.parametrize("form", ["jsonl", "arrow"])
def test_an_export_that_is_killed_leaves_nothing_that_looks_whole(dataset, tmp_path, form):
    out = tmp_path / "rows"
    done = subprocess.run([sys.executable, "-c", KILLED, dataset, out, form], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    export_dataset(dataset, out, format=form)
    assert read(out, form) == list(read_dataset(dataset))


def test_pairs_are_exported_whole_but_have_no_published_columns(tmp_path):
    pairs = write_pairs(DataConfig(command_sets=("cs2",)), "order_by.0.direction", 5, tmp_path / "pairs")
    out = export_dataset(pairs, tmp_path / "pairs.jsonl", format="jsonl")
    assert read(out, "jsonl") == list(read_dataset(pairs))
    with pytest.raises(InputError, match="pairs have no published columns"):
        export_dataset(pairs, tmp_path / "x", columns="published")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"format": "csv"}, "no format `csv`"), ({"columns": "publish"}, "did you mean `published`")],
)
def test_what_cannot_be_exported_writes_nothing(dataset, tmp_path, options, reason):
    with pytest.raises(InputError, match=reason):
        export_dataset(dataset, tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


class Repository(str):
    """The hub answers with an address that knows the whole name."""

    repo_id: str


class FolderHub:
    """Acts like `huggingface_hub.HfApi`, on a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repo_id, *, repo_type, exist_ok):
        assert (repo_type, exist_ok) == ("dataset", True)
        if repo_id.startswith("somebody-else/"):
            raise PermissionError("403 Forbidden: you cannot write there\nRequest ID 1")
        repository = Repository(f"https://hub/datasets/{repo_id}")
        repository.repo_id = repo_id if "/" in repo_id else f"me/{repo_id}"
        (self.root / repository.repo_id).mkdir(parents=True, exist_ok=True)
        return repository

    def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns):
        assert repo_type == "dataset"
        for name in allow_patterns:
            shutil.copy(Path(folder_path) / name, self.root / repo_id / name)


def test_what_is_pushed_is_the_dataset_and_load_dataset_reads_it(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    (dataset / "notes.txt").write_text("not for others")
    assert push_dataset(dataset, "rows", api=FolderHub(tmp_path)) == "https://hub/datasets/rows"
    pushed = tmp_path / "me" / "rows"
    assert {path.name for path in pushed.iterdir()} == {path.name for path in dataset.iterdir()} - {
        "notes.txt"
    }
    loaded = datasets.load_dataset(str(pushed), cache_dir=str(tmp_path / "cache"))["test"]
    assert loaded.column_names == list(COLUMNS)
    assert list(loaded) == list(read_dataset(dataset))


def test_the_published_columns_are_pushed_with_a_card_of_their_own(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    push_dataset(dataset, "me/rows", columns="published", api=FolderHub(tmp_path))
    pushed = tmp_path / "me" / "rows"
    assert "`roles`" not in (pushed / "README.md").read_text()
    loaded = datasets.load_dataset(str(pushed), cache_dir=str(tmp_path / "cache"))["test"]
    assert (loaded.column_names, loaded.num_rows) == (list(PUBLISHED), 25)


def test_a_hub_that_refuses_is_one_sentence(dataset, tmp_path):
    with pytest.raises(InputError, match="cannot push to `somebody-else/rows`: 403 Forbidden") as caught:
        push_dataset(dataset, "somebody-else/rows", api=FolderHub(tmp_path))
    assert "\n" not in caught.value.message


def test_a_damaged_dataset_is_neither_exported_nor_pushed(dataset, tmp_path):
    shard = next(dataset.glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    for call in (
        lambda: export_dataset(dataset, tmp_path / "x"),
        lambda: push_dataset(dataset, "rows", api=FolderHub(tmp_path / "hub")),
    ):
        with pytest.raises(InputError, match="cut short or changed"):
            call()
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "hub").exists()
