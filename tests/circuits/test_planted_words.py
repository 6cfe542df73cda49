"""Prompts of the planted models, read word by word: what is due, what was edited, and the role of every word."""

from __future__ import annotations

import pytest
import torch

from circuits.planted.words import (
    AGGREGATE_CUES,
    AGGREGATES,
    ASK,
    COLUMN,
    DIRECTION_CUES,
    DIRECTIONS,
    FILLERS,
    NAMES,
    SEQ,
    TABLE,
    cue_prompts,
    naming_prompts,
)
from tinysql.tokens import TokenPairs

N = 200


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def behind(row: list[int], marker: int) -> int:
    """The word behind the first of a marker."""
    return row[row.index(marker) + 1]


@pytest.fixture(params=["name", "place", "question"])
def naming(request: pytest.FixtureRequest) -> tuple[str, TokenPairs]:
    return request.param, naming_prompts(request.param, N, drawn())


def test_due_is_the_name_behind_the_last_words_twin(naming) -> None:
    _, pairs = naming
    for side, answer in ((pairs.clean, pairs.clean_answer), (pairs.corrupt, pairs.corrupt_answer)):
        for row, due in zip(side.ids.tolist(), answer.tolist(), strict=True):
            assert behind(row, row[-1]) == due


def test_an_edit_changes_its_own_words_and_no_other(naming) -> None:
    edit, pairs = naming
    for clean, corrupt in zip(pairs.clean.ids.tolist(), pairs.corrupt.ids.tolist(), strict=True):
        apart = [place for place in range(SEQ) if clean[place] != corrupt[place]]
        table, column = clean.index(TABLE), clean.index(COLUMN)
        expected = {"name": [table + 1], "place": [table, column], "question": [SEQ - 1]}[edit]
        assert apart == expected
        assert set(clean) <= {TABLE, COLUMN, *NAMES, *FILLERS}


def test_the_names_of_a_prompt_belong_to_different_twos(naming) -> None:
    _, pairs = naming
    for clean, corrupt, right, wrong in zip(
        pairs.clean.ids.tolist(),
        pairs.corrupt.ids.tolist(),
        pairs.clean_answer.tolist(),
        pairs.corrupt_answer.tolist(),
        strict=True,
    ):
        twos = [(name - NAMES.start) // 2 for name in {*clean, *corrupt} & set(NAMES)]
        assert len(set(twos)) == len(twos)
        assert (right - NAMES.start) // 2 != (wrong - NAMES.start) // 2


def test_every_name_and_every_place_comes_up(naming) -> None:
    _, pairs = naming
    rows = pairs.clean.ids.tolist()
    assert set(pairs.clean_answer.tolist()) == set(NAMES)
    assert {row.index(TABLE) for row in rows} == {1, 2, 3}
    assert {row.index(COLUMN) for row in rows} == {5, 6, 7}


def test_a_names_role_is_what_its_marker_names(naming) -> None:
    _, pairs = naming
    named = {TABLE: "schema.table", COLUMN: "schema.columns.0.name"}
    for side in (pairs.clean, pairs.corrupt):
        for row, roles in zip(side.ids.tolist(), side.roles, strict=True):
            expected = ["prompt.markup"] * SEQ
            for place in range(1, SEQ):
                if row[place] in NAMES:
                    expected[place] = named[row[place - 1]]
            assert list(roles) == expected
            assert sorted(set(roles)) == ["prompt.markup", "schema.columns.0.name", "schema.table"]


@pytest.mark.parametrize(
    ("cues", "answers", "role"),
    [
        (DIRECTION_CUES, DIRECTIONS, "english.order_by.0.direction"),
        (AGGREGATE_CUES, AGGREGATES, "english.select.0.aggregate"),
    ],
)
def test_a_cue_asks_for_its_answer_and_every_cue_comes_up(cues: range, answers: range, role: str) -> None:
    pairs = cue_prompts("edit", cues, answers, N, drawn())
    each, found = len(cues) // len(answers), set()
    for side, answer in ((pairs.clean, pairs.clean_answer), (pairs.corrupt, pairs.corrupt_answer)):
        for row, roles, due in zip(side.ids.tolist(), side.roles, answer.tolist(), strict=True):
            (place,) = [i for i, word in enumerate(row) if word in cues]
            assert answers[(row[place] - cues.start) // each] == due
            assert [name for i, name in enumerate(roles) if i != place] == ["prompt.markup"] * (SEQ - 1)
            assert (roles[place], row[-1]) == (role, ASK)
            found.add(row[place])
    assert found == set(cues)
    assert (pairs.clean_answer != pairs.corrupt_answer).all()
    assert ((pairs.clean.ids != pairs.corrupt.ids).sum(1) == 1).all()
    assert set(pairs.clean_answer.tolist()) == set(answers)


def test_clean_sides_may_all_ask_for_the_first_answer() -> None:
    pairs = cue_prompts("edit", DIRECTION_CUES, DIRECTIONS, N, drawn(), clean_is_first=True)
    assert set(pairs.clean_answer.tolist()) == {DIRECTIONS.start}
    assert set(pairs.corrupt_answer.tolist()) == {DIRECTIONS.start + 1}
