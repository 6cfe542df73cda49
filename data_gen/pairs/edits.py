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
    slot: str
    """What a query has to have, as it reads behind `no`."""
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

    @property
    def remedy(self) -> str:
        """What to do where no query of a config has the slot."""
        more = ""
        if self.name.startswith("order_by.1."):
            more = "allow more sort keys (max_keys) and columns (max_columns), or "
        elif self.names == "columns":
            more = "give the tables more columns (min_columns, max_columns), or "
        return f"{more}choose a command set or split whose queries have it"

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


def _columns(name: str, slot: str, change: Change, *needs: str) -> Edit:
    return Edit(name=name, slot=slot, change=change, needs=needs or ("",), names="columns")


_PLACES = ("first", "second")


def _simple(name: str, slot: str, change: Change, *needs: str) -> Edit:
    return Edit(name=name, slot=slot, change=change, needs=needs or ("",))


def _of_select() -> list[Edit]:
    found = []
    for i, place in enumerate(_PLACES):
        at, item = f"select.{i}", f"aggregate as {place} item that ORDER BY does not repeat"
        bare, inside = (changes.select_column(i, aggregated=aggregated) for aggregated in (False, True))
        found += [
            _columns(f"{at}.column", f"bare column as {place} item with another one to put there", bare),
            _simple(f"{at}.aggregate", item, changes.aggregate(i), "aggregate"),
            _columns(
                f"{at}.aggregate.column", f"{item}, with another column that suits it", inside, "aggregate"
            ),
        ]
    return found


def _of_keys() -> list[Edit]:
    found = []
    for i, place in enumerate(_PLACES):
        column, key = f"{place} sort key with another one to put there", f"{place} sort key that matters"
        found += [
            _columns(f"order_by.{i}.column", column, changes.key_column(i), "order_by"),
            _simple(f"order_by.{i}.direction", key, changes.direction(i), "order_by"),
        ]
    return found


def _of_where() -> list[Edit]:
    places: dict[Place, tuple[str, tuple[str, ...]]] = {
        "": ("", ("where",)),
        "cte.": (" in WITH", ("cte",)),
        "compound.": (" in the second half of a set operation", ("set_operation",)),
        "where.0.subquery.": (" in a subquery of its first condition", ("scalar", "in_subquery")),
    }
    found = []
    for place in PLACES:
        inside, some = places[place]
        for i in (0, 1) if place == "" else (0,):
            at, which = f"{place}where.{i}", f"as {_PLACES[i]} condition{inside}"
            column = f"column {which} with another one of its kind to put there"
            comparison, literal = f"comparison {which} that could be another", f"single literal {which}"
            found += [
                _columns(f"{at}.column", column, conditions.where_column(place, i), *some),
                _simple(f"{at}.operator", comparison, conditions.where_operator(place, i), *some),
                _simple(f"{at}.value", literal, conditions.where_value(place, i), *some),
            ]
    return found


def _of_tables() -> list[Edit]:
    alone = "table that stands alone and is named once"
    tables: Literal["tables"] = "tables"
    return [
        Edit(name="schema.table", slot=alone, change=changes.schema_table, hide_table=True, names=tables),
        Edit(
            name="english.table",
            slot=alone,
            change=changes.english_table,
            rebuild=rebuilds.add_table,
            names=tables,
        ),
    ]


def _of_joins() -> list[Edit]:
    single = "single JOIN whose LEFT could be there or not"
    return [
        Edit(
            name="join.0.table",
            slot="JOIN on a foreign key, without aggregates, DISTINCT and LIMIT",
            change=changes.join_table,
            rebuild=rebuilds.join_children,
            needs=(f"join+{BARE}",),
            names="tables",
        ),
        Edit(
            name="join.0.key",
            slot="JOIN on a foreign key",
            change=changes.join_key,
            rebuild=rebuilds.add_key,
            needs=("join", "two_joins"),
        ),
        _simple("join.0.kind", single, changes.join_kind, "join+left_join+qualified"),
    ]


def _of_logic() -> list[Edit]:
    first = "as first condition"
    literal = f"IN with a list or two conditions joined by OR {first}"
    negatable = [f"where+not+{skill}" for skill in ("like", "in", "between", "null")]
    nested, scalar = f"IN or EXISTS with a subquery {first}", f"scalar subquery with MIN or MAX {first}"
    kind, aggregate = conditions.subquery_kind, conditions.subquery_aggregate
    return [
        _simple("where.0.0.value", literal, conditions.first_value, "where+in", "where+or"),
        _simple("where.0.low", f"BETWEEN {first}", conditions.bound(0), "where+between"),
        _simple("where.0.high", f"BETWEEN {first}", conditions.bound(1), "where+between"),
        _simple("where.0.negated", f"LIKE, IN, BETWEEN or IS NULL {first}", conditions.negated, *negatable),
        _simple("where.connective", "pair of conditions alone in WHERE", conditions.connective, "where+or"),
        _simple("where.0.subquery.kind", nested, kind, "in_subquery", "exists"),
        _simple("where.0.subquery.select.0.aggregate", scalar, aggregate, "scalar"),
    ]


def _of_having() -> list[Edit]:
    column, needs = "column in HAVING with another one of its kind to put there", "aggregate+having"
    return [
        _simple("having.0.aggregate", "SUM, MIN or MAX in HAVING", conditions.having_aggregate, needs),
        _columns("having.0.column", column, conditions.having_column, needs),
        _simple("having.0.operator", "HAVING", conditions.having_operator, needs),
        _simple("having.0.value", "HAVING", conditions.having_value, needs),
    ]


def _of_windows() -> list[Edit]:
    total = "running sum with another number to add up"
    part = "PARTITION BY with another column to put there"
    key, flip = changes.window_key, changes.window_direction
    return [
        _simple("window.function", "ROW_NUMBER or RANK", changes.window_function, "row_number+rank"),
        _columns("window.column", total, changes.window_column, "running_sum"),
        _columns("window.partition_by.0.column", part, changes.window_partition, *WINDOWS),
        _columns("window.order_by.0.column", "window with another column to sort by", key, *WINDOWS),
        _simple("window.order_by.0.direction", "window function", flip, *WINDOWS),
    ]


def _edits() -> list[Edit]:
    row = "table joined with itself and a bare column of it as first item"
    return [
        *_of_tables(),
        *_of_select(),
        _simple("select.0.table", row, changes.select_table, "self_join"),
        _simple("distinct", "DISTINCT", changes.distinct, "distinct"),
        *_of_joins(),
        *_of_where(),
        *_of_logic(),
        *_of_having(),
        *_of_keys(),
        _simple("limit.value", "LIMIT", changes.limit, "limit"),
        _simple("compound.operator", "set operation", changes.set_operator, "set_operation"),
        *_of_windows(),
    ]


EDITS = {edit.name: edit for edit in _edits()}
"""Name -> edit."""


def edit_named(name: str) -> Edit:
    """The edit called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in EDITS:
        raise InputError(
            f"no edit `{name}`{nearest(name, EDITS, n=3)}",
            hint=f"`tinysql data pairs --help` lists all {len(EDITS)}; docs/pairs.md says what each changes",
        )
    return EDITS[name]


def sets_with(edit: Edit) -> list[str]:
    """The command sets whose queries may have the edit's slot."""
    return [name for name in COMMAND_SETS if edit.suits(name)]
