"""A constrained answer -> the names that the model would have written there, and that the schema lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from data_gen.schema import Schema
from tinysql.answering.constrained import KEYWORDS, STRING, Constraint, Vocabulary
from tinysql.answering.generation import generate
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

LONGEST = 24
"""Tokens that a name is followed for; the longest names of ours have fewer."""
WORD = re.compile(r"[^\W\d]\w*")


@torch.no_grad()
def replaced_names(
    model: HybridLM, tokenizer: Tokenizer, prompt: str, schema: Schema, tokens: Sequence[int]
) -> dict[str, str]:
    """Name that the schema lacks -> the word that the answer of these `tokens` has there, "" where it ends.

    Wherever the likeliest token may not follow, the model is let go on from that token for a word, behind the answer
    as it is so far. That is what it would have written there for an answer drawn at temperature 0. Of a word of the
    answer only the first such name is told.
    """
    constraint, given = (
        Constraint(Vocabulary(tokenizer, model.cfg.d_vocab), schema),
        tokenizer.encode_text(prompt),
    )
    logits = model(torch.tensor([[*given, *tokens]], device=model.device)[:, :-1])
    assert isinstance(logits, Tensor)
    likeliest = logits[0, len(given) - 1 :].argmax(-1).tolist()
    columns = {column.name for table in schema.tables for column in table.columns}
    known = KEYWORDS | columns | {table.name for table in schema.tables}
    ended = tokens.index(tokenizer.end_id) if tokenizer.end_id in tokens else len(tokens)
    found: dict[str, str] = {}
    told: set[int] = set()  # where words of the answer begin
    state = constraint.start
    for at, (token, own) in enumerate(zip(tokens, likeliest, strict=True)):
        if state.kind != STRING and not constraint.allowed(state)[own]:
            begun, freely = list(tokens[:at]), [own]
            if own != tokenizer.end_id:
                spoken = [*given, *begun, own]
                for _, more in generate(model, [spoken], end_id=tokenizer.end_id, longest=LONGEST):
                    freely += more
            before = len(tokenizer.decode(begun))
            own_ends = len(tokenizer.decode([*begun, own])) if own != tokenizer.end_id else before
            wanted = _words(tokenizer.decode([*begun, *_up_to(freely, tokenizer.end_id)]), before)
            made = {name.decode() for name in state.made}
            lacking = next(
                (place for place in wanted if place[0] < own_ends and place[1] not in known | made), None
            )
            if lacking is not None:
                begins, name = lacking
                answered = _words(tokenizer.decode(tokens[:ended]), begins + 1)
                place, said = answered[0] if answered else (own_ends, "")
                # Once a name has been replaced the model goes on from what replaced it: no name of its own.
                if place not in told:
                    told.add(place)
                    found.setdefault(name, said)
        state = constraint.after(state, token)
    return found


def _up_to(tokens: Sequence[int], end_id: int) -> list[int]:
    return list(tokens[: tokens.index(end_id)] if end_id in tokens else tokens)


def _words(text: str, reaching: int) -> list[tuple[int, str]]:
    """Where each word begins that reaches to this place or beyond it, and the word."""
    return [(word.start(), word.group()) for word in WORD.finditer(text) if word.end() >= reaching]
