"""Choices of a user -> a checked `DataConfig`, which with an index determines a row."""

from __future__ import annotations

import types
import typing
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from data_gen.draw.splits import SPLITS, UNSEEN, Split
from data_gen.errors import InputError, nearest
from data_gen.query import command_set
from data_gen.say.style import VARIANTS, Variant
from data_gen.vocabulary.lexicon import lexicon

WIDEST = 48
"""Most columns of a table; with a joined table's an answer still has fewer than the grader reads."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What rows are drawn from. Row i is a pure function of (config, i)."""

    command_sets: tuple[str, ...] = ("cs1",)
    """Row i belongs to `command_sets[i % len(command_sets)]`; skills may be switched: `cs4+limit-aggregate`."""
    variant: Variant = "base"
    """How questions are said: `base` explicitly, `syn` with synonyms, `nat` as a person would ask."""
    seed: int = 0
    """Another seed gives other rows of the same kind; the splits stay disjoint whatever the seeds are."""
    split: Split = "train"
    """What is new to a model that saw `train`: `test` schemas, `tables`, `columns`, `names` (both), `recombined` and
    `invented` (all names, of pieces drawn together or of invented words), `templates`, `clauses` (pairs of clauses),
    `novel` (names and templates)."""
    lexicon: str = "full"
    """Words and phrases: `full`, or `demo` (few short words)."""
    min_columns: int = 2
    """Fewest columns of a table."""
    max_columns: int = 12
    """Most columns of a table."""
    max_keys: int | None = None
    """Most ORDER BY keys; by default as many as the table has columns."""
    random_names: float = 0.0
    """Share of training rows in which every name is a random `word_word` of lexicon pieces."""
    invented_names: float = 0.0
    """Share of training rows in which every name is of invented words, so that a model has to copy them."""
    invented_openings: float = 0.0
    """Share of training rows whose instruction has an invented word where its own stand before the columns, so that
    a model cannot know the first column by the word in front of it."""
    test_fraction: float = 0.1
    """Share of all schemas that belong to `test`, and of all recombined and invented names that belong to `recombined`
    and `invented`; keep it the same for train and test."""

    def __post_init__(self) -> None:
        # A list from JSON or `--set` is as good as a tuple.
        object.__setattr__(self, "command_sets", tuple(self.command_sets))
        if not self.command_sets:
            raise InputError("command_sets is empty", hint="name at least one, for example cs1")
        for name in self.command_sets:
            command_set(name)
        for kind, value, known in (("split", self.split, SPLITS), ("variant", self.variant, VARIANTS)):
            if value not in known:
                raise InputError(
                    f"no {kind} `{value}`{nearest(str(value), known)}", hint=f"{kind}s: {', '.join(known)}"
                )
        self._check_numbers()
        names = lexicon(self.lexicon)
        is_unseen = "columns" in UNSEEN[self.split]
        most = min(WIDEST, len(names.held_out_columns if is_unseen else names.single_columns))
        if not 1 <= self.min_columns <= self.max_columns <= most:
            raise InputError(
                f"columns from {self.min_columns} to {self.max_columns}: expected "
                f"1 <= min_columns <= max_columns <= {most} (lexicon `{self.lexicon}`, split `{self.split}`)",
                hint="set both, for example min_columns=1 and max_columns=4",
            )

    def _check_numbers(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if not _fits(value, kinds[field.name]):
                raise InputError(
                    f"{field.name} is {value!r}, expected {_wanted(kinds[field.name])}",
                    hint=_usual(field.name),
                )
        for name in ("random_names", "invented_names", "invented_openings"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected a share from 0 to 1", hint=_usual(name)
                )
        if self.random_names + self.invented_names > 1:
            raise InputError(
                f"random_names {self.random_names} and invented_names {self.invented_names} add up to more than 1",
                hint="they are shares of the same rows; lower one",
            )
        if not 0 < self.test_fraction < 1:
            raise InputError(
                f"test_fraction is {self.test_fraction}, expected a share between 0 and 1",
                hint=_usual("test_fraction"),
            )
        if self.max_keys is not None and self.max_keys < 1:
            raise InputError(
                f"max_keys is {self.max_keys}, expected at least 1, or none for no limit",
                hint=_usual("max_keys"),
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "command_sets": list(self.command_sets)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataConfig:
        """The config that `to_dict` wrote, or part of it.

        Raises:
            InputError: an unknown key, or a value that does not fit.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(
                    f"no data setting `{key}`{nearest(key, known)}", hint=f"settings: {', '.join(known)}"
                )
        return cls(**values)

    def with_settings(self, settings: typing.Sequence[str]) -> DataConfig:
        """This config with `key=value` texts applied, as `--set` gives them.

        Raises:
            InputError: a text without `=`, an unknown key, or a value that does not fit.
        """
        kinds = typing.get_type_hints(DataConfig)
        values = self.to_dict()
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise InputError(f"setting `{setting}` has no `=`", hint="write --set key=value")
            values[key] = _parse(key, text, kinds[key]) if key in kinds else text
        return DataConfig.from_dict(values)


def _fits(value: object, kind: Any) -> bool:
    options = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None:
        return type(None) in options
    if int in options:
        return isinstance(value, int) and not isinstance(value, bool)
    if float in options:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, tuple):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _wanted(kind: Any) -> str:
    if kind == int | None:
        return "a whole number or none"
    return {int: "a whole number", float: "a number"}.get(kind, "text")


def _usual(name: str) -> str:
    return f"leave out {name} for the default, {str(getattr(DataConfig, name)).lower()}"


def _parse(key: str, text: str, kind: Any) -> object:
    if kind == int | None and text.lower() == "none":
        return None
    if kind is str or typing.get_origin(kind) is Literal:
        return text
    if typing.get_origin(kind) is tuple:
        return text.split(",")
    try:
        return float(text) if kind is float else int(text)
    except ValueError:
        raise InputError(f"{key} is `{text}`, expected {_wanted(kind)}", hint=_usual(key)) from None
