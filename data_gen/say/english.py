"""Query + style -> English text."""

from __future__ import annotations

from data_gen.query import OrderBy, Query, Select, command_set
from data_gen.say.english_conditions import add_having, add_where
from data_gen.say.fragments import marks_around, marks_of
from data_gen.say.sayable import check_sayable
from data_gen.say.speaker import Speaker
from data_gen.say.style import PLACES, Style
from data_gen.text import BREAK, Pieces, Text, marks, role

_TEMPLATE = marks("english.template")


def write_english(query: Query, style: Style) -> Text:
    """One line with single spaces that asks for `query` and for nothing else.

    Columns are listed in the order of SELECT; every condition, key and number of the query is said in one span
    of its own, whose role is that of the SQL with `english` for `sql`: `english.order_by.0.direction` is the
    word that says the direction and `english.order_by.phrase` the rest.

    Example: `show the price and name of orders sorted by price in ascending order`.

    Raises:
        InputError: no English says some part of the query, as only one that was not drawn can have it.
    """
    pieces = Pieces()
    add_english(pieces, query, style)
    return pieces.text()


def add_english(pieces: Pieces, query: Query, style: Style) -> None:
    """Append what `write_english` gives, behind a space; raises what it raises."""
    check_sayable(query)
    _write(Speaker(pieces, query, style))


def _write(speaker: Speaker) -> None:
    query = speaker.query
    if query.cte is not None:
        _add_cte(speaker, query.cte.name, query.cte.select)
    pattern = speaker.style.pattern
    before, behind = marks_around(pattern.shape, "english", "template")
    text, its = speaker.items(query.select, "english.select")
    if query.select[-1].window is not None and behind:
        # "in increasing order of orders" would be an order of orders.
        text, its = f"{text}{BREAK},", f"{its}{_TEMPLATE}"
    text = pattern.joined.replace("{columns}", text)
    speaker.add(
        (text.replace("{table}", f" {speaker.say(query.table, table=True)}"), f"{before}{its}{behind}")
    )
    if query.joins:
        _add_joins(speaker)
    arrangement = speaker.style.choose(PLACES.arrangement, 2) if speaker.nat else 0
    if arrangement and query.order_by:
        _add_keys(speaker, query.order_by, "english.order_by")
    if query.where:
        add_where(speaker, query, "english")
    if query.group_by:
        _add_groups(speaker)
    for index, condition in enumerate(query.having):
        add_having(speaker, condition, index)
    if query.distinct:
        options = speaker.wording.distinct
        speaker.phrase(speaker.choose(options, PLACES.distinct), "english.distinct", ",")
    elif _says_repeats(speaker):
        speaker.phrase(speaker.choose(speaker.wording.repeats, PLACES.distinct), "english.distinct", ",")
    if query.order_by and not arrangement:
        _add_keys(speaker, query.order_by, "english.order_by")
    if query.limit is not None:
        speaker.pieces.add(",", "english.limit.phrase")
        for part in speaker.choose(speaker.wording.limit, PLACES.limit).parts:
            is_slot = part == "{n}"
            text = f" {query.limit}" if is_slot else part
            speaker.pieces.add(text, "english.limit.value" if is_slot else "english.limit.phrase")
    if query.compound is not None:
        _add_compound(speaker)
    if speaker.nat and speaker.style.choose(PLACES.closer, 4) == 0:
        speaker.pieces.add(",", "english.template")
        speaker.phrase(speaker.choose(speaker.wording.closers, PLACES.closer + 1), "english.template", "")


def _says_repeats(speaker: Speaker) -> bool:
    """Whether the English says that rows may repeat: half the time where the set has DISTINCT."""
    query = speaker.query
    if "distinct" not in command_set(query.command_set).skills or query.group_by:
        return False
    plain = all(item.aggregate is None and item.window is None for item in query.select)
    return plain and speaker.style.choose(PLACES.distinct + 1, 2) == 0


def _add_keys(speaker: Speaker, keys: tuple[OrderBy, ...], place: str) -> None:
    options = speaker.wording.nat_sort_openers if speaker.nat else speaker.wording.sort_openers
    speaker.key_list(keys, place, speaker.choose(options, PLACES.opener), first=0)


def _add_joins(speaker: Speaker) -> None:
    for index, join in enumerate(speaker.query.joins):
        assert join.left is not None
        assert join.right is not None
        left_join = join.kind == "LEFT"
        if speaker.nat:
            options = speaker.wording.nat_left_join if left_join else speaker.wording.nat_join
        else:
            options = speaker.wording.left_join if left_join else speaker.wording.join
        pattern, table = speaker.choose(options, PLACES.join), f" {speaker.say(join.table, table=True)}"
        shape = pattern.shape
        if join.alias is not None:
            shape = tuple(["{aliased}" if part == "{table}" else part for part in shape])
            table = f"{table}{BREAK} as{BREAK} {join.alias}"
        text = pattern.joined.replace("{table}", table)
        text = text.replace("{left}", speaker.full(join.left.column, join.left.table))
        text = text.replace("{right}", speaker.full(join.right.column, join.right.table))
        speaker.add(
            (text, marks_of(shape, role("english.join", index), "kind", speaker.owners(join.left.table)))
        )


def _add_groups(speaker: Speaker) -> None:
    options = speaker.wording.nat_group_by if speaker.nat else speaker.wording.group_by
    pattern = speaker.choose(options, PLACES.group_by)
    before, behind = marks_around(pattern.shape, "english.group_by", "phrase")
    text, its = speaker.columns(speaker.query.group_by, "english.group_by")
    speaker.add((pattern.joined.replace("{columns}", text), f"{before}{its}{behind}"))


def _add_cte(speaker: Speaker, name: str, select: Select) -> None:
    for part in speaker.choose(speaker.wording.cte, PLACES.cte).parts:
        if part == "{name}":
            speaker.pieces.add(f" {name}", "english.cte.name")
        elif part == "{columns}":
            speaker.add(speaker.items(select.select, "english.cte.select"))
        elif part == "{table}":
            speaker.table(select.table, "english.cte.table")
        else:
            speaker.pieces.add(part, "english.cte.phrase")
    if select.where:
        add_where(speaker, select, "english.cte")
    speaker.phrase(speaker.choose(speaker.wording.cte_then, PLACES.cte + 1), "english.cte.phrase", "")


def _add_compound(speaker: Speaker) -> None:
    compound = speaker.query.compound
    assert compound is not None
    options = speaker.wording.set_operations[compound.operator]
    speaker.pieces.add(",", "english.compound.operator")
    for part in speaker.choose(options, PLACES.subquery).parts:
        if part == "{columns}":
            speaker.add(speaker.items(compound.select.select, "english.compound.select"))
        elif part == "{table}":
            speaker.table(compound.select.table, "english.compound.table")
        else:
            speaker.pieces.add(part, "english.compound.operator")
    if compound.select.where:
        add_where(speaker, compound.select, "english.compound")
