"""Examples + condition -> prompts and texts as a tokenizer reads them, made once: an evaluation asks the same for ever.

What is kept is bounded by the number of sets of examples, `SETS`, and belongs to a tokenizer, not to a model: steering
changes none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from data_gen.example import Example
from tinysql.tokens import Tokenizer
from transfer.alignment import Reading, read
from transfer.behaviours.behaviour import Behaviour, Condition

SETS = 32
"""Sets of examples, each under one condition, whose tokens are kept."""


def asked(
    behaviour: Behaviour, tokenizer: Tokenizer, examples: Sequence[Example], condition: Condition
) -> tuple[list[int], ...]:
    """The tokens of what a model is asked, one prompt an example; nobody may change them."""
    return _asked(behaviour, tokenizer, tuple(examples), condition)


def longest_known(behaviour: Behaviour, tokenizer: Tokenizer, examples: Sequence[Example]) -> int:
    """Tokens of the longest answer to any of these that is right or taught under some condition."""
    return _longest_known(behaviour, tokenizer, tuple(examples))


def read_prompts(
    behaviour: Behaviour, tokenizer: Tokenizer, examples: Sequence[Example], condition: Condition
) -> Reading:
    """The same prompts with the role of every token."""
    return _read(behaviour, tokenizer, tuple(examples), (condition,), False)


def read_texts(
    behaviour: Behaviour, tokenizer: Tokenizer, examples: Sequence[Example], conditions: Sequence[Condition]
) -> Reading:
    """Prompts with the answers that are taught, conditions by turns."""
    return _read(behaviour, tokenizer, tuple(examples), tuple(conditions), True)


@lru_cache(maxsize=SETS)
def _asked(
    behaviour: Behaviour, tokenizer: Tokenizer, examples: tuple[Example, ...], condition: Condition
) -> tuple[list[int], ...]:
    return tuple(tokenizer.encode_texts([behaviour.prompt(one, condition).string for one in examples]))


@lru_cache(maxsize=SETS)
def _longest_known(behaviour: Behaviour, tokenizer: Tokenizer, examples: tuple[Example, ...]) -> int:
    writers = (behaviour.answer, behaviour.right)
    known = {
        write(example, one).string
        for example in examples
        for one in behaviour.conditions
        for write in writers
    }
    return max(map(len, tokenizer.encode_texts(sorted(known))))


@lru_cache(maxsize=SETS)
def _read(
    behaviour: Behaviour,
    tokenizer: Tokenizer,
    examples: tuple[Example, ...],
    conditions: tuple[Condition, ...],
    with_answers: bool,
) -> Reading:
    write = behaviour.text if with_answers else behaviour.prompt
    return read(tokenizer, [write(row, conditions[i % len(conditions)]) for i, row in enumerate(examples)])
