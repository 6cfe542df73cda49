"""sqlglot tree -> reading, clause by clause, as far as our grammar reaches.

Only `data_gen.read.parse` imports this module, and only for a statement that `data_gen.read.reader` leaves to sqlglot,
which takes a quarter of a second to import.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, Literal, TypeVar

from msgspec.structs import replace
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite

from data_gen.query import (
    AggregateFunction,
    ColumnRef,
    Comparison,
    JoinKind,
    OrderBy,
    SelectItem,
    SetOperator,
    Value,
    Window,
    WindowFunction,
)
from data_gen.read.leaves import Node, Outside, bare, literal_of, name_of, only, ref_of, refuse, value_of
from data_gen.read.reading import (
    NEGATED,
    NO_CONDITION,
    Atom,
    Combined,
    Group,
    Joined,
    Key,
    Named,
    Reading,
    Source,
    compare,
    join_group,
)

T = TypeVar("T")
_SILENCE = Lock()

_COMPARISONS: dict[type, Comparison] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.LT: "<",
    exp.GTE: ">=",
    exp.LTE: "<=",
}
_AGGREGATES: dict[type, AggregateFunction] = {
    exp.Sum: "SUM",
    exp.Avg: "AVG",
    exp.Min: "MIN",
    exp.Max: "MAX",
    exp.Count: "COUNT",
}
_WINDOWS: dict[type, WindowFunction] = {exp.RowNumber: "ROW_NUMBER", exp.Rank: "RANK", exp.Sum: "SUM"}
_SETS: dict[type, SetOperator] = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}
_CLAUSES = frozenset(
    ["expressions", "from_", "joins", "where", "group", "having", "order", "limit", "distinct", "with_"]
)


@lru_cache(maxsize=1)
def dialect() -> SQLite:
    """SQLite's dialect, which makes a tokenizer and a parser for each statement."""
    return SQLite()


def parse_tree(sql: str, tokens: list[Any]) -> Node:
    """The tree of one statement; sqlglot's errors pass, its warnings do not."""
    logger = logging.getLogger("sqlglot")
    # Two threads at once could leave the logger disabled.
    with _SILENCE:
        was, logger.disabled = logger.disabled, True
        try:
            return dialect().parser().parse(tokens, sql)[0]
        finally:
            logger.disabled = was


def read_tree(tree: Node) -> Reading | None:
    """The reading of a SELECT or of a set operation; None for anything else, and if nothing is selected."""
    first = tree
    while type(first) in _SETS:
        first = first.this
    if not isinstance(first, exp.Select) or not first.expressions:
        return None
    return _read(tree) if tree is first else _read_compound(tree, first)


def _read_compound(tree: Node, first: exp.Select) -> Reading:
    notes: list[str] = []

    def combined() -> tuple[Combined, ...]:
        if type(tree.this) is not exp.Select or type(tree.expression) is not exp.Select:
            raise Outside("more than one set operation is outside the grammar")
        if not tree.args.get("distinct"):
            raise Outside("ALL is outside the grammar of set operations")
        if tree.this.args.get("order") or tree.this.args.get("limit"):
            raise Outside("ORDER BY before a set operation is an error")
        return (Combined(_SETS[type(tree)], _subquery(tree.expression)),)

    compound = _clause(notes, combined)
    reading = _read(first, tree.args.get("with_"))
    for name, value in tree.args.items():
        if value and name not in ("this", "expression", "distinct", "with_"):
            notes.append(f"{name.strip('_').upper()} behind a set operation is outside the grammar")
    order = (
        _clause(notes, lambda: _keys(tree.args.get("order"))) if tree.args.get("order") else reading.order_by
    )
    limit = _clause(notes, lambda: _limit(tree)) if tree.args.get("limit") else reading.limit
    outside = reading.outside or (notes[0] if notes else None)
    return replace(reading, compound=compound, order_by=order, limit=limit, outside=outside)


def _clause(notes: list[str], convert: Callable[[], T]) -> T | None:
    try:
        return convert()
    except Outside as reason:
        notes.append(str(reason))
        return None


def _read(select: exp.Select, with_: Node = None, *, exists: bool = False) -> Reading:
    args = select.args
    notes: list[str] = []
    reading = Reading(
        select=_clause(notes, lambda: _items(select, exists)),
        source=_clause(notes, lambda: _source(args["from_"].this if args.get("from_") else None)),
        joins=_clause(notes, lambda: tuple([_join(join) for join in args.get("joins") or ()])),
        where=_clause(notes, lambda: _conditions(args.get("where"))),
        group_by=_clause(notes, lambda: _groups(args.get("group"))),
        having=_clause(notes, lambda: _conditions(args.get("having"))),
        order_by=_clause(notes, lambda: _keys(args.get("order"))),
        limit=_clause(notes, lambda: _limit(select)),
        distinct=_clause(notes, lambda: _distinct(args.get("distinct"))),
        cte=_clause(notes, lambda: _cte(with_ or args.get("with_"))),
    )
    for name, value in args.items():
        if value and name not in _CLAUSES:
            notes.append(f"{name.strip('_').upper()} is outside the grammar")
    return replace(reading, outside=notes[0]) if notes else reading


