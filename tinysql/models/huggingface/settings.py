"""`config.json` of a checkpoint -> typed values, each checked on reading; nothing in the file is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_gen.errors import InputError


class Settings:
    """The keys of a `config.json`; several names mean: the first of them that is there. Null counts as absent."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def whole(self, *names: str, default: int | None = None) -> int:
        """A whole number."""
        name, value = self._find(names, default)
        if type(value) is not int:
            raise self.wrong(name, "a whole number")
        return value

    def optional_whole(self, *names: str) -> int | None:
        """A whole number, or None where there is none."""
        return self.whole(*names) if any(self.values.get(name) is not None for name in names) else None

    def real(self, *names: str, default: float | None = None) -> float:
        """A number."""
        name, value = self._find(names, default)
        found = as_real(value)
        if found is None:
            raise self.wrong(name, "a number")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        _, value = self._find((name,), default)
        if type(value) is not bool:
            raise self.wrong(name, "true or false")
        return value

    def one_of(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """What `known` has under the word."""
        _, value = self._find((name,), default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(name, f"one of {', '.join(known)}")
        return known[value]

    def only(self, name: str, expected: object) -> None:
        """Refuse any value but `expected`, which is all that a `HybridLM` can do."""
        _, value = self._find((name,), expected)
        if value != expected:
            raise self.wrong(name, f"{expected!r}, as tinysql's models have it")

    def wrong(self, name: str, expectation: str) -> InputError:
        """The error for the value of `name`."""
        return InputError(
            f"{self.where}: `{name}` is {self.values.get(name)!r}, expected {expectation}",
            hint="choose a checkpoint that tinysql's models can hold, or restore the file",
        )

    def _find(self, names: tuple[str, ...], default: object) -> tuple[str, Any]:
        for name in names:
            if self.values.get(name) is not None:
                return name, self.values[name]
        if default is None:
            raise InputError(f"{self.where} has no `{names[0]}`", hint="restore the file")
        return names[0], default


def as_real(value: object) -> float | None:
    """A JSON number, or transformers' `{"__float__": "Infinity"}`; None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"__float__"} and value["__float__"] == "Infinity":
        return float("inf")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
