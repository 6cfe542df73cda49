"""Two texts + a tokenizer -> whether they are aligned token for token, and where their answers part.

Tokens are aligned if the prompts have equally many of them, differ only where the edited span is, and the answers
have a first token that differs. Only `encode` is asked, so any tokenizer will do; tokens that it adds at the
beginning or the end of every string make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.text import Span, Text

if TYPE_CHECKING:
    import tokenizers

Encode = Callable[[str], Sequence[int]]
"""A string -> its token ids: `tokenizer.encode_text`, or `lambda s: tok(s)["input_ids"]`."""


class Misfit(StrEnum):
    """Why a draw made no pair; each reads behind `37 of them`."""

    SLOT = "have nothing there to change"
    SENSE = "would leave no single right answer"
    SPLIT = "would leave the split"
    NAME = "have no held-out name to offer"
    PROMPT = "change more than one place of the prompt"
    COUNT = "have prompts of unequal token counts"
    RUN = "change tokens outside the edited span"
    ANSWER = "have answers in which no token differs"


class Divergence(NamedTuple):
    """Where two answers part, in tokens of the prompt, a space and the SQL."""

    position: int
    """The index of the token whose logits predict the first token that differs; counts what `encode` adds."""
    clean_answer: int
    corrupt_answer: int


class ChangedSpans(NamedTuple):
    """Where two texts differ: one span of each. A span of no characters, and no role, is where the other has more."""

    clean: Span
    corrupt: Span


def changed_span(clean: Text, corrupt: Text) -> ChangedSpans | None:
    """The one span in which the texts differ; None if they differ in more, or not at all."""
    first, last = _shared(clean, corrupt)
    stops = len(clean.spans) - last, len(corrupt.spans) - last
    return None if stops == (first, first) or max(stops) > first + 1 else changed_stretch(clean, corrupt)


def changed_stretch(clean: Text, corrupt: Text) -> ChangedSpans:
    """From the first span in which the texts differ to the last one, with the role of the first."""
    first, last = _shared(clean, corrupt)
    return ChangedSpans(*(_stretch(text, first, len(text.spans) - last) for text in (clean, corrupt)))


def _shared(clean: Text, corrupt: Text) -> tuple[int, int]:
    """How many spans the texts begin with together, and how many of the others they end with."""
    one, other = ([text.string[start:end] for start, end, _ in text.spans] for text in (clean, corrupt))
    first = _common(one, other)
    return first, _common(one[first:][::-1], other[first:][::-1])


def _stretch(text: Text, first: int, stop: int) -> Span:
    start = text.spans[first].start if first < len(text.spans) else len(text.string)
    if first == stop:
        return Span(start, start, "")
    return Span(start, text.spans[stop - 1].end, text.spans[first].role)


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items the two begin with together."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def align(clean: Example, corrupt: Example, encode: Encode) -> Divergence | Misfit:
    """Where the answers of two aligned examples part, or why they are not aligned."""
    change = changed_span(clean.prompt, corrupt.prompt)
    if change is None:
        return Misfit.PROMPT
    one, other = list(encode(clean.prompt.string)), list(encode(corrupt.prompt.string))
    if len(one) != len(other):
        return Misfit.COUNT
    if not _is_inside(one, other, clean, corrupt, change, encode):
        return Misfit.RUN
    whole, changed = list(encode(clean.text.string)), list(encode(corrupt.text.string))
    # What a tokenizer adds at the end of a string is not there in the middle of one.
    start, begin = _common(one, whole), _common(other, changed)
    if start != begin:
        return Misfit.COUNT
    position = start + _common(whole[start:], changed[start:])
    # Behind the last token of its SQL an answer has nothing that the other's next token could differ from.
    if position >= min(len(whole), len(changed)) - (len(one) - start):
        return Misfit.ANSWER
    return Divergence(position - 1, whole[position], changed[position])


def _is_inside(
    one: list[int], other: list[int], clean: Example, corrupt: Example, change: ChangedSpans, encode: Encode
) -> bool:
    """Whether all tokens that lie wholly before the changed spans are the same, and all behind them."""
    first = _common(one, other)
    last = _common(one[::-1], other[::-1])
    before = encode(clean.prompt.string[: change.clean.start])
    behind = list(encode(clean.prompt.string[change.clean.end :]))[::-1]
    return (
        one != other
        and first >= _common(before, one) == _common(before, other)
        and last >= _common(behind, one[::-1]) == _common(behind, other[::-1])
    )


def encoder_of(path: Path | str) -> Encode:
    """The encode function of a `tokenizer.json`, with nothing added.

    Raises:
        InputError: as `tokenizer_of`.
    """
    return encode_with(tokenizer_of(path))


def encode_with(backend: tokenizers.Tokenizer) -> Encode:
    """The encode function of a tokenizer, with nothing added."""

    def encode(string: str) -> list[int]:
        return list(backend.encode(string, add_special_tokens=False).ids)

    return encode


def tokenizer_of(path: Path | str) -> tokenizers.Tokenizer:
    """The tokenizer in a `tokenizer.json`.

    Raises:
        InputError: the file is missing, or is no tokenizer.
    """
    # The library is not needed where no tokenizer is given.
    import tokenizers

    if not Path(path).is_file():
        raise InputError(f"no tokenizer file `{path}`", hint="name a tokenizer.json")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InputError(
            f"{path} is not a whole tokenizer file ({error})", hint="name a tokenizer.json"
        ) from error
