"""What a command wrote -> what it holds, or a refusal that says which command writes it again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json


@contextmanager
def mended_by(place: Path, *, hint: str) -> Iterator[None]:
    """Within it, whatever is wrong with what stands there is told by its name and with what writes it again."""
    try:
        yield
    except InputError as error:
        told = error.message if str(place) in error.message else f"{place}: {error.message}"
        raise InputError(told, hint=hint) from error


def read_written(file: Path, again: str) -> dict[str, Any]:
    """The JSON object in `file`. Raises `InputError`, with the hint `again`, for one that is missing or damaged."""
    with mended_by(file, hint=again):
        return read_json(file)


def read_measured(file: Path, again: str) -> dict[str, Any]:
    """The same of a file whose numbers are all finite, since they are written so.

    Raises `InputError` as `read_written`, and for another number, which it names.
    """
    found = read_written(file, again)
    wrong = not_finite(found)
    if wrong is not None:
        name, value = wrong
        raise InputError(f"`{file}`: `{name}` is {value}, expected a finite number", hint=again)
    return found


def not_finite(found: Any, name: str = "") -> tuple[str, float] | None:
    """The dotted name and the value of the first number in JSON values that is not finite; None where all are.

    Example:
        >>> not_finite({"points": [{"low": 0.5}, {"low": float("nan")}]})
        ('points.1.low', nan)
    """
    if isinstance(found, float):
        return None if math.isfinite(found) else (name, found)
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    inside = (not_finite(value, f"{name}.{key}" if name else str(key)) for key, value in parts)
    return next((wrong for wrong in inside if wrong is not None), None)
