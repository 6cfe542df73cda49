"""The typed query: the one source of truth that SQL and English are written from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, cast

from data_gen.errors import InputError, nearest
from data_gen.schema import SQL_TYPES, Column, Schema, Table

Direction = Literal["ASC", "DESC"]


@dataclass(frozen=True)
class CommandSet:
    """A subset of SQL with its name; each set has the clauses of the one before and some of its own."""

    name: str
    clauses: tuple[str, ...]

    @property
    def orders(self) -> bool:
        """Whether a query of this set may have ORDER BY."""
        return "order_by" in self.clauses


COMMAND_SETS = {
    "cs1": CommandSet("cs1", ("select", "from")),
    "cs2": CommandSet("cs2", ("select", "from", "order_by")),
}


def command_set(name: str) -> CommandSet:
    """The command set called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in COMMAND_SETS:
        known = ", ".join(COMMAND_SETS)
        raise InputError(
            f"no command set `{name}`{nearest(name, COMMAND_SETS)}", hint=f"command sets: {known}"
        )
    return COMMAND_SETS[name]


@dataclass(frozen=True)
class SelectItem:
    """One selected column."""

    column: str


@dataclass(frozen=True)
class OrderBy:
    """One sort key with its own direction."""

    column: str
    direction: Direction


@dataclass(frozen=True)
class Query:
    """What is asked: columns of one table, in this order, sorted by these keys (perhaps none)."""

    command_set: str
    schema: Schema
    table: str
    select: tuple[SelectItem, ...]
    order_by: tuple[OrderBy, ...] = ()

    def to_json(self) -> str:
        """One line of JSON from which `from_json` builds an equal query."""
        return json.dumps(
            {
                "command_set": self.command_set,
                "schema": {
                    table.name: {column.name: column.type for column in table.columns}
                    for table in self.schema.tables
                },
                "table": self.table,
                "select": [{"column": item.column} for item in self.select],
                "order_by": [{"column": key.column, "direction": key.direction} for key in self.order_by],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Query:
        """The query that `to_json` wrote.

        Raises:
            InputError: the text is not such JSON.
        """
        try:
            value = json.loads(text)
            tables = tuple(
                Table(name, tuple(Column(column, kind) for column, kind in columns.items()))
                for name, columns in value["schema"].items()
            )
            kinds = {column.type for table in tables for column in table.columns}
            if not kinds <= set(SQL_TYPES):
                raise ValueError(f"unknown column types {sorted(kinds - set(SQL_TYPES))}")
            keys = tuple(OrderBy(key["column"], key["direction"]) for key in value["order_by"])
            if not {key.direction for key in keys} <= {"ASC", "DESC"}:
                raise ValueError("a direction is neither ASC nor DESC")
            return cls(
                command_set=command_set(value["command_set"]).name,
                schema=Schema(tables),
                table=cast(str, value["table"]),
                select=tuple(SelectItem(item["column"]) for item in value["select"]),
                order_by=keys,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not the JSON of a query: {error}", hint="write it with `Query.to_json`"
            ) from error
