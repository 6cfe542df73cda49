"""All rows that do not fit a model's context are told at once."""

from __future__ import annotations

import pytest

from data_gen.errors import InputError
from tinysql.context import check_lengths

HINT = "take an n_ctx of {least}, or of {twice}"


@pytest.mark.parametrize(
    ("lengths", "answered", "said"),
    [
        (
            [3, 12, 10, 11],
            False,
            "2 of 4 prompts do not fit: the longest has 12 tokens and the model's context is 10",
        ),
        (
            [3, 12, 10, 11],
            True,
            "3 of 4 prompts do not fit: the longest has 12 tokens and the model's context is 10, so there is no room"
            " for an answer",
        ),
        ([11], False, "the prompt has 11 tokens and the model's context is 10"),
    ],
)
def test_one_refusal_says_how_many_the_longest_and_the_remedy(
    lengths: list[int], answered: bool, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        check_lengths(lengths, 10, what="prompt", hint=HINT, answered=answered)
    assert refused.value.message == said
    least = max(lengths) + answered
    assert refused.value.hint == f"take an n_ctx of {least}, or of {2 * least}"
    check_lengths(lengths, least, what="prompt", hint=HINT, answered=answered)


@pytest.mark.parametrize(("lengths", "answered"), [([10, 3], False), ([9, 3], True), ([], False)])
def test_rows_that_fit_are_let_through(lengths: list[int], answered: bool) -> None:
    check_lengths(lengths, 10, what="prompt", hint=HINT, answered=answered)
