"""Arrays for many rows: each step does what its scalar does for one."""

import numpy as np
import pytest

from data_gen.bulk.deck import deck_of
from data_gen.bulk.loom import NONE, Loom, Strings
from data_gen.bulk.numbers import WIDTH, Numbers, compress, first
from data_gen.bulk.speech import Chooser, book_of
from data_gen.draw.schemas import sample
from data_gen.say.style import PLACES, Style, spoken
from data_gen.seeding import Draws
from data_gen.text import MARKS

KEY, ROWS = 123456789, range(5, 400, 3)


def test_each_row_has_its_own_numbers_in_its_own_order():
    numbers = Numbers(KEY, ROWS)
    scalars = [Draws(KEY, row) for row in ROWS]
    rng = np.random.default_rng(0)
    for _ in range(2 * WIDTH):
        some = np.flatnonzero(rng.random(len(ROWS)) < 0.7)
        assert numbers.take(some).tolist() == [scalars[place].random() for place in some]


def test_samples_are_those_of_sample():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 14, len(ROWS))
    counts = rng.integers(0, sizes + 1)
    found = Numbers(KEY, ROWS).sample(np.arange(len(ROWS)), sizes, counts)
    for row, size, count, places in zip(ROWS, sizes.tolist(), counts.tolist(), found.tolist(), strict=True):
        assert places[:count] == sample(Draws(KEY, row), range(size), count)


def test_no_rows_are_no_work():
    nothing = np.zeros(0, np.int64)
    assert Numbers(KEY, ROWS).sample(nothing, nothing, nothing).shape == (0, 0)


def test_members_go_to_the_front_in_their_order():
    members = np.array([[False, True, False, True], [False] * 4])
    order, counts = compress(members)
    assert order[0, :2].tolist() == [1, 3]
    assert counts.tolist() == [2, 0]
    assert first(members).tolist() == [1, -1]


def test_choices_are_those_of_the_style():
    numbers = np.random.default_rng(2).integers(0, 2**64, 200, dtype=np.uint64)
    places = np.arange(200) + PLACES.aggregate
    found = Chooser(numbers).choose(places, 7).tolist()
    styles = [Style(number=number) for number in numbers.tolist()]
    assert found == [style.choose(place, 7) for style, place in zip(styles, places.tolist(), strict=True)]


@pytest.mark.parametrize("variant", ["base", "syn"])
@pytest.mark.parametrize("table", [False, True])
def test_names_are_said_as_the_style_says_them(variant, table):
    book = book_of("full", variant, False, False)
    rng = np.random.default_rng(3)
    names = rng.integers(0, len(book.deck.names), 500)
    numbers = rng.integers(0, 2**64, 500, dtype=np.uint64)
    said = book.names.said(numbers, names, table=table)
    for number, name, text in zip(numbers.tolist(), names.tolist(), said.tolist(), strict=True):
        style = Style(variant=variant, number=number)
        wanted = spoken(style, book.deck.names[name], table=table)
        assert book.strings.texts[text] == f" {wanted}"


def test_a_deck_knows_the_key_of_each_table_that_is_referred_to():
    deck = deck_of("full", False, False)
    for parents, count in zip(deck.parents, deck.parent_counts, strict=True):
        for parent in parents[:count]:
            assert deck.names[deck.keys[parent]].endswith("_id")


def test_a_loom_puts_the_pieces_of_each_row_together():
    strings = Strings()
    loom = Loom(strings, 3)
    loom.add("é", "a")
    loom.add(np.array([strings.number("b"), NONE, strings.number("cc")]), "b", np.array([True, False, True]))
    loom.end_section()
    loom.add("d", "a", np.array([False, True, True]))
    loom.add("never", "a", np.zeros(3, bool))
    loom.end_section()
    woven = loom.weave()
    ends = np.append(0, woven.ends[:, -1])
    assert woven.strings(woven.offsets[ends]).to_pylist() == ["éb", "éd", "éccd"]
    # In characters, of which the first is one that takes two bytes.
    assert woven.places[ends].tolist() == [0, 2, 4, 8]
    assert [MARKS.roles[mark] for mark in woven.roles] == ["a", "b", "a", "a", "a", "b", "a"]
    assert woven.ends.tolist() == [[2, 2], [3, 4], [6, 7]]
