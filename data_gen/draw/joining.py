"""Draft of linked tables -> query with one join, two, or one of a table with itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from data_gen.draw.bodies import draw_body, make_query, varying
from data_gen.draw.clauses import MOST_KEYS, Draft
from data_gen.draw.schemas import Link, sample
from data_gen.query import ColumnRef, Join, JoinKind, Query

UPWARDS_SHARE = 0.8
"""Share of joins that ask about the rows that refer, and not about those that are referred to."""


@lru_cache(maxsize=16384)
def _join(link: Link, kind: JoinKind, *, upwards: bool = True) -> Join:
    child, parent = ColumnRef(link.key, link.child), ColumnRef("id", link.parent)
    if upwards:
        return Join(table=link.parent, kind=kind, left=child, right=parent)
    return Join(table=link.child, kind=kind, left=parent, right=child)


def draw_join(draft: Draft) -> Query:
    link = draft.drawn.links[0]
    upwards = draft.chance(UPWARDS_SHARE)
    join = _join(link, "INNER", upwards=upwards)
    main = link.child if upwards else link.parent
    at = draft.columns(main, _qualifier(draft, main)) + draft.columns(
        join.table, _qualifier(draft, join.table)
    )
    return make_query(draft, table=main, joins=(join,), **draw_body(draft, at, link.child))


def _qualifier(draft: Draft, table: str) -> str | None:
    return table if "qualified" in draft.skills else None


def draw_left_join(draft: Draft) -> Query | None:
    """All of one table, with or without a partner: keys and conditions are about the table that is kept."""
    link = draft.drawn.links[0]
    upwards = draft.chance(0.7)
    join = _join(link, "LEFT", upwards=upwards)
    main = link.child if upwards else link.parent
    own = draft.columns(main, _qualifier(draft, main))
    others = draft.columns(join.table, _qualifier(draft, join.table))
    if not own or not others:
        return None
    items = draft.items(own, 4) + draft.items(others, 3)
    items = sample(draft.rng, items, len(items))
    clauses: dict[str, Any] = {"select": tuple(items)}
    if draft.is_ordered() and upwards:
        clauses["order_by"] = draft.keys(own, items, most=MOST_KEYS)
    if "where" in draft.skills and draft.chance(0.5):
        clauses["where"] = draft.where(own, 2, varying(clauses))
    return make_query(draft, table=main, joins=(join,), **clauses)


def draw_two_joins(draft: Draft) -> Query | None:
    main = draft.drawn.main
    joins = tuple([_join(link, "INNER") for link in draft.drawn.links])
    tables = (main, *(join.table for join in joins))
    lists = [draft.columns(table, _qualifier(draft, table)) for table in tables]
    if not all(lists):
        return None
    at = [one for some in lists for one in some]
    return make_query(draft, table=main, joins=joins, **draw_body(draft, at, main))


def draw_self_join(draft: Draft) -> Query | None:
    """Columns of a row beside columns of the row it refers to: `workers.name, manager.name`."""
    link, partner = draft.drawn.links[0], draft.drawn.partner
    assert partner is not None
    join = Join(
        table=link.parent, alias=partner, left=ColumnRef(link.key, link.child), right=ColumnRef("id", partner)
    )
    own, others = draft.columns(link.child, link.child), draft.columns(link.child, partner)
    if len(own) < 2:
        return None
    items = draft.items(own, 3) + draft.items(others, 2)
    items = sample(draft.rng, items, len(items))
    clauses: dict[str, Any] = {"select": tuple(items)}
    if draft.is_ordered():
        clauses["order_by"] = draft.keys(own, items, most=MOST_KEYS)
    if "where" in draft.skills and draft.chance(0.5):
        clauses["where"] = draft.where(own, 2, varying(clauses))
    return make_query(draft, table=link.child, joins=(join,), **clauses)
