"""Row -> rows that have a slot which hardly any row has: a second table to ask about, a second key, a new name."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from data_gen.draw.schemas import OTHER_COLUMNS, between, pick
from data_gen.draw.splits import UNSEEN
from data_gen.pairs.changes import KEY_PREFIXES, PairDraft, other_tables
from data_gen.pairs.slots import is_simple, is_sound, key_matters, names_used, shuffled
from data_gen.query import ColumnRef, Join, Query, is_key, put
from data_gen.schema import Column, Schema, Table


def rename_free(draft: PairDraft, query: Query) -> Iterator[Query]:
    """With a held-out name, the only one of its kind, for a column of each kind that the query does not use."""
    if "columns" in UNSEEN[draft.config.split]:
        yield query
        return
    words, used = draft.words, names_used(query)
    taken = {column.name for table in query.schema.tables for column in table.columns}
    renamed: set[str] = set()
    tables = []
    for table in query.schema.tables:
        columns = list(table.columns)
        for place in shuffled(draft.rng, range(len(columns))):
            old = columns[place]
            if old.name in used or is_key(old.name) or old.kind in renamed:
                continue
            fits = [
                name
                for name, kind in words.held_out_columns.items()
                if old.type in words.types[kind] and name not in taken
            ]
            if fits:
                columns[place] = replace(old, name=pick(draft.rng, tuple(fits)))
                taken.add(columns[place].name)
                renamed.add(old.kind)
        tables.append(Table(table.name, tuple(columns)))
    yield replace(query, schema=Schema(tuple(tables)))


def add_table(draft: PairDraft, query: Query) -> Iterator[Query]:
    """With a second table that has the same columns, so that the English alone says which one is meant."""
    if not is_simple(query):
        return
    [table] = query.schema.tables
    for name in other_tables(draft, query, query.table):
        both = (table, Table(name, tuple(shuffled(draft.rng, table.columns))))
        yield replace(query, schema=Schema(tuple(shuffled(draft.rng, both))))


def join_children(draft: PairDraft, query: Query) -> Iterator[Query]:
    """A parent joined with one of two tables that both refer to it by a key of the same name.

    Nothing is asked about the joined table, so that it can be the other one.
    """
    found = _link(query)
    if found is None:
        return
    child, key, parent = found
    asked = _only(query, query.schema.table(parent))
    if asked is None:
        return
    old = query.joins[0]
    left, right = ColumnRef("id", parent), ColumnRef(key, child)
    join = Join(table=child, kind=old.kind, left=left, right=right)
    related = [one for one, parents in draft.words.relations.items() if parent in parents]
    linked = next(column for column in query.schema.table(child).columns if column.name == key)
    for name in other_tables(draft, query, child, first=related):
        others = [*_new_columns(draft, query), linked]
        twin = Table(name, tuple(shuffled(draft.rng, others)))
        at = between(draft.rng, 1, len(query.schema.tables))
        tables = (*query.schema.tables[:at], twin, *query.schema.tables[at:])
        clean = replace(asked, schema=Schema(tables), table=parent, joins=(join,))
        # The parent's values repeat for each child, so few orders are full.
        yield clean if is_sound(clean) else replace(clean, order_by=())


def _link(query: Query) -> tuple[str, str, str] | None:
    """Child, key and parent of the one join of two tables."""
    if len(query.joins) != 1 or query.joins[0].alias:
        return None
    left, right = query.joins[0].left, query.joins[0].right
    assert left is not None
    assert right is not None
    child, parent = (right, left) if left.column == "id" else (left, right)
    if child.table is None or parent.table is None or parent.column != "id":
        return None
    return child.table, child.column, parent.table


def _only(query: Query, table: Table) -> Query | None:
    """What the query asks about `table`, without the rest; None for groups, aggregates and LIMIT."""
    names = {column.name for column in table.columns}
    items = tuple(item for item in query.select if item.column in names)
    if not items or any(item.aggregate for item in query.select) or query.distinct or query.limit:
        return None
    where = tuple(group for group in query.where if all(one.column in names for one in group))
    asked = replace(query, select=items, where=where, order_by=())
    for key in query.order_by:
        longer = replace(asked, order_by=(*asked.order_by, key))
        if key.column in names and key_matters(longer, len(asked.order_by)):
            asked = longer
    return asked


def _new_columns(draft: PairDraft, query: Query) -> list[Column]:
    words = draft.words
    is_unseen = "columns" in UNSEEN[draft.config.split]
    pool = tuple(words.held_out_columns) if is_unseen else words.single_columns
    taken = {name for table in query.schema.tables for name in (table.name, *(c.name for c in table.columns))}
    columns: dict[str, Column] = {}
    for _ in range(between(draft.rng, 1, OTHER_COLUMNS)):
        name = pick(draft.rng, pool)
        if name not in taken:
            columns[name] = pick(draft.rng, words.column_variants[name])
    return list(columns.values())


def add_key(draft: PairDraft, query: Query) -> Iterator[Query]:
    """With two keys between the joined tables instead of one: `first_club_id` and `second_club_id`."""
    if not query.joins or query.joins[0].alias:
        return
    join = query.joins[0]
    for side in ("left", "right"):
        ref: ColumnRef = getattr(join, side)
        if ref.column == "id" or ref.table is None:
            continue
        table = query.schema.table(ref.table)
        place = next(i for i, column in enumerate(table.columns) if column.name == ref.column)
        for prefixes in shuffled(draft.rng, KEY_PREFIXES):
            one, other = (f"{prefix}_{ref.column}" for prefix in shuffled(draft.rng, prefixes))
            old = table.columns[place]
            keys = shuffled(draft.rng, (replace(old, name=one), replace(old, name=other)))
            changed = Table(table.name, (*table.columns[:place], *keys, *table.columns[place + 1 :]))
            tables = tuple(changed if t.name == table.name else t for t in query.schema.tables)
            joined = replace(join, **{side: ColumnRef(one, ref.table)})
            yield replace(query, schema=Schema(tables), joins=put(query.joins, 0, joined))
