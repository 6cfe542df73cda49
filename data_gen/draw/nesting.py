"""Draft -> query with another SELECT in it: subqueries, CTE, set operations; and windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_gen.draw.at_hand import At
from data_gen.draw.bodies import make_query, varying
from data_gen.draw.clauses import MOST_KEYS, Draft
from data_gen.draw.schemas import between, pick, sample
from data_gen.query import (
    AggregateFunction,
    ColumnRef,
    Comparison,
    Compound,
    Condition,
    Cte,
    OrderBy,
    Query,
    Select,
    SelectItem,
    SetOperator,
    Window,
    WindowFunction,
)

ONE = SelectItem("1")
"""What EXISTS selects."""
CTE_NAMES = ("picks", "matches", "choices", "excerpts", "findings", "leftovers")


def _filtered(draft: Draft, condition: Condition, table: str, at: list[At]) -> Query:
    """A plain query whose last condition is `condition`, perhaps behind another one.

    The subquery comes last, so that what the English says behind it can only belong to it.
    """
    fixed = {condition.column} if condition.operator == "=" else set()
    items = draft.items([one for one in at if one.name not in fixed])
    clauses: dict[str, Any] = {"select": tuple(items)}
    inner = condition.subquery.where if condition.subquery is not None else ()
    # What the subquery filters by is about other rows; outside it would leave hardly a row.
    within = {one.column for group in inner for one in group}
    if draft.is_ordered():
        free = [one for one in at if one.name not in fixed | within] or at
        free = sample(draft.rng, free, min(len(free), MOST_KEYS))
        clauses["order_by"] = draft.keys(free, items)
    others = [one for one in at if one.name not in {condition.column, *within}]
    before = draft.where(others, 1, varying(clauses)) if others and draft.chance(0.3) else ()
    return make_query(draft, table=table, where=(*before, (condition,)), **clauses)


def draw_scalar(draft: Draft) -> Query | None:
    """A number beside an aggregate of the whole table, or of some of its rows."""
    at = draft.columns(draft.drawn.main)
    numbers = [one for one in at if one.kind == "number"]
    if not numbers or len(at) < 2:
        return None
    one = pick(draft.rng, tuple(numbers))
    others = [other for other in at if other.name != one.name]
    filtered = draft.chance(0.5)
    # Nothing exceeds the largest of all; behind a filter it does.
    bounds: tuple[AggregateFunction, ...] = ("MIN", "MAX")
    function: AggregateFunction = pick(draft.rng, bounds) if filtered or draft.chance(0.4) else "AVG"
    if filtered or function == "AVG":
        operator: Comparison = pick(draft.rng, (">", "<", ">=", "<="))
    else:
        operator = pick(draft.rng, ("=", "<>"))
    inner = Select(
        select=(SelectItem(one.name, None, function, alias=f"{function}_{one.name}"),),
        table=draft.drawn.main,
        where=draft.where(others, 1) if filtered else (),
    )
    condition = Condition(column=one.name, operator=operator, subquery=inner)
    return _filtered(draft, condition, draft.drawn.main, [*others, one])


def draw_in_subquery(draft: Draft) -> Query | None:
    link = draft.drawn.links[0]
    at, others = draft.columns(link.child), draft.columns(link.parent)
    if not others:
        return None
    inner = Select(select=(SelectItem("id"),), table=link.parent, where=draft.where(others, 1))
    condition = Condition(column=link.key, operator="IN", negated=draft.chance(0.3), subquery=inner)
    return _filtered(draft, condition, link.child, at)


def draw_exists(draft: Draft) -> Query | None:
    link = draft.drawn.links[0]
    at, inner_columns = draft.columns(link.parent), draft.columns(link.child)
    if not at:
        return None
    match = Condition(column=link.key, table=link.child, operator="=", other=ColumnRef("id", link.parent))
    where: tuple[tuple[Condition, ...], ...] = ((match,),)
    if draft.chance(0.5):
        where = (*where, (draft.condition(pick(draft.rng, tuple(inner_columns))),))
    condition = Condition(
        operator="EXISTS",
        negated=draft.chance(0.3),
        subquery=Select(select=(ONE,), table=link.child, where=where),
    )
    return _filtered(draft, condition, link.parent, at)


def draw_cte(draft: Draft) -> Query | None:
    at = draft.columns(draft.drawn.main)
    if len(at) < 2:
        return None
    some = sample(draft.rng, at, between(draft.rng, 2, min(5, len(at))))
    items = draft.items(some)
    clauses: dict[str, Any] = {"select": tuple(items)}
    if draft.is_ordered():
        clauses["order_by"] = draft.keys(some, items)
    inner = Select(
        select=tuple([SelectItem(one.name) for one in some]),
        table=draft.drawn.main,
        where=draft.where(at, 2, varying(clauses)),
    )
    name = pick(draft.rng, CTE_NAMES)
    if draft.chance(0.3):
        tested = {condition.column for group in inner.where for condition in group}
        free = [one for one in some if one.name not in tested]
        clauses["where"] = draft.where(free, 1, varying(clauses))
    return make_query(draft, table=name, cte=Cte(name, inner), **clauses)


def draw_set_operation(draft: Draft) -> Query | None:
    at = draft.columns(draft.drawn.main)
    if len(at) < 3:
        return None
    shuffled = sample(draft.rng, at, len(at))
    count = 1 if draft.chance(0.6) or len(at) < 4 else 2
    if all(one.kind == "boolean" for one in shuffled[:count]):
        # Two values are in both halves, whatever these filter by.
        return None
    items = tuple([SelectItem(one.name) for one in shuffled[:count]])
    rest = shuffled[count:]
    half = max(1, len(rest) // 2)
    operator: SetOperator = pick(draft.rng, ("UNION", "EXCEPT", "INTERSECT"))
    first, second = draft.where(rest[:half], 1), draft.where(rest[half:] or rest[:half], 1)
    if first == second:
        return None
    table = draft.drawn.main
    other = Select(select=items, table=table, where=second)
    return make_query(draft, table=table, select=items, where=first, compound=Compound(operator, other))


def draw_window(function: WindowFunction) -> Callable[[Draft], Query | None]:
    """How a query with this window function is drawn."""

    def draw(draft: Draft) -> Query | None:
        at = draft.columns(draft.drawn.main)
        if len(at) < 3:
            return None
        shuffled = sample(draft.rng, at, len(at))
        summed = next((one for one in shuffled if one.kind == "number"), None)
        if function == "SUM" and summed is None:
            return None
        free = [one for one in shuffled if function != "SUM" or one is not summed]
        free = [one for one in free if one.kind != "boolean"]
        if not free:
            return None
        key, *rest = free
        partition = (rest[0].ref,) if rest and draft.chance(0.5) else ()
        order = OrderBy(key.column.name, "ASC" if draft.chance(0.5) else "DESC")
        window = Window(function, (order,), partition)
        column = summed.column.name if function == "SUM" and summed else "*"
        alias = {"ROW_NUMBER": "row_no", "RANK": "place"}.get(function, f"running_{column}")
        # Beside its own partition alone, a number in it would look the same in any order.
        shown = [one for one in at if one.ref not in partition]
        items = draft.items(shown, 3)
        if partition and draft.chance(0.5):
            items.append(SelectItem(partition[0].column))
        items.append(SelectItem(column, window=window, alias=alias))
        clauses: dict[str, Any] = {"select": tuple(items)}
        if "where" in draft.skills and draft.chance(0.4):
            clauses["where"] = draft.where(at, 1, varying(clauses))
        return make_query(draft, table=draft.drawn.main, **clauses)

    return draw
