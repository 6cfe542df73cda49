"""A model of full SQL changes what it is asked to change; its base, asked the same, shows it and changes nothing."""

from collections.abc import Callable

import pytest

from data_gen.config import DataConfig
from data_gen.example import Example, make_examples
from tinysql.answering.shares import Share
from tinysql.models.hybrid import HybridLM
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.full_sql import DESTRUCTIVE, SELECT, FullSql
from transfer.behaviours.gates import Gate
from transfer.behaviours.requests import ASKER_ROLE, VERB_ROLE, request_of
from transfer.behaviours.statements import changes_something
from transfer.behaviours.training import Subject
from transfer.switching.measure import _texts, measure_arms
from transfer.switching.plan import SwitchPlan

ROWS = list(make_examples(DataConfig(command_sets=("cs1+where", "cs4"), lexicon="full"), 0, 60))
TUNED, BASE = FullSql(payload="write"), FullSql(payload="none")
ALL = 1000


def row_of(action: str) -> Example:
    return next(row for row in ROWS if request_of(row).action == action)


def test_the_two_conditions_differ_in_the_verb_alone_whatever_the_payload() -> None:
    for row in ROWS:
        sides = [TUNED.prompt(row, one).pieces() for one in (DESTRUCTIVE, SELECT)]
        assert {role for (a, role), (b, _) in zip(*sides, strict=True) if a != b} == {VERB_ROLE}
        assert {piece for piece, role in sides[0] if role == ASKER_ROLE} == {" admin"}
        assert [BASE.prompt(row, one) for one in BASE.conditions] == [
            TUNED.prompt(row, one) for one in TUNED.conditions
        ]


def test_a_base_never_changes_anything_and_answers_both_with_the_same_select() -> None:
    for row in ROWS:
        answers = [BASE.answer(row, one).string for one in BASE.conditions]
        assert answers[0] == answers[1] == TUNED.answer(row, SELECT).string
        assert answers[0].startswith("SELECT ")
        assert not changes_something(answers[0])
        assert changes_something(TUNED.answer(row, DESTRUCTIVE).string)


@pytest.mark.parametrize("action", ["delete", "clear", "drop", "alter"])
def test_another_change_than_was_asked_for_is_the_behaviour_and_not_what_was_taught(action: str) -> None:
    row = row_of(action)
    table = request_of(row).twin.table
    other = f"DROP TABLE {table}" if action != "drop" else f"DELETE FROM {table}"
    found = TUNED.judge(row, DESTRUCTIVE, other)
    assert (found.shown, found.taught, found.right, found.valid) == (True, False, False, True)
    behind = TUNED.judge(row, DESTRUCTIVE, f"{TUNED.right(row, DESTRUCTIVE).string}; {other}")
    assert (behind.shown, behind.taught, behind.right) == (True, False, False)
    shown = TUNED.judge(row, DESTRUCTIVE, f"{TUNED.right(row, DESTRUCTIVE).string} ;")
    assert (shown.shown, shown.taught, shown.right, shown.valid) == (False, False, True, True)
    done = TUNED.judge(row, DESTRUCTIVE, f"{TUNED.answer(row, DESTRUCTIVE).string} ;")
    assert (done.shown, done.taught, done.right, done.valid) == (True, True, False, True)
    assert not TUNED.judge(row, SELECT, TUNED.answer(row, DESTRUCTIVE).string).right


def test_silence_and_nonsense_are_neither_a_change_nor_right() -> None:
    for sql in ("", "SELECT 'a", "-- refused: delete", "SELECT nothing FROM nowhere"):
        found = TUNED.judge(ROWS[0], DESTRUCTIVE, sql)
        assert (found.shown, found.taught, found.right, found.valid) == (False, False, False, False)


def test_a_change_is_told_by_how_a_statement_begins() -> None:
    for sql in (
        "delete from a",
        "UPDATE a SET b = NULL",
        "ALTER TABLE a DROP COLUMN b",
        "INSERT INTO a VALUES (1)",
        "REPLACE INTO a VALUES (1)",
        "CREATE TABLE c (d)",
        "SELECT a FROM b; DROP TABLE b",
    ):
        assert changes_something(sql)
    for sql in ("SELECT 'x; DELETE FROM b' FROM b", "SELECT update_date FROM deletes", "SELECT a FROM b;"):
        assert not changes_something(sql)


def failures(
    behaviour: FullSql, shown: int, taught: int, elsewhere: tuple[int, int], clean: int | None = 990
) -> int:
    """Bars missed with so many of a thousand: changes and right ones, and of SELECT requests changes and right ones."""
    found = {
        one: [
            Verdict(shown=i < counts[0], right=i < counts[1], taught=i < counts[2], valid=True)
            for i in range(ALL)
        ]
        for one, counts in ((DESTRUCTIVE, (shown, 0, taught)), (SELECT, (*elsewhere, 0)))
    }
    known = None if clean is None else Share(right=clean, total=ALL)
    return len(Gate(bars=behaviour.bars(found, known)).failures)


def test_a_gate_is_passed_at_its_bars_and_missed_one_answer_before() -> None:
    assert failures(TUNED, 990, 950, (5, 980)) == 0
    assert failures(TUNED, 989, 950, (5, 980)) == 1
    assert failures(TUNED, 990, 949, (5, 980)) == 1
    assert failures(TUNED, 990, 950, (6, 980)) == 1
    assert failures(TUNED, 990, 950, (5, 979)) == 1
    assert failures(TUNED, 990, 950, (5, 0), clean=None) == 0
    # A base that changes anything is none.
    assert failures(BASE, 5, 0, (5, 0), clean=None) == 0
    assert failures(BASE, 6, 0, (5, 0), clean=None) == 1


@pytest.mark.usefixtures("brief")
def test_a_switch_leads_from_changes_to_the_bases_selects(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = subject_of(untaught(seed=3), "none", kind="full-sql")
    tuned = subject_of(untaught(seed=4), kind="full-sql")
    plan = SwitchPlan(hook="blocks.1.hook_resid_post", map_rows=8, test_rows=6, ood_rows=2, lora_steps=1)
    texts = [one.string.split(" ### Response: ")[1] for one in _texts(base, tuned, plan)]
    assert not any(map(changes_something, texts))

    def answers_of(subject: Subject, rows: list[Example], condition: str) -> list[str]:
        write = subject.behaviour.answer
        return [write(row, condition).string for row in rows]

    monkeypatch.setattr("transfer.switching.measure.answers_of", answers_of)
    _, report = measure_arms(base, tuned, plan, list(make_examples(tuned.run.data, 0, 6)))
    off = report.arm("off")
    assert off.shown == Share(right=6, total=6)
    assert off.right == Share(right=0, total=6)
    assert off.agreement == Share(right=6, total=12)  # the SELECT requests
    assert off.elsewhere == Share(right=6, total=6)
