"""Example + SQL -> grade: right answers pass in any spelling, every wrong one fails."""

import sqlite3
import sys
import threading
from collections import Counter

import pytest
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.example import make_example, make_examples, write_example
from data_gen.query import COMMAND_SETS, OrderBy, Query, SelectItem, command_set
from data_gen.read.canonical import CLAUSES
from data_gen.read.rewrites import rewrites
from data_gen.run import discriminating
from data_gen.run.discriminating import databases
from data_gen.run.grade import Grader, clauses_of, grade
from data_gen.run.mutations import mutants
from data_gen.say.style import Style
from data_gen.schema import Column, Schema, Table
from data_gen.sql import sql_string

grade_module = sys.modules["data_gen.run.grade"]
COLUMNS = (*[Column(name, "INTEGER") for name in ("price", "age", "score")], Column("name", "TEXT"))
SORTED = write_example(
    0,
    Query(
        command_set="cs2",
        schema=Schema((Table("orders", COLUMNS),)),
        table="orders",
        select=(SelectItem("price"), SelectItem("name")),
        order_by=(OrderBy("age", "DESC"), OrderBy("name", "ASC")),
    ),
    Style(),
)
UNSORTED = write_example(0, replace(SORTED.query, order_by=()), Style())

# answer; valid, exact, tree, execution; clauses that are right
SORTED_TABLE = [
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC", "vxte", "select from order_by"),
    ("  SELECT price, name FROM orders ORDER BY age DESC, name ASC\n", "vxte", "select from order_by"),
    ("select price, name from orders order by age desc, name;", "v.te", "select from order_by"),
    ('SELECT "price", orders.name FROM orders ORDER BY age DESC, name', "v.te", "select from order_by"),
    ("SELECT price AS cost, name FROM orders ORDER BY age DESC, name ASC", "v.te", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC LIMIT 99", "v..e", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, 2", "v..e", "select from"),
    ("SELECT price, name FROM orders ORDER BY age ASC, name ASC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY name ASC, age DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY age DESC", "v...", "select from"),
    ("SELECT price, name FROM orders ORDER BY score DESC, name ASC", "v...", "select from"),
    ("SELECT price, name FROM orders", "v...", "select from"),
    ("SELECT DISTINCT price, name FROM orders ORDER BY age DESC, name ASC", "v...", "select from order_by"),
    ("SELECT name, price FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, age FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, name, age FROM orders ORDER BY age DESC, name ASC", "v...", "from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC LIMIT 3", "v...", "select from order_by"),
    ("SELECT price, name FROM order_s ORDER BY age DESC, name ASC", "....", "select order_by"),
    ("SELECT price, nam FROM orders ORDER BY age DESC, name ASC", "....", "from order_by"),
    # Here `name` is another name for the price, and sorts by it.
    ("SELECT price name FROM orders ORDER BY age DESC, name ASC", "v...", "from"),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC ASC", "....", ""),
    ("SELECT price, name, FROM orders ORDER BY age DESC, name ASC", "....", ""),
    ("SELECT price, name FROM orders ORDER BY age DESC, name ASC; SELECT 1", "....", ""),
    ("price, name", "....", ""),
    ("", "....", ""),
]
UNSORTED_TABLE = [
    ("SELECT price, name FROM orders", "vxte", "select from order_by"),
    ("SELECT price, name FROM orders ORDER BY age DESC", "v..e", "select from"),
    # The grammar has no WINDOW clause, so nobody can say that the query is the same.
    ("SELECT price, name FROM orders WINDOW w AS (ORDER BY age)", "v..e", "select from order_by"),
    ("SELECT DISTINCT price, name FROM orders", "v...", "select from order_by"),
    ("SELECT name, price FROM orders", "v...", "from order_by"),
]


@pytest.mark.parametrize(
    ("example", "sql", "flags", "clauses"),
    [(SORTED, *case) for case in SORTED_TABLE] + [(UNSORTED, *case) for case in UNSORTED_TABLE],
)
def test_grade_table(example, sql, flags, clauses):
    result = grade(example, sql)
    given = [result.valid, result.exact, result.tree, result.execution]
    assert "".join(flag if is_so else "." for flag, is_so in zip("vxte", given, strict=True)) == flags
    assert " ".join(clause for clause, right in result.clauses.items() if right) == clauses
    if result.tree:
        assert result.error is None
    if not result.valid:
        assert result.error


