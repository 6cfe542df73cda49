"""Query -> the queries in which one slot of SELECT, FROM, JOIN, ORDER BY or behind it is another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.draw.clauses import SUITING, Draft
from data_gen.draw.schemas import Drawn, pick
from data_gen.draw.splits import UNSEEN
from data_gen.pairs.slots import (
    Place,
    change_item,
    column_at,
    free_columns,
    is_simple,
    key_matters,
    shuffled,
    window_index,
)
from data_gen.query import (
    ColumnRef,
    OrderBy,
    Query,
    SetOperator,
    Window,
    WindowFunction,
    command_set,
    flipped,
    put,
)
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import Draws

KEY_PREFIXES = (
    ("first", "second"),
    ("old", "new"),
    ("main", "other"),
    ("home", "away"),
    ("former", "current"),
)
"""What tells two keys between the same two tables apart."""
_PARTNERS = {one: other for pair in KEY_PREFIXES for one, other in (pair, pair[::-1])}
TABLES_TRIED = 8
"""Names drawn to replace one."""


class PairDraft(Draft):
    """What the changes of one query are drawn from."""

    def __init__(self, rng: Draws, config: DataConfig, query: Query, *, novel: bool = False) -> None:
        super().__init__(rng, config, command_set(query.command_set), Drawn(query.schema, query.table))
        self.novel = novel
        """Whether the changed name has to be a held-out one."""


Change = Callable[[PairDraft, Query], Iterable[Query]]
"""A query -> what it may become, the likeliest first; nothing where the slot is not there."""


def other_tables(draft: PairDraft, query: Query, name: str, first: Sequence[str] = ()) -> Iterator[str]:
    """Names that the table `name` could have instead, those of `first` before others.

    They have as many pieces as the old one if there are such.
    """
    words = draft.words
    held_out = draft.novel or "tables" in UNSEEN[draft.config.split]
    taken = {one for table in query.schema.tables for one in (table.name, *(c.name for c in table.columns))}
    pool = words.held_out_tables if held_out else words.tables
    drawn = [pick(draft.rng, pool) for _ in range(4 * TABLES_TRIED)]
    likely = [] if held_out else shuffled(draft.rng, first)
    fits = [one for one in dict.fromkeys([*likely, *drawn]) if one not in taken]
    alike = [one for one in fits if one.count("_") == name.count("_")]
    yield from (alike or fits)[:TABLES_TRIED]


def select_column(index: int, *, aggregated: bool) -> Change:
    """Another column as selected item `index`, which has an aggregate or has none."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        if index >= len(query.select) or query.compound is not None:
            # Both halves of a set operation list the same columns: two slots.
            return
        item = query.select[index]
        named_again = {key.column for key in query.order_by} if query.distinct or aggregated else set()
        named_again |= {ref.column for ref in query.group_by}
        if item.window or bool(item.aggregate) != aggregated or item.output in named_again:
            return
        for column in likely_columns(draft, query, item.column, item.table):
            if item.aggregate is None or item.aggregate in SUITING[column.kind]:
                yield change_item(query, index, column=column.name)

    return change


def likely_columns(
    draft: PairDraft, query: Query, column: str, table: str | None, place: Place = ""
) -> list[Column]:
    """Columns for the slot of `column`: those of as many pieces first, which tend to have as many tokens."""
    found = shuffled(draft.rng, free_columns(query, place, column, table))
    return sorted(found, key=lambda other: other.name.count("_") != column.count("_"))


def select_table(draft: PairDraft, query: Query) -> Iterator[Query]:
    """In a self-join: the same column of the other row."""
    item = query.select[0]
    if len(query.joins) == 1 and query.joins[0].alias and item.aggregate is None:
        other = query.joins[0].alias if item.table == query.table else query.table
        if all((one.column, one.table) != (item.column, other) for one in query.select):
            yield change_item(query, 0, table=other)


def aggregate(index: int) -> Change:
    """Another aggregate of selected item `index`; ORDER BY that repeats it would have to change too."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        if index >= len(query.select) or query.select[index].aggregate is None:
            return
        item = query.select[index]
        column = column_at(query, "", item.column, item.table)
        if column is None or any(key.column == item.alias for key in query.order_by):
            return
        for function in shuffled(draft.rng, SUITING[column.kind]):
            if function != item.aggregate:
                yield change_item(query, index, aggregate=function)

    return change


def key_column(index: int) -> Change:
    """Another column as sort key `index`; among groups and distinct rows, another selected one."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        if index >= len(query.order_by):
            return
        key = query.order_by[index]
        kind = column_at(query, "", key.column, key.table)
        if kind is None:
            return
        names = [column.name for column in likely_columns(draft, query, key.column, key.table)]
        if query.group_by or query.distinct:
            # Only what is selected can be a key, once for each.
            taken = {one.column for one in query.order_by}
            plain = [i.column for i in query.select if i.aggregate is None and i.table == key.table]
            names = [name for name in shuffled(draft.rng, plain) if name not in taken]
        for name in names:
            changed = replace(query, order_by=put(query.order_by, index, replace(key, column=name)))
            if all(key_matters(changed, i) for i in range(len(changed.order_by))):
                yield changed

    return change


