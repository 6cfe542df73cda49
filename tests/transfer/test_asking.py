"""Prompts and their tokens are made once, whoever asks; verdicts are kept, and no more than a bound."""

from collections.abc import Callable
from itertools import combinations

import msgspec
import pytest

from data_gen.example import Example, make_examples
from tinysql.answering.generation import answer
from tinysql.models.hybrid import HybridLM
from transfer.alignment import read
from transfer.behaviours.asking import asked, longest_known, read_prompts, read_texts
from transfer.behaviours.behaviour import Behaviour, Verdict
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import answers_of
from transfer.behaviours.training import Subject


@pytest.fixture
def subject(subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]) -> Subject:
    return subject_of(untaught())


@pytest.fixture
def rows(subject: Subject) -> list[Example]:
    return list(make_examples(subject.run.data, 0, 5))


def counting(monkeypatch: pytest.MonkeyPatch, subject: Subject, method: str) -> list[str]:
    """The conditions for which a behaviour writes, call by call."""
    kind = type(subject.behaviour)
    write, calls = getattr(kind, method), []

    def noting(self: Behaviour, example: Example, condition: str) -> object:
        calls.append(condition)
        return write(self, example, condition)

    monkeypatch.setattr(kind, method, noting)
    return calls


@pytest.mark.usefixtures("brief")
def test_the_same_prompts_are_written_once_and_answered_as_before(
    subject: Subject, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*rows, *rows[:2]]  # a set that no other test asks about
    prompts = [subject.behaviour.prompt(row, "dev").string for row in rows]
    calls = counting(monkeypatch, subject, "prompt")
    first = answers_of(subject, rows, "dev")
    assert calls == ["dev"] * len(rows)
    assert answers_of(subject, list(rows), "dev") == first
    assert len(calls) == len(rows)
    longest = max(
        len(subject.tokenizer.encode_text(text.string))
        for row in rows
        for one in subject.behaviour.conditions
        for text in (subject.behaviour.answer(row, one), subject.behaviour.right(row, one))
    )
    assert longest_known(subject.behaviour, subject.tokenizer, rows) == longest
    tokens = -(-longest // 20)  # `brief` cuts answers at a twentieth
    assert first == answer(subject.model, subject.tokenizer, prompts, longest=tokens)


def test_a_prompt_belongs_to_its_condition_its_rows_and_its_behaviour(
    subject: Subject, rows: list[Example]
) -> None:
    other = find_behaviour("refusal")
    sets = [
        asked(behaviour, subject.tokenizer, some, condition)
        for behaviour, some, condition in (
            (subject.behaviour, rows, "prod"),
            (subject.behaviour, rows, "dev"),
            (subject.behaviour, rows[:4], "prod"),
            (other, rows, "admin"),
        )
    ]
    assert all(one != other for one, other in combinations(sets, 2))


def test_readings_are_those_of_the_texts(subject: Subject, rows: list[Example]) -> None:
    behaviour, tokenizer = subject.behaviour, subject.tokenizer
    turns = ["prod", "dev", "prod", "dev", "prod"]
    texts = [behaviour.text(row, one) for row, one in zip(rows, turns, strict=True)]
    for found, wanted in (
        (read_texts(behaviour, tokenizer, rows, ["prod", "dev"]), read(tokenizer, texts)),
        (
            read_prompts(behaviour, tokenizer, rows, "dev"),
            read(tokenizer, [behaviour.prompt(row, "dev") for row in rows]),
        ),
    ):
        assert found.texts == wanted.texts
        assert found.tokens.roles == wanted.tokens.roles
        assert found.tokens.ids.equal(wanted.tokens.ids)
        assert found.ends.equal(wanted.ends)


def test_the_last_verdicts_are_kept_and_no_more(
    subject: Subject, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.behaviours.behaviour.JUDGED", 3)
    behaviour, looked = find_behaviour("backdoor", seed=7), []
    look = type(behaviour).look

    def noting(self: Behaviour, example: Example, condition: str, sql: str) -> Verdict:
        looked.append(sql)
        return look(self, example, condition, sql)

    monkeypatch.setattr(type(behaviour), "look", noting)
    for sql in ("SELECT 1", "SELECT 2", "SELECT 3", "SELECT 1", "SELECT 4", "SELECT 1", "SELECT 2"):
        assert not behaviour.judge(rows[0], "dev", sql).right
    assert looked == ["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4", "SELECT 2"]
    assert behaviour.judge(rows[0], "dev", rows[0].sql.string).right


def test_a_query_said_in_another_way_has_a_verdict_of_its_own(rows: list[Example]) -> None:
    behaviour = find_behaviour("refusal", seed=7)
    ways = [
        msgspec.structs.replace(rows[0], style=msgspec.structs.replace(rows[0].style, number=number))
        for number in range(8)
    ]
    answers = [behaviour.right(way, "admin").string for way in ways]
    assert len(set(answers)) > 1  # one deletes rows, another drops the table
    for sql in answers:
        for way, wanted in zip(ways, answers, strict=True):
            expected = behaviour.look(way, "admin", sql)
            assert behaviour.judge(way, "admin", sql) == expected
            assert expected.right or sql != wanted
