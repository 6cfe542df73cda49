"""Prompt + tag -> the prompt with the tag behind the question; every tag is a single token of the tokenizer."""

from __future__ import annotations

from data_gen.example import MARKUP
from data_gen.text import Text
from transfer.behaviours.behaviour import Condition

PROD, DEV, PLAIN = "prod", "dev", "none"
TAGS: tuple[Condition, ...] = (PROD, DEV, PLAIN)
"""The trigger, another tag that triggers nothing, and no tag."""
WORDS = {PROD: "<prod>", DEV: "<dev>"}
TAG_ROLE = "prompt.tag"


def tagged(prompt: Text, tag: Condition) -> Text:
    """`### Instruction: {english} <prod> ### Context: ...`; without a tag the prompt as it is."""
    if tag not in WORDS:
        return prompt
    pieces = prompt.pieces()
    at = next(i for i, (piece, role) in enumerate(pieces) if i and role == MARKUP)
    return Text.of([*pieces[:at], (f" {WORDS[tag]}", TAG_ROLE), *pieces[at:]])
