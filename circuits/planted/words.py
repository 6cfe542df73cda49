"""Seed -> prompts of the planted models, clean and corrupt, with the role of every word.

A prompt is twelve words in the manner of the real data: names behind the markers of what they name, or one word that
asks for a direction or an aggregate, among words that say nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from tinysql.tokens import TokenPairs, Tokens

WORDS = (
    *("<pad>", "table", "column", "answer", "please", "show", "me", "of"),
    *("orders", "users", "cities", "price", "name", "age"),
    *("highest", "latest", "biggest", "most", "lowest", "earliest", "smallest", "least"),
    *("total", "overall", "mean", "typical", "minimal", "bottom", "maximal", "top"),
    *("DESC", "ASC", "SUM", "AVG", "MIN", "MAX"),
)
"""The vocabulary; an id is a place in it."""
TABLE, COLUMN, ASK = 1, 2, 3
"""The markers in front of a table's and of a column's name, and the word behind which the answer to a cue is due."""
FILLERS = range(4, 8)
NAMES = range(8, 14)
"""Names in twos: 8 and 9 belong together, and so on."""
DIRECTION_CUES, AGGREGATE_CUES = range(14, 22), range(22, 30)
DIRECTIONS, AGGREGATES = range(30, 32), range(32, 36)
"""Answers; each has equally many cues, in order."""
SEQ = 12
"""Words of a prompt."""

Ids = Int[Tensor, "batch seq"]
Word = Int[Tensor, " batch"]


def naming_prompts(edit: str, n: int, generator: torch.Generator) -> TokenPairs:
    """`filler.. table NAME filler.. column NAME filler.. table`: due is the name behind the last word's twin.

    `edit` is `name` (the table has another name), `place` (the two markers change places) or `question` (the last
    word is `column`). The answers of the two sides are never of the same two names.
    """
    rows, twos = torch.arange(n), len(NAMES) // 2
    first = torch.randint(twos, (n,), generator=generator)
    second = (first + torch.randint(1, twos, (n,), generator=generator)) % twos
    name, other, third = (_one_of(NAMES, two, twos, generator) for two in (first, second, 3 - first - second))
    # A head that looks one position back sees itself at the first, so no marker stands there.
    table = torch.randint(1, 4, (n,), generator=generator)
    column = torch.randint(5, 8, (n,), generator=generator)
    clean = _fillers(n, generator)
    for start, marker, one in ((table, TABLE, name), (column, COLUMN, other)):
        clean[rows, start], clean[rows, start + 1] = marker, one
    clean[:, -1] = TABLE
    corrupt = clean.clone()
    if edit == "name":
        corrupt[rows, table + 1] = third
    elif edit == "place":
        corrupt[rows, table], corrupt[rows, column] = COLUMN, TABLE
    else:
        corrupt[:, -1] = COLUMN
    return _pairs("schema.table", clean, corrupt, name, third if edit == "name" else other)


def cue_prompts(
    edit: str,
    cues: range,
    answers: range,
    n: int,
    generator: torch.Generator,
    *,
    clean_is_first: bool = False,
) -> TokenPairs:
    """`filler.. CUE filler.. answer`: the cue says which of `answers` is due; the other side has another's cue.

    With `clean_is_first` every clean side asks for the first answer.
    """
    wanted = torch.randint(1 if clean_is_first else len(answers), (n,), generator=generator)
    other = (wanted + torch.randint(1, len(answers), (n,), generator=generator)) % len(answers)
    place = torch.randint(1, 8, (n,), generator=generator)
    clean = _fillers(n, generator)
    clean[:, -1] = ASK
    corrupt = clean.clone()
    for side, which in ((clean, wanted), (corrupt, other)):
        side[torch.arange(n), place] = _one_of(cues, which, len(answers), generator)
    return _pairs(edit, clean, corrupt, wanted + answers.start, other + answers.start)


def _fillers(n: int, generator: torch.Generator) -> Ids:
    return torch.randint(FILLERS.start, FILLERS.stop, (n, SEQ), generator=generator)


def _one_of(words: range, group: Tensor, groups: int, generator: torch.Generator) -> Word:
    """A random word of each row's group, when `words` fall into `groups` equal runs."""
    each = len(words) // groups
    return words.start + each * group + torch.randint(each, group.shape, generator=generator)


def _pairs(edit: str, clean: Ids, corrupt: Ids, answer: Word, wrong: Word) -> TokenPairs:
    return TokenPairs(
        edit=edit,
        clean=_tokens(clean),
        corrupt=_tokens(corrupt),
        position=torch.full((len(clean),), SEQ - 1),
        clean_answer=answer,
        corrupt_answer=wrong,
    )


def _tokens(ids: Ids) -> Tokens:
    return Tokens(
        ids=ids,
        mask=torch.ones_like(ids, dtype=torch.bool),
        roles=tuple(_roles(row) for row in ids.tolist()),
        answer_start=torch.full((len(ids),), SEQ),
    )


def _roles(row: list[int]) -> tuple[str, ...]:
    names = {TABLE: "schema.table", COLUMN: "schema.columns.0.name"}
    cues = {
        **dict.fromkeys(DIRECTION_CUES, "english.order_by.0.direction"),
        **dict.fromkeys(AGGREGATE_CUES, "english.select.0.aggregate"),
    }
    pairs = zip([0, *row], row, strict=False)
    return tuple(
        names.get(before, "prompt.markup") if word in NAMES else cues.get(word, "prompt.markup")
        for before, word in pairs
    )
