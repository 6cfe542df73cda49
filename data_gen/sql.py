"""Query -> SQL text, and SQL text -> query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from data_gen.errors import InputError
from data_gen.query import COMMAND_SETS, Direction, OrderBy, Query, SelectItem
from data_gen.schema import Schema
from data_gen.text import Text

if TYPE_CHECKING:
    from sqlglot import exp

MAX_CHARS = 4000
"""Longest SQL that is read; the longest right answer of any command set has under 1,000 characters."""
MAX_TOKENS = 500
"""Most tokens that are given to the parser, whose time grows faster than its input."""


class SqlError(InputError):
    """SQL that cannot be read as a query of a command set, and why."""


def write_sql(query: Query) -> Text:
    """The one way this query is written.

    Example: `SELECT price, name FROM orders ORDER BY price ASC`.
    """
    pieces: list[tuple[str, str]] = [("SELECT", "sql.select.keyword")]
    for index, item in enumerate(query.select):
        if index:
            pieces.append((",", "sql.select.separator"))
        pieces.append((f" {item.column}", f"sql.select.{index}.column"))
    pieces.append((" FROM", "sql.from.keyword"))
    pieces.append((f" {query.table}", "sql.table"))
    for index, key in enumerate(query.order_by):
        pieces.append((",", "sql.order_by.separator") if index else (" ORDER BY", "sql.order_by.keyword"))
        pieces.append((f" {key.column}", f"sql.order_by.{index}.column"))
        pieces.append((f" {key.direction}", f"sql.order_by.{index}.direction"))
    return Text.of(pieces)


class Reading(NamedTuple):
    """What a statement says clause by clause, as far as our grammar reaches; names are in lower case.

    A clause that is outside the grammar is None, and `outside` gives the first reason.
    """

    select: tuple[str, ...] | None
    table: str | None
    order_by: tuple[tuple[str, Direction], ...] | None
    outside: str | None


def read_sql(sql: str) -> Reading:
    """Read each clause of one SELECT statement; names are not looked up.

    Raises:
        SqlError: not one parsable SELECT statement.
    """
    select, commas = _parse(sql)
    outside: list[str] = []
    columns = [_column_name(item, outside) for item in select.expressions]
    table = _table_name(select, outside)
    keys = [_key(item, outside) for item in _order_items(select)]
    known = {"expressions", "from_", "order", "kind", "hint"}
    for clause, value in select.args.items():
        if value and clause not in known:
            outside.append(f"{clause.strip('_').upper()} is outside the grammar")
    if not columns:
        outside.append("nothing is selected")
    # The parser forgives `SELECT a, FROM t`, which no database runs.
    elif commas != len(columns) - 1 + max(len(keys) - 1, 0) and not outside:
        outside.append("a comma stands where none belongs")
    return Reading(
        select=tuple(c for c in columns if c) if columns and all(columns) else None,
        table=table,
        order_by=tuple(k for k in keys if k) if all(keys) else None,
        outside=outside[0] if outside else None,
    )


def parse_sql(sql: str, schema: Schema, command_set: str) -> Query:
    """The query that `sql` states; `parse_sql(write_sql(q).string, q.schema, q.command_set) == q`.

    Keywords and names may be in any case, names may be quoted or qualified by their table, ASC may be left
    out, and one semicolon may end the statement.

    Raises:
        SqlError: not one SELECT statement within the grammar of the command set, or an unknown name.
    """
    return to_query(read_sql(sql), schema, command_set)


def to_query(reading: Reading, schema: Schema, command_set: str) -> Query:
    """Look up the names of a reading.

    Raises:
        SqlError: the reading is outside the grammar of the command set, or has an unknown name.
    """
    if reading.outside or reading.select is None or reading.table is None or reading.order_by is None:
        raise SqlError(f"not a query of {command_set}: {reading.outside}")
    if reading.order_by and not COMMAND_SETS[command_set].orders:
        raise SqlError(f"not a query of {command_set}: it has ORDER BY")
    tables = {table.name.lower(): table for table in schema.tables}
    if reading.table not in tables:
        raise SqlError(f"no table `{reading.table}` in the schema", hint=f"tables: {', '.join(tables)}")
    table = tables[reading.table]
    names = {column.name.lower(): column.name for column in table.columns}
    for name in (*reading.select, *(key for key, _ in reading.order_by)):
        if name not in names:
            raise SqlError(f"no column `{name}` in table `{table.name}`", hint=f"columns: {', '.join(names)}")
    return Query(
        command_set,
        schema,
        table.name,
        tuple(SelectItem(names[name]) for name in reading.select),
        tuple(OrderBy(names[key], direction) for key, direction in reading.order_by),
    )


def _parse(sql: str) -> tuple[exp.Select, int]:
    """The statement's tree and its number of commas."""
    # sqlglot takes a quarter of a second to import.
    from sqlglot import TokenType, exp
    from sqlglot.dialects.sqlite import SQLite
    from sqlglot.errors import ParseError, SqlglotError

    if len(sql) > MAX_CHARS:
        raise SqlError(f"SQL of {len(sql)} characters, expected at most {MAX_CHARS}")
    if not sql.isprintable() and any(char < " " and char not in "\t\r\n" for char in sql):
        raise SqlError("SQL has a control character")
    dialect = SQLite()
    try:
        tokens = dialect.tokenize(sql)
        kinds = [token.token_type for token in tokens]
        if kinds and kinds[-1] == TokenType.SEMICOLON:
            tokens, kinds = tokens[:-1], kinds[:-1]
        if not kinds or kinds[0] != TokenType.SELECT:
            raise SqlError(f"SQL begins with `{sql.strip()[:20]}`, expected SELECT")
        if TokenType.SEMICOLON in kinds:
            raise SqlError("SQL has more than one statement, expected one")
        if len(tokens) > MAX_TOKENS:
            raise SqlError(f"SQL of {len(tokens)} tokens, expected at most {MAX_TOKENS}")
        tree = dialect.parser().parse(tokens, sql)[0]
    except ParseError as error:
        reason = error.errors[0]["description"] if error.errors else str(error)
        raise SqlError(f"SQL does not parse: {reason}") from error
    except RecursionError as error:
        raise SqlError("SQL is nested too deeply") from error
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        if isinstance(error, SqlError):
            raise
        # The parser lets some of its own slips through on text that is no SQL.
        raise SqlError(f"SQL does not parse: {type(error).__name__}") from error
    if not isinstance(tree, exp.Select):
        raise SqlError("SQL is not a plain SELECT statement")
    return tree, kinds.count(TokenType.COMMA)