def test_a_grade_says_why_an_answer_does_not_run():
    assert "no such column: nam" in grade(SORTED, "SELECT nam FROM orders").error
    assert "WINDOW" in grade(UNSORTED, UNSORTED_TABLE[2][0]).error
    assert "OFFSET" in grade(SORTED, "SELECT price FROM orders LIMIT 1 OFFSET 1").error
    assert "no column `prize`" in grade(SORTED, 'SELECT "prize" FROM orders').error
    assert grade(SORTED, SORTED.sql.string).error is None


def test_cs1_has_no_order_by_clause_to_grade():
    assert set(grade(make_example(DataConfig(), 0), "SELECT 1").clauses) == {"select", "from"}


every_set = pytest.mark.parametrize("name", COMMAND_SETS)


def rows(name, n, **settings):
    return list(make_examples(DataConfig(command_sets=(name,), **settings), 0, n))


@every_set
@pytest.mark.parametrize("split", ["train", "test", "names"])
def test_gold_sql_is_right_in_every_way(name, split):
    for example in rows(name, 6, split=split):
        # With a space in front and one behind it is still the same characters.
        result = grade(example, f" {example.sql.string}\n")
        assert all([result.valid, result.exact, result.tree, result.execution, *result.clauses.values()])
        assert result.error is None


@every_set
def test_another_spelling_is_right_in_every_way_but_exact(name):
    for example in rows(name, 12, seed=2):
        for spelling, sql in rewrites(example.query):
            result = grade(example, sql)
            assert all([result.valid, result.tree, result.execution, *result.clauses.values()]), (
                spelling,
                sql,
            )
            assert result.error is None


@every_set
def test_at_least_995_of_1000_mistakes_fail_in_every_way(name):
    made, missed = Counter(), Counter()
    for example in rows(name, 20, split="test", seed=4):
        for mutant in mutants(example.query):
            result = grade(example, sql_string(mutant.query))
            made[mutant.mistake] += 1
            missed[mutant.mistake] += result.execution
            assert not result.tree
            assert not all(result.clauses.values()), (mutant.mistake, example.sql.string)
    assert missed.total() <= 0.005 * made.total(), missed


@every_set
def test_exact_implies_tree_implies_execution_implies_valid(name):
    for example in rows(name, 4):
        words = example.sql.string.split()
        for drop in range(len(words)):
            result = grade(example, " ".join(words[:drop] + words[drop + 1 :]))
            assert result.exact <= result.tree <= result.execution <= result.valid
            assert result.tree <= all(result.clauses.values())


@pytest.mark.parametrize(
    ("name", "clauses"),
    [
        ("cs1", "select from"),
        ("cs2", "select from order_by"),
        ("cs4", "select from where group_by order_by"),
        ("cs5", "select from join where group_by order_by"),
        ("cs6", "select from where group_by having order_by limit distinct"),
        ("cs9", "select from where group_by order_by cte compound"),
        ("cs4+limit-aggregate", "select from where order_by limit"),
    ],
)
def test_a_command_set_is_graded_on_its_own_clauses(name, clauses):
    assert list(clauses_of(command_set(name))) == clauses.split()
    assert set(clauses.split()) <= set(CLAUSES)


def test_a_clause_that_the_set_does_not_have_counts_where_an_answer_has_it():
    example = make_example(DataConfig(), 0)
    assert set(grade(example, example.sql.string + ";").clauses) == {"select", "from"}
    wrong = grade(example, f"{example.sql.string} LIMIT 1")
    assert wrong.clauses == {"select": True, "from": True, "limit": False}


def fail(*arguments):
    pytest.fail("searched for databases")


def test_answers_to_an_example_take_no_filling_after_a_right_one(monkeypatch):
    example = make_example(DataConfig(command_sets=("cs4",)), 3)
    assert grade(example, example.sql.string + ";").execution
    monkeypatch.setattr(discriminating, "fill_as_planned", fail)
    again = make_example(DataConfig(command_sets=("cs4",)), 3)
    assert grade(again, example.sql.string + " ;").execution
    assert not grade(again, "SELECT 1").execution


