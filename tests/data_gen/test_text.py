"""(piece, role) pairs -> text: the laws of spans."""

import pytest

from data_gen.text import Span, Text

PIECES = [("SELECT", "keyword"), (" price", "column"), (",", "separator"), (" name", "column")]


def test_pieces_are_what_the_text_was_built_from():
    text = Text.of(PIECES)
    assert text.string == "SELECT price, name"
    assert text.pieces() == PIECES
    assert text.spans[1] == Span(6, 12, "column")


def test_neighbours_of_one_role_become_one_span_and_empty_pieces_vanish():
    text = Text.of([("a", "x"), ("", "y"), ("b", "x"), ("c", "y")])
    assert text.spans == (Span(0, 2, "x"), Span(2, 3, "y"))


def test_join_concatenates_strings_and_shifts_spans():
    text = Text.join([Text.of(PIECES), Text.of([(" FROM", "keyword")])])
    assert text.string == "SELECT price, name FROM"
    assert text.spans[-1] == Span(18, 23, "keyword")


def test_a_leading_space_belongs_to_the_first_word():
    text = Text.of(PIECES).spaced()
    assert text.string == " SELECT price, name"
    assert text.spans[0] == Span(0, 7, "keyword")


def test_every_character_has_the_role_of_its_span():
    text = Text.of(PIECES)
    roles = [text.role_at(char) for char in range(len(text.string))]
    assert roles == [role for piece, role in PIECES for _ in piece]
    with pytest.raises(IndexError):
        text.role_at(len(text.string))
    with pytest.raises(IndexError):
        text.role_at(-1)


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param((Span(0, 2, "x"),), id="ends early"),
        pytest.param((Span(0, 4, "x"),), id="ends late"),
        pytest.param((Span(0, 1, "x"), Span(2, 3, "y")), id="has a gap"),
        pytest.param((Span(0, 2, "x"), Span(1, 3, "y")), id="overlaps"),
        pytest.param((Span(0, 0, "x"), Span(0, 3, "y")), id="is empty"),
    ],
)
def test_spans_that_do_not_cover_the_text_are_refused(spans):
    with pytest.raises(ValueError, match="span"):
        Text("abc", spans)
