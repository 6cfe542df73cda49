"""An edit's name -> one slot of a query, and how another query differs from it in that slot alone.

The name is the dotted role of the slot, as SQL has it; `english.table` and `schema.table` say where the prompt
differs, because a table is named in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from data_gen.errors import InputError, nearest
from data_gen.pairs import changes, conditions, rebuilds
from data_gen.pairs.changes import Change, PairDraft
from data_gen.pairs.slots import PLACES, Place
from data_gen.query import COMMAND_SETS, Query, command_set

WINDOWS = ("row_number", "rank", "running_sum")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One slot that can change alone."""

    name: str
    change: Change
    """A query -> what it becomes when the slot changes, as far as its other slots allow it."""
    needs: tuple[str, ...] = ("",)
    """Skills without which no query has the slot: any one of these, each perhaps several joined by `+`."""
    rebuild: Change | None = None
    """A row -> rows like it that have the slot, where rows of the command set do not have it."""
    hide_table: bool = False
    """Whether the English must not name the table."""
    names: Literal["columns", "tables"] | None = None
    """What the changed word is a lexicon's name of; None for a literal, a key or a word of the grammar."""

    def suits(self, name: str) -> bool:
        """Whether queries of the command set called `name` may have the slot."""
        skills = _shown(name)
        return any(set(some.split("+")) - {""} <= skills for some in self.needs)

    def clean(self, draft: PairDraft, query: Query) -> Iterable[Query]:
        """Rows like `query` that have the slot."""
        if self.rebuild is not None:
            return self.rebuild(draft, query)
        return rebuilds.rename_free(draft, query) if draft.novel and self.names == "columns" else (query,)


BARE = "names without their table"
"""What `join.0.table` needs beside a skill: a qualified name would say the table twice."""


def _shown(name: str) -> set[str]:
    skills = set(command_set(name).skills)
    return skills if "qualified" in skills else skills | {BARE}


def _columns(name: str, change: Change, *needs: str) -> Edit:
    return Edit(name=name, change=change, needs=needs or ("",), names="columns")


def _of_select() -> list[Edit]:
    found = []
    for i in (0, 1):
        at = f"select.{i}"
        found += [
            _columns(f"{at}.column", changes.select_column(i, aggregated=False)),
            Edit(name=f"{at}.aggregate", change=changes.aggregate(i), needs=("aggregate",)),
            _columns(f"{at}.aggregate.column", changes.select_column(i, aggregated=True), "aggregate"),
        ]
    return found


def _of_keys() -> list[Edit]:
    found = []
    for i in (0, 1):
        found += [
            _columns(f"order_by.{i}.column", changes.key_column(i), "order_by"),
            Edit(name=f"order_by.{i}.direction", change=changes.direction(i), needs=("order_by",)),
        ]
    return found


def _of_where() -> list[Edit]:
    needs: dict[Place, tuple[str, ...]] = {
        "": ("where",),
        "cte.": ("cte",),
        "compound.": ("set_operation",),
        "where.0.subquery.": ("scalar", "in_subquery"),
    }
    found = []
    for place in PLACES:
        for i in (0, 1) if place == "" else (0,):
            at, some = f"{place}where.{i}", needs[place]
            found += [
                _columns(f"{at}.column", conditions.where_column(place, i), *some),
                Edit(name=f"{at}.operator", change=conditions.where_operator(place, i), needs=some),
                Edit(name=f"{at}.value", change=conditions.where_value(place, i), needs=some),
            ]
    return found


def _edits() -> list[Edit]:
    negatable = tuple(f"where+not+{skill}" for skill in ("like", "in", "between", "null"))
    tables: Literal["tables"] = "tables"
    return [
        Edit(name="schema.table", change=changes.schema_table, hide_table=True, names=tables),
        Edit(
            name="english.table",
            change=changes.english_table,
            rebuild=rebuilds.add_table,
            names=tables,
        ),
        *_of_select(),
        Edit(name="select.0.table", change=changes.select_table, needs=("self_join",)),
        Edit(name="distinct", change=changes.distinct, needs=("distinct",)),
        Edit(
            name="join.0.table",
            change=changes.join_table,
            rebuild=rebuilds.join_children,
            needs=(f"join+{BARE}",),
            names=tables,
        ),
        Edit(
            name="join.0.key", change=changes.join_key, rebuild=rebuilds.add_key, needs=("join", "two_joins")
        ),
        Edit(name="join.0.kind", change=changes.join_kind, needs=("join+left_join+qualified",)),
        *_of_where(),
        Edit(name="where.0.0.value", change=conditions.first_value, needs=("where+in", "where+or")),
        Edit(name="where.0.low", change=conditions.bound(0), needs=("where+between",)),
        Edit(name="where.0.high", change=conditions.bound(1), needs=("where+between",)),
        Edit(name="where.0.negated", change=conditions.negated, needs=negatable),
        Edit(name="where.connective", change=conditions.connective, needs=("where+or",)),
        Edit(name="where.0.subquery.kind", change=conditions.subquery_kind, needs=("in_subquery", "exists")),
        Edit(
            name="where.0.subquery.select.0.aggregate",
            change=conditions.subquery_aggregate,
            needs=("scalar",),
        ),
        Edit(name="having.0.aggregate", change=conditions.having_aggregate, needs=("aggregate+having",)),
        _columns("having.0.column", conditions.having_column, "aggregate+having"),
        Edit(name="having.0.operator", change=conditions.having_operator, needs=("aggregate+having",)),
        Edit(name="having.0.value", change=conditions.having_value, needs=("aggregate+having",)),
        *_of_keys(),
        Edit(name="limit.value", change=changes.limit, needs=("limit",)),
        Edit(name="compound.operator", change=changes.set_operator, needs=("set_operation",)),
        Edit(name="window.function", change=changes.window_function, needs=("row_number+rank",)),
        _columns("window.column", changes.window_column, "running_sum"),
        _columns("window.partition_by.0.column", changes.window_partition, *WINDOWS),
        _columns("window.order_by.0.column", changes.window_key, *WINDOWS),
        Edit(name="window.order_by.0.direction", change=changes.window_direction, needs=WINDOWS),
    ]


EDITS = {edit.name: edit for edit in _edits()}
"""Name -> edit."""


def edit_named(name: str) -> Edit:
    """The edit called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in EDITS:
        raise InputError(f"no edit `{name}`{nearest(name, EDITS)}", hint=f"edits: {', '.join(EDITS)}")
    return EDITS[name]


def sets_with(edit: Edit) -> list[str]:
    """The command sets whose queries may have the edit's slot."""
    return [name for name in COMMAND_SETS if edit.suits(name)]
