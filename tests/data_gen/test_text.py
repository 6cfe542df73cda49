"""(piece, role) pairs -> text: the laws of spans, of a token's role, and of fragments."""

import doctest

import pytest

from data_gen import text as text_module
from data_gen.text import BREAK, MARKS, Pieces, Prepared, Span, Text, marks, role

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


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("price", "column"),
        (" price", "column"),
        ("ric", "column"),
        (",", "separator"),
        # Most of the characters decide, and of equal shares the first.
        ("e,", "column"),
        (", n", "column"),
        ("CT p", "keyword"),
        ("T p", "column"),
        ("ice, name", "column"),
        # White space at the ends does not count, unless there is nothing else.
        (" n", "column"),
        (", ", "separator"),
        ("T ", "keyword"),
        (" ", "column"),
    ],
)
def test_a_token_has_the_role_that_holds_most_of_its_characters(piece, expected):
    text = Text.of(PIECES)
    start = text.string.index(piece)
    assert text.role_of(start, start + len(piece)) == expected


def test_a_role_in_two_spans_of_a_token_counts_twice():
    text = Text.of([("ab", "x"), ("ccc", "y"), ("ab", "x")])
    assert text.role_of(0, 7) == "x"
    assert text.role_of(1, 6) == "y"


def test_white_space_at_the_ends_of_a_token_counts_for_no_role():
    text = Text.of([("a", "x"), ("   b", "y"), ("   ", "x"), ("c", "z")])
    assert text.role_of(0, 3) == "x"
    assert text.role_of(5, 9) == "z"
    assert text.role_of(1, 3) == "y"


def test_the_role_of_one_character_is_that_of_its_span():
    text = Text.of(PIECES)
    roles = [text.role_of(char, char + 1) for char in range(len(text.string))]
    assert roles == [role for piece, role in PIECES for _ in piece]


def test_the_worked_example_of_the_module_is_what_the_code_gives():
    found = doctest.testmod(text_module)
    assert found.attempted > 10
    assert found.failed == 0


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (4, 3), (0, 19)])
def test_a_role_of_no_characters_is_refused(start, end):
    with pytest.raises(IndexError, match=f"characters {start}:{end} of a text of 18"):
        Text.of(PIECES).role_of(start, end)


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


def test_fragments_and_single_pieces_give_the_same_text():
    single, prepared = Pieces(), Pieces()
    for piece, its in PIECES:
        single.add(f" {piece}" if piece == "SELECT" else piece, its)
    prepared.strings.append(f" SELECT{BREAK} price{BREAK},{BREAK} name")
    prepared.roles.append(marks("keyword", "column", "separator", "column"))
    assert single.text() == prepared.text() == Text.of(PIECES)
    assert single.string() == prepared.string() == "SELECT price, name"


def test_a_fragment_whose_marks_do_not_fit_is_found_out():
    pieces = Pieces()
    pieces.strings.append(f"a{BREAK}b")
    pieces.roles.append(marks("x"))
    with pytest.raises(ValueError, match="zip"):
        pieces.text()


def test_a_mark_stands_for_its_role_for_good_and_is_never_a_surrogate():
    roles = [f"many.{number}" for number in range(0xE000)]
    given = marks(*roles)
    assert marks(*roles) == given
    assert [MARKS.roles[ord(mark)] for mark in given] == roles
    assert len(set(given)) == len(roles)
    given.encode("utf-16")


def test_prepared_marks_are_made_once_per_place():
    asked = []
    prepared = Prepared(lambda index: asked.append(index) or marks(f"at.{index}"))
    assert prepared[2] == prepared[2] == marks("at.2")
    assert asked == [2]


def test_what_is_prepared_is_forgotten_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(Prepared, "MOST", 3)
    prepared = Prepared(str)
    for number in range(10):
        assert prepared[number] == str(number)
        assert len(prepared) <= 3
    assert prepared[9] == "9"


def test_a_role_is_its_parts_with_dots_between():
    assert role("sql.select", 0, "column") == "sql.select.0.column"
