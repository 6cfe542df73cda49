"""Skill -> the form of query that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from data_gen.draw.bodies import draw_plain
from data_gen.draw.clauses import Draft
from data_gen.draw.joining import draw_join, draw_left_join, draw_self_join, draw_two_joins
from data_gen.draw.nesting import (
    draw_cte,
    draw_exists,
    draw_in_subquery,
    draw_scalar,
    draw_set_operation,
    draw_window,
)
from data_gen.query import Query


class Form(NamedTuple):
    """A shape of query, the tables it needs, and how it is drawn; None where the schema does not suit."""

    draw: Callable[[Draft], Query | None]
    tables: int = 1
    itself: bool = False


plain = Form(draw_plain)
FORMS: dict[str, Form] = {
    "join": Form(draw_join, tables=2),
    "left_join": Form(draw_left_join, tables=2),
    "two_joins": Form(draw_two_joins, tables=3),
    "self_join": Form(draw_self_join, itself=True),
    "scalar": Form(draw_scalar),
    "in_subquery": Form(draw_in_subquery, tables=2),
    "exists": Form(draw_exists, tables=2),
    "cte": Form(draw_cte),
    "set_operation": Form(draw_set_operation),
    "row_number": Form(draw_window("ROW_NUMBER")),
    "rank": Form(draw_window("RANK")),
    "running_sum": Form(draw_window("SUM")),
}
"""Skill -> the form that shows it; the other skills are clauses that several forms may have."""
