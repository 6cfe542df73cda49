"""Two examples and a tokenizer -> where their answers part, or why they are not aligned."""

from types import SimpleNamespace

import pytest

from data_gen.pairs.alignment import Divergence, Misfit, align
from data_gen.text import Text

END = 0


def example(word, answer):
    """Texts of a prompt whose last word may change, and of an answer."""
    prompt = [("ask for", "english.template"), (f" {word}", "english.select.0.column")]
    return SimpleNamespace(prompt=Text.of(prompt), text=Text.of([*prompt, (f" {answer}", "sql.select")]))


def number(token):
    return 1 + int.from_bytes(token.encode(), "big")


def by_word(string):
    return [*map(number, string.split()), END]


def by_four(string):
    return [number(string[start : start + 4]) for start in range(0, len(string), 4)]


def test_answers_part_where_their_first_other_token_is():
    found = align(example("age", "SELECT age now"), example("fee", "SELECT fee now"), by_word)
    assert found == Divergence(3, number("age"), number("fee"))


@pytest.mark.parametrize(
    ("answer", "other"), [("SELECT age", "SELECT age"), ("SELECT age", "SELECT age DESC"), ("a b", "a")]
)
def test_the_token_behind_an_answer_is_none_of_it(answer, other):
    # What a tokenizer adds at the end is one.
    assert align(example("age", answer), example("fee", other), by_word) is Misfit.ANSWER


def test_answers_that_begin_at_other_tokens_are_not_aligned():
    # Both prompts have three tokens, but in one the last goes on into the answer.
    clean, corrupt = example("sum", "SELECT a"), example("fees", "SELECT b")
    assert len(by_four(clean.prompt.string)) == len(by_four(corrupt.prompt.string)) == 3
    assert align(clean, corrupt, by_four) is Misfit.COUNT
    assert isinstance(align(example("cost", "SELECT a"), corrupt, by_four), Divergence)
