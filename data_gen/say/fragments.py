"""Pattern + the place it is used at -> its pieces, with open slots, and their marks.

Marks are remembered by the pattern's shape and the place, of which there are few, and not by its words.
"""

from __future__ import annotations

from functools import lru_cache

from data_gen.text import BREAK, Prepared, marks, role

Fragment = tuple[str, str]
"""Pieces with `BREAK` between them, and their marks."""

COMMA, AND, THEN = f"{BREAK},{BREAK}", f"{BREAK} and{BREAK}", f"{BREAK}, then by{BREAK}"
WORDS = "words"
"""What stands in a shape for a piece of words; a slot stands for itself."""
OWNERS = ("table", "qualifier")
"""What may stand before a column: one piece in `orders' price`, two in `orders.price`."""


@lru_cache(maxsize=4096)
def marks_of(shape: tuple[str, ...], at: str, words: str, owners: int = 0) -> str:
    """The marks of a pattern of this shape.

    The words have the role `at.words`, a slot `{value}` has `at.value`, a column `at.column`; one called
    `{left}` has `at.left.column`. Before a column go the first `owners` of `OWNERS`. `{aliased}` is a table, a
    keyword and an alias.
    """
    roles = []
    for part in shape:
        if part in ("{column}", "{left}", "{right}"):
            place = at if part == "{column}" else role(at, part[1:-1])
            roles += [role(place, part) for part in (*OWNERS[:owners], "column")]
        elif part == "{aliased}":
            roles += [role(at, "table"), role(at, "keyword"), role(at, "alias")]
        else:
            roles.append(role(at, words if part == WORDS else part[1:-1]))
    return marks(*roles)


@lru_cache(maxsize=1024)
def marks_around(shape: tuple[str, ...], at: str, words: str) -> tuple[str, str]:
    """The marks before and behind the slot `{columns}`."""
    place = shape.index("{columns}")
    return marks_of(shape[:place], at, words), marks_of(shape[place + 1 :], at, words)


class Slots:
    """The marks of lists of columns at one place, say `english.select`."""

    def __init__(self, place: str) -> None:
        self.at: Prepared[int] = Prepared(lambda index: f"{place}.{index}")
        self.column: Prepared[tuple[int, int]] = Prepared(
            lambda key: marks_of(("{column}",), f"{place}.{key[0]}", WORDS, key[1])
        )
        """Index and number of `OWNERS` -> the marks of a column."""
        self.direction: Prepared[int] = Prepared(lambda index: marks(f"{place}.{index}.direction"))
        self.phrase = marks(f"{place}.phrase")
        self.separator = marks(f"{place}.separator")
        self.list: Prepared[int] = Prepared(
            lambda count: self.separator.join([self.column[index, 0] for index in range(count)])
        )
        """Count -> the marks of so many columns, none of which is qualified, and of what stands between them."""


slots_at = lru_cache(maxsize=1024)(Slots)