def _items(select: exp.Select, exists: bool) -> tuple[SelectItem, ...]:
    if not select.expressions:
        raise Outside("nothing is selected")
    if exists and len(select.expressions) == 1:
        only = select.expressions[0]
        if type(only) is exp.Star and not any(only.args.values()):
            return (SelectItem("*"),)
        if type(only) is exp.Literal and not only.is_string and only.this == "1":
            return (SelectItem("1"),)
    return tuple([_item(item) for item in select.expressions])


def _item(node: Node) -> SelectItem:
    if type(node) is not exp.Alias:
        return _expression(node)
    item = _expression(node.this)
    return SelectItem(
        item.column, item.table, item.aggregate, item.window, name_of(node.args["alias"], given=True)
    )


def _expression(node: Node) -> SelectItem:
    node = bare(node)
    kind = type(node)
    if kind is exp.Column:
        ref = ref_of(node)
        return SelectItem(ref.column, ref.table)
    if kind in _AGGREGATES:
        only(node, "this", "big_int")
        if kind is exp.Count and type(node.this) is exp.Star and not any(node.this.args.values()):
            return SelectItem("*", None, "COUNT")
        ref = ref_of(node.this)
        return SelectItem(ref.column, ref.table, _AGGREGATES[kind])
    if kind is exp.Window and type(node.this) in _WINDOWS:
        return _window(node)
    raise refuse(node, "where a column is expected")


def _window(node: Node) -> SelectItem:
    only(node, "this", "partition_by", "order", "over")
    function = node.this
    only(function, "this")
    ref = ref_of(function.this) if type(function) is exp.Sum else ColumnRef("*")
    if type(function) is not exp.Sum and function.this is not None:
        raise refuse(function.this, "as the argument of a window function")
    keys = _keys(node.args.get("order"))
    if not keys or any(key.item.aggregate or key.item.window for key in keys):
        raise Outside("a window is not ordered by columns")
    order = tuple(OrderBy(key.item.column, key.direction, key.item.table) for key in keys)
    partition = tuple(ref_of(column) for column in node.args.get("partition_by") or ())
    return SelectItem(ref.column, ref.table, None, Window(_WINDOWS[type(function)], order, partition))


def _source(node: Node) -> Source:
    if type(node) is not exp.Table or type(node.this) is not exp.Identifier:
        raise Outside("FROM does not name a table")
    only(node, "this", "alias")
    alias = node.args.get("alias")
    if alias is not None:
        only(alias, "this")
    return Source(name_of(node.this), None if alias is None else name_of(alias.this, given=True))


def _join(node: Node) -> Joined:
    only(node, "this", "side", "kind", "on")
    side, kind, on = node.side.upper(), node.kind.upper(), node.args.get("on")
    if type(on) is exp.Boolean and on.this and not side:
        # Where ON is left out, some versions of sqlglot add TRUE.
        on = None
    source = _source(node.this)
    joined: JoinKind
    if (side, kind) in (("LEFT", ""), ("LEFT", "OUTER")) and on is not None:
        joined = "LEFT"
    elif side == "" and kind in ("", "INNER") and on is not None:
        joined = "INNER"
    elif side == "" and kind in ("", "INNER", "CROSS") and on is None:
        return Joined("CROSS", source)
    else:
        raise Outside(f"{side or kind} JOIN of this form is outside the grammar")
    return Joined(joined, source, _conditions(on))


def _groups(group: Node) -> tuple[ColumnRef, ...]:
    if group is None:
        return ()
    only(group, "expressions")
    return tuple([ref_of(column) for column in group.expressions])


def _keys(order: Node) -> tuple[Key, ...]:
    if order is None:
        return ()
    only(order, "expressions")
    return tuple([_key(item) for item in order.expressions])


def _key(node: Node) -> Key:
    if type(node) is not exp.Ordered:
        raise refuse(node, "where a sort key is expected")
    descending = bool(node.args.get("desc"))
    # SQLite takes NULLs for the smallest values; the other order is another query.
    if bool(node.args.get("nulls_first")) == descending or node.args.get("with_fill"):
        raise Outside("a sort key has NULLS FIRST or LAST other than the default")
    return Key(_expression(node.this), "DESC" if descending else "ASC")


