"""Published rows come back as queries, what is lost has a reason, and our rows go out in the published columns."""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.query import Condition, OrderBy, Query, SelectItem
from data_gen.review.rows import read_rows
from data_gen.schema import Column
from data_gen.store.columns import COLUMNS
from data_gen.store.published import UNKNOWN, import_rows, published_rows, read_published


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A row in the published layout, with its double spaces and its synonyms."""
    whole = {
        "command_set": number,
        "table_name": "harbors",
        "table_name_synonym": "ports",
        "table_name_use_synonym": True,
        "create_statement": "CREATE TABLE harbors ( depth SMALLINT, fee DECIMAL(10,2), opened TIMESTAMP )",
        "english_prompt": "Pull fee and depth from ports  top opened",
        "sql_statement": "SELECT fee, depth FROM harbors ORDER BY opened DESC",
        "table_fields": "[]",
        "select": '[{"name": "fee", "aggregate": ""}, {"name": "depth", "aggregate": ""}]',
        "order_by": '[{"name": "opened", "asc": false}]',
    }
    return {**whole, **changes}


def stated(sql: str, number: int = 2, **changes: Any) -> dict[str, Any]:
    """A row without the columns that repeat the SQL."""
    return row(number, sql_statement=sql, table_name=None, select=None, order_by=None, **changes)


def examples(name: str, n: int = 60) -> list[Example]:
    return list(make_examples(DataConfig(command_sets=(name,), variant="syn"), 0, n))


def test_a_row_gives_the_query_that_its_sql_states() -> None:
    [found] = read_published([row(2)]).rows
    assert found.query.select == (SelectItem("fee"), SelectItem("depth"))
    assert found.query.order_by == (OrderBy("opened", "DESC"),)
    assert found.query.table == "harbors"
    assert found.query.command_set == "cs2"


def test_where_comes_back_with_its_values() -> None:
    sql = "SELECT fee FROM harbors WHERE opened >= '2009-05-17' AND depth = 40  "
    [found] = read_published([stated(sql, 4)]).rows
    assert found.query.where == (
        (Condition(column="opened", operator=">=", values=("2009-05-17",)),),
        (Condition(column="depth", operator="=", values=(40,)),),
    )


def test_cs3_is_known_by_its_aggregates_because_it_was_published_as_cs2() -> None:
    sql = "SELECT SUM(fee) AS SUM_fee, COUNT(opened) AS COUNT_opened FROM harbors "
    [found] = read_published([stated(sql, 2)]).rows
    assert found.query.command_set == "cs3"
    assert [item.aggregate for item in found.query.select] == ["SUM", "COUNT"]


def test_types_are_mapped_to_ours_and_counted() -> None:
    found = read_published([row(2), row(2)])
    columns = found.rows[0].query.schema.tables[0].columns
    assert columns == (Column("depth", "INTEGER"), Column("fee", "DECIMAL"), Column("opened", "DATE"))
    assert found.mapped == {"SMALLINT -> INTEGER": 2, "TIMESTAMP -> DATE": 2}


TYPES = {
    "INTEGER": "INTEGER SMALLINT TINYINT(1) SERIAL YEAR",
    "BIGINT": "BIGINT BIGSERIAL",
    "REAL": "REAL FLOAT",
    "DOUBLE": "DOUBLE",
    "DECIMAL": "DECIMAL DECIMAL(10,2) NUMERIC(5,2)",
    "TEXT": "TEXT MEDIUMTEXT LONGTEXT",
    "VARCHAR": "VARCHAR VARCHAR(255) CHAR(2)",
    "DATE": "DATE DATETIME TIMESTAMP",
    "BOOLEAN": "BOOLEAN",
    None: "TIME INTERVAL JSON JSONB BLOB BYTEA BINARY UUID INET ENUM POINT POLYGON GEOMETRY",
}
"""Ours -> the published types that mean it; under None those that nothing of ours means."""


@pytest.mark.parametrize("ours", TYPES)
def test_every_published_type_is_one_of_ours_or_loses_the_row(ours: str | None) -> None:
    for written in TYPES[ours].split():
        create = f"CREATE TABLE harbors ( fee {written}, depth INTEGER )"
        found = read_published([stated("SELECT depth FROM harbors", 1, create_statement=create)])
        assert [one.query.schema.tables[0].columns[0].type for one in found.rows] == ([ours] if ours else [])
        assert found.lost == ({} if ours else {f"column type {written} has no equivalent": 1})


def test_the_question_keeps_its_spelling_and_has_one_unknown_role() -> None:
    [found] = read_published([row(2)]).rows
    assert found.english.string == "Pull fee and depth from ports  top opened"
    roles = dict.fromkeys(role for _, _, role in found.text.spans)
    assert [role for role in roles if role.startswith("english")] == [UNKNOWN]
    assert {"schema.columns.1.name", "sql.select.0.column", "sql.order_by.0.direction"} <= set(roles)
    assert found.text.string == f"{found.prompt.string} {found.sql.string}"
    assert "(10,2)" not in found.prompt.string


def test_a_row_that_ours_would_space_otherwise_is_counted() -> None:
    spaced = row(2, sql_statement="SELECT fee, depth FROM harbors  ORDER BY opened DESC")
    found = read_published([row(2), spaced])
    assert found.rows[0].query == found.rows[1].query
    assert found.respelled == 1


JOINED = "SELECT fee FROM harbors JOIN ships ON harbors.depth = ships.draught"
LOSSES = {
    "column type POINT has no equivalent": row(
        create_statement="CREATE TABLE harbors ( fee INTEGER, place POINT )"
    ),
    "create_statement lacks the joined table": stated(JOINED, 5),
    "a table is joined with itself without an alias": stated(JOINED.replace("ships", "harbors"), 5),
    "a bare column stands beside an aggregate without GROUP BY": stated(
        "SELECT depth, MAX(fee) AS MAX_fee FROM harbors", 3
    ),
    "ORDER BY of an answer that has one row": stated(
        "SELECT MAX(fee) AS MAX_fee FROM harbors ORDER BY depth ASC", 3
    ),
    "the SQL does not parse": stated("SELECT fee depth opened FROM FROM"),
    "the SQL is outside the grammar of its command set, or names what its schema lacks": stated(
        "SELECT crane FROM harbors"
    ),
    "`table_name`, `select` or `order_by` contradicts the SQL": row(
        2, order_by='[{"name": "opened", "asc": true}]'
    ),
    "`table_fields`, `select` or `order_by` is not the published JSON": row(2, select='{"name": '),
    "create_statement is not CREATE TABLE with names and types alone": row(
        create_statement="DROP TABLE harbors"
    ),
    "create_statement has one name twice, or a table without columns": row(
        create_statement="CREATE TABLE harbors ( fee FLOAT, FEE FLOAT )"
    ),
    "command_set is none of the published ones, 1 to 5": row(77),
    "the row has no `sql_statement`": row(sql_statement=None),
    "the row has no `english_prompt`": row(2, english_prompt=None),
    "english_prompt has a NUL character": row(2, english_prompt="Pull fee\0 and depth"),
}


@pytest.mark.parametrize("reason", LOSSES)
def test_a_lost_row_is_counted_once_under_its_reason(reason: str) -> None:
    found = read_published([row(2), LOSSES[reason]])
    assert found.lost == {reason: 1}
    assert len(found.rows) == 1
    assert f"1 lost: {reason}" in str(found)


NOT_THE_JSON = [
    "[{}]",
    "[7]",
    "{}{",
    "7",
    '["name"]',
    '[{"name": [1], "type": "TEXT"}]',
    "[" * 100_000,
    ["a"],
    "\ud800",
]


@pytest.mark.parametrize("column", ["table_fields", "select", "order_by"])
def test_json_that_is_not_the_published_one_loses_its_row_alone(column: str) -> None:
    for wrong in NOT_THE_JSON:
        found = read_published([row(2, **{column: wrong}), row(2)])
        assert len(found.rows) == 1
        [reason] = found.lost
        assert "`select` or `order_by`" in reason


@pytest.mark.parametrize("name", ["cs9", "cs10"])
def test_columns_that_state_a_cte_or_a_window_agree_with_the_sql(name: str) -> None:
    lost = read_published(published_rows(examples(name))).lost
    assert "`table_name`, `select` or `order_by` contradicts the SQL" not in lost


LONG = {
    "commas": "CREATE TABLE t ( " + ", " * 50_000 + ")",
    "brackets": "CREATE TABLE t ( " + "(),)" * 25_000 + ")",
    "spaces": "CREATE TABLE t ( fee INTEGER" + " " * 100_000 + "! )",
    "columns": "CREATE TABLE t ( " + "a TEXT, " * 100_000 + "b TEXT )",
}


@pytest.fixture
def no_collections() -> Iterator[None]:
    """In the whole suite a collection of garbage walks what all tests have made, and takes most of a second."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("kind", LONG)
