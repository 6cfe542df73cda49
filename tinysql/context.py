"""Lengths of rows and a model's context -> one refusal of all that do not fit: how many, the longest, the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.errors import InputError


def check_lengths(
    lengths: Sequence[int], n_ctx: int, *, what: str, hint: str, answered: bool = False
) -> None:
    """Raise `InputError` where a row is longer than `n_ctx` tokens; with `answered`, where no token is left to answer.

    `what` is what one row is called, such as `prompt`. In the `hint`, `{least}` is the smallest context in which all
    would do, and `{twice}` twice that.

    Example: "2 of 64 prompts do not fit: the longest has 141 tokens and the model's context is 128".
    """
    longest = [length + answered for length in lengths if length + answered > n_ctx]
    if not longest:
        return
    least = max(longest)
    which = (
        f"the {what}"
        if len(lengths) == 1
        else f"{len(longest):,} of {len(lengths):,} {what}s do not fit: the longest"
    )
    room = ", so there is no room for an answer" if answered else ""
    raise InputError(
        f"{which} has {least - answered} tokens and the model's context is {n_ctx}{room}",
        hint=hint.format(least=least, twice=2 * least),
    )
