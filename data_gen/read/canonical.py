"""Query or reading -> a value that is the same for every spelling, clause by clause.

Two statements have the same value if they differ only in: case of keywords and names, quotes, white space,
brackets that change nothing, aliases, qualifiers (looked up in the schema), the order of AND and OR operands, of
IN lists, of GROUP BY and PARTITION BY and of the two sides of a comparison, NOT before or within a condition,
BETWEEN or its two comparisons, ASC said or not, and numbers written otherwise (TRUE and 1, 5 and 5.0).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from data_gen.query import Query, SelectItem, Window
from data_gen.read.parse import read_sql
from data_gen.read.reading import FLIPPED, NO_CONDITION, Atom, Group, Joined, Key, Reading, Source, SqlError
from data_gen.schema import Schema
from data_gen.sql import sql_string

CLAUSES = (
    "select",
    "from",
    "join",
    "where",
    "group_by",
    "having",
    "order_by",
    "limit",
    "distinct",
    "cte",
    "compound",
)
"""The parts of a statement that are compared one by one."""

Values = tuple[object, ...]
"""One value per clause."""


def canonical(stated: Query | Reading, schema: Schema | None = None) -> Values:
    """What is stated, as a value to compare; a reading needs the schema that its names are from.

    Raises:
        SqlError: a clause of the reading is outside the grammar.
    """
    if isinstance(stated, Query):
        # What a query states is what its SQL states: there is one definition of it.
        return canonical(read_sql(sql_string(stated)), stated.schema)
    if stated.outside:
        raise SqlError(f"SQL has no canonical form: {stated.outside}")
    if schema is None:
        raise SqlError(
            "a reading has no schema of its own", hint="pass the schema: canonical(reading, schema)"
        )
    return _values(stated, _tables(schema), None)


def clause_values(reading: Reading, schema: Schema) -> dict[str, object]:
    """One value per name in `CLAUSES`; None for a clause outside the grammar, which is right in no answer.

    A name that the schema does not have makes its clause differ from that of every right answer. A column of a
    table that FROM should show and does not is what it would be: FROM is wrong then, and not its clause.
    """
    return dict(zip(CLAUSES, _values(reading, _tables(schema), None), strict=True))


Columns = dict[str, str]
"""Name of a column in lower case -> what it is called here: a name of its own among all columns in sight."""


class _Known(NamedTuple):
    """A table: what it is called here, and its columns."""

    name: str
    columns: Columns


_Tables = dict[str, _Known]
_UNKNOWN = _Known("?", {})
_WITH = "WITH"


@lru_cache(maxsize=1024)
def _tables(schema: Schema) -> _Tables:
    tables: _Tables = {}
    for table in schema.tables:
        name = table.name.lower()
        columns = {column.name.lower(): f"{name}.{column.name.lower()}" for column in table.columns}
        tables[name] = _Known(name, columns)
    return tables


class _Scope:
    """What the names in one SELECT mean."""

    __slots__ = ("aliases", "depth", "names", "outer", "qualified", "reading", "tables")

    def __init__(self, reading: Reading, tables: _Tables, outer: _Scope | None) -> None:
        self.reading, self.tables, self.outer = reading, tables, outer
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.aliases: dict[str, str] = {}
        self.names: Columns = {}
        self.qualified: dict[str, Columns] = {}
        source, joins = reading.source, reading.joins
        if source is not None and not joins and outer is None:
            # Most statements have one table.
            self.names = tables.get(source.table, _UNKNOWN).columns
            self.qualified = {(source.alias or source.table).lower(): self.names}
            return
        seen: dict[str, int] = {}
        for one in self._sources():
            number = seen.get(one.table, 0)
            seen[one.table] = number + 1
            self._add((one.alias or one.table).lower(), tables.get(one.table, _UNKNOWN), number)

    def _sources(self) -> list[Source]:
        sources = [join.source for join in self.reading.joins or ()]
        return sources if self.reading.source is None else [self.reading.source, *sources]

    def _add(self, known_as: str, known: _Known, number: int) -> None:
        """Note a table: `number` of that name stand before it, and depth tells those of subqueries apart."""
        columns = known.columns
        mark = "^" * self.depth + "'" * number + (known.name if known.name == _WITH else "")
        if mark:
            columns = {name: mark + column for name, column in columns.items()}
        if known_as in self.qualified:
            columns = {name: f"?{column}" for name, column in columns.items()}
        self.qualified[known_as] = columns
        if self.names.keys().isdisjoint(columns):
            self.names = {**self.names, **columns} if self.names else columns
        else:
            both = self.names.keys() & columns.keys()
            self.names = {**self.names, **columns, **{name: f"?{name}" for name in both}}

    def table(self, name: str) -> str:
        """What a table is called here."""
        known = self.tables.get(name)
        return f"?{name}" if known is None else known.name

    def column(self, name: str, table: str | None) -> str:
        """What a column is called here; a name that starts with `?` is none that a right answer has."""
        if table is None:
            found = self.names.get(name) or self.aliases.get(name)
        else:
            columns = self.qualified.get(table)
            found = columns.get(name, f"?{name}") if columns is not None else None
        if found is not None:
            return found
        if self.outer is not None:
            return self.outer.column(name, table)
        return self._elsewhere(name, table)

    def _elsewhere(self, name: str, table: str | None) -> str:
        """The column of a table that FROM does not name: FROM is wrong then, and this clause may be right."""
        tables = self.tables.values() if table is None else [self.tables.get(table, _UNKNOWN)]
        matches = [known.columns[name] for known in tables if name in known.columns]
        if table in [source.table for source in self._sources()]:
            # FROM has the table, but under an alias.
            matches = []
        return matches[0] if len(matches) == 1 else f"?{table or ''}.{name}"

    def expression(self, item: SelectItem) -> str:
        """A column or a function of one."""
        column = item.column if item.column == "*" else self.column(item.column, item.table)
        if item.aggregate is not None:
            return f"{item.aggregate}({column})"
        if item.window is not None:
            return self._window(column, item.window)
        return column

    def _window(self, column: str, window: Window) -> str:
        partition = ", ".join(sorted([self.column(one.column, one.table) for one in window.partition_by]))
        keys = [f"{self.column(key.column, key.table)} {key.direction}" for key in window.order_by]
        return f"{window.function}({column}) OVER ({partition}; {', '.join(keys)})"


def _values(reading: Reading, tables: _Tables, outer: _Scope | None, *, exists: bool = False) -> Values:
    ctes: list[Values] = []
    for named in reading.cte or ():
        # The columns of WITH are called what they stand for, so its name makes no difference.
        inner = _Scope(named.reading, tables, None)
        ctes.append(_clauses(named.reading, inner))
        columns = {
            (item.alias or item.column).lower(): inner.expression(item)
            for item in named.reading.select or ()
            if item.alias or not (item.aggregate or item.window)
        }
        tables = {**tables, named.name.lower(): _Known(_WITH, columns)}
    clauses = _clauses(reading, _Scope(reading, tables, outer), exists)
    if reading.cte == () == reading.compound:
        return clauses
    compound = None
    if reading.compound is not None:
        compound = tuple(
            [
                (one.operator, _clauses(one.reading, _Scope(one.reading, tables, None)))
                for one in reading.compound
            ]
        )
    return (*clauses[:9], None if reading.cte is None else tuple(ctes), compound)


def _clauses(reading: Reading, scope: _Scope, exists: bool = False) -> Values:
    """The values of a SELECT that has neither WITH nor a set operation."""
    items, source, joins, groups = reading.select, reading.source, reading.joins, reading.group_by
    expression = scope.expression
    selected: tuple[str, ...] | None = None
    if items is not None:
        selected = tuple([expression(item) if item.column != "1" else "1" for item in items])
        for item, found in zip(items, selected, strict=True):
            if item.alias is not None:
                scope.aliases.setdefault(item.alias.lower(), found)
        if exists and not any(item.aggregate or item.window for item in items):
            # What is selected makes no difference to whether there is a row, as long as it exists.
            selected = tuple([found for found in selected if found[0] == "?"])
    keys = reading.order_by
    return (
        selected,
        None if source is None else scope.table(source.table),
        () if not joins and joins is not None else _joins(joins, scope),
        _condition(reading.where, scope),
        None if groups is None else frozenset([scope.column(one.column, one.table) for one in groups]),
        _condition(reading.having, scope),
        None if keys is None else tuple([_key(key, scope) for key in keys]),
        reading.limit,
        reading.distinct,
        (),
        (),
    )


def _joins(joins: tuple[Joined, ...] | None, scope: _Scope) -> Values | None:
    if joins is None:
        return None
    return tuple([(join.kind, scope.table(join.source.table), _condition(join.on, scope)) for join in joins])


def _key(key: Key, scope: _Scope) -> tuple[str, str]:
    item = key.item
    if item.table is None and item.column in scope.aliases and item.aggregate is None and item.window is None:
        # An alias comes before a column of its name.
        return scope.aliases[item.column], key.direction
    return scope.expression(item), key.direction


def _condition(group: Group | None, scope: _Scope) -> frozenset[object] | None:
    """The conditions joined by AND, as a set."""
    if group is None:
        return None
    if group is NO_CONDITION:
        return _NOTHING
    return frozenset(_conjuncts(group.parts, scope))


_NOTHING: frozenset[object] = frozenset()


def _conjuncts(parts: tuple[Atom | Group, ...], scope: _Scope) -> list[object]:
    found: list[object] = []
    for part in parts:
        if type(part) is Atom and part.operator == "BETWEEN" and not part.negated:
            found += _bounds(part, scope)
        else:
            found.append(_part(part, scope))
    return found


def _part(part: Atom | Group, scope: _Scope) -> object:
    """A condition in the midst of an OR, or one that is not a BETWEEN."""
    if type(part) is Group:
        if part.word == "AND":
            return _together("AND", _conjuncts(part.parts, scope))
        operands: list[object] = []
        for one in part.parts:
            if type(one) is Atom and one.operator == "BETWEEN" and one.negated:
                operands += _bounds(one, scope)
            else:
                operands.append(_part(one, scope))
        return _together("OR", operands)
    assert type(part) is Atom
    if part.operator == "BETWEEN":
        return _together("OR" if part.negated else "AND", _bounds(part, scope))
    return _atom(part, scope)


def _together(word: str, operands: list[object]) -> object:
    different = frozenset(operands)
    return (word, different) if len(different) > 1 else operands[0]


def _bounds(atom: Atom, scope: _Scope) -> list[object]:
    assert atom.left is not None
    left, (low, high) = scope.expression(atom.left), atom.values
    if atom.negated:
        return [(left, "<", (low,)), (left, ">", (high,))]
    return [(left, ">=", (low,)), (left, "<=", (high,))]


def _atom(atom: Atom, scope: _Scope) -> tuple[str, str, object]:
    operator: str = atom.operator
    left = "" if atom.left is None else scope.expression(atom.left)
    if atom.other is not None:
        right = scope.column(atom.other.column, atom.other.table)
        if left <= right:
            return (left, operator, right)
        return (right, FLIPPED[atom.operator], left)
    if atom.negated:
        operator = f"NOT {operator}"
    if atom.subquery is not None:
        return (left, operator, _values(atom.subquery, scope.tables, scope, exists=atom.operator == "EXISTS"))
    return (left, operator, frozenset(atom.values) if atom.operator == "IN" else atom.values)
