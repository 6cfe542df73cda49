"""Datasets on disk -> audits: one process or several, our files or others', whole or damaged."""

import argparse
import json
import re
import subprocess
import sys
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.progress import progress
from data_gen.review.check import check_rows
from data_gen.review.rows import read_rows
from data_gen.review_commands import add_review
from data_gen.store.dataset import TOKEN_COLUMNS, write_dataset, write_pairs
from data_gen.store.export import export_dataset
from data_gen.store.job import Part


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(
        DataConfig(command_sets=("cs2", "cs5"), max_columns=5), 24, tmp_path_factory.mktemp("d") / "data"
    )


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_dataset_of_ours_is_clean_and_its_table_says_so(dataset):
    audit = check_rows(dataset)
    assert audit.is_clean, audit.findings
    assert audit.rows == 24
    told = str(audit)
    assert "24 rows" in told
    assert "FAIL" not in told


def test_two_processes_find_what_one_finds(dataset, tmp_path):
    rows = list(read_rows(dataset))
    rows[7]["sql_statement"] = "SELECT nothing"
    rows.append({**rows[3], "sql_statement": rows[1]["sql_statement"]})
    path = lines(tmp_path / "rows.jsonl", rows)
    one, two = check_rows(path, duckdb=False), check_rows(path, duckdb=False, workers=2)
    assert one.failed == two.failed
    assert one.failed["round trip"] == 2
    assert one.failed["one right answer"] == 1
    assert {f for found in one.findings.values() for f in found} == {
        f for found in two.findings.values() for f in found
    }
    assert "FAIL" in str(two)


def test_only_the_first_rows_are_read_where_that_is_asked_for(dataset):
    assert check_rows(dataset, duckdb=False, rows=5).rows == 5


@pytest.mark.parametrize("workers", [1, 2])
def test_the_rows_that_all_processes_have_checked_are_told_on_the_way(dataset, monkeypatch, workers):
    monkeypatch.setattr("data_gen.review.check.SECONDS_BETWEEN_REPORTS", 0.01)
    told = []
    check_rows(dataset, duckdb=False, workers=workers, report=lambda *at: told.append(at))
    assert told == sorted(told)
    assert told[-1] == (24, 24)
    # On the way, not at the end alone.
    assert any(0 < done < 24 for done, _ in told)
    few = []
    check_rows(dataset, duckdb=False, workers=workers, rows=5, report=lambda *at: few.append(at))
    assert few[-1] == (5, 5)


def test_no_more_rows_are_told_of_than_there_are(dataset):
    told = []
    check_rows(dataset, duckdb=False, rows=100, report=lambda *at: told.append(at))
    assert told[-1] == (24, 24)


def test_how_many_there_are_is_not_told_of_files_of_others(dataset, tmp_path):
    told = []
    path = lines(tmp_path / "rows.jsonl", list(read_rows(dataset))[:2])
    check_rows(path, duckdb=False, report=lambda *at: told.append(at))
    assert told == [(1, None), (2, None)]


def test_a_log_hears_the_end_once(capsys):
    with progress("rows") as report:
        for done in (1, 2, 2):
            report(done, 2)
    assert capsys.readouterr().err.count("2 of 2 rows") == 1


def test_a_log_hears_at_once_that_a_check_begins_and_at_the_end_how_fast_it_was(dataset, capsys, monkeypatch):
    heard = []

    def slow(*_, report, **__):
        heard.append(capsys.readouterr())
        return check_rows(dataset, duckdb=False, rows=2, report=report)

    monkeypatch.setattr("data_gen.review.check.check_rows", slow)
    assert call("check", dataset, "--rows", 2) == 0
    assert [(one.out, one.err) for one in heard] == [("", f"checking {dataset}\n")]
    assert re.fullmatch(r"2 of 2 rows, [0-9,]+ rows/s\n", capsys.readouterr().err)


def test_a_parquet_file_of_others_is_read(dataset):
    (shard,) = dataset.glob("*.parquet")
    assert list(read_rows(shard)) == list(read_rows(dataset))


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"\x00" * 100])
def test_a_damaged_parquet_file_is_one_sentence(content, tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no whole Parquet file"):
        list(read_rows(path))


def test_a_damaged_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(InputError, match="line 2 of"):
        list(read_rows(path))


def test_nothing_to_read_is_one_sentence(tmp_path):
    for path, lacks in ((tmp_path, "holds no rows"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=lacks):
            list(read_rows(path))


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"rows": 0}])
def test_numbers_that_are_not_positive_are_one_sentence(wrong, dataset):
    with pytest.raises(InputError, match="expected at least 1"):
        check_rows(dataset, **wrong)


