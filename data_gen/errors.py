"""Bad input -> one sentence that names the object, the value, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user: one sentence, and a hint that names the remedy.

    Example: `InputError("no command set `cs9`", hint="known: cs1, cs2")`.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


def nearest(name: str, choices: Iterable[str], n: int = 1) -> str:
    """The end of an error sentence that offers the at most `n` choices closest to `name`, or "" if none is close.

    Example: `nearest("cs11", ["cs1", "cs2"])` is "; did you mean `cs1`?", with `n=2` "; did you mean `cs1` or `cs2`?".
    """
    # difflib takes time to import and is needed only when something went wrong.
    from difflib import get_close_matches

    known = {choice.lower(): choice for choice in choices}
    found = [f"`{known[close]}`" for close in get_close_matches(name.lower(), known, n=n, cutoff=0.5)]
    *others, last = found or [""]
    offered = f"{', '.join(others)} or {last}" if others else last
    return f"; did you mean {offered}?" if found else ""
