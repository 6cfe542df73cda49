"""Names, items and keys of a query -> English pieces: what all clauses are said with."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter

from data_gen.query import ColumnRef, Condition, OrderBy, Query, SelectItem
from data_gen.say.fragments import AND, COMMA, OWNERS, THEN, Fragment, marks_of, slots_at
from data_gen.say.sayable import unsayable
from data_gen.say.style import FACTORS, PLACES, PRIME, Style, say_word, words_of
from data_gen.schema import KINDS, Kind
from data_gen.text import BREAK, Pieces, marks, role
from data_gen.vocabulary.lexicon import LEXICONS, Lexicon
from data_gen.vocabulary.phrases import Pattern

_AGGREGATE, _WINDOW = attrgetter("aggregate"), attrgetter("window")


class Speaker:
    """Says the parts of one query in one style and appends them to `pieces`."""

    def __init__(self, pieces: Pieces, query: Query, style: Style) -> None:
        self.pieces, self.query, self.style = pieces, query, style
        self.lexicon: Lexicon = LEXICONS[style.lexicon]
        self.wording = self.lexicon.wording
        self.nat = style.variant == "nat"
        self.number, self.small = style.number, style.number % PRIME
        # None: names are said as they are.
        self.words = None if style.variant == "base" else words_of(style.lexicon, style.variant)
        self.qualified = query.select[0].table is not None

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """Column name -> kind, where a clause asks for it."""
        return {
            column.name: KINDS[column.type] for table in self.query.schema.tables for column in table.columns
        }

    def choose(self, options: tuple[Pattern, ...], place: int) -> Pattern:
        # As `Style.choose`.
        return options[self.small * FACTORS[place] % PRIME % len(options)]

    def add(self, fragment: Fragment) -> None:
        self.pieces.strings.append(fragment[0])
        self.pieces.roles.append(fragment[1])

    def say(self, name: str, *, table: bool = False) -> str:
        return name if self.words is None else say_word(self.number, self.words[name], table)

    def phrase(self, pattern: Pattern, at: str, before: str) -> None:
        """Words without a slot, perhaps behind a comma."""
        self.pieces.add(before + "".join(pattern.parts), at)

    def table(self, name: str, at: str) -> None:
        self.pieces.add(f" {self.say(name, table=True)}", at)

    def column(self, name: str, table: str | None, at: str, part: str = "column") -> None:
        if table is not None and self.qualified:
            *owners, own = self.owned(name, table)
            for word, owner in zip(OWNERS, owners, strict=False):
                self.pieces.add(owner, role(at, word))
            self.pieces.add(own, role(at, part))
        else:
            self.pieces.add(f" {self.say(name)}", role(at, part))

    def owned(self, name: str, table: str) -> tuple[str, ...]:
        """The pieces of a column and its table: `orders.price`, or where names may be words, `orders' price`."""
        owner, own = self.say(table, table=True), self.say(name)
        if self.words is None:
            return f" {owner}", ".", own
        return f" {owner}'" if owner.endswith("s") else f" {owner}'s", f" {own}"

    def owners(self, table: str | None) -> int:
        """How many of `OWNERS` stand before a column of `table`."""
        return 0 if table is None or not self.qualified else 2 if self.words is None else 1

    def full(self, name: str, table: str | None) -> str:
        """A column's name, behind that of its table where names are qualified."""
        if table is not None and self.qualified:
            return BREAK.join(self.owned(name, table))
        return f" {name if self.words is None else say_word(self.number, self.words[name], False)}"

    def items(self, items: tuple[SelectItem, ...], place: str) -> Fragment:
        slots = slots_at(place)
        and_last = self.style.choose(PLACES.separator, 4) > 0
        if not self.qualified and not any(map(_AGGREGATE, items)) and not any(map(_WINDOW, items)):
            return self.joined([self.full(item.column, None) for item in items], and_last), slots.list[
                len(items)
            ]
        said, its = [], []
        for index, item in enumerate(items):
            if item.window is not None:
                text, mark = self.window(item, slots.at[index], " a" if index else "")
            elif item.aggregate is not None:
                text, mark = self.aggregate(item, slots.at[index], index)
            else:
                text = self.full(item.column, item.table)
                mark = slots.column[index, self.owners(item.table)]
            said.append(text)
            its.append(mark)
        # "the sum of price and fee" would be a sum of both.
        after_aggregate = len(items) > 1 and items[-2].aggregate is not None
        return self.joined(
            said, and_last, f"{BREAK}, and{BREAK}" if after_aggregate else AND
        ), slots.separator.join(its)

    def joined(self, said: list[str], and_last: bool, last: str = AND) -> str:
        if not and_last or len(said) == 1:
            return COMMA.join(said)
        return f"{COMMA.join(said[:-1])}{last}{said[-1]}"

    def aggregate(self, item: SelectItem | Condition, at: str, index: int) -> Fragment:
        if item.column == "*":
            pattern = self.choose(self.wording.count_rows, PLACES.aggregate + index)
            return pattern.joined, marks_of(pattern.shape, at, "aggregate")
        assert item.aggregate is not None
        options = self.wording.aggregates[item.aggregate][self.kinds[item.column]]
        pattern = self.choose(options, PLACES.aggregate + index)
        text = pattern.joined.replace("{column}", self.full(item.column, item.table))
        return text, marks_of(pattern.shape, at, "aggregate", self.owners(item.table))

    def window(self, item: SelectItem, at: str, article: str) -> Fragment:
        """A window function and what it counts in; an instruction may say "the" before the first item."""
        window, outer, self.pieces = item.window, self.pieces, Pieces()
        assert window is not None
        if article:
            self.pieces.add(article, role(at, "function"))
        for part in self.choose(self.wording.windows[window.function], PLACES.window).parts:
            if part == "{column}":
                self.column(item.column, item.table, at)
            else:
                self.pieces.add(part, role(at, "function"))
        if window.partition_by:
            for part in self.choose(self.wording.partition_by, PLACES.window + 1).parts:
                if part == "{columns}":
                    self.add(self.columns(window.partition_by, role(at, "partition_by")))
                else:
                    self.pieces.add(part, role(at, "partition_by.phrase"))
        opener = self.choose(self.wording.window_order, PLACES.window + 2)
        self.key_list(window.order_by, role(at, "order_by"), opener, first=8)
        inner, self.pieces = self.pieces, outer
        return BREAK.join(inner.strings), "".join(inner.roles)

    def columns(self, columns: tuple[ColumnRef, ...], place: str) -> Fragment:
        slots = slots_at(place)
        said = [self.full(column.column, column.table) for column in columns]
        if not self.qualified:
            return self.joined(said, and_last=True), slots.list[len(said)]
        its = [slots.column[index, self.owners(ref.table)] for index, ref in enumerate(columns)]
        return self.joined(said, and_last=True), slots.separator.join(its)

    def key_list(self, keys: tuple[OrderBy, ...], place: str, opener: Pattern, first: int) -> None:
        self.phrase(opener, role(place, "phrase"), "")
        slots, kinds, phrases = slots_at(place), self.kinds, self.wording.sort_phrases
        said, its = [], []
        for index, key in enumerate(keys):
            kind = kinds.get(key.column)
            if kind is None:
                # An alias is no name of the schema: the aggregate is said again.
                kind, text, mark = self.alias(key.column, slots.at[index])
            else:
                text = self.full(key.column, key.table)
                mark = slots.column[index, self.owners(key.table)]
            options = phrases[kind]
            phrase = options[self.small * FACTORS[PLACES.phrase + first + index] % PRIME % len(options)]
            before, direction, after = phrase.ascending if key.direction == "ASC" else phrase.descending
            if before:
                text, mark = f"{text}{BREAK}{before}", mark + slots.phrase
            text, mark = f"{text}{BREAK}{direction}", mark + slots.direction[index]
            if after:
                text, mark = f"{text}{BREAK}{after}", mark + slots.phrase
            said.append(text)
            its.append(mark)
        self.add((THEN.join(said), slots.separator.join(its)))

    def alias(self, name: str, at: str) -> tuple[Kind, str, str]:
        """The kind of the selected item called `name`, and how SELECT says it."""
        for index, item in enumerate(self.query.select):
            if item.alias == name:
                if item.window is not None:
                    pattern = self.choose(self.wording.windows[item.window.function], PLACES.window)
                    text = "".join(pattern.parts).replace("{column}", self.full(item.column, item.table))
                    return "number", text.replace(BREAK, ""), marks(at)
                kind = self.kinds[item.column] if item.aggregate in ("MIN", "MAX") else "number"
                return kind, *self.aggregate(item, at, index)
        raise unsayable(self.query, f"the sort key `{name}`, which is no column and no selected item")
