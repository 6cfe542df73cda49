"""Hostile SQL -> a reason, quickly and within bounds."""

import resource
import sqlite3
import time

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.query import Query, SelectItem
from data_gen.run import sqlite
from data_gen.run.database import open_database, run_sql
from data_gen.run.filling import fill
from data_gen.run.grade import grade
from data_gen.schema import Column, Schema, Table

SCHEMA = Schema((Table("orders", (Column("price", "REAL"), Column("name", "TEXT"))),))
DATABASE = fill(Query(command_set="cs1", schema=SCHEMA, table="orders", select=(SelectItem("price"),)), 0)
EXAMPLE = next(e for e in make_examples(DataConfig(command_sets=("cs2",)), 0, 50) if e.query.order_by)

RECURSIVE = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT {} FROM x"
JOIN = ", ".join(f"orders o{i}" for i in range(9))
LONG = "a" * 600

HOSTILE = {
    "nothing": "",
    "a comment": "--",
    "two statements": "SELECT 1; SELECT 2",
    "a hidden DROP": "SELECT price FROM orders; DROP TABLE orders",
    "PRAGMA": "PRAGMA query_only = OFF",
    "PRAGMA as a table": "SELECT * FROM pragma_table_info('orders')",
    "ATTACH": "ATTACH DATABASE '{path}' AS other",
    "VACUUM INTO": "VACUUM INTO '{path}'",
    "INSERT": "INSERT INTO orders VALUES (1, 'a')",
    "UPDATE": "UPDATE orders SET price = 0",
    "DELETE": "DELETE FROM orders",
    "DROP": "DROP TABLE orders",
    "CREATE": "CREATE TABLE other (a)",
    "a temporary table": "CREATE TEMP TABLE other AS SELECT * FROM orders",
    "a virtual table": "CREATE VIRTUAL TABLE other USING fts5(a)",
    "a transaction": "BEGIN EXCLUSIVE",
    "a savepoint": "SAVEPOINT a",
    "system tables": "SELECT * FROM sqlite_master",
    "table functions": "SELECT * FROM json_each('[1]')",
    "endless recursion": RECURSIVE.format("n"),
    "endless counting": RECURSIVE.format("count(*)"),
    "a join of nine": f"SELECT count(*) FROM {JOIN}",
    "a sorted join of nine": f"SELECT o0.name FROM {JOIN} ORDER BY o8.rowid, o7.rowid",
    "a distinct join of nine": f"SELECT DISTINCT o0.rowid + 99 * o1.rowid + 9999 * o2.rowid FROM {JOIN}",
    "a ladder of names": "WITH a AS (SELECT 1 x), "
    + ", ".join(
        f"b{i} AS (SELECT u.x FROM {'a' if i == 0 else f'b{i - 1}'} u, {'a' if i == 0 else f'b{i - 1}'} v)"
        for i in range(40)
    )
    + " SELECT x FROM b39",
    "zeroblob": "SELECT zeroblob(1000000000)",
    "randomblob": "SELECT randomblob(1000000000)",
    "printf": "SELECT printf('%.*c', 1000000000, 'x')",
    "hex": "SELECT hex(hex(name)) FROM orders",
    "replace": "SELECT replace(name, 'a', name) FROM orders",
    "group_concat": "SELECT group_concat(name) FROM orders",
    "load_extension": "SELECT load_extension('{path}')",
    "doubling": f"SELECT x || x FROM (SELECT '{LONG}' AS x)",
    "a long blob": "SELECT x'" + "00" * 1500 + "'",
    "a NUL character": "SELECT price\x00 FROM orders",
    "only NUL": "\x00",
    "a lone surrogate": "SELECT '\ud800'",
    "text that is no UTF-8": "SELECT CAST(x'ff' AS TEXT)",
    "an integer overflow": "SELECT abs(-9223372036854775808)",
    "a megabyte": "a" * 1_000_000,
    "a megabyte of SELECT": "SELECT " + "1, " * 350_000 + "1",
    "deep brackets": "SELECT " + "(" * 1900 + "1" + ")" * 1900,
    "open brackets": "SELECT " + "(" * 3900,
    "deep NOT": "SELECT " + "NOT " * 900 + "1",
    "deep minus": "SELECT " + "- " * 1900 + "1",
    "deep CASE": "SELECT " + "CASE WHEN " * 300 + "1",
    "deep subqueries": "SELECT " + "(SELECT " * 400 + "1" + ")" * 400,
    "deep dots": "SELECT " + "a." * 1900 + "b",
    "many columns": "SELECT " + ", ".join(["1"] * 1000),
    "a long sum": "SELECT " + "1 + " * 60 + "1",
    "many windows": "SELECT "
    + ", ".join(f"max(price)OVER(PARTITION BY price+{i} ORDER BY 1 RANGE 1 PRECEDING)" for i in range(56))
    + " FROM orders",
    "many unions": "SELECT 1" + " UNION SELECT 1" * 200,
    "a long pattern": "SELECT name LIKE '" + "%a" * 100 + "' FROM orders",
    "unbound parameters": "SELECT ?",
    "an open quote": "SELECT '",
    "an emoji": "\N{ROBOT FACE}" * 500,
}