def test_a_long_create_statement_takes_time_in_proportion_to_its_length(kind: str) -> None:
    # It takes at most .9 s. To search what is left once for each of 100,000 columns takes 15 s, by the quickest search.
    begun = time.process_time()
    assert not read_published([row(2, create_statement=LONG[kind])]).rows
    assert time.process_time() - begun < 5


def test_a_recovered_row_knows_its_place_among_the_given_ones() -> None:
    found = read_published([row(2, sql_statement=None), row(2)])
    assert [one.index for one in found.rows] == [1]


@pytest.mark.parametrize("name", ["cs1", "cs2", "cs3", "cs4", "cs5"])
def test_what_was_exported_is_imported_whole(name: str) -> None:
    ours = examples(name)
    found = read_published(published_rows(ours))
    assert not found.lost
    assert not found.mapped
    assert [one.english.string for one in found.rows] == [one.english.string for one in ours]
    # Where no aggregate was drawn, CS3 cannot be told from CS2.
    without_name = [one.query.to_json().replace('"cs2"', f'"{name}"') for one in found.rows]
    assert without_name == [one.query.to_json() for one in ours]


@pytest.mark.parametrize("name", ["cs1", "cs2", "cs3"])
def test_every_word_of_the_sql_is_one_that_the_published_columns_tell(name: str) -> None:
    # What the published scorer takes points off for; it knows no GROUP BY.
    seen = 0
    for one in published_rows(examples(name, 200)):
        if "GROUP BY" in one["sql_statement"]:
            continue
        known = {"SELECT", "AS", "FROM", "ORDER", "BY", "ASC", "DESC", one["table_name"].upper()}
        for field in json.loads(one["select"]):
            function, column = field["aggregate"], field["name"]
            spelled = [f"{function}({column})", f"{function}_{column}"] if function else [column]
            known.update(word.upper() for word in spelled)
        known.update(key["name"].upper() for key in json.loads(one["order_by"] or "[]"))
        assert {word.strip(",") for word in one["sql_statement"].upper().split()} <= known
        assert (one["order_by"] is None) == (name == "cs1")
        seen += 1
    assert seen > 50