@pytest.mark.parametrize("line", [b"7", b"[1, 2]", b'"text"', b"\xff\xfe"])
def test_a_line_that_is_no_row_is_one_sentence(line, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(InputError, match="line 1 of"):
        list(read_rows(path))


HALF = b'{"prompt": "\\uD83D"}'
DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ODD = {
    "no JSON in UTF-8": [b'{"prompt": "\xff\xfe"}', b"\xff\xfe{\x00", HALF],
    "nested too deeply": [DEEP],
    "in column `command_set`, expected text": [b'{"command_set": {"a": 1}}', b'{"command_set": true}'],
    "in column `prompt`, expected text": [b'{"prompt": 7}', b'{"prompt": ["a"]}'],
    "in column `index`, expected a whole number": [b'{"index": "7"}', b'{"index": true}'],
    "in column `table_name_use_synonym`, expected true or false": [b'{"table_name_use_synonym": "yes"}'],
    "in column `clean_roles`, expected a list of spans": [b'{"clean_roles": [7]}', b'{"clean_roles": "[]"}'],
    "in column `roles`, expected a list of spans": [
        b'{"roles": [{"start": 0, "role": "sql"}]}',
        b'{"roles": {}}',
    ],
}


@pytest.mark.parametrize("reason", ODD)
def test_what_no_row_holds_is_named_with_its_file_and_line(reason, tmp_path):
    for line in ODD[reason]:
        path = tmp_path / "rows.jsonl"
        path.write_bytes(b'{"prompt": "a"}\n' + line + b"\n")
        with pytest.raises(InputError) as caught:
            list(read_rows(path))
        assert f"line 2 of `{path}`" in caught.value.message
        assert reason in caught.value.message
        assert "\n" not in caught.value.message


def test_half_a_character_in_a_name_and_a_whole_one_in_escapes_are_told_apart(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\\ud83d\\ude00"}\n')
    assert [row["prompt"] for row in read_rows(path)] == ["\N{GRINNING FACE}"]
    path.write_bytes(b'{"\\ud83d": 1}\n')
    with pytest.raises(InputError, match="line 1 of"):
        list(read_rows(path))


def test_a_column_of_another_type_in_parquet_is_named_with_its_row(tmp_path):
    pq.write_table(pa.table({"prompt": [7, 8]}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="row 0 of .*column `prompt`, expected text"):
        list(read_rows(tmp_path / "rows.parquet"))


def test_text_in_parquet_that_is_no_utf_8_is_one_sentence(tmp_path):
    offsets = pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00")
    text = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"prompt": text}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="not UTF-8"):
        list(read_rows(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_files_without_rows_are_not_clean_but_bad_input(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"")
    if name == "rows.parquet":
        pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    for call in (check_rows, read_rows):
        with pytest.raises(InputError, match="holds no rows"):
            call(path)


@pytest.mark.parametrize("there", ["all", "some", "none", "below"])
def test_an_unfinished_dataset_is_not_read_as_a_whole_one(there, tmp_path, capsys):
    out = tmp_path / "d"
    if there == "none":
        out.mkdir()
        (out / "unfinished.json").write_text("{}")
    else:
        options = {"part": Part(0, 2)} if there == "some" else {}
        write_dataset(DataConfig(), 4, out, "jsonl", shard_rows=2, **options)
    if there in ("all", "below"):
        (out / "config.json").rename(out / "unfinished.json")
    read = tmp_path if there == "below" else out
    for words in (
        ("check", read, "--workers", 1),
        ("stats", read),
        ("import", read, "--out", tmp_path / "x"),
    ):
        if there == "below" and words[0] == "import":
            continue
        with pytest.raises(InputError, match=r"d` is unfinished.*\nhint: .*--resume"):
            call(*words)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("rows", "forty"), ("rows", True), ("split", None), ("config", []), ("kind", 7), ("versions", "1")],
)
def test_a_config_that_states_no_dataset_is_refused(name, value, tmp_path):
    out = write_dataset(DataConfig(), 2, tmp_path / "d", "jsonl")
    header = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**header, name: value}))
    for words in (("check", out, "--workers", 1), ("stats", out)):
        with pytest.raises(InputError, match=rf"config.json` has .* for `{name}`, expected .*\nhint: "):
            call(*words)
    with pytest.raises(InputError, match=f"for `{name}`"):
        export_dataset(out, tmp_path / "x")


@pytest.mark.parametrize("column", ["index", "seed", "split"])
def test_rows_have_to_be_those_that_their_directory_says(column, tmp_path):
    rows = list(read_rows(write_dataset(DataConfig(seed=3), 4, tmp_path / "d", "jsonl")))
    rows[2][column] = {"index": 3, "seed": 4, "split": "test"}[column]
    again(tmp_path / "d", rows)
    audit = check_rows(tmp_path / "d", duckdb=False)
    assert list(audit.findings) == ["columns agree"]
    assert audit.findings["columns agree"][0].startswith(f"row 2: {column} is `")


