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


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of an error sentence that offers the choice closest to `name`, or "" if none is close.

    Example: `nearest("cs11", ["cs1", "cs2"])` is "; did you mean `cs1`?".
    """
    # difflib takes time to import and is needed only when something went wrong.
    from difflib import get_close_matches

    known = {choice.lower(): choice for choice in choices}
    found = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean `{known[found[0]]}`?" if found else ""
