"""Run -> examples of its own data that its model can read whole, as tokens: to train on, to watch on, to score on."""

from __future__ import annotations

from typing import Literal

from data_gen.errors import InputError
from data_gen.example import Example, make_example
from tinysql.progress import Bar
from tinysql.runs import Run
from tinysql.tokens import Tokenizer, Tokens

MOST_DRAWN = 4
"""Rows drawn for each that is wanted, as some are too long for the model."""
AT_ONCE = 500
"""Rows drawn between two looks at how many there are."""


def examples_of(
    run: Run, tokenizer: Tokenizer, split: Literal["train", "test"], rows: int, *, first: int = 0
) -> list[Example]:
    """Rows of a split of the run's data, from the `first` on, that fit the model's context; `InputError` if few do."""
    data, n_ctx, last = run.split(split), run.shape.n_ctx, first + MOST_DRAWN * rows
    found: list[Example] = []
    step = min(AT_ONCE, rows)
    with Bar(f"drawing {split} rows") as bar:
        for start in range(first, last, step):
            examples = [make_example(data, index) for index in range(start, min(start + step, last))]
            lengths = map(len, tokenizer.encode_texts([example.text.string for example in examples]))
            # Behind the SQL comes the end token.
            found += [e for e, length in zip(examples, lengths, strict=True) if length < n_ctx]
            bar.show(min(len(found), rows), rows)
            if len(found) >= rows:
                return found[:rows]
    raise InputError(
        f"of {MOST_DRAWN * rows} {split} rows of {run.path} {len(found)} fit the model's context of "
        f"{n_ctx} tokens, expected {rows}",
        hint="ask for fewer rows, or train with a larger n_ctx",
    )


def tokens_of(
    run: Run, tokenizer: Tokenizer, split: Literal["train", "test"], rows: int, *, first: int = 0
) -> Tokens:
    """`examples_of` as tokens, with their roles."""
    return tokenizer.encode(examples_of(run, tokenizer, split, rows, first=first))