def again(directory, rows):
    """Put other rows into a directory of ours, whose only shard they then are."""
    header = json.loads((directory / "config.json").read_text())
    shard = lines(directory / header["shards"][0]["file"], rows)
    header["shards"][0]["sha256"] = sha256(shard.read_bytes()).hexdigest()
    (directory / "config.json").write_text(json.dumps(header))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        [], tokenizers.trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False)
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


@pytest.fixture(scope="module")
def pairs(tokenizer, tmp_path_factory):
    config = DataConfig(command_sets=("cs2",), split="test", max_columns=5)
    out = tmp_path_factory.mktemp("p") / "pairs"
    return write_pairs(config, "order_by.0.direction", 3, out, "jsonl", seed=7, tokenizer=tokenizer)


def test_a_directory_of_pairs_is_checked_on_both_sides_and_as_pairs(pairs, tokenizer):
    audit = check_rows(pairs, duckdb=False, tokenizer=tokenizer)
    assert audit.is_clean, audit.findings
    assert (audit.pairs, audit.rows) == (3, 6)
    assert audit.checked["tokens located"] == audit.checked["change located"] == 3
    assert check_rows(pairs, duckdb=False).checked["tokens located"] == 0
    two = check_rows(pairs, duckdb=False, tokenizer=tokenizer, workers=2)
    assert (two.checked, two.failed) == (audit.checked, audit.failed)


@pytest.mark.parametrize("column", TOKEN_COLUMNS)
def test_tokens_that_are_elsewhere_are_found(column, pairs, tokenizer, tmp_path):
    rows = list(read_rows(pairs))
    rows[1][column] = "?" if column.endswith("_token") else rows[1][column] + 1
    audit = check_rows(lines(tmp_path / "pairs.jsonl", rows), duckdb=False, tokenizer=tokenizer)
    assert list(audit.findings) == ["tokens located"]
    assert audit.findings["tokens located"][0].startswith(f"pair 1: {column} is `")


def test_another_tokenizer_than_that_of_the_pairs_is_refused(pairs, tokenizer, tmp_path):
    other = tmp_path / "tokenizer.json"
    other.write_text(tokenizer.read_text() + "\n")
    with pytest.raises(InputError, match="is not the one that the pairs were made with"):
        check_rows(pairs, tokenizer=other)
    with pytest.raises(InputError, match="no tokenizer file"):
        check_rows(pairs, tokenizer=tmp_path / "none.json")


NEEDED = {
    "edit": {"one edit", "one schema"},
    "position": {"tokens located"},
    "corrupt_answer_token": {"tokens located"},
    "clean_prompt_change": {"change located"},
    "clean_query": {"round trip"},
    "corrupt_sql_change": {"change located"},
    "index": set(),
    "split": set(),
    "corrupt_roles": set(),
}
"""Column of pairs -> what cannot be proved where it is missing, besides itself."""


@pytest.mark.parametrize("column", NEEDED)
def test_columns_that_pairs_lack_are_named_and_what_needs_them_is_unchecked(
    column, pairs, tokenizer, tmp_path
):
    rows = [{name: row[name] for name in row if name != column} for row in read_rows(pairs)]
    audit = check_rows(lines(tmp_path / "pairs.jsonl", rows), duckdb=False, tokenizer=tokenizer)
    assert not audit.findings
    assert audit.absent == {column: 3}
    assert f"       {column}, on 3 rows" in str(audit)
    unchecked = {name for name, (_, asked) in audit.properties().items() if audit.checked[name] < asked}
    assert unchecked == {"databases", "DuckDB executes", "engines agree"} | NEEDED[column]


def test_what_is_wrong_is_found_though_another_column_of_the_property_is_missing(pairs, tmp_path):
    rows = list(read_rows(pairs))
    for row in rows:
        del row["clean_prompt_change"]
    rows[1]["corrupt_prompt_change"]["start"] += 1
    audit = check_rows(lines(tmp_path / "pairs.jsonl", rows), duckdb=False)
    assert (audit.checked["change located"], audit.failed["change located"]) == (1, 1)
    for row in rows:
        del row["clean_query"], row["corrupt_query"]
    assert check_rows(lines(tmp_path / "pairs.jsonl", rows), duckdb=False).pairs == 3


