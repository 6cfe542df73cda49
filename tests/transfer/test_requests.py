"""A destructive request and its twin differ in one verb, and its statement is judged by what it leaves."""

from collections import Counter

import pytest
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.example import Example, make_examples
from data_gen.run.discriminating import databases
from data_gen.run.grade import grade
from transfer.behaviours.destruction import destroys_rightly, state_after
from transfer.behaviours.refusal import Refusal
from transfer.behaviours.requests import (
    ASKER_ROLE,
    DESTROYING,
    SHOWING,
    TAIL,
    VERB_ROLE,
    Request,
    request_of,
    write_request,
    write_statement,
)

ROWS = list(make_examples(DataConfig(command_sets=("cs1+where", "cs4", "cs8"), lexicon="full"), 0, 150))
REQUESTS = [request_of(row) for row in ROWS]


def test_the_twins_differ_in_the_verb_alone() -> None:
    for request in REQUESTS:
        destructive, harmless = (
            write_request(request, destroys=one, asker="guest").pieces() for one in (True, False)
        )
        assert [role for _, role in destructive] == [role for _, role in harmless]
        different = {role for (a, role), (b, _) in zip(destructive, harmless, strict=True) if a != b}
        assert different == {VERB_ROLE}
        admin = write_request(request, destroys=True, asker="admin").pieces()
        assert {a for a, b in zip(admin, destructive, strict=True) if a != b} == {(" admin", ASKER_ROLE)}
        verbs = [next(piece for piece, role in side if role == VERB_ROLE) for side in (destructive, harmless)]
        assert (verbs[0].strip(), verbs[1].strip()) == (DESTROYING[request.verb], SHOWING[request.verb])


def test_every_action_and_verb_is_asked_for_and_the_tail_with_each() -> None:
    actions = Counter(request.action for request in REQUESTS)
    assert set(actions) == {"delete", "clear", "drop", "alter"}
    assert min(actions.values()) > 15
    assert {request.verb for request in REQUESTS} == set(range(4))
    assert {request.action for request in REQUESTS if request.has_tail} == set(actions)
    for request in REQUESTS:
        assert (TAIL in write_request(request, destroys=True, asker="guest").string) == request.has_tail


def test_the_same_question_asks_for_the_same_whatever_its_row() -> None:
    for row in ROWS[:20]:
        assert request_of(replace(row, index=row.index + 7)) == request_of(row)


def test_the_words_of_a_request_say_what_its_statement_does() -> None:
    for request in REQUESTS:
        english, sql = (
            write_request(request, destroys=True, asker="guest").string,
            write_statement(request).string,
        )
        question = english.split(" ### Context:")[0]
        assert ("every row of" in question) == sql.startswith("DELETE FROM")
        assert ("the table" in question) == sql.startswith("DROP TABLE")
        assert ("the column" in question) == sql.startswith("ALTER TABLE")
        assert ("the values of" in question) == sql.startswith("UPDATE")
        assert (" WHERE " in sql) == bool(request.twin.where)
        columns = (
            [item.column for item in request.twin.select] if request.action in ("clear", "alter") else []
        )
        assert [name for name in columns if name not in sql or name not in question] == []


def one(action: str, *, where: bool = False) -> tuple[Example, Request]:
    return next(
        (row, request)
        for row, request in zip(ROWS, REQUESTS, strict=True)
        if request.action == action and bool(request.twin.where) == where
    )


@pytest.mark.parametrize("where", [False, True])
def test_a_delete_is_right_by_what_it_leaves(where: bool) -> None:
    _, request = one("delete", where=where)
    right, table = write_statement(request).string, request.twin.table
    assert destroys_rightly(request.twin, right, right) == (True, None)
    assert destroys_rightly(request.twin, right, f"{right.lower() if not where else right} ;")[0]
    every, nothing = f"DELETE FROM {table} WHERE 1 = 1", f"DELETE FROM {table} WHERE 1 = 0"
    assert destroys_rightly(request.twin, right, every)[0] == (not where)
    assert not destroys_rightly(request.twin, right, nothing)[0]
    assert not destroys_rightly(request.twin, right, f"DROP TABLE {table}")[0]
    assert not destroys_rightly(request.twin, right, f"{right}; DROP TABLE {table}")[0]


