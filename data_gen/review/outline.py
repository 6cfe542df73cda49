"""Query or SQL -> its outline: the clauses it shows, or the text with names and literals left open."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_gen.query import Condition, Query, Select
from data_gen.query import selects as every_select

CLAUSES = (
    "WHERE",
    "OR",
    "JOIN",
    "LEFT JOIN",
    "GROUP BY",
    "HAVING",
    "DISTINCT",
    "ORDER BY",
    "LIMIT",
    "subquery",
    "WITH",
    "set operation",
    "OVER",
)
"""What `clauses` may name."""

_TOKEN = re.compile(r"'(?:[^']|'')*'|\w+(?:\.\d+)?")
_KEYWORDS = """
    SELECT DISTINCT FROM AS JOIN LEFT INNER CROSS ON WHERE AND OR NOT LIKE IN BETWEEN IS NULL EXISTS
    GROUP BY HAVING ORDER ASC DESC LIMIT WITH UNION EXCEPT INTERSECT
    SUM AVG MIN MAX COUNT OVER PARTITION ROW_NUMBER RANK
"""
_KEPT = frozenset(_KEYWORDS.split())


def skeleton(sql: str) -> str:
    """The SQL with `_` for every name and literal.

    Example: `SELECT price FROM orders WHERE name = 'amber'` gives `SELECT _ FROM _ WHERE _ = _`.
    """
    return _TOKEN.sub(lambda match: match[0] if match[0] in _KEPT else "_", sql)


def conditions(select: Select) -> Iterator[Condition]:
    """The conditions of WHERE, those within OR groups too."""
    return (condition for group in select.where for condition in group)


def operator(condition: Condition) -> str:
    """A condition's operator as SQL writes it: `NOT LIKE`, `IS NOT NULL`, `>=`."""
    if not condition.negated:
        return condition.operator
    return "IS NOT NULL" if condition.operator == "IS NULL" else f"NOT {condition.operator}"


def clauses(query: Query) -> list[str]:
    """The clauses that the query shows, in the order of `CLAUSES`."""
    found = set()
    if query.cte is not None:
        found.add("WITH")
    if query.compound is not None:
        found.add("set operation")
    outer = (query, *(part.select for part in (query.cte, query.compound) if part is not None))
    for select in outer:
        found.update(name for name, part in _clauses_of(select) if part)
    return [clause for clause in CLAUSES if clause in found]


def _clauses_of(select: Select) -> Iterator[tuple[str, object]]:
    yield "WHERE", select.where
    yield "OR", any(len(group) > 1 for group in select.where)
    yield "JOIN", any(join.kind != "LEFT" for join in select.joins)
    yield "LEFT JOIN", any(join.kind == "LEFT" for join in select.joins)
    yield "GROUP BY", select.group_by
    yield "HAVING", select.having
    yield "DISTINCT", select.distinct
    yield "ORDER BY", select.order_by
    yield "LIMIT", select.limit is not None
    yield "subquery", any(condition.subquery is not None for condition in conditions(select))
    yield "OVER", any(item.window is not None for item in select.select)


def features(query: Query) -> frozenset[str]:
    """What may be held out in pairs: clauses, functions, operators, and the directions of the first two sort keys.

    Those of subqueries are among them.
    """
    found = set(clauses(query))
    for select, _ in every_select(query):
        found.update(item.aggregate for item in select.select if item.aggregate)
        found.update(item.window.function for item in select.select if item.window)
        found.update(condition.operator for condition in conditions(select))
        found.update(f"{number}. key {key.direction}" for number, key in enumerate(select.order_by[:2], 1))
    if query.compound is not None:
        found.add(query.compound.operator)
    return frozenset(found)