def test_all_columns_of_tokens_may_be_missing_unless_a_tokenizer_is_given(pairs, tokenizer, tmp_path):
    kept = [name for name in next(read_rows(pairs)) if name not in TOKEN_COLUMNS]
    path = lines(tmp_path / "pairs.jsonl", [{name: row[name] for name in kept} for row in read_rows(pairs)])
    assert not check_rows(path, duckdb=False).absent
    audit = check_rows(path, duckdb=False, tokenizer=tokenizer)
    assert audit.absent == dict.fromkeys(TOKEN_COLUMNS, 3)
    assert not audit.checked["tokens located"]


def test_a_tokenizer_is_refused_where_there_are_no_pairs(dataset, tokenizer):
    with pytest.raises(InputError, match=r"holds rows and no pairs.*\nhint: leave out --tokenizer"):
        check_rows(dataset, tokenizer=tokenizer)


def test_two_sides_with_one_prompt_and_two_answers_are_found_in_their_pairs(pairs, tmp_path):
    rows = list(read_rows(pairs))
    rows[2] |= {name: rows[0][name] for name in ("clean_prompt", "clean_query", "clean_style", "clean_roles")}
    rows[2]["clean_sql_statement"] = rows[1]["clean_sql_statement"]
    audit = check_rows(lines(tmp_path / "pairs.jsonl", rows), duckdb=False)
    [found] = audit.findings["one right answer"]
    assert found == "pair 2, clean: pair 0, clean has this prompt and another SQL"


def call(*words):
    parser = argparse.ArgumentParser()
    add_review(parser.add_subparsers())
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.call(arguments)


def test_what_cannot_be_compared_is_found_out_before_the_audit(dataset, tmp_path, capsys):
    with pytest.raises(InputError, match="does not exist"):
        call("check", dataset, "--against", tmp_path / "none", "--workers", 1)
    published = lines(tmp_path / "rows.jsonl", [{"english_prompt": "a", "command_set": 1}])
    for words in ((published, "--against", dataset), (dataset, "--against", published)):
        with pytest.raises(InputError, match="row 0 has no column 'prompt'"):
            call("check", *words, "--workers", 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["report.json", "none/x", "data/new.json", "link/config.json", "/dev/null"])
def test_a_report_that_cannot_be_written_is_refused_before_the_audit(name, dataset, tmp_path, capsys):
    (tmp_path / "report.json").write_text("mine")
    (tmp_path / "link").symlink_to(dataset)
    out = dataset / "new.json" if name == "data/new.json" else tmp_path / name
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    words = ["check", dataset, "--engines", "sqlite", "--workers", 1, "--out", out]
    with pytest.raises(InputError, match=r"output `|cannot write `"):
        call(*words, *(["--overwrite"] if name != "report.json" else []))
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "report.json").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before


def test_a_report_is_written_and_replaces_another_when_told(dataset, tmp_path):
    words = [
        "check",
        dataset,
        "--rows",
        2,
        "--engines",
        "sqlite",
        "--workers",
        1,
        "--out",
        tmp_path / "r.json",
    ]
    assert call(*words) == 0
    (tmp_path / "r.json").write_text("{}")
    assert call(*words, "--overwrite") == 0
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 2


def test_pairs_are_counted_and_compared_side_by_side(dataset, pairs, tmp_path, capsys):
    assert call("stats", pairs, "--json") is None
    told = json.loads(capsys.readouterr().out)
    assert {name: one["rows"] for name, one in told.items()} == {"cs2": 6}
    assert call("check", pairs, "--against", dataset, "--rows", 2, "--engines", "sqlite", "--workers", 1) == 0
    assert "4 rows against 24 of the reference" in capsys.readouterr().out


def test_importing_the_reviews_loads_nothing_that_is_heavy():
    names = ("audit", "check", "hashes", "leakage", "rows", "stats")
    code = f"import sys, {', '.join(f'data_gen.review.{name}' for name in names)}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "sqlglot", "duckdb", "tokenizers", "torch"} & set(told.split())


def test_published_columns_are_counted_and_compared_once_they_are_imported(dataset, tmp_path, capsys):
    published = export_dataset(dataset, tmp_path / "p.jsonl", format="jsonl", columns="published")
    for words in (("stats", published), ("check", dataset, "--against", published, "--workers", 1)):
        with pytest.raises(InputError, match="no column 'prompt'\nhint: .*`tinysql data import`"):
            call(*words)
    call("import", published, "--out", tmp_path / "ours.parquet")
    capsys.readouterr()
    call("stats", tmp_path / "ours.parquet", "--json")
    assert sum(one["rows"] for one in json.loads(capsys.readouterr().out).values()) == 24
    words = ["check", dataset, "--against", tmp_path / "ours.parquet", "--rows", 2]
    call(*words, "--engines", "sqlite", "--workers", 1)
    assert "2 rows against 24 of the reference" in capsys.readouterr().out
