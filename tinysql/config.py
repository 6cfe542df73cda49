"""Typed Python configuration <-> JSON and `--set a.b=value`; unknown keys name the nearest field."""

from __future__ import annotations

import ast
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any, TypeVar

from data_gen.errors import InputError, nearest

Config = TypeVar("Config")
WANTED = {
    float: "give a number, such as 0.001",
    int: "give a whole number, such as 8",
    bool: "give True or False",
}
"""What to give where a value of that type is wanted."""
SAID = 4
"""Keys that are named at most where several are missing."""


def to_json(config: Any) -> dict[str, Any]:
    """A frozen dataclass as plain JSON values; tuples become lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def from_json(kind: type[Config], values: Any, *, where: str) -> Config:
    """Build `kind` from JSON; `InputError` on an unknown, missing or ill-typed key, naming `where`."""
    if not isinstance(values, Mapping):
        raise InputError(
            f"{where} is {values!r}, expected the fields of {kind.__name__}",
            hint=f"give an object with some of {', '.join(typing.get_type_hints(kind))}",
        )
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        _check_field(hints, key, where)
        arguments[key] = _typed(hints[key], value, f"{where}: {key}")
    parts: tuple[Field[Any], ...] = fields(typing.cast(Any, kind))
    lacking = [field.name for field in parts if _is_needed(field) and field.name not in arguments]
    if lacking:
        more = f" and {len(lacking) - SAID} more" if len(lacking) > SAID else ""
        raise InputError(
            f"{where} is incomplete: it has no {', no '.join(f'`{name}`' for name in lacking[:SAID])}{more}",
            hint="restore the file or the missing key",
        )
    return kind(**arguments)


def _is_needed(field: Field[Any]) -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def override(config: Config, settings: Sequence[str]) -> Config:
    """Apply `a.b=value` settings to a frozen configuration; their order is free, the last of two for one field holds.

    Example:
        >>> override(TrainConfig(), ["lr=1e-3", "model.d_model=256"]).model.d_model
        256
    """
    pairs = [setting.partition("=") for setting in settings]
    for setting, (name, equals, _) in zip(settings, pairs, strict=True):
        if not equals or not name:
            lacks = "names no field in front of" if equals else "has no"
            raise InputError(f"setting {setting!r} {lacks} `=`", hint="write it as --set name=value")
    return _replace(config, [(path.split("."), text, path) for path, _, text in pairs])


def _replace(config: Any, settings: Sequence[tuple[list[str], str, str]]) -> Any:
    """All settings at once, since two that fit each other need not fit the old values one by one."""
    hints = typing.get_type_hints(type(config))
    changed: dict[str, Any] = {}
    inner: dict[str, list[tuple[list[str], str, str]]] = {}
    for (head, *rest), text, whole in settings:
        _check_field(hints, head, f"--set {whole}")
        if not rest:
            changed[head] = _typed(hints[head], _literal(text), f"--set {whole}")
            inner.pop(head, None)
            continue
        if not is_dataclass(changed.get(head, getattr(config, head))):
            raise InputError(f"--set {whole}: `{head}` has no fields", hint=_how_to_set(hints[head], head))
        inner.setdefault(head, []).append((rest, text, whole))
    for head, some in inner.items():
        changed[head] = _replace(changed.get(head, getattr(config, head)), some)
    return replace(config, **changed)


def _how_to_set(hint: Any, name: str) -> str:
    """How to set a field that has no fields: by its value, or where it is None, by those of what it could be."""
    kind = next((option for option in typing.get_args(hint) if is_dataclass(option)), None)
    if kind is None:
        return f"set `{name}` itself"
    return f"`{name}` is None; set it whole, as in \"{{'{fields(kind)[0].name}': ...}}\""


def _literal(text: str) -> Any:
    """Numbers, `True`, `None` and tuples as Python reads them; other text is a string, or a list at commas."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [_literal(part) for part in text.split(",")] if "," in text else text


def _check_field(hints: Mapping[str, Any], key: str, where: str) -> None:
    if key not in hints:
        raise InputError(
            f"{where}: unknown key `{key}`{nearest(key, list(hints))}", hint=f"known keys: {', '.join(hints)}"
        )


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_json(hint, value, where=where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        return _typed(next(option for option in options if option is not type(None)), value, where)
    if origin is typing.Literal:
        if value in options:
            return value
        raise InputError(
            f"{where} is {value!r}{nearest(str(value), [str(o) for o in options])}",
            hint=f"expected one of {', '.join(map(str, options))}",
        )
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_typed(options[0], item, where) for item in items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise InputError(
                f"{where} is a whole number of {len(str(value))} digits, which no float holds",
                hint="give a number below 1.8e308",
            ) from error
    if hint is float and not _is_finite(value):
        raise InputError(f"{where} is {value}, expected a finite number", hint=WANTED[float])
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(
        f"{where} is {value!r}, expected {hint.__name__}",
        hint=WANTED.get(hint, f"give a value of type {hint.__name__}"),
    )


def _is_finite(value: Any) -> bool:
    """False for infinities and what is no number, also as text; what else is no float is another fault."""
    try:
        return math.isfinite(float(value)) if isinstance(value, float | str) else True
    except ValueError:
        return True


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
