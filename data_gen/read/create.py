"""A database's own CREATE TABLE statements -> schema, as far as models know schemas, and what was left out.

`data_gen.schema.parse_schema` reads what `write_schema` writes; this reads what people have: comments, quoted names,
lengths of types, keys apart from their columns, and the indexes and rows of a dump.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import SqlglotError

from data_gen.errors import InputError
from data_gen.schema import SQL_TYPES, Column, Schema, SqlType, Table

LONGEST = 200_000
"""Characters that are read at most."""
_EXAMPLE = "write CREATE TABLE orders ( price INTEGER, name TEXT )"
_TYPES: dict[SqlType, tuple[str, ...]] = {
    "INTEGER": ("INT", "TINYINT", "SMALLINT", "MEDIUMINT", "UTINYINT", "USMALLINT", "UINT", "SERIAL"),
    "BIGINT": ("BIGINT", "UBIGINT", "BIGSERIAL"),
    "REAL": ("FLOAT",),
    "DOUBLE": ("DOUBLE",),
    "DECIMAL": ("DECIMAL", "MONEY"),
    "TEXT": ("TEXT", "CHAR", "NCHAR", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "UUID"),
    "VARCHAR": ("VARCHAR", "NVARCHAR"),
    "DATE": ("DATE", "DATETIME", "TIMESTAMP", "TIMESTAMPTZ"),
    "BOOLEAN": ("BOOLEAN", "BIT"),
}
"""Column type of ours -> the names that sqlglot gives to types which hold the same kind of value."""


class _Written(SQLite):
    """SQLite's dialect, which quotes names in every way, with REAL and DOUBLE told apart, as our schemas do."""

    class Tokenizer(SQLite.Tokenizer):
        KEYWORDS: ClassVar = {**SQLite.Tokenizer.KEYWORDS, "REAL": TokenType.FLOAT, "FLOAT": TokenType.FLOAT}


@dataclass(frozen=True, kw_only=True)
class Created:
    """A schema, and a sentence for each kind of thing that its text says and models do not hear of."""

    schema: Schema
    left_out: tuple[str, ...]


def read_create(statements: str) -> Created:
    """The tables of CREATE TABLE statements in the dialect of SQLite, which most others' fit.

    Types become the nearest of `SQL_TYPES` (`VARCHAR(20)` is VARCHAR, `TIMESTAMP` is DATE). A primary key of one column
    and a reference to a table's `id` are kept, wherever they are written.

    Raises:
        InputError: text that does not parse, no table in it, a name that is no plain word, a type without a
            counterpart, or a key of a column that the table has not.
    """
    left_out: dict[str, None] = {}
    tables = []
    for statement in _parsed(statements):
        if isinstance(statement, exp.Create) and isinstance(statement.this, exp.Schema):
            tables.append(_Reading(statement.this, left_out).table())
        else:
            what = statement.args.get("kind") if isinstance(statement, exp.Create) else None
            left_out[f"statements that create no table ({what or statement.key.upper()})"] = None
    if not tables:
        raise InputError(f"schema `{statements.strip()[:60]}` is not CREATE TABLE statements", hint=_EXAMPLE)
    return Created(schema=Schema(tuple(tables)).check(), left_out=tuple(left_out))


def _parsed(statements: str) -> list[exp.Expression]:
    if len(statements) > LONGEST:
        raise InputError(
            f"the schema has {len(statements)} characters, expected at most {LONGEST}",
            hint="leave out the rows of a dump",
        )
    logger = logging.getLogger("sqlglot")
    was, logger.disabled = logger.disabled, True
    try:
        found = sqlglot.parse(statements, read=_Written)
    except (
        SqlglotError,
        RecursionError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
    ) as error:
        # The parser lets some of its own slips through on text that is no SQL.
        raise InputError(
            f"schema `{statements.strip()[:60]}` is not CREATE TABLE statements", hint=_EXAMPLE
        ) from error
    finally:
        logger.disabled = was
    return [statement for statement in found if isinstance(statement, exp.Expression)]


class _Reading:
    """One CREATE TABLE."""

    def __init__(self, created: exp.Schema, left_out: dict[str, None]) -> None:
        self.left_out = left_out
        self.name = _name(created.this, "table")
        self.parts = created.expressions
        self.references: dict[str, str] = {}
        self.primary: set[str] = set()

    def table(self) -> Table:
        columns = [part for part in self.parts if isinstance(part, exp.ColumnDef)]
        for column in columns:
            self.constraints(_name(column, "column"), [c.kind for c in column.args.get("constraints") or ()])
        for part in self.parts:
            if not isinstance(part, exp.ColumnDef):
                self.constraint_of_table(part)
        table = Table(self.name, tuple(self.column(column) for column in columns))
        for name in self.primary | set(self.references):
            table.column(name)
        return table

    def column(self, written: exp.ColumnDef) -> Column:
        name = _name(written, "column")
        return Column(
            name, _type(name, written.args.get("kind")), self.references.get(name), name in self.primary
        )

    def constraints(self, column: str, kinds: Iterable[exp.Expression]) -> None:
        for kind in kinds:
            if isinstance(kind, exp.PrimaryKeyColumnConstraint):
                self.primary.add(column)
            elif isinstance(kind, exp.Reference):
                self.refer(column, kind)
            else:
                self.left_out["NOT NULL, DEFAULT, UNIQUE and the like"] = None

    def constraint_of_table(self, part: exp.Expression) -> None:
        if isinstance(part, exp.Constraint):
            for inner in part.expressions:
                self.constraint_of_table(inner)
        elif isinstance(part, exp.PrimaryKey) and len(part.expressions) == 1:
            self.primary.add(part.expressions[0].name)
        elif isinstance(part, exp.PrimaryKey):
            self.left_out["primary keys of several columns"] = None
        elif isinstance(part, exp.ForeignKey) and len(part.expressions) == 1:
            self.refer(part.expressions[0].name, part.args.get("reference"))
        elif isinstance(part, exp.Identifier):
            raise _untyped(part.name)
        elif isinstance(part, exp.ForeignKey):
            self.left_out["foreign keys of several columns"] = None
        else:
            self.left_out["NOT NULL, DEFAULT, UNIQUE and the like"] = None

    def refer(self, column: str, reference: exp.Expression | None) -> None:
        target = reference.this if reference is not None else None
        named: Sequence[exp.Expression] = target.expressions if isinstance(target, exp.Schema) else ()
        if target is not None and (not named or [one.name for one in named] == ["id"]):
            self.references[column] = _name(target, "table")
        else:
            self.left_out["references to another column than `id`"] = None


def _name(node: exp.Expression, what: str) -> str:
    name = (node.this if isinstance(node, exp.Schema) else node).name
    if re.fullmatch(r"[^\W\d]\w*", name) is None:
        raise InputError(
            f"{what} `{name[:60]}` of the schema is not a plain word",
            hint="rename it: letters, digits and underscores, beginning with a letter",
        )
    return name


def _type(column: str, written: exp.Expression | None) -> SqlType:
    kind = written.this.name if isinstance(written, exp.DataType) and hasattr(written.this, "name") else None
    for ours, names in _TYPES.items():
        if kind in names:
            return ours
    raise _untyped(column, written.sql()[:40] if written is not None else None)


def _untyped(column: str, written: str | None = None) -> InputError:
    has = f"type `{written}`" if written is not None else "no type"
    return InputError(
        f"column `{column}` has {has}, expected one of {', '.join(SQL_TYPES)}",
        hint="write the nearest of them",
    )
