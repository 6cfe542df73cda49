"""Texts under two tokenizers -> which token of one stands where a token of the other stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from data_gen.errors import InputError
from data_gen.text import Text
from tinysql.tokens import END_ROLE, Tokenizer, Tokens
from transfer.names import Alignment

ANSWER = "sql."
"""What the roles of an answer's tokens begin with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Texts as one tokenizer reads them, each with the end token behind it; equal to itself alone."""

    texts: tuple[Text, ...]
    tokens: Tokens
    ends: Int[Tensor, "batch seq"]
    """Where each token ends in its text, in characters; 1 past the text for the end token, -1 at padding."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Positions that belong together, text by text."""

    example: Int[Tensor, " match"]
    source: Int[Tensor, " match"]
    target: Int[Tensor, " match"]
    coverage: float
    """Share of the target's real tokens that have a partner."""

    def __len__(self) -> int:
        return len(self.example)


def read(tokenizer: Tokenizer, texts: Sequence[Text]) -> Reading:
    """Tokenise texts, keeping roles and character ends.

    Raises `InputError` when there is no text.
    """
    if not texts:
        raise InputError("there is no text to read", hint="give at least one")
    rows = []
    for text in texts:
        encoding = tokenizer.backend.encode(text.string, add_special_tokens=False)
        roles = [*text.roles_of(encoding.offsets), END_ROLE]
        ends = [*(end for _, end in encoding.offsets), len(text.string) + 1]
        start = next((i for i, role in enumerate(roles) if role.startswith(ANSWER)), len(roles))
        rows.append(([*encoding.ids, tokenizer.end_id], roles, ends, start))
    width = max(len(ids) for ids, _, _, _ in rows)
    lengths = torch.tensor([len(ids) for ids, _, _, _ in rows])
    tokens = Tokens(
        ids=torch.tensor([ids + [tokenizer.pad_id] * (width - len(ids)) for ids, _, _, _ in rows]),
        mask=torch.arange(width) < lengths[:, None],
        roles=tuple((*roles, *[""] * (width - len(roles))) for _, roles, _, _ in rows),
        answer_start=torch.tensor([start for _, _, _, start in rows]),
    )
    return Reading(
        texts=tuple(texts),
        tokens=tokens,
        ends=torch.tensor([ends + [-1] * (width - len(ends)) for _, _, ends, _ in rows]),
    )


def match(source: Reading, target: Reading, alignment: Alignment) -> Matches:
    """The partners under either alignment."""
    return match_spans(source, target) if alignment == "spans" else match_positions(source, target)


def match_spans(source: Reading, target: Reading) -> Matches:
    """Tokens that end at the same character: both models have then read exactly the same text.

    Of several tokens that end there (the bytes of one character) the last counts on either side.

    Example: `ab|cd|e` and `abcd|e` give the pairs (1, 0) and (2, 1).
    """
    _check_texts(source, target)
    found = []
    for row in range(len(source)):
        # A later token of the same end replaces an earlier one.
        places = [
            {end: i for i, end in enumerate(side.ends[row].tolist()) if end >= 0} for side in (source, target)
        ]
        found += [(row, places[0][end], j) for end, j in places[1].items() if end in places[0]]
    return _matches(found, target)


def match_positions(source: Reading, target: Reading) -> Matches:
    """The i-th token of one with the i-th of the other, as far as the longer goes, so that some meet padding.

    What arXiv 2503.04429 did between tokenizers; kept as the control of `match_spans`.
    """
    _check_texts(source, target)
    lengths = torch.maximum(source.tokens.mask.sum(1), target.tokens.mask.sum(1))
    most = min(source.ends.shape[1], target.ends.shape[1])
    rows = [(row, i, i) for row, length in enumerate(lengths.tolist()) for i in range(min(length, most))]
    return _matches(rows, target)


def _check_texts(source: Reading, target: Reading) -> None:
    different = [
        i for i, (a, b) in enumerate(zip(source.texts, target.texts, strict=False)) if a.string != b.string
    ]
    if different or len(source) != len(target):
        which = f"text {different[0]} differs" if different else f"{len(source)} texts and {len(target)}"
        raise InputError(
            f"the two models have not read the same texts: {which}", hint="read one list of texts with both"
        )


def _matches(found: list[tuple[int, int, int]], target: Reading) -> Matches:
    if not found:
        raise InputError(
            "no token of one tokenizer ends where one of the other does",
            hint="give texts that both tokenizers know",
        )
    example, a, b = (torch.tensor(column) for column in zip(*found, strict=True))
    real = int(target.tokens.mask[example, b].sum())
    return Matches(example=example, source=a, target=b, coverage=real / int(target.tokens.mask.sum()))
