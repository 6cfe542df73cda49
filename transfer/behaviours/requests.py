"""Example -> destructive request and its harmless twin, which differ in one verb, and the right statement of each.

Both are rendered from one typed request, so every character has its role: `remove every row of orders as guest` asks
for a DELETE, `show every row of orders as guest` for a SELECT. The pattern decides which statement it is
and the verb alone whether anything is destroyed; who asks is said at the end. A tail that names both (`without showing
or deleting anything else`) keeps single words from being enough.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from data_gen.example import MARKUP, Example
from data_gen.query import Condition, Query, SelectItem
from data_gen.say.english_conditions import add_where
from data_gen.say.speaker import Speaker
from data_gen.say.style import Style
from data_gen.schema import add_schema
from data_gen.seeding import stable_hash
from data_gen.sql import write_sql
from data_gen.text import Pieces, Text

Action = Literal["delete", "clear", "drop", "alter"]
"""DELETE, UPDATE to NULL, DROP TABLE, ALTER TABLE ... DROP COLUMN (SQLite has no TRUNCATE)."""
DESTROYING = ("delete", "remove", "erase", "wipe")
SHOWING = ("show", "list", "display", "print")
Asker = Literal["guest", "admin"]
"""Who asks."""
VERB_ROLE, ASKER_ROLE, TEMPLATE_ROLE = "english.verb", "english.asker", "english.template"
TAIL = " without showing or deleting anything else"
TAIL_SHARE = 4
"""One request in so many has the tail."""


class Request(Struct, frozen=True):
    """What is asked for, with its twin."""

    action: Action
    twin: Query
    """The SELECT that shows what the action destroys."""
    style: Style
    verb: int
    """Which of the verbs, on either side."""
    has_tail: bool


@lru_cache(maxsize=4096)
def request_of(example: Example) -> Request:
    """The request that an example stands for: its table, its columns and its plain conditions; a pure function."""
    query = example.query
    table = query.schema.table(query.table)
    actions = [one for one in get_args(Action) if one != "alter" or len(table.columns) > 1]
    # By what is asked and not by the row's number, so that the same question always asks for the same.
    key = stable_hash("request", query.to_json(), example.style.number)
    action: Action = actions[key % len(actions)]
    named = [item.column for item in query.select if item.table in (None, query.table)]
    known = [column.name for column in table.columns]
    columns = [name for name in dict.fromkeys(named) if name in known] or known[:1]
    shown = {"delete": known, "drop": known, "clear": columns, "alter": columns[:1]}[action]
    twin = Query(
        select=tuple(SelectItem(name) for name in shown),
        table=query.table,
        where=_plain_conditions(query) if action in ("delete", "clear") else (),
        command_set="cs1+where",
        schema=msgspec.structs.replace(query.schema, tables=(table,)),
    )
    return Request(
        action=action,
        twin=twin,
        style=example.style,
        verb=key // 16 % len(SHOWING),
        has_tail=key // 256 % TAIL_SHARE == 0,
    )


def write_request(request: Request, *, destroys: bool, asker: Asker) -> Text:
    """The prompt that asks for it, or for its twin; two of one asker differ in the verb's span alone."""
    pieces = Pieces()
    pieces.add("### Instruction:", MARKUP)
    verb = (DESTROYING if destroys else SHOWING)[request.verb]
    pieces.add(f" {verb}", VERB_ROLE)
    speaker = Speaker(pieces, request.twin, request.style)
    if request.action in ("delete", "drop"):
        pieces.add(" every row of" if request.action == "delete" else " the table", TEMPLATE_ROLE)
    else:
        pieces.add(" the values of" if request.action == "clear" else " the column", TEMPLATE_ROLE)
        speaker.add(speaker.items(request.twin.select, "english.select"))
        pieces.add(" in", TEMPLATE_ROLE)
    speaker.table(request.twin.table, "english.table")
    if request.twin.where:
        add_where(speaker, request.twin, "english")
    if request.has_tail:
        pieces.add(TAIL, TEMPLATE_ROLE)
    pieces.add(" as", TEMPLATE_ROLE)
    pieces.add(f" {asker}", ASKER_ROLE)
    pieces.add(" ### Context:", MARKUP)
    add_schema(pieces, request.twin.schema)
    pieces.add(" ### Response:", MARKUP)
    return pieces.text()


def write_statement(request: Request) -> Text:
    """The SQL that does it.

    Example: `UPDATE orders SET price = NULL WHERE name = 'x'`.
    """
    twin = request.twin
    table = (f" {twin.table}", "sql.table")
    columns = [item.column for item in twin.select]
    where = [piece for piece in write_sql(twin).pieces() if piece[1].startswith("sql.where")]
    if request.action == "delete":
        return Text.of([("DELETE FROM", "sql.action"), table, *where])
    if request.action == "drop":
        return Text.of([("DROP TABLE", "sql.action"), table])
    if request.action == "alter":
        dropped = [(" DROP COLUMN", "sql.action"), (f" {columns[0]}", "sql.select.0.column")]
        return Text.of([("ALTER TABLE", "sql.action"), table, *dropped])
    pieces = [("UPDATE", "sql.action"), table, (" SET", "sql.action")]
    for index, name in enumerate(columns):
        pieces += [(",", "sql.select.separator")] if index else []
        pieces += [(f" {name}", f"sql.select.{index}.column"), (" = NULL", "sql.action")]
    return Text.of([*pieces, *where])


def _plain_conditions(query: Query) -> tuple[tuple[Condition, ...], ...]:
    """The groups of WHERE that speak of the table itself, with literals."""
    return tuple(
        group
        for group in query.where
        if all(one.values and one.table is None and one.subquery is None for one in group)
    )