def _name(identifier: Any) -> str:
    return str(identifier.name).lower()


def _column_name(item: exp.Expression, outside: list[str]) -> str | None:
    from sqlglot import exp

    if not isinstance(item, exp.Column) or isinstance(item.this, exp.Star):
        outside.append(f"{type(item).__name__} is outside the grammar where a column is expected")
        return None
    if item.args.get("db") or item.args.get("catalog"):
        outside.append("a column is qualified by a database")
        return None
    source = item.find_ancestor(exp.Select)
    owner = source.args.get("from_") if source else None
    if item.table and (owner is None or item.table.lower() != _name(owner.this)):
        outside.append(f"a column is qualified by `{item.table}`, which is not the table")
        return None
    return _name(item)


def _table_name(select: exp.Select, outside: list[str]) -> str | None:
    from sqlglot import exp

    source = select.args.get("from_")
    table = source.this if source else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        outside.append("FROM does not name a table")
        return None
    extra = [part for part, value in table.args.items() if value and part != "this"]
    if extra:
        outside.append(f"the table has {extra[0].upper()}, which is outside the grammar")
        return None
    return _name(table)


def _order_items(select: exp.Select) -> list[exp.Expression]:
    order = select.args.get("order")
    return list(order.expressions) if order else []


def _key(item: exp.Expression, outside: list[str]) -> tuple[str, Direction] | None:
    from sqlglot import exp

    if not isinstance(item, exp.Ordered):
        outside.append(f"{type(item).__name__} is outside the grammar where a sort key is expected")
        return None
    column = _column_name(item.this, outside)
    descending = bool(item.args.get("desc"))
    # SQLite takes NULLs for the smallest values; the other order is another query.
    if bool(item.args.get("nulls_first")) == descending or item.args.get("with_fill"):
        outside.append("a sort key has NULLS FIRST or LAST other than the default")
        return None
    return (column, "DESC" if descending else "ASC") if column else None
