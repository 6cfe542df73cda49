"""Reading + schema -> query: every name is looked up, and written as our way of writing has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from data_gen.query import (
    ColumnRef,
    Compound,
    Condition,
    Cte,
    Join,
    OrderBy,
    Query,
    Select,
    SelectItem,
    Window,
    command_set,
)
from data_gen.read.lexing import KEYWORDS
from data_gen.read.reading import Atom, Group, Joined, Key, Reading, Source, SqlError
from data_gen.schema import Schema

MAX_JOINS = 2
"""Most JOINs of one SELECT, as in the grammar; the rows of a query grow with each of them by a factor."""


def to_query(reading: Reading, schema: Schema, command_set: str) -> Query:
    """Look up the names of a reading.

    Raises:
        SqlError: the reading is outside the grammar of the command set, or has an unknown name.
    """
    if reading.outside:
        raise SqlError(f"not a query of {command_set}: {reading.outside}")
    tables = {
        table.name.lower(): _Known(table.name, {column.name.lower(): column.name for column in table.columns})
        for table in schema.tables
    }
    cte = None
    for named in reading.cte or ():
        inner = _Lookup(named.reading, tables).select()
        cte = Cte(_bare(named.name), inner)
        columns = {
            (item.alias or item.column).lower(): found.output
            for item, found in zip(named.reading.select or (), inner.select, strict=True)
            if item.alias or not (item.aggregate or item.window)
        }
        tables = {**tables, named.name.lower(): _Known(named.name, columns)}
    main = _Lookup(reading, tables).select()
    compound = None
    for combined in reading.compound or ():
        compound = Compound(combined.operator, _Lookup(combined.reading, tables).select())
    clauses = {name: getattr(main, name) for name in Select.__struct_fields__}
    query = Query(command_set=command_set, schema=schema, cte=cte, compound=compound, **clauses)
    _check_skills(query)
    return query


def _bare(name: str) -> str:
    """A name that the statement gives, if our way of writing, which has no quotes, can write it."""
    if not name.isidentifier() or name.lower() in KEYWORDS:
        raise SqlError(
            f"the statement gives the name `{name}`, which needs quotes",
            hint="give a name of letters, digits and `_` that is no keyword",
        )
    return name


class _Known(NamedTuple):
    """A table: its name and the names of its columns, each under its name in lower case."""

    name: str
    columns: dict[str, str]


class _Seen(NamedTuple):
    """A table of FROM or JOIN: what the statement calls it, and what our way of writing does."""

    known_as: str
    qualifier: str
    columns: dict[str, str]


class _Lookup:
    """One SELECT of a statement, in which names are looked up; `outer` is the one around it."""

    def __init__(self, reading: Reading, tables: dict[str, _Known], outer: _Lookup | None = None) -> None:
        self.reading, self.tables, self.outer = reading, tables, outer
        self.seen: list[_Seen] = []
        self.items: list[tuple[SelectItem, SelectItem]] = []

    def select(self, *, exists: bool = False) -> Select:
        reading = self.reading
        source = reading.source
        assert source is not None
        if len(reading.joins or ()) > MAX_JOINS:
            raise SqlError(f"{len(reading.joins or ())} JOINs in a row, expected at most {MAX_JOINS}")
        self._see(source)
        aliases = [self._see(join.source) for join in reading.joins or ()]
        self.items = [(item, self.selected(item)) for item in reading.select or () if item.column != "1"]
        items = tuple([found for _, found in self.items])
        if exists and not any(item.aggregate or item.window for item in items):
            items = (SelectItem("1"),)
        joins = zip(reading.joins or (), aliases, strict=True)
        return Select(
            select=items,
            table=self.tables[source.table].name,
            distinct=bool(reading.distinct),
            joins=tuple([self.join(join, alias) for join, alias in joins]),
            where=tuple(self.where(reading.where)),
            group_by=tuple([self.grouped(ref) for ref in reading.group_by or ()]),
            having=tuple([self.only_atom(part) for part in (reading.having.parts if reading.having else ())]),
            order_by=tuple([self.key(key) for key in reading.order_by or ()]),
            limit=reading.limit[0] if reading.limit else None,
        )

    def _see(self, source: Source) -> str | None:
        """Take note of a table; its alias, if it needs one because an earlier table has its name."""
        table = self.tables.get(source.table)
        if table is None:
            known = ", ".join(known.name for known in self.tables.values())
            raise SqlError(f"no table `{source.table}` in the schema", hint=f"tables: {known}")
        taken = [seen.qualifier for seen in self.seen]
        alias = _bare(source.alias) if source.alias is not None and table.name in taken else None
        if (alias or table.name) in taken:
            raise SqlError(f"table `{table.name}` stands twice in FROM, expected an alias for the second")
        self.seen.append(_Seen((source.alias or table.name).lower(), alias or table.name, table.columns))
        return alias

    def find(self, column: str, table: str | None) -> ColumnRef | None:
        """The column of that name in this SELECT, or else in one around it."""
        matches = [
            seen for seen in self.seen if column in seen.columns and (table is None or seen.known_as == table)
        ]
        if len(matches) > 1:
            raise SqlError(f"column `{column}` is ambiguous", hint="write the table's name before it")
        if matches:
            return ColumnRef(matches[0].columns[column], None if table is None else matches[0].qualifier)
        found = self.outer.find(column, table) if self.outer else None
        if found is not None and found.table in [seen.qualifier for seen in self.seen]:
            raise SqlError(f"`{table}.{column}` needs an alias, which is outside the grammar of a subquery")
        return found

    def ref(self, column: str, table: str | None) -> ColumnRef:
        found = self.find(column, table)
        if found is None:
            known_as = [seen.known_as for seen in self.seen]
            if table is not None and table not in known_as:
                raise SqlError(f"a column is qualified by `{table}`, which is not a table of FROM")
            where = " or ".join(f"`{seen.qualifier}`" for seen in self.seen)
            known = ", ".join(name for seen in self.seen for name in seen.columns.values())
            raise SqlError(f"no column `{column}` in table {where}", hint=f"columns: {known}")
        return found

    def selected(self, item: SelectItem) -> SelectItem:
        """An item with the alias that it has in our way of writing: functions have one, columns none."""
        ref = self.argument(item)
        if item.aggregate is not None:
            alias = item.alias or f"{item.aggregate}_{'all' if ref.column == '*' else ref.column}"
            return SelectItem(ref.column, ref.table, item.aggregate, None, _bare(alias))
        if item.window is None:
            return SelectItem(ref.column, ref.table)
        order = [self._sort(key.column, key.table, key.direction) for key in item.window.order_by]
        partition = [self.ref(column.column, column.table) for column in item.window.partition_by]
        window = Window(item.window.function, tuple(order), tuple(partition))
        default = {"ROW_NUMBER": "row_no", "RANK": "place"}.get(window.function, f"running_{ref.column}")
        return SelectItem(ref.column, ref.table, None, window, _bare(item.alias or default))

    def argument(self, item: SelectItem) -> ColumnRef:
        return ColumnRef("*") if item.column == "*" else self.ref(item.column, item.table)

    def _sort(self, column: str, table: str | None, direction: str) -> OrderBy:
        ref = self.ref(column, table)
        return OrderBy(ref.column, "DESC" if direction == "DESC" else "ASC", ref.table)

    def aliased(self, name: str) -> SelectItem | None:
        """The selected item that the statement calls `name`."""
        return next((found for item, found in self.items if (item.alias or "").lower() == name), None)

    def key(self, key: Key) -> OrderBy:
        item = key.item
        if item.aggregate is None and item.window is None:
            # An alias comes before a column of its name.
            named = self.aliased(item.column) if item.table is None else None
            if named is None:
                return self._sort(item.column, item.table, key.direction)
        else:
            wanted = self.selected(item)
            named = next((found for _, found in self.items if _same_function(found, wanted)), None)
            if named is None:
                raise SqlError("a sort key is a function that is not selected, which is outside the grammar")
        is_column = named.aggregate is None and named.window is None
        return OrderBy(named.output, key.direction, named.table if is_column else None)

    def grouped(self, ref: ColumnRef) -> ColumnRef:
        """A column, or the alias of a selected one."""
        item = self.operand(SelectItem(ref.column, ref.table))
        if item.aggregate is not None:
            raise SqlError("GROUP BY of an aggregate is an error")
        return ColumnRef(item.column, item.table)

    def operand(self, item: SelectItem) -> SelectItem:
        if item.table is None and item.aggregate is None and self.find(item.column, None) is None:
            named = self.aliased(item.column)
            if named is not None and named.window is None:
                return named
        ref = self.argument(item)
        return SelectItem(ref.column, ref.table, item.aggregate)

    def join(self, join: Joined, alias: str | None) -> Join:
        table = self.tables[join.source.table].name
        if join.kind == "CROSS":
            return Join(table=table, kind="CROSS", alias=alias)
        atom = self.only_atom(join.on.parts[0])
        if len(join.on.parts) > 1 or atom.operator != "=" or atom.other is None or atom.aggregate:
            raise SqlError("ON is not one equality of two columns, which is outside the grammar")
        left = ColumnRef(atom.column, atom.table)
        return Join(table=table, kind=join.kind, alias=alias, left=left, right=atom.other)

    def where(self, group: Group | None) -> Iterator[tuple[Condition, ...]]:
        for part in group.parts if group else ():
            conditions = [self.only_atom(one) for one in (part.parts if isinstance(part, Group) else (part,))]
            if any(condition.aggregate for condition in conditions):
                raise SqlError("an aggregate stands in WHERE, expected in HAVING")
            yield tuple(conditions)

    def only_atom(self, part: Atom | Group) -> Condition:
        if isinstance(part, Group):
            raise SqlError(f"{part.word} stands deeper than in the grammar, which is an AND of ORs")
        subquery = None
        if part.subquery is not None:
            inner = _Lookup(part.subquery, self.tables, self)
            subquery = inner.select(exists=part.operator == "EXISTS")
        left = SelectItem("") if part.left is None else self.operand(part.left)
        return Condition(
            column=left.column,
            table=left.table,
            aggregate=left.aggregate,
            operator=part.operator,
            negated=part.negated,
            values=part.values,
            other=None if part.other is None else self.ref(part.other.column, part.other.table),
            subquery=subquery,
        )


def _same_function(first: SelectItem, second: SelectItem) -> bool:
    return replace(first, alias=None) == replace(second, alias=None)


def _check_skills(query: Query) -> None:
    skills = command_set(query.command_set).skills
    if skills & {"scalar", "in_subquery", "exists", "cte", "set_operation"}:
        # Nothing of these without WHERE.
        skills |= {"where"}
    for skill, what in _shown(query):
        if skill not in skills:
            raise SqlError(f"not a query of {query.command_set}: it has {what}")


def _shown(query: Query) -> Iterator[tuple[str, str]]:
    """The skills that the outermost SELECT shows, and what shows them."""
    if query.order_by:
        yield "order_by", "ORDER BY"
    if query.group_by or any(item.aggregate for item in query.select):
        yield "aggregate", "an aggregate or GROUP BY"
    for item in query.select:
        if item.window is not None:
            function = item.window.function
            yield (
                {"ROW_NUMBER": "row_number", "RANK": "rank"}.get(function, "running_sum"),
                f"{function} OVER",
            )
    yield from _shown_joins(query)
    if query.where:
        yield "where", "WHERE"
    for clause in ("having", "distinct", "limit"):
        if getattr(query, clause) not in ((), False, None):
            yield clause, clause.upper()
    if query.cte is not None:
        yield "cte", "WITH"
    if query.compound is not None:
        yield "set_operation", query.compound.operator
    for group in query.where:
        if len(group) > 1:
            yield "or", "OR"
        for condition in group:
            yield from _shown_by(condition)


def _shown_joins(query: Query) -> Iterator[tuple[str, str]]:
    if len(query.joins) > 1:
        yield "two_joins", "two JOINs"
    for join in query.joins:
        if join.kind == "CROSS":
            yield "", "a JOIN without a condition"
        elif join.kind == "LEFT":
            yield "left_join", "LEFT JOIN"
        elif join.table == query.table:
            yield "self_join", "a JOIN of a table with itself"
        elif len(query.joins) == 1:
            yield "join", "JOIN"


def _shown_by(condition: Condition) -> Iterator[tuple[str, str]]:
    operator = condition.operator
    if condition.subquery is not None:
        skill = {"EXISTS": "exists", "IN": "in_subquery"}.get(operator, "scalar")
        yield skill, "a subquery"
        return
    if operator in ("IN", "BETWEEN", "IS NULL"):
        yield {"IN": "in", "BETWEEN": "between"}.get(operator, "null"), operator
    if condition.negated or operator == "<>":
        yield "not", "a negation"