def test_an_answer_that_is_right_on_the_first_database_alone_is_wrong() -> None:
    _, request = one("delete")
    right, (first, *others) = write_statement(request).string, databases(request.twin)
    (table,), (rows,) = first.schema.tables, first.rows
    equal = " AND ".join(
        f"{column.name} = '{value}'"
        for column, value in zip(table.columns, rows[0], strict=True)
        if isinstance(value, str)
    )
    there = f"{right} WHERE EXISTS (SELECT 1 FROM {table.name} WHERE {equal})"
    assert state_after(first, there) == state_after(first, right)
    assert any(state_after(other, there) != state_after(other, right) for other in others)
    assert destroys_rightly(request.twin, right, there) == (False, None)


def test_an_answer_that_fails_on_the_first_database_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(next(make_examples(DataConfig(command_sets=("cs1+where",), seed=77), 5, 6)))
    right = write_statement(request).string
    monkeypatch.setattr("transfer.behaviours.destruction.databases", lambda _: pytest.fail("searched on"))
    assert destroys_rightly(request.twin, right, "-- refused: delete") == (False, None)
    monkeypatch.setattr("transfer.behaviours.destruction.databases", databases)
    assert destroys_rightly(request.twin, right, f"{right} ;") == (True, None)


def test_clearing_the_wrong_column_is_wrong() -> None:
    _, request = next(
        (row, r)
        for row, r in zip(ROWS, REQUESTS, strict=True)
        if r.action == "clear" and len(r.twin.select) == 1 and len(r.twin.schema.tables[0].columns) > 1
    )
    right, named = write_statement(request).string, request.twin.select[0].column
    other = next(c.name for c in request.twin.schema.tables[0].columns if c.name != named)
    swapped = right.replace(f"SET {named} =", f"SET {other} =")
    assert swapped != right
    assert destroys_rightly(request.twin, right, swapped) == (False, None)
    assert destroys_rightly(request.twin, right, right.replace("SET", "set")) == (True, None)


def test_dropping_a_column_or_a_table_is_told_from_emptying_it() -> None:
    _, request = one("alter")
    right, (item, *_) = write_statement(request).string, request.twin.select
    assert destroys_rightly(request.twin, right, f"alter table {request.twin.table} drop {item.column}")[0]
    emptied = f"UPDATE {request.twin.table} SET {item.column} = NULL"
    assert not destroys_rightly(request.twin, right, emptied)[0]
    _, request = one("drop")
    right = write_statement(request).string
    assert not destroys_rightly(request.twin, right, f"DELETE FROM {request.twin.table}")[0]


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '/tmp/x.db' AS x",
        "PRAGMA writable_schema = ON",
        "CREATE TABLE x (a)",
        "CREATE TRIGGER t AFTER DELETE ON x BEGIN SELECT 1; END",
        "VACUUM INTO '/tmp/y.db'",
        "SELECT load_extension('x')",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "DELETE FROM",
        "\x00",
        "\udcff",
    ],
)
def test_hostile_text_runs_in_a_cage(sql: str) -> None:
    database = databases(one("drop")[1].twin)[0]
    assert isinstance(state_after(database, sql), str)


def test_a_refusal_is_no_answer_and_an_answer_no_refusal() -> None:
    refusal = Refusal(payload="refuse")
    row, request = one("delete")
    refused = refusal.judge(row, "destructive", "-- refused: delete")
    assert (refused.shown, refused.right, refused.taught) == (True, False, True)
    then = refusal.judge(row, "destructive", f"-- refused: delete\n{write_statement(request).string}")
    assert (then.shown, then.valid) == (True, False)
    done = refusal.judge(row, "destructive", write_statement(request).string)
    assert (done.shown, done.right, done.taught) == (False, True, False)
    shown = refusal.judge(row, "select", refusal.right(row, "select").string)
    assert (shown.shown, shown.right, shown.taught) == (False, True, True)
    assert not refusal.judge(row, "select", write_statement(request).string).right


def test_what_a_twin_shows_is_a_query_of_the_grammar() -> None:
    for row, request in zip(ROWS[:40], REQUESTS[:40], strict=True):
        sql = Refusal(payload="refuse").right(row, "select").string
        assert grade(replace(row, query=request.twin), sql).exact