@pytest.mark.parametrize("sql", HOSTILE.values(), ids=HOSTILE)
def test_hostile_sql_is_refused_with_a_reason_and_does_no_harm(sql, tmp_path):
    path = tmp_path / "harm"
    start = time.process_time()
    result = run_sql(DATABASE, sql.replace("{path}", str(path)))
    assert result.error
    assert result.rows == ()
    assert time.process_time() - start < 1
    assert not path.exists()
    assert run_sql(DATABASE, "SELECT price FROM orders").error is None


@pytest.mark.parametrize("sql", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_is_a_failed_grade(sql):
    start = time.process_time()
    result = grade(EXAMPLE, sql)
    right = [result.valid, result.exact, result.tree, result.execution, *result.clauses.values()]
    assert not any(right)
    assert result.error
    assert time.process_time() - start < 1


LIMITED = {
    sqlite3.SQLITE_LIMIT_LENGTH: "doubling",
    sqlite3.SQLITE_LIMIT_COLUMN: "many columns",
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: "a long sum",
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: "many unions",
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: "a long pattern",
}
"""Limit -> SQL that nothing else refuses."""


@pytest.mark.parametrize(("limit", "name"), LIMITED.items(), ids=LIMITED.values())
def test_each_limit_alone_refuses_something(limit, name, monkeypatch):
    assert run_sql(DATABASE, HOSTILE[name]).error
    monkeypatch.setattr(sqlite, "_LIMITS", {one: n for one, n in sqlite._LIMITS.items() if one != limit})
    assert run_sql(DATABASE, HOSTILE[name]).error is None


def test_there_is_a_test_of_each_limit():
    assert set(sqlite._LIMITS) == {*LIMITED, sqlite3.SQLITE_LIMIT_ATTACHED}


def test_writes_and_attaching_fail_even_if_the_authorizer_lets_them_through(tmp_path):
    connection = open_database(DATABASE)
    connection.set_authorizer(None)
    for name in ("INSERT", "UPDATE", "DELETE", "DROP", "CREATE"):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute(HOSTILE[name])
    with pytest.raises(sqlite3.OperationalError, match="too many attached"):
        connection.execute(HOSTILE["ATTACH"].replace("{path}", str(tmp_path / "harm")))
    connection.close()


def test_hostile_sql_does_not_take_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for sql in HOSTILE.values():
        run_sql(DATABASE, sql)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f"{grown} KiB"


def test_values_count_among_the_selects_of_a_statement_with_with():
    names = "a(x) AS (VALUES (1)), b(x) AS (VALUES (2))"
    assert run_sql(DATABASE, f"WITH {names} SELECT x FROM a").rows == ((1,),)
    longer = f"WITH {names}, c(x) AS (VALUES (3)) SELECT x FROM a"
    assert run_sql(DATABASE, longer).error == "more than 3 SELECTs with WITH"


def test_too_many_rows_are_an_error(monkeypatch):
    sql = "SELECT a.price FROM orders a, orders b"
    assert run_sql(DATABASE, sql).error is None
    monkeypatch.setattr(sqlite, "MAX_RESULT_ROWS", 20)
    assert run_sql(DATABASE, sql).error == "more than 20 rows"


def test_a_statement_stops_after_its_steps_wherever_it_runs(monkeypatch):
    monkeypatch.setattr(sqlite, "MAX_STEPS", 1000)
    assert (
        run_sql(DATABASE, "SELECT count(*) FROM orders a, orders b, orders c, orders d").error
        == "interrupted"
    )


def test_a_statement_stops_after_its_seconds(monkeypatch):
    monkeypatch.setattr(sqlite, "MAX_STEPS", 10**12)
    monkeypatch.setattr(sqlite, "SECONDS", 0.05)
    start = time.process_time()
    assert run_sql(DATABASE, HOSTILE["a join of nine"]).error == "interrupted"
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*), max(price), min(name) FROM orders",
        "SELECT upper(name) FROM orders WHERE name LIKE 'a%' ORDER BY length(name)",
        "WITH o AS (SELECT price FROM orders) SELECT avg(price) FROM o",
        "SELECT a.name FROM orders a JOIN orders b ON a.price = b.price",
        "SELECT name FROM orders WHERE price > (SELECT avg(price) FROM orders)",
    ],
)
def test_honest_sql_beyond_the_grammar_runs(sql):
    assert run_sql(DATABASE, sql).error is None
