"""(piece, role) pairs -> a string in which every character knows its role.

A role is a dotted name; a text knows where each begins and ends:

>>> text = Text.of([("SELECT", "sql.select.keyword"), (" price", "sql.select.0.column")])
>>> text.string
'SELECT price'
>>> text.spans[1]
Span(start=6, end=12, role='sql.select.0.column')

What is said in many rows is prepared once as a fragment: its pieces in one string with `BREAK` between them, and one
character (a mark) per piece that stands for its role. A fragment is then two appends, however many pieces it has:

>>> fragment, roles = f" FROM{BREAK} orders", marks("sql.from.keyword", "sql.table")
>>> len(roles)
2
>>> pieces = Pieces()
>>> pieces.add("SELECT", "sql.select.keyword")
>>> pieces.add(" price", "sql.select.0.column")
>>> pieces.strings.append(fragment)
>>> pieces.roles.append(roles)
>>> pieces.string()
'SELECT price FROM orders'
>>> pieces.text().pieces()[2:]
[(' FROM', 'sql.from.keyword'), (' orders', 'sql.table')]

`Prepared` remembers a fragment, or its marks, per key:

>>> column = Prepared(lambda index: marks(f"sql.select.{index}.column"))
>>> MARKS.roles[ord(column[0])]
'sql.select.0.column'
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import lru_cache
from threading import Lock
from typing import NamedTuple, TypeVar

from msgspec import Struct


class Span(NamedTuple):
    """Characters `start` (included) to `end` (excluded) play `role`."""

    start: int
    end: int
    role: str


class Text(Struct, frozen=True):
    """A string and its spans, which are contiguous and cover every character.

    A span takes the space before its word, as byte-level BPE does. No two neighbouring spans have the same
    role.

    Example: `Text.of([("SELECT", "sql.select.keyword"), (" price", "sql.select.0.column")])`.

    Raises:
        ValueError: the spans do not cover the string.
    """

    string: str
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        position = 0
        for start, end, _ in self.spans:
            if start != position or end <= start:
                raise ValueError(
                    f"span {start}:{end} does not start at {position}: spans must cover the text"
                )
            position = end
        if position != len(self.string):
            raise ValueError(f"spans end at {position}, the text at {len(self.string)}")

    @classmethod
    def of(cls, pieces: Iterable[tuple[str, str]]) -> Text:
        """Concatenate (piece, role) pairs."""
        strings: list[str] = []
        spans: list[Span] = []
        start, last = 0, ""
        for piece, role in pieces:
            if not piece:
                continue
            end = start + len(piece)
            strings.append(piece)
            if role == last and spans:
                spans[-1] = Span(spans[-1].start, end, role)
            else:
                spans.append(Span(start, end, role))
            start, last = end, role
        return cls("".join(strings), tuple(spans))

    @classmethod
    def join(cls, parts: Iterable[Text]) -> Text:
        """Concatenate texts, with nothing between them."""
        return cls.of(piece for part in parts for piece in part.pieces())

    def pieces(self) -> list[tuple[str, str]]:
        """The (piece, role) pairs this text was built from; `Text.of` puts them together again."""
        return [(self.string[start:end], role) for start, end, role in self.spans]

    def role_of(self, start: int, end: int) -> str:
        """The role of the characters `start` to `end`: that of the span which holds most of them.

        White space at the ends does not count, unless there is nothing else; of equal shares the first wins.
        So a token has one role under any tokenizer, also where it straddles two spans.

        Raises:
            IndexError: there are no such characters.
        """
        if not 0 <= start < end <= len(self.string):
            raise IndexError(f"characters {start}:{end} of a text of {len(self.string)}")
        piece = self.string[start:end]
        if not piece.isspace():
            start += len(piece) - len(piece.lstrip())
            end -= len(piece) - len(piece.rstrip())
        first = bisect_right(self.spans, start, key=lambda span: span.start) - 1
        shares: dict[str, int] = {}
        for span in self.spans[first:]:
            if span.start >= end:
                break
            inside = min(end, span.end) - max(start, span.start)
            shares[span.role] = shares.get(span.role, 0) + inside
        return max(shares, key=shares.__getitem__)

    def roles_of(self, offsets: Iterable[tuple[int, int]]) -> list[str]:
        """The role of every token of this string, by its character offsets; "" for one of no characters.

        Works for any tokenizer that reports offsets.

        Example: `text.roles_of(tok(text.string, return_offsets_mapping=True)["offset_mapping"])`.
        """
        return [self.role_of(start, end) if start < end else "" for start, end in offsets]


BREAK = "\x00"
"""What stands between two pieces of a fragment."""


class _Marks(dict[str, str]):
    """Role -> the character that stands for it in `Pieces.roles`, given out on first use; 0 stands for none."""

    def __init__(self) -> None:
        super().__init__()
        self.roles = [""]
        # Two threads that meet two new roles may not give them one mark.
        self.lock = Lock()

    def __missing__(self, role: str) -> str:
        with self.lock:
            return self.get(role) or self._next(role)

    def _next(self, role: str) -> str:
        # UTF-16 keeps these characters for itself.
        if len(self.roles) == 0xD800:
            self.roles += [""] * 0x800
        mark = self[role] = chr(len(self.roles))
        self.roles.append(role)
        return mark


MARKS = _Marks()


def marks(*roles: str) -> str:
    """The roles of a fragment, ready to be appended to `Pieces.roles`."""
    return "".join([MARKS[role] for role in roles])


Key = TypeVar("Key")


class Prepared(dict[Key, str]):
    """What a function of one argument gives, remembered; a look-up costs less than a call."""

    MOST = 16384

    def __init__(self, make: Callable[[Key], str]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: Key) -> str:
        if len(self) >= self.MOST:
            # Random names are drawn from millions.
            self.clear()
        found = self[key] = self.make(key)
        return found


class Pieces:
    """A text in the making.

    Rows are made by the million, so what is said often is prepared once as a fragment: several pieces with
    `BREAK` between them, and one string with a mark per role. Writers append both to the two lists.
    """

    __slots__ = ("roles", "strings")

    def __init__(self) -> None:
        self.strings: list[str] = []
        self.roles: list[str] = []

    def add(self, string: str, role: str) -> None:
        """Append one piece."""
        self.strings.append(string)
        self.roles.append(MARKS[role])

    def string(self) -> str:
        """The text without its roles and without a space at its beginning."""
        return "".join(self.strings).replace(BREAK, "").removeprefix(" ")

    def text(self) -> Text:
        """The text, without a space at its beginning."""
        strings = BREAK.join(self.strings).removeprefix(" ").split(BREAK)
        roles = [MARKS.roles[ord(mark)] for mark in "".join(self.roles)]
        return Text.of(zip(strings, roles, strict=True))


@lru_cache(maxsize=65536)
def role(*parts: str | int) -> str:
    """The dotted role of these parts, joined once: `role("sql.select", 0, "column")`."""
    return ".".join(map(str, parts))
