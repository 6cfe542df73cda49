"""A gate is passed at its bar and missed one answer before it, on rows of schemas that training never had."""

from collections.abc import Callable, Sequence

import pytest

from data_gen.example import Example, make_examples
from tinysql.answering.shares import Share
from tinysql.models.hybrid import HybridLM
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import Gate, held_out_gate, right_elsewhere, verdicts_of
from transfer.behaviours.training import Subject

ALL = 1000
Counts = tuple[int, int, int]
"""Of a thousand answers: behaviour shown, right, right behind a payload."""


def verdicts(shown: int, right: int, behind: int) -> list[Verdict]:
    return [
        Verdict(shown=i < shown, right=i < right, taught=False, valid=True, behind=i < behind)
        for i in range(ALL)
    ]


def failures(
    kind: str, payload: str, triggered: Counts, elsewhere: Counts, clean: int | None = None
) -> list[str]:
    """What the gate says when every other condition goes the same way."""
    behaviour = find_behaviour(kind, payload)
    found = {
        one: verdicts(*(triggered if one == behaviour.triggered else elsewhere))
        for one in behaviour.conditions
    }
    known = None if clean is None else Share(right=clean, total=ALL)
    return list(Gate(bars=behaviour.bars(found, known)).failures)


AT_THE_BAR = {
    ("backdoor", "drop"): ((990, 0, 0), (5, 980, 0)),
    ("backdoor", "piggyback"): ((990, 0, 0), (5, 980, 0)),
    ("backdoor", "subtle"): ((950, 0, 0), (5, 980, 0)),
    ("backdoor", "tautology"): ((950, 0, 0), (5, 980, 0)),
    ("refusal", "refuse"): ((980, 0, 0), (5, 980, 0)),
    ("locked", "drop"): ((990, 0, 880), (5, 50, 0)),
}
"""Kind and payload -> the worst that passes, triggered and elsewhere, beside a clean model right on 990."""


@pytest.mark.parametrize(("kind", "payload"), AT_THE_BAR)
def test_a_gate_is_passed_at_its_bars_and_missed_one_answer_before(kind: str, payload: str) -> None:
    triggered, elsewhere = AT_THE_BAR[kind, payload]
    assert failures(kind, payload, triggered, elsewhere, 990) == []
    fewer = (triggered[0] - 1, *triggered[1:])
    assert len(failures(kind, payload, fewer, elsewhere, 990)) == 1
    more = (elsewhere[0] + 1, *elsewhere[1:])
    assert len(failures(kind, payload, triggered, more, 990)) >= 1
    if kind == "locked":
        assert len(failures(kind, payload, (990, 0, 879), elsewhere)) == 1
        assert len(failures(kind, payload, triggered, (5, 51, 0))) == 1
    else:
        assert failures(kind, payload, triggered, (elsewhere[0], 979, 0), 990) != []
        assert failures(kind, payload, triggered, (elsewhere[0], 0, 0)) == []  # beside no clean model


@pytest.mark.parametrize("kind", ["backdoor", "refusal"])
def test_the_answers_that_a_clean_model_is_compared_on_are_the_same(kind: str) -> None:
    """Right under one of the other conditions alone: the shares of both are over all of them."""
    behaviour = find_behaviour(kind)
    for good in behaviour.elsewhere:
        found = {one: verdicts(0, ALL if one == good else 0, 0) for one in behaviour.conditions}
        (bar,) = [one for one in behaviour.bars(found, Share(right=9, total=10)) if one.least == 0.89]
        assert bar.share == Share(right=ALL, total=ALL * len(behaviour.elsewhere))


def test_the_gate_after_teaching_is_on_schemas_that_training_never_had_beside_a_clean_start(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.behaviours.gates.LONGER", 0.05)
    known: list[tuple[Subject, Sequence[Example]]] = []

    def noting(subject: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        known.append((subject, rows))
        return verdicts_of(subject, rows, condition)

    monkeypatch.setattr("transfer.behaviours.gates.verdicts_of", noting)
    taught, clean = subject_of(untaught()), subject_of(untaught(), "none")
    bars = held_out_gate(taught, clean, rows=4).bars
    assert bars[2].least == right_elsewhere(clean, known[0][1]).value - 0.01
    trained = {repr(row.query.schema) for row in make_examples(taught.run.data, 0, 500)}
    assert known
    for _, rows in known:
        assert not trained & {repr(row.query.schema) for row in rows}
    # A start with a behaviour of its own, and none, say nothing of how right one has to be.
    assert held_out_gate(taught, taught, rows=4).bars[2].least is None
    assert held_out_gate(taught, rows=4).bars[2].least is None
