"""(piece, role) pairs -> a string in which every character knows its role."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """Characters `start` (included) to `end` (excluded) play `role`."""

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class Text:
    """A string and its spans, which are contiguous and cover every character.

    A span takes the space before its word, as byte-level BPE does, so that a token never straddles two
    spans. No two neighbouring spans have the same role.

    Example: `Text.of([("SELECT", "sql.select.keyword"), (" price", "sql.select.0.column")])`.
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
        # Rows are written by the million: `Span(...)` and a second check of what is contiguous by
        # construction would take half of the time of a row.
        span = tuple.__new__
        start = 0
        last = ""
        for piece, role in pieces:
            if not piece:
                continue
            end = start + len(piece)
            strings.append(piece)
            if role == last and spans:
                spans[-1] = Span(spans[-1].start, end, role)
            else:
                spans.append(span(Span, (start, end, role)))
            start, last = end, role
        text = object.__new__(cls)
        object.__setattr__(text, "string", "".join(strings))
        object.__setattr__(text, "spans", tuple(spans))
        return text

    @classmethod
    def join(cls, parts: Iterable[Text]) -> Text:
        """Concatenate texts, with nothing between them."""
        return cls.of(piece for part in parts for piece in part.pieces())

    def pieces(self) -> list[tuple[str, str]]:
        """The (piece, role) pairs this text was built from; `Text.of` puts them together again."""
        return [(self.string[start:end], role) for start, end, role in self.spans]

    def spaced(self) -> Text:
        """The same text behind a space, which belongs to the first span."""
        return self.of([(" ", self.spans[0].role if self.spans else ""), *self.pieces()])

    def role_at(self, char: int) -> str:
        """The role of the character at index `char`.

        Raises:
            IndexError: there is no such character.
        """
        if not 0 <= char < len(self.string):
            raise IndexError(f"character {char} of a text of {len(self.string)}")
        return self.spans[bisect_right(self.spans, char, key=lambda span: span.start) - 1].role
