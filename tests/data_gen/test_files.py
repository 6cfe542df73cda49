"""Bytes -> disk, whole or not at all."""

import errno
import json
import os
import platform
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen import files
from data_gen.errors import InputError, nearest
from data_gen.files import (
    append_line,
    atomic_directory,
    find_json,
    read_json,
    remove_leftovers,
    write_atomic,
    write_new,
)
from data_gen.outputs import check_apart, check_directory, check_output, claim_directory, claim_file


def fail_with_full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_written_is_read_back(tmp_path):
    write_atomic(tmp_path / "a.json", '{"b": 1}')
    assert read_json(tmp_path / "a.json") == {"b": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(files.os, "fsync", fail_with_full_disk)
    with pytest.raises(InputError, match=r"cannot write .*a`: No space left on device"):
        write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", "old")
    seen = []

    def look(part, path):
        seen.append((path.read_text(), part.read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", look)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert seen == [("old", "new")]
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupt_leaves_no_part(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert os.listdir(tmp_path) == []


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    with atomic_directory(tmp_path / "whole") as part:
        (part / "x").write_text("1")
        assert not (tmp_path / "whole").exists()
    assert (tmp_path / "whole" / "x").read_text() == "1"

    def interrupted():
        with atomic_directory(tmp_path / "half") as part:
            (part / "x").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["whole"]


HOST = re.sub("[^0-9A-Za-z]", "-", platform.node())


def dead_process():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_only_what_dead_writers_left_is_removed(tmp_path):
    dead, parent = f"{HOST}.{dead_process()}", f"{HOST}.{os.getppid()}"
    (tmp_path / f".a.{dead}.tmp").write_text("half")
    (tmp_path / f".b.c.{dead}.tmp").mkdir()
    (tmp_path / f".b.c.{dead}.tmp" / "x").write_text("half")
    elsewhere = f"another-machine.{dead.rpartition('.')[2]}"
    kept = {f".a.{name}.tmp" for name in (parent, f"{HOST}.{10**30}", elsewhere, "b", f"{HOST}.c")}
    kept |= {".a.tmp", f"a.{dead}.tmp"}
    for name in kept:
        (tmp_path / name).write_text("of somebody else")
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == kept


def test_a_directory_sweeps_away_what_its_own_dead_writers_left(tmp_path):
    dead, parent = f"{HOST}.{dead_process()}", f"{HOST}.{os.getppid()}"
    names = [f".a[0].{dead}.tmp", f".a[0].{parent}.tmp", f".b.{dead}.tmp"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("half")
    with atomic_directory(tmp_path / "a[0]"):
        pass
    assert set(os.listdir(tmp_path)) == {"a[0]", *names[1:]}


def test_a_directory_that_holds_something_is_kept(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not empty"):
        claim_directory(tmp_path)
    assert (tmp_path / "config.json").exists()


def test_overwrite_empties_an_output_of_ours(tmp_path):
    (tmp_path / "config.json").write_text('{"made_by": {}}')
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x").write_text("1")
    assert claim_directory(tmp_path, overwrite=True) == tmp_path
    assert os.listdir(tmp_path) == []


def test_overwrite_never_empties_a_foreign_directory(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not an output of tinysql"):
        claim_directory(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["config.json", "unfinished.json"])
@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '{"made_by"', '["made_by"]', '{"model_type": "gpt2"}', '{"kind": "x"}', b"\xff"],
)
def test_overwrite_never_empties_a_directory_for_the_name_of_its_config(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not an output of tinysql"):
        claim_directory(tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) == {name, "thesis.txt"}


@pytest.mark.parametrize(
    ("config", "kind", "offered"),
    [
        ('{"recipe": {}}', "training run", True),
        ('{"recipe": {}}', None, True),
        ('{"recipe": {}}', "dataset", False),
        ('{"a": 1}', None, False),
        ("{", "training run", False),
        (None, "training run", False),
    ],
)
def test_overwrite_is_offered_where_it_would_not_be_refused(tmp_path, config, kind, offered):
    (tmp_path / "weights").write_text("days of work")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match="is not empty\nhint: choose another output") as refused:
        claim_directory(tmp_path, kind=kind)
    assert ("--overwrite" in refused.value.hint) == offered
    try:
        claim_directory(tmp_path, overwrite=True, kind=kind)
        assert offered
    except InputError:
        assert not offered


CONFIGS = {
    "dataset": {"kind": "pairs", "shard_rows": 10, "made_by": {}},
    "training run": {"recipe": {}, "made_by": {}},
    "steering vector": {"hook": "a", "metadata": {}},
    "analysis": {"settings": {}, "refused": [], "made_by": {}},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_overwrite_empties_only_what_is_of_the_same_kind(tmp_path, kind):
    for found, config in CONFIGS.items():
        (tmp_path / "config.json").write_text(json.dumps(config))
        if found != kind:
            with pytest.raises(InputError, match=f"holds an? {found}, which an? {kind} does not overwrite"):
                claim_directory(tmp_path, overwrite=True, kind=kind)
        claim_directory(tmp_path, overwrite=True, kind=found)
        assert os.listdir(tmp_path) == []
        (tmp_path / "config.json").write_text(json.dumps(config))
        claim_directory(tmp_path, overwrite=True)
        assert os.listdir(tmp_path) == []


def test_a_directory_that_is_being_emptied_is_known_as_ours_until_the_end(tmp_path, monkeypatch):
    for name in ("a", "config.json", "z"):
        (tmp_path / name).write_text('{"made_by": {}}')
    gone = []
    monkeypatch.setattr(files.Path, "unlink", lambda path, **_: gone.append(path.name))
    claim_directory(tmp_path, overwrite=True)
    assert sorted(gone[:2]) == ["a", "z"]
    assert gone[2] == "config.json"


def test_overwrite_does_not_follow_links_out_of_the_directory(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_text("1")
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text('{"made_by": {}}')
    (out / "link").symlink_to(tmp_path / "precious")
    claim_directory(out, overwrite=True)
    assert (tmp_path / "precious" / "x").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file, expected a directory"):
        claim_directory(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read"),
        ('{"a": ', "not whole JSON"),
        ("[1]", "expected an object"),
        ("\x00", "not whole"),
    ],
)
def test_json_that_is_missing_or_cut_short_is_one_sentence(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_json(tmp_path / "a.json")
    assert "a.json" in caught.value.message


def test_what_is_no_regular_file_is_not_written_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "link"):
        with pytest.raises(InputError, match=r"is no file, .*\nhint: write to a file, and `cat` it"):
            write_atomic(path, "rows")
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


# Names in directories like /dev, so that no code under test could harm the machine's own.
@pytest.mark.parametrize("name", ["null", "stdout", "not-there-yet"])
def test_nothing_is_written_where_the_system_keeps_its_devices(tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("what stdout goes to")
    (tmp_path / "stdout").symlink_to(tmp_path / "file")
    (tmp_path / "null").touch()
    monkeypatch.setattr(files, "DEVICES", tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match="is no file"):
        write_atomic(tmp_path / name, "rows")
    assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / "shm").mkdir()
    write_atomic(tmp_path / "shm" / "rows", "rows")


def test_nothing_is_written_below_proc():
    with pytest.raises(InputError, match="is no file"):
        write_atomic("/proc/self/fd/1", "rows")


def test_the_hint_is_about_the_fault(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No such file or directory\nhint: make the directory"):
        write_atomic(tmp_path / "missing" / "a", "rows")
    with pytest.raises(InputError, match=r"File name too long\nhint: choose a shorter name"):
        write_atomic(tmp_path / ("a" * 300), "rows")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory\nhint: give a path that can be written"):
        write_atomic(tmp_path / "file" / "a", "rows")
    monkeypatch.setattr(files.os, "fsync", fail_with_full_disk)
    with pytest.raises(InputError, match=r"No space left on device\nhint: free some space"):
        write_atomic(tmp_path / "a", "rows")


def test_only_the_first_of_several_writers_has_a_new_file(tmp_path):
    assert write_new(tmp_path / "a", "first")
    assert not write_new(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_disk_without_links_has_new_files_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    assert write_new(tmp_path / "a", "first")
    assert not write_new(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_or_line_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot write .*missing/a`: No such file"):
        append_line(tmp_path / "missing" / "a", "line")
    monkeypatch.setattr(files.os, "fsync", fail_with_full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_new(tmp_path / "a", "first")
    assert os.listdir(tmp_path) == []


def test_json_that_is_not_there_is_none_and_cut_short_is_refused(tmp_path):
    assert find_json(tmp_path / "a") is None
    (tmp_path / "a").write_text("{")
    assert find_json(tmp_path / "a" / "b") is None
    with pytest.raises(InputError, match="not whole JSON"):
        find_json(tmp_path / "a")


def test_an_error_has_a_sentence_and_a_hint_and_offers_the_nearest_name():
    assert str(InputError("no", hint="yes")) == "no\nhint: yes"
    assert str(InputError("no")) == "no"
    assert nearest("CS11", ["cs1", "cs2"]) == "; did you mean `cs1`?"
    assert nearest("cs11", ["cs1", "cs2", "base"], n=3) == "; did you mean `cs1` or `cs2`?"
    assert nearest("cs1x", ["cs1", "cs2", "cs3"], n=3) == "; did you mean `cs1`, `cs3` or `cs2`?"
    assert nearest("quaternion", ["cs1", "cs2"]) == ""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "config.json").write_text("{}")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none/x", "No such file"),
        ("file/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("pipe", "is no file"),
        ("/dev/null", "is no file"),
        ("folder", "exists, as a directory"),
        ("file", "exists\nhint: .*--overwrite"),
        ("link", "exists\nhint: .*--overwrite"),
    ],
)
def test_an_output_that_could_not_be_written_is_refused_before_the_work(tmp_path, name, reason):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(InputError, match=reason):
        check_output(tmp_path / name, overwrite=False, sources=[])
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link", "pipe"]


def test_a_directory_that_could_not_be_made_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a").write_text("mine")
    for name, reason in {
        "file": "is a file, expected a directory",
        "file/new": "Not a directory",
        "foreign": "is not an output of tinysql",
        "x" * 300: "File name too long",
        "none/" + "x" * 250: "File name too long",
    }.items():
        with pytest.raises(InputError, match=reason):
            check_directory(tmp_path / name, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "foreign"]
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for look in (check_directory, claim_directory):
        with pytest.raises(InputError, match="is a link to nothing, expected a directory"):
            look(tmp_path / "link", overwrite=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="has no name of its own"):
        check_directory(".")


def test_a_look_at_a_directory_makes_nothing_and_deletes_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    write_atomic(tmp_path / "run" / "config.json", '{"recipe": {}}')
    check_directory(tmp_path / "run", overwrite=True, kind="training run")
    check_directory(tmp_path / "a" / "b" / "c")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "config.json"]


@pytest.mark.parametrize("blocked", ["eval", "eval/test.json", "a pipe"])
def test_a_file_of_ours_is_claimed_before_the_work(tmp_path, blocked):
    assert claim_file(tmp_path / "eval" / "names.json") == tmp_path / "eval" / "names.json"
    assert os.listdir(tmp_path / "eval") == []
    (tmp_path / "eval").rmdir()
    if blocked == "eval":
        (tmp_path / "eval").write_text("a file")
    elif blocked == "a pipe":
        (tmp_path / "eval").mkdir()
        os.mkfifo(tmp_path / "eval" / "test.json")
    else:
        (tmp_path / "eval" / "test.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot write|is a directory|is no file"):
        claim_file(tmp_path / "eval" / "test.json")


def test_a_look_at_an_output_leaves_nothing_and_changes_nothing(tmp_path, source):
    (tmp_path / "file").write_text("mine")
    check_output(tmp_path / "new", overwrite=False, sources=[source])
    check_output(tmp_path / "file", overwrite=True, sources=[source])
    assert sorted(os.listdir(tmp_path)) == ["data", "file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_never_replaces_what_is_read_by_whatever_links(tmp_path, source):
    (tmp_path / "blob").write_text("rows")
    (source / "shard").symlink_to(tmp_path / "blob")
    (tmp_path / "folder").symlink_to(source)
    (tmp_path / "link").symlink_to(source / "config.json")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("data/config.json", "data/new", "data/../data/x", "folder/x", "link", "data/shard", "blob"):
        with pytest.raises(InputError, match="would replace what is read from"):
            check_output(tmp_path / name, overwrite=True, sources=[source])
    with pytest.raises(InputError, match="would replace what is read from"):
        check_output(source / "config.json", overwrite=True, sources=[source / "config.json"])
    with pytest.raises(InputError, match="would replace what is read from"):
        check_apart(tmp_path, [source])
    check_output(tmp_path / "circle", overwrite=True, sources=[source])


def test_a_directory_that_is_replaced_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("")
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "d", overwrite=True):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "d") == ["old"]
    with pytest.raises(InputError, match="cannot write"), atomic_directory(tmp_path / "d"):
        pass
    with atomic_directory(tmp_path / "d", overwrite=True) as part:
        (part / "new").write_text("")
    assert os.listdir(tmp_path / "d") == ["new"]
    assert os.listdir(tmp_path) == ["d"]


def test_json_that_is_no_object_is_one_sentence_with_a_remedy(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"holds a JSON list, expected an object\nhint: "):
        read_json(tmp_path / "a.json")


def test_an_output_never_stands_in_the_dataset_of_a_shard_that_is_read(tmp_path):
    data, alone = tmp_path / "data", tmp_path / "alone"
    for folder in (data, alone):
        folder.mkdir()
        (folder / "train.parquet").write_text("rows")
    (data / "config.json").write_text("{}")
    for name in ("config.json", "other.parquet", "new.json"):
        with pytest.raises(InputError, match="would replace what is read from"):
            check_apart(data / name, [data / "train.parquet"])
    check_apart(alone / "new.json", [alone / "train.parquet"])
    check_apart(tmp_path / "new.json", [data / "train.parquet"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say who has ended")
def test_what_a_process_left_that_ended_unasked_for_is_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        part = tmp_path / f".a.json.{files._host()}.{process.pid}.tmp"
        part.write_text("half")
        remove_leftovers(tmp_path)
        assert part.exists()  # it runs
        process.stdin.write(b"\n")
        process.stdin.close()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        remove_leftovers(tmp_path)
        assert not part.exists()
