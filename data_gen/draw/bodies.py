"""Draft -> SELECT to LIMIT over one set of columns: plain, grouped, filtered, sorted."""

from __future__ import annotations

from typing import Any

from data_gen.draw.at_hand import At
from data_gen.draw.clauses import (
    AGGREGATED_SHARE,
    FILTERED_SHARE,
    LOGIC,
    MOST_CONDITIONS,
    MOST_GROUPS,
    MOST_KEYS,
    Draft,
)
from data_gen.draw.schemas import between, pick, sample
from data_gen.query import ColumnRef, Comparison, Condition, OrderBy, Query, SelectItem
from data_gen.schema import WHOLE


def make_query(draft: Draft, **clauses: Any) -> Query:
    return Query(command_set=draft.command_set, schema=draft.drawn.schema, **clauses)


def draw_plain(draft: Draft) -> Query:
    return make_query(draft, table=draft.drawn.main, **draw_body(draft, draft.columns(draft.drawn.main)))


def draw_body(draft: Draft, at: list[At], many: str | None = None) -> dict[str, Any]:
    """SELECT to LIMIT over the columns at hand, as far as the set has the skills."""
    skills = draft.skills
    if "aggregate" in skills and len(at) > 1 and draft.chance(AGGREGATED_SHARE):
        clauses = _grouped(draft, at)
    else:
        clauses = _ungrouped(draft, at, many)
    if "where" in skills and (skills & LOGIC or draft.chance(FILTERED_SHARE)):
        most = 1 if "having" in clauses else 2 if "limit" in clauses else MOST_CONDITIONS
        clauses["where"] = draft.where(_untouched(at, clauses), most, varying(clauses))
    return clauses


def _ungrouped(draft: Draft, at: list[At], many: str | None) -> dict[str, Any]:
    """Bare columns; perhaps distinct, sorted, or the first few."""
    skills = draft.skills
    extras = [skill for skill in ("distinct", "limit") if skill in skills]
    extra = pick(draft.rng, tuple(extras)) if extras else None
    if extra is not None:
        # Yes and no are too few for a repetition, or a row beyond the limit, to be seen.
        at = [one for one in at if one.kind != "boolean"] or at
    # Many columns hardly ever repeat together.
    items = draft.items(at, 2 if extra == "distinct" else None)
    clauses: dict[str, Any] = {"select": tuple(items)}
    if not draft.is_ordered(always=extra == "limit"):
        keys: tuple[OrderBy, ...] = ()
    elif extra == "distinct":
        # Rows that differ have to differ in a key.
        keys = draft.output_keys(sample(draft.rng, items, len(items)))
    else:
        keys = draft.keys(at, items, most=MOST_KEYS if extra == "limit" or many else None, many=many)
    if extra == "distinct":
        clauses["distinct"] = True
    if keys:
        clauses["order_by"] = keys
        if extra == "limit":
            clauses["limit"] = between(draft.rng, 2, 5)
    return clauses


def _untouched(at: list[At], clauses: dict[str, Any]) -> list[At]:
    """The columns that no aggregate is made of: a bound on x hardly shows in MIN(x), nor a NULL in COUNT(x)."""
    items: tuple[SelectItem, ...] = clauses["select"]
    names = {item.column for item in items if item.aggregate}
    names |= {condition.column for condition in clauses.get("having", ())}
    if "limit" in clauses:
        # Nor does a bound on the first rows' own key show in the first rows.
        names |= {key.column for key in clauses["order_by"]}
    return [one for one in at if one.name not in names] if names else at


def varying(clauses: dict[str, Any]) -> set[str]:
    """The columns that would make a clause idle if WHERE left them a single value."""
    items: tuple[SelectItem, ...] = clauses["select"]
    keys: tuple[OrderBy, ...] = clauses.get("order_by", ())
    having: tuple[Condition, ...] = clauses.get("having", ())
    names = {item.column for item in items} | {key.column for key in keys} | {one.column for one in having}
    for item in items:
        if item.window is not None:
            names |= {key.column for key in item.window.order_by}
            names |= {ref.column for ref in item.window.partition_by}
    return names


def _grouped(draft: Draft, at: list[At]) -> dict[str, Any]:
    """Aggregates, perhaps beside bare columns, which are then grouped by; these come from one table."""
    rng, skills = draft.rng, draft.skills
    extras = [skill for skill in ("having", "limit") if skill in skills]
    extra = pick(rng, tuple(extras)) if extras else None
    own = at
    if draft.drawn.links:
        own = draft.beside(at[int(rng.random() * len(at))])
    if extra is not None:
        # Two groups are too few to leave some out.
        own = [one for one in own if one.kind != "boolean"]
    # A group that has to hold several rows cannot be told apart by many columns.
    most = 1 if extra == "having" else 2 if extra else MOST_GROUPS
    count = min(between(rng, 1 if extra else 0, min(most, len(at) - 1)), len(own))
    grouping = sample(rng, own, count)
    rest = [one for one in at if one not in grouping]
    bare = [one.item for one in grouping]
    aggregates = draft.aggregates(rest)
    items = sample(rng, bare + aggregates, len(bare) + len(aggregates))
    clauses: dict[str, Any] = {"select": tuple(items)}
    if not bare:
        return clauses
    clauses["group_by"] = tuple([ColumnRef(i.column, i.table) for i in items if i.aggregate is None])
    if extra == "having":
        used = {item.column for item in aggregates}
        clauses["having"] = (_having(draft, rest, [one for one in rest if one.name not in used]),)
    if draft.is_ordered(always=extra == "limit"):
        # Few groups are left to show more keys.
        most = 2 if extra else MOST_KEYS
        clauses["order_by"] = draft.group_keys(items, most)
    if extra == "limit" and clauses["order_by"]:
        clauses["limit"] = between(rng, 2, 3)
    return clauses


def _having(draft: Draft, at: list[At], unused: list[At]) -> Condition:
    """A condition on a group; only a column that nothing else aggregates is counted: it may hold NULLs."""
    rng = draft.rng
    numbers = [one for one in at if one.kind == "number"]
    if draft.chance(0.5) or not (numbers or unused):
        # At least one row is in every group.
        operator: Comparison = pick(rng, (">", ">="))
        most = between(rng, 1, 2) + (operator == ">=")
        return Condition(column="*", aggregate="COUNT", operator=operator, values=(most,))
    if unused and (not numbers or draft.chance(0.4)):
        one = pick(rng, tuple(unused))
        return Condition(
            column=one.name,
            table=one.table,
            aggregate="COUNT",
            operator=pick(rng, (">", ">=")),
            values=(between(rng, 1, 2),),
        )
    one = pick(rng, tuple(numbers))
    return Condition(
        column=one.name,
        table=one.table,
        aggregate=pick(rng, ("SUM", "MIN", "MAX")),
        operator=pick(rng, (">", "<", ">=", "<=")),
        values=(between(rng, 20, 80) + (0 if one.column.type in WHOLE else 0.5),),
    )
