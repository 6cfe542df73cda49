"""Query -> SQL text."""

from __future__ import annotations

from functools import lru_cache, partial
from operator import attrgetter

from data_gen.query import ColumnRef, Condition, Join, OrderBy, Query, Select, SelectItem, Value, Window
from data_gen.text import BREAK, Pieces, Prepared, Text, marks, role


def write_sql(query: Query) -> Text:
    """The one way this query is written.

    Roles are dotted slots: `sql.select.0.column`, `sql.where.0.operator`, `sql.order_by.0.direction`; an OR
    group has the number of the condition behind its own (`sql.where.0.1.value`), and what stands in a subquery
    has the subquery's place before it (`sql.where.0.subquery.select.0.column`).

    Example: `SELECT price, name FROM orders ORDER BY price ASC`.
    """
    pieces = Pieces()
    add_sql(pieces, query)
    return pieces.text()


def sql_string(query: Query) -> str:
    """The string of `write_sql`, for where nobody asks for roles."""
    pieces = Pieces()
    add_sql(pieces, query)
    return pieces.string()


def add_sql(pieces: Pieces, query: Query) -> None:
    """Append what `write_sql` gives, behind a space."""
    if query.cte is not None:
        pieces.add(" WITH", "sql.cte.keyword")
        pieces.add(f" {query.cte.name}", "sql.cte.name")
        pieces.add(" AS (", "sql.cte.keyword")
        _add_select(pieces, query.cte.select, "sql.cte", "SELECT")
        pieces.add(")", "sql.cte.keyword")
    _add_select(pieces, query, "sql", " SELECT")
    if query.compound is not None:
        pieces.add(f" {query.compound.operator}", "sql.compound.operator")
        _add_select(pieces, query.compound.select, "sql.compound", " SELECT")