def direction(index: int) -> Change:
    """The other direction of sort key `index`, where that can be seen."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        if index < len(query.order_by) and key_matters(query, index):
            yield replace(query, order_by=put(query.order_by, index, _flip(query.order_by[index])))

    return change


def _flip(key: OrderBy) -> OrderBy:
    return replace(key, direction=flipped(key.direction))


def distinct(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Without DISTINCT."""
    if query.distinct:
        yield replace(query, distinct=False)


def limit(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another number of rows."""
    if query.limit is not None:
        for value in shuffled(draft.rng, range(2, 4 if query.group_by else 6)):
            if value != query.limit:
                yield replace(query, limit=value)


def set_operator(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another of UNION, EXCEPT and INTERSECT."""
    operators: tuple[SetOperator, ...] = ("UNION", "EXCEPT", "INTERSECT")
    if query.compound is not None:
        for operator in shuffled(draft.rng, operators):
            if operator != query.compound.operator:
                yield replace(query, compound=replace(query.compound, operator=operator))


def _window(query: Query) -> tuple[int, Window] | None:
    index = window_index(query)
    window = None if index is None else query.select[index].window
    return None if index is None or window is None else (index, window)


def window_function(draft: PairDraft, query: Query) -> Iterator[Query]:
    """ROW_NUMBER for RANK; a running sum has a column besides, which these have not."""
    found = _window(query)
    if found is not None and found[1].function != "SUM":
        index, window = found
        function: WindowFunction = "RANK" if window.function == "ROW_NUMBER" else "ROW_NUMBER"
        yield change_item(query, index, window=replace(window, function=function))


def window_column(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another column in a running sum."""
    found = _window(query)
    if found is not None and found[1].function == "SUM":
        for column in likely_columns(draft, query, query.select[found[0]].column, None):
            if column.kind == "number":
                yield change_item(query, found[0], column=column.name)


def window_direction(draft: PairDraft, query: Query) -> Iterator[Query]:
    """The other direction of a window's sort key."""
    found = _window(query)
    if found is not None:
        index, window = found
        yield change_item(query, index, window=replace(window, order_by=(_flip(window.order_by[0]),)))


def window_key(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another column as a window's sort key."""
    found = _window(query)
    if found is not None:
        index, window = found
        for column in likely_columns(draft, query, window.order_by[0].column, None):
            if column.kind != "boolean":
                key = replace(window.order_by[0], column=column.name)
                yield change_item(query, index, window=replace(window, order_by=(key,)))


def window_partition(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another column for PARTITION BY."""
    found = _window(query)
    if found is not None and found[1].partition_by:
        index, window = found
        for column in likely_columns(draft, query, window.partition_by[0].column, None):
            ref = replace(window.partition_by[0], column=column.name)
            yield change_item(query, index, window=replace(window, partition_by=(ref,)))


def join_kind(draft: PairDraft, query: Query) -> Iterator[Query]:
    """LEFT JOIN for JOIN, where keys and conditions are about the table that is kept, and back."""
    if len(query.joins) != 1 or query.joins[0].alias:
        return
    join = query.joins[0]
    others = [key.table for key in query.order_by] + [one.table for group in query.where for one in group]
    grouped = any(item.aggregate for item in query.select) or query.distinct
    if join.kind == "LEFT" or not (grouped or any(table != query.table for table in others)):
        kind = "INNER" if join.kind == "LEFT" else "LEFT"
        yield replace(query, joins=(replace(join, kind=kind),))


def join_table(draft: PairDraft, query: Query) -> Iterator[Query]:
    """The other table whose rows belong to the main one by a key of the same name."""
    join = query.joins[0]
    assert join.right is not None
    for table in query.schema.tables:
        linked = any(column.name == join.right.column for column in table.columns)
        if table.name not in (query.table, join.table) and linked:
            right = replace(join.right, table=table.name)
            yield replace(query, joins=(replace(join, table=table.name, right=right),))


def join_key(draft: PairDraft, query: Query) -> Iterator[Query]:
    """The other key between the same two tables."""
    join = query.joins[0]
    for side in ("left", "right"):
        ref: ColumnRef = getattr(join, side)
        prefix, _, rest = ref.column.partition("_")
        other = f"{_PARTNERS.get(prefix)}_{rest}"
        if ref.table and any(column.name == other for column in query.schema.table(ref.table).columns):
            changed = replace(join, **{side: replace(ref, column=other)})
            yield replace(query, joins=put(query.joins, 0, changed))


def schema_table(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another name for the one table, as CREATE TABLE has it."""
    if is_simple(query):
        [table] = query.schema.tables
        for name in other_tables(draft, query, table.name):
            yield replace(query, table=name, schema=Schema((Table(name, table.columns),)))


def english_table(draft: PairDraft, query: Query) -> Iterator[Query]:
    """The other table of the schema, which has the same columns."""
    for table in query.schema.tables:
        if table.name != query.table:
            yield replace(query, table=table.name)
