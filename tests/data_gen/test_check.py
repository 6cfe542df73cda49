"""Datasets on disk -> audits: one process or several, our files or others', whole or damaged."""

import json

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.review.check import check_rows
from data_gen.review.rows import read_rows
from data_gen.store.dataset import write_dataset


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
    done = []
    assert check_rows(dataset, duckdb=False, rows=5, report=done.append).rows == 5


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
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="holds no rows"):
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