def write_value(value: Value) -> str:
    """A literal as SQL has it: `5`, `2.5`, `'amber'`, `TRUE`."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)


class _Slots:
    """The marks of the clauses of one SELECT, prepared for the place where it stands.

    Lists are looked up by their shape, one character for each member.
    """

    def __init__(self, place: str) -> None:
        self.select = marks(f"{place}.select.keyword")
        self.table = marks(f"{place}.from.keyword", f"{place}.table")
        self.where = marks(f"{place}.where.keyword")
        self.group_by = marks(f"{place}.group_by.keyword")
        self.order_by = marks(f"{place}.order_by.keyword")
        self.items = Prepared(partial(_list_marks, f"{place}.select", ""))
        self.groups = Prepared(partial(_list_marks, f"{place}.group_by", ""))
        self.keys = Prepared(partial(_list_marks, f"{place}.order_by", "direction"))
        self.plain = Prepared(partial(_condition_marks, f"{place}.where", False))
        self.qualified = Prepared(partial(_condition_marks, f"{place}.where", True))


_slots = lru_cache(maxsize=4096)(_Slots)
COLUMN, QUALIFIED, AGGREGATE, QUALIFIED_AGGREGATE = "cqaz"
"""Shapes of what a list of columns holds."""
_PARTS = {
    COLUMN: ("column",),
    QUALIFIED: ("table", "qualifier", "column"),
    AGGREGATE: ("aggregate", "bracket", "column", "bracket", "keyword", "alias"),
    QUALIFIED_AGGREGATE: (
        "aggregate",
        "bracket",
        "table",
        "qualifier",
        "column",
        "bracket",
        "keyword",
        "alias",
    ),
}


def _list_marks(clause: str, behind: str, shape: str) -> str:
    roles: list[str] = []
    for index, kind in enumerate(shape):
        if index:
            roles.append(f"{clause}.separator")
        roles += [f"{clause}.{index}.{part}" for part in _PARTS[kind]]
        if behind:
            roles.append(f"{clause}.{index}.{behind}")
    return marks(*roles)


def _condition_marks(clause: str, qualified: bool, index: int) -> str:
    parts = (*_PARTS[QUALIFIED if qualified else COLUMN], "operator", "value")
    return marks(f"{clause}.keyword", *[f"{clause}.{index}.{part}" for part in parts])


def _column_string(one: SelectItem | OrderBy | ColumnRef | Condition) -> str:
    return f" {one.column}" if one.table is None else f" {one.table}{BREAK}.{BREAK}{one.column}"


def _item_string(item: SelectItem) -> str:
    column = _column_string(item)
    if item.aggregate is None:
        return column
    alias = item.alias or f"{item.aggregate}_{item.column}"
    return f" {item.aggregate}{BREAK}({BREAK}{column[1:]}{BREAK}){BREAK} AS{BREAK} {alias}"


def _column_shape(one: OrderBy | ColumnRef) -> str:
    return COLUMN if one.table is None else QUALIFIED


def _item_shape(item: SelectItem) -> str:
    if item.aggregate is None:
        return COLUMN if item.table is None else QUALIFIED
    return AGGREGATE if item.table is None else QUALIFIED_AGGREGATE


_BETWEEN = f"{BREAK},{BREAK}"


def _add_select(pieces: Pieces, select: Select, place: str, keyword: str) -> None:
    strings, roles, slots = pieces.strings, pieces.roles, _slots(place)
    strings.append(keyword)
    roles.append(slots.select)
    if select.distinct:
        pieces.add(" DISTINCT", role(place, "distinct"))
    _add_items(pieces, select.select, place, slots)
    strings.append(f" FROM{BREAK} {select.table}")
    roles.append(slots.table)
    for index, join in enumerate(select.joins):
        _add_join(pieces, join, role(place, "join", index))
    for index, group in enumerate(select.where):
        _add_group(pieces, group, role(place, "where", index), index, slots, bracket=len(select.where) > 1)
    if select.group_by:
        strings += (" GROUP BY", _BETWEEN.join([_column_string(ref) for ref in select.group_by]))
        roles += (slots.group_by, slots.groups["".join([_column_shape(ref) for ref in select.group_by])])
    for index, condition in enumerate(select.having):
        pieces.add(" AND" if index else " HAVING", role(place, "having.keyword"))
        _add_condition(pieces, condition, role(place, "having", index))
    if select.order_by:
        strings.append(" ORDER BY")
        roles.append(slots.order_by)
        _add_keys(pieces, select.order_by, slots)
    if select.limit is not None:
        pieces.add(" LIMIT", role(place, "limit.keyword"))
        pieces.add(f" {select.limit}", role(place, "limit.value"))


def _add_items(pieces: Pieces, items: tuple[SelectItem, ...], place: str, slots: _Slots) -> None:
    if not any(map(_WINDOW, items)):
        pieces.strings.append(_BETWEEN.join([_item_string(item) for item in items]))
        pieces.roles.append(slots.items["".join([_item_shape(item) for item in items])])
        return
    for index, item in enumerate(items):
        if index:
            pieces.add(",", role(place, "select.separator"))
        at = role(place, "select", index)
        if item.window is not None:
            _add_window(pieces, item, item.window, at)
        else:
            pieces.strings.append(_item_string(item))
            pieces.roles.append(marks(*[f"{at}.{part}" for part in _PARTS[_item_shape(item)]]))


_WINDOW = attrgetter("window")


def _add_window(pieces: Pieces, item: SelectItem, window: Window, place: str) -> None:
    pieces.add(f" {window.function}", role(place, "function"))
    pieces.add("(", role(place, "bracket"))
    if window.function == "SUM":
        _add_ref(pieces, item.column, item.table, place, space="")
    pieces.add(")", role(place, "bracket"))
    pieces.add(" OVER (", role(place, "keyword"))
    if window.partition_by:
        pieces.add("PARTITION BY", role(place, "partition_by.keyword"))
        _add_columns(pieces, window.partition_by, role(place, "partition_by"))
        pieces.add(" ORDER BY", role(place, "order_by.keyword"))
    else:
        pieces.add("ORDER BY", role(place, "order_by.keyword"))
    _add_keys(pieces, window.order_by, _slots(place))
    pieces.add(")", role(place, "bracket"))
    pieces.add(" AS", role(place, "keyword"))
    pieces.add(f" {item.alias}", role(place, "alias"))


def _add_ref(pieces: Pieces, column: str, table: str | None, place: str, space: str = " ") -> None:
    if table is not None:
        pieces.add(f"{space}{table}", role(place, "table"))
        pieces.add(".", role(place, "qualifier"))
        space = ""
    pieces.add(f"{space}{column}", role(place, "column"))


def _add_columns(pieces: Pieces, columns: tuple[ColumnRef, ...], place: str) -> None:
    for index, column in enumerate(columns):
        if index:
            pieces.add(",", role(place, "separator"))
        _add_ref(pieces, column.column, column.table, role(place, index))


def _add_keys(pieces: Pieces, keys: tuple[OrderBy, ...], slots: _Slots) -> None:
    pieces.strings.append(_BETWEEN.join([f"{_column_string(key)}{BREAK} {key.direction}" for key in keys]))
    pieces.roles.append(slots.keys["".join([_column_shape(key) for key in keys])])


def _add_join(pieces: Pieces, join: Join, place: str) -> None:
    kind = "JOIN" if join.kind == "INNER" else f"{join.kind} JOIN"
    text, shape = f" {kind}{BREAK} {join.table}", ["kind", "table"]
    if join.alias is not None:
        text += f"{BREAK} AS{BREAK} {join.alias}"
        shape += ["keyword", "alias"]
    if join.left is not None and join.right is not None:
        text += f"{BREAK} ON{BREAK}{_column_string(join.left)}{BREAK} ={BREAK}{_column_string(join.right)}"
        left, right = _SIDES[join.left.table is not None][0], _SIDES[join.right.table is not None][1]
        shape += ["keyword", *left, "operator", *right]
    pieces.strings.append(text)
    pieces.roles.append(_join_marks(place, tuple(shape)))


_SIDES = [
    [tuple([f"{side}.{part}" for part in _PARTS[shape]]) for side in ("left", "right")]
    for shape in (COLUMN, QUALIFIED)
]


@lru_cache(maxsize=1024)
def _join_marks(place: str, shape: tuple[str, ...]) -> str:
    return marks(*[f"{place}.{part}" for part in shape])


def _add_group(
    pieces: Pieces, group: tuple[Condition, ...], place: str, number: int, slots: _Slots, *, bracket: bool
) -> None:
    keyword, condition = " AND" if number else " WHERE", group[0]
    if len(group) == 1 and condition.operator in _PLAIN and condition.values and not condition.negated:
        column, value = _column_string(condition), write_value(condition.values[0])
        pieces.strings.append(f"{keyword}{BREAK}{column}{BREAK} {condition.operator}{BREAK} {value}")
        pieces.roles.append((slots.plain if condition.table is None else slots.qualified)[number])
        return
    pieces.strings.append(keyword)
    pieces.roles.append(slots.where)
    if len(group) == 1:
        _add_condition(pieces, condition, place)
        return
    if bracket:
        pieces.add(" (", role(place, "bracket"))
    for index, condition in enumerate(group):
        if index:
            pieces.add(" OR", role(place, "keyword"))
        _add_condition(pieces, condition, role(place, index), space="" if bracket and not index else " ")
    if bracket:
        pieces.add(")", role(place, "bracket"))


def _add_condition(pieces: Pieces, condition: Condition, place: str, space: str = " ") -> None:
    operator = condition.operator
    if operator == "EXISTS":
        pieces.add(space + ("NOT EXISTS" if condition.negated else "EXISTS"), role(place, "operator"))
    else:
        if condition.aggregate is not None:
            pieces.add(f"{space}{condition.aggregate}", role(place, "aggregate"))
            pieces.add("(", role(place, "bracket"))
            _add_ref(pieces, condition.column, condition.table, place, space="")
            pieces.add(")", role(place, "bracket"))
        else:
            _add_ref(pieces, condition.column, condition.table, place, space)
        pieces.add(_OPERATORS.get((operator, condition.negated), f" {operator}"), role(place, "operator"))
    if condition.subquery is not None:
        pieces.add(" (", role(place, "bracket"))
        _add_select(pieces, condition.subquery, role(place, "subquery"), "SELECT")
        pieces.add(")", role(place, "bracket"))
    elif condition.other is not None:
        _add_ref(pieces, condition.other.column, condition.other.table, role(place, "other"))
    elif operator == "IN":
        for index, value in enumerate(condition.values):
            pieces.add("," if index else " (", role(place, "separator" if index else "bracket"))
            pieces.add((" " if index else "") + write_value(value), role(place, index, "value"))
        pieces.add(")", role(place, "bracket"))
    elif operator == "BETWEEN":
        pieces.add(f" {write_value(condition.values[0])}", role(place, "low"))
        pieces.add(" AND", role(place, "keyword"))
        pieces.add(f" {write_value(condition.values[1])}", role(place, "high"))
    elif operator != "IS NULL":
        pieces.add(f" {write_value(condition.values[0])}", role(place, "value"))


_PLAIN = frozenset({"=", "<>", ">", "<", ">=", "<=", "LIKE"})
"""Operators with one value behind them."""
_OPERATORS = {
    ("LIKE", True): " NOT LIKE",
    ("IN", True): " NOT IN",
    ("BETWEEN", True): " NOT BETWEEN",
    ("IS NULL", True): " IS NOT NULL",
}