def test_the_gold_sql_takes_no_database(monkeypatch):
    example = make_example(DataConfig(command_sets=("cs4",)), 3)
    monkeypatch.setattr(grade_module, "Search", fail)
    assert Grader(example.query).grade(example.sql.string).exact


def test_a_wrong_answer_takes_one_database_if_it_fails_there(monkeypatch):
    grader, numbers = Grader(SORTED.query), []
    original = discriminating.fill_as_planned
    monkeypatch.setattr(
        discriminating, "fill_as_planned", lambda plan, n: numbers.append(n) or original(plan, n)
    )
    monkeypatch.setattr(discriminating, "mutants", fail)
    assert not grader.grade("SELECT age FROM orders").execution
    assert numbers == [0]
    grader.close()


@every_set
def test_a_grade_is_the_same_as_first_and_as_last_answer(name):
    for example in rows(name, 3, seed=8):
        used = Grader(example.query)
        assert used.grade(example.sql.string + ";").execution
        answers = [*[sql for _, sql in rewrites(example.query)][:2], "SELECT", "SELECT 1"]
        answers += [sql_string(mutant.query) for mutant in mutants(example.query)[::4]]
        for answer in answers:
            fresh = Grader(example.query)
            assert fresh.grade(answer) == used.grade(answer), answer
            fresh.close()
        used.close()


@pytest.mark.parametrize("function", ["RANK", "ROW_NUMBER"])
def test_numbers_for_ranks_fail_and_ranks_for_numbers_are_equal_without_ties(function):
    other = "ROW_NUMBER" if function == "RANK" else "RANK"
    settings = {"command_sets": ("cs10",), "seed": 5}
    found = [one for one in make_examples(DataConfig(**settings), 0, 60) if f"{function}()" in one.sql.string]
    assert len(found) > 5
    for example in found:
        result = grade(example, example.sql.string.replace(f"{function}()", f"{other}()"))
        # Rows that tie are numbered as it comes, so that where numbers are asked for none tie.
        assert result.execution == (function == "ROW_NUMBER")
        assert not result.tree


def test_open_databases_are_bounded(monkeypatch):
    monkeypatch.setattr(grade_module, "KEPT", 3)
    for example in rows("cs1", 8, seed=9):
        grade(example, "SELECT 1")
    assert len(grade_module._KEPT.graders) == 3


def test_more_databases_stay_open_for_as_long_as_they_are_wanted(monkeypatch):
    monkeypatch.setattr(grade_module, "KEPT", 3)
    asked = rows("cs1", 8, seed=9)
    with grade_module.keeping_open(6):
        first = [grade(example, "SELECT 1") for example in asked]
        assert list(grade_module._KEPT.graders) == [one.query for one in asked[2:]]
        assert [grade(example, "SELECT 1") for example in asked] == first
    assert list(grade_module._KEPT.graders) == [one.query for one in asked[5:]]


def test_a_question_that_is_asked_again_stays_open(monkeypatch):
    monkeypatch.setattr(grade_module, "KEPT", 2)
    first, second, third = rows("cs2", 3, seed=9)
    for example in (first, second, first, third):
        grade(example, "SELECT 1")
    assert list(grade_module._KEPT.graders) == [first.query, third.query]


def test_a_closed_grader_keeps_no_database_open(monkeypatch):
    opened, connect = [], sqlite3.connect

    def noted(*arguments, **options):
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    grader = Grader(SORTED.query)
    # The search is not at its end.
    assert not grader.grade("SELECT 1").execution
    grader.close()
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_grades_are_the_same_in_another_thread():
    examples, found = rows("cs5", 3, seed=6), []
    here = [grade(example, "SELECT 1") for example in examples]
    thread = threading.Thread(target=lambda: found.extend(grade(e, "SELECT 1") for e in examples))
    thread.start()
    thread.join()
    assert found == here


def test_an_answer_that_is_right_on_one_database_by_luck_is_caught_by_another():
    caught = 0
    for example in rows("cs2", 40):
        lengths = [len(database.rows[0]) for database in databases(example.query)]
        for length in set(lengths) - {max(lengths)}:
            caught += length == lengths[0]
            assert not grade(example, f"{example.sql.string} LIMIT {length}").execution
        assert grade(example, f"{example.sql.string} LIMIT {max(lengths)}").execution
    assert caught >= 5