def _limit(select: Node) -> tuple[int, ...]:
    limit = select.args.get("limit")
    if select.args.get("offset") is not None:
        raise Outside("OFFSET is outside the grammar")
    if limit is None:
        return ()
    if type(limit) is not exp.Limit:
        raise refuse(limit, "where LIMIT is expected")
    only(limit, "expression")
    value = literal_of(limit.expression)
    if value is None or type(value[0]) is not int or value[0] < 0:
        raise Outside("LIMIT is not a plain number")
    return (value[0],)


def _distinct(distinct: Node) -> bool:
    if distinct is None:
        return False
    only(distinct)
    return True


def _cte(with_: Node) -> tuple[Named, ...]:
    if with_ is None:
        return ()
    only(with_, "expressions")
    if len(with_.expressions) != 1:
        raise Outside("WITH of more than one name is outside the grammar")
    cte = with_.expressions[0]
    only(cte, "this", "alias")
    only(cte.args["alias"], "this")
    return (Named(name_of(cte.args["alias"].this, given=True), _subquery(cte.this)),)


def _subquery(node: Node, *, exists: bool = False) -> Reading:
    if type(node) is exp.Subquery:
        only(node, "this")
        node = node.this
    if type(node) is not exp.Select:
        raise refuse(node, "where a SELECT is expected")
    reading = _read(node, exists=exists)
    if reading.outside or reading.cte:
        raise Outside(reading.outside or "WITH in a subquery is outside the grammar")
    return reading


def _conditions(node: Node) -> Group:
    if node is None:
        return NO_CONDITION
    if type(node) in (exp.Where, exp.Having):
        node = node.this
    found = _boolean(node, negated=False)
    return found if type(found) is Group and found.word == "AND" else Group("AND", (found,))


def _boolean(node: Node, negated: bool) -> Atom | Group:
    node = bare(node)
    kind = type(node)
    if kind is exp.Not:
        return _boolean(node.this, not negated)
    if kind is exp.And or kind is exp.Or:
        word: Literal["AND", "OR"] = "AND" if (kind is exp.And) != negated else "OR"
        return join_group(word, [_boolean(part, negated) for part in _operands(node, kind)])
    if kind in _COMPARISONS:
        operator = _COMPARISONS[kind]
        left, right = _operand(node.this), _operand(node.expression)
        atom = compare(left, NEGATED[operator] if negated else operator, right)
        if atom is None:
            raise Outside(f"`{operator}` does not compare a column with a value, a column or a subquery")
        return atom
    return _test(node, negated)


def _operands(node: Node, kind: type[exp.And] | type[exp.Or]) -> list[Node]:
    # A chain of ANDs leans to the left and may be long.
    parts: list[Node] = []
    while type(node) is kind:
        parts.append(node.expression)
        node = node.this
    return [node, *reversed(parts)]


def _test(node: Node, negated: bool) -> Atom:
    kind = type(node)
    # Some versions of sqlglot put NOT LIKE into the LIKE, others around it.
    negated ^= bool(node.args.get("negate"))
    if kind is exp.Exists:
        return Atom(None, "EXISTS", negated, (), None, _subquery(node.this, exists=True))
    if kind is exp.Is and type(node.expression) is exp.Null:
        return Atom(_tested(node.this), "IS NULL", negated)
    if kind is exp.Like:
        only(node, "this", "expression", "negate")
        pattern = literal_of(node.expression)
        if pattern is None or not isinstance(pattern[0], str):
            raise Outside("LIKE without a pattern is outside the grammar")
        return Atom(_tested(node.this), "LIKE", negated, pattern)
    if kind is exp.Between:
        only(node, "this", "low", "high", "negate")
        bounds = (*value_of(node.args["low"]), *value_of(node.args["high"]))
        return Atom(_tested(node.this), "BETWEEN", negated, bounds)
    if kind is exp.In:
        only(node, "this", "expressions", "query", "negate")
        if node.args.get("query"):
            return Atom(_tested(node.this), "IN", negated, (), None, _subquery(node.args["query"]))
        values = tuple([value for item in node.expressions for value in value_of(item)])
        if not values:
            raise Outside("IN without values is outside the grammar")
        return Atom(_tested(node.this), "IN", negated, values)
    raise refuse(node, "where a condition is expected")


def _tested(node: Node) -> SelectItem:
    item = _expression(node)
    if item.window is not None:
        raise Outside("a window function in a condition is outside the grammar")
    return item


def _operand(node: Node) -> SelectItem | tuple[Value] | Reading:
    node = bare(node)
    if type(node) is exp.Subquery:
        while type(node.this) is exp.Subquery and not node.args.get("alias"):
            node = node.this
        return _subquery(node)
    return literal_of(node) or _expression(node)