def test_exported_columns_have_the_published_shapes() -> None:
    [one] = published_rows(examples("cs3", 1))
    assert list(one) == list(row())
    assert one["command_set"] == 3
    shapes = {"table_fields": "name type", "select": "name aggregate", "order_by": "name asc"}
    for column, keys in shapes.items():
        expected = set(keys.split()) | (set() if column == "order_by" else {"synonym", "use_synonym"})
        assert all(set(field) == expected for field in json.loads(one[column]))


def test_a_set_with_switches_cannot_be_exported() -> None:
    with pytest.raises(InputError, match="`cs4-where` has no number"):
        list(published_rows(examples("cs4-where", 1)))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_imported_rows_have_the_columns_of_a_dataset_of_ours(tmp_path: Path, format: str) -> None:
    fields = '[{"name": "fee", "type": "DECIMAL(10,2)", "synonym": "toll", "use_synonym": false}]'
    given = written(tmp_path / "given.jsonl", [row(77), row(2, table_fields=fields)])
    report = import_rows(given, tmp_path / f"ours.{format}", format=format)
    assert str(report).splitlines()[0] == "1 of 2 rows recovered (50.0%)"
    [one] = read_rows(tmp_path / f"ours.{format}")
    [recovered] = read_published([row(2)]).rows
    assert set(one) == set(COLUMNS)
    assert one["index"] == 1
    assert Query.from_json(one["query"]) == recovered.query
    assert [tuple(span.values()) for span in one["roles"]] == list(recovered.text.spans)
    assert f"{one['prompt']} {one['sql_statement']}" == recovered.text.string
    assert json.loads(one["table_fields"])[0] == {
        "name": "fee",
        "type": "DECIMAL",
        "synonym": "toll",
        "use_synonym": False,
    }
    assert [one[name] for name in ("style", "variant", "split", "seed")] == [None] * 4


def test_a_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    given, out = written(tmp_path / "given.jsonl", [row(2)]), tmp_path / "ours.parquet"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        import_rows(given, out)
    assert out.read_text() == "mine"
    import_rows(given, out, overwrite=True)
    assert len(list(read_rows(out))) == 1


def test_an_import_never_replaces_what_it_reads(tmp_path: Path) -> None:
    given = written(tmp_path / "given.jsonl", [row(2)])
    (tmp_path / "link").symlink_to(given)
    before = given.read_text()
    for source, out in ((given, given), (given, tmp_path / "link"), (tmp_path, tmp_path / "ours.parquet")):
        with pytest.raises(InputError, match="would replace what is read from"):
            import_rows(source, out, overwrite=True)
    assert given.read_text() == before


def test_nothing_is_written_where_nothing_is_recovered(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be recovered"):
        import_rows(written(tmp_path / "given.jsonl", [row(77)]), tmp_path / "ours.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["given.jsonl"]
