"""Random numbers + how many tables -> schema, with foreign keys that mean something."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.draw.at_hand import At, at_hand
from data_gen.draw.splits import MADE_ANEW, UNSEEN, is_held_out_name, is_test_sum, schema_sum
from data_gen.errors import InputError
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import Draws, name_hash
from data_gen.vocabulary.invented import invented_word
from data_gen.vocabulary.lexicon import LEXICONS, Lexicon
from data_gen.vocabulary.words import ColumnType

ATTEMPTS = 1000
"""Draws after which a split is taken to be empty."""
TABLE_ATTEMPTS = 64
"""Table names tried with a set of columns; one schema in ten is a test schema by default."""
NAME_ATTEMPTS = 10_000
"""Names drawn until one is of the split."""
OTHER_COLUMNS = 4
"""Most columns of a joined table besides its key."""

ID = Column("id", "INTEGER")
ID_HASH = name_hash("id")

T = TypeVar("T")


def pick(rng: Draws, items: tuple[T, ...]) -> T:
    """One of `items`."""
    return items[int(rng.random() * len(items))]


def sample(rng: Draws, items: tuple[T, ...] | list[T], count: int) -> list[T]:
    """`count` different places of `items`, in random order (a Fisher-Yates shuffle that stops)."""
    pool, random = list(items), rng.random
    size = len(pool)
    for place in range(count):
        other = place + int(random() * (size - place))
        pool[place], pool[other] = pool[other], pool[place]
    return pool[:count]


def between(rng: Draws, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(rng.random() * (high - low + 1))


class Link(Struct, frozen=True):
    """Rows of `child` belong to rows of `parent`: `child.key = parent.id`."""

    child: str
    key: str
    parent: str


class Drawn(Struct, frozen=True):
    """A schema and how its tables hang together; the first table is the one that is asked about."""

    schema: Schema
    main: str
    links: tuple[Link, ...] = ()
    partner: str | None = None
    """For a table that refers to itself: what the other row is to one of its rows."""
    asked: dict[str, list[At]] = {}
    """Table -> its columns but for the keys, where they are known."""


def sample_schema(rng: Draws, config: DataConfig, tables: int = 1, *, itself: bool = False) -> Drawn:
    """One to three tables of the config's split, linked by foreign keys; `itself`: one table linked to itself.

    Raises:
        InputError: the split has no schema of this lexicon and size.
    """
    words = LEXICONS[config.lexicon]
    unseen = UNSEEN[config.split]
    namer = _namer(rng, words, config)
    wants_test = "schemas" in unseen
    for _ in range(ATTEMPTS):
        hands = [_columns(rng, words, config, index, "columns" in unseen, namer) for index in range(tables)]
        for _ in range(TABLE_ATTEMPTS):
            names = _tables(rng, words, tables, "tables" in unseen, namer, itself)
            drawn = _link(rng, words, config, names, hands, itself)
            if "tables" in unseen or "columns" in unseen:
                return drawn
            keys = [name_hash(link.key) for link in drawn.links]
            total = sum(keys) + (len(names) - 1 + itself) * ID_HASH
            for name, hand in drawn.asked.items():
                total += schema_sum(name, [one.bits for one in hand])
            if is_test_sum(total, config.test_fraction) == wants_test:
                return drawn
            if tables > 1:
                # Keys are drawn with the tables, so new names alone could repeat one hash for long.
                break
    raise InputError(
        f"no schema of split `{config.split}` in {ATTEMPTS} draws",
        hint=f"test_fraction {config.test_fraction} or the column numbers leave that split empty; change them",
    )


def _columns(
    rng: Draws, words: Lexicon, config: DataConfig, index: int, unseen: bool, namer: Namer | None
) -> list[At]:
    most = config.max_columns if index == 0 else min(OTHER_COLUMNS, config.max_columns)
    count = between(rng, min(config.min_columns, most), most)
    if namer is not None:
        return _named_columns(words, count, namer)
    pool, random = column_pool(config.lexicon, unseen), rng.random
    size = len(pool)
    chosen: dict[str, At] = {}
    while len(chosen) < count:
        one = pool[int(random() * size)]
        chosen[one.name] = one
    return list(chosen.values())


@lru_cache(maxsize=16)
def column_pool(lexicon: str, unseen: bool) -> tuple[At, ...]:
    """Columns, each as often as it is to be drawn: every name equally often, every spelling of its type too.

    Two-piece names occur more often than others, so that their share is as good as that of the lexicon.
    """
    words = LEXICONS[lexicon]
    if unseen:
        times = dict.fromkeys(words.held_out_columns, 1)
    else:
        odds = words.compound_share / (1 - words.compound_share)
        ratio = Fraction(odds * len(words.single_columns) / len(words.compound_columns)).limit_denominator(16)
        times = dict.fromkeys(words.single_columns, ratio.denominator)
        times |= dict.fromkeys(words.compound_columns, ratio.numerator)
    spellings = {name: words.column_variants[name] for name in times}
    whole = lcm(*map(len, spellings.values()))
    return tuple(
        [
            at_hand(column)
            for name, some in spellings.items()
            for column in some
            for _ in range(times[name] * whole // len(some))
        ]
    )


class Namer:
    """Names for one schema that are not the lexicon's own: pieces put together anew.

    The share `test_fraction` of them, whatever the seed, is in rows of split `recombined` or `invented` alone.
    """

    def __init__(self, rng: Draws, words: Lexicon, config: DataConfig) -> None:
        self.rng, self.words = rng, words
        self.test_fraction = config.test_fraction
        self.held_out = config.split in MADE_ANEW

    def column(self) -> tuple[str, ColumnType]:
        """A column's name that belongs to the split, and its type."""
        for _ in range(NAME_ATTEMPTS):
            name, kind = self._column()
            if self._belongs(name):
                return name, kind
        raise self._none()

    def table(self) -> str:
        """A table's name that belongs to the split."""
        for _ in range(NAME_ATTEMPTS):
            name = self._table()
            if self._belongs(name):
                return name
        raise self._none()

    def _column(self) -> tuple[str, ColumnType]:
        last, kind = pick(self.rng, self.words.last_column_pieces)
        return f"{pick(self.rng, self.words.first_pieces)}_{last}", kind

    def _table(self) -> str:
        return f"{pick(self.rng, self.words.first_pieces)}_{pick(self.rng, self.words.last_table_pieces)}"

    def _belongs(self, name: str) -> bool:
        if name in self.words.unseen_names or (self.held_out and name in self.words.known_names):
            return False
        return is_held_out_name(name, self.test_fraction) == self.held_out

    def _none(self) -> InputError:
        return InputError(
            f"test_fraction {self.test_fraction} leaves no name of its own to the rows",
            hint="choose one nearer to 0.1",
        )


class Inventor(Namer):
    """Names of one or two invented words, of any type."""

    def _column(self) -> tuple[str, ColumnType]:
        return self._table(), pick(self.rng, tuple(self.words.types))

    def _table(self) -> str:
        first = invented_word(self.rng)
        return f"{first}_{invented_word(self.rng)}" if self.rng.random() < 0.5 else first


def _namer(rng: Draws, words: Lexicon, config: DataConfig) -> Namer | None:
    """Who names the tables and columns of a row that has none of the lexicon's; None stands for the lexicon."""
    if config.split in MADE_ANEW:
        return (Namer if config.split == "recombined" else Inventor)(rng, words, config)
    if config.split != "train" or not config.random_names + config.invented_names:
        return None
    drawn = rng.random()
    if drawn < config.random_names:
        return Namer(rng, words, config)
    return Inventor(rng, words, config) if drawn < config.random_names + config.invented_names else None


def _named_columns(words: Lexicon, count: int, namer: Namer) -> list[At]:
    columns: dict[str, At] = {}
    while len(columns) < count:
        name, kind = namer.column()
        columns[name] = At(Column(name, pick(namer.rng, words.types[kind])))
    return list(columns.values())


def _tables(
    rng: Draws, words: Lexicon, count: int, unseen: bool, namer: Namer | None, itself: bool
) -> tuple[str, ...]:
    if namer is not None:
        names: dict[str, None] = {}
        while len(names) < count:
            names[namer.table()] = None
        return tuple(names)
    if itself:
        return (pick(rng, words.self_linked_tables[unseen]),)
    if count == 1:
        if unseen:
            return (pick(rng, words.held_out_tables),)
        compound = rng.random() < words.compound_share
        return (pick(rng, words.compound_tables if compound else words.single_tables),)
    relations = words.held_out_relations if unseen else words.relations
    if count == 2:
        child = pick(rng, words.linked_tables[unseen])
        return (child, pick(rng, relations[child]))
    return pick(rng, words.chains[unseen])


def _link(
    rng: Draws,
    words: Lexicon,
    config: DataConfig,
    names: tuple[str, ...],
    hands: list[list[At]],
    itself: bool,
) -> Drawn:
    main, hand = names[0], hands[0]
    if itself:
        return _link_itself(rng, words, main, hand)
    columns = [one.column for one in hand]
    if len(names) == 1:
        return Drawn(Schema((Table(main, tuple(columns)),)), main, (), None, {main: hand})
    tables, links, asked = [], [], {main: hand}
    taken = {*names, *[one.name for one in hand]}
    for other, others in zip(names[1:], hands[1:], strict=True):
        link, key = _link_of(config.lexicon, main, other)
        links.append(link)
        columns.insert(int(rng.random() * (len(columns) + 1)), key)
        # Names differ across tables, so that an unqualified name means one column.
        asked[other] = kept = [one for one in others if one.name not in taken]
        taken.update([one.name for one in kept])
        tables.append(Table(other, (ID, *[one.column for one in kept])))
    return Drawn(Schema((Table(main, tuple(columns)), *tables)), main, tuple(links), None, asked)


def _link_itself(rng: Draws, words: Lexicon, main: str, hand: list[At]) -> Drawn:
    partner = words.partners.get(main) or words.held_out_partners.get(main)
    if partner is None:
        # A random name has none of its own.
        partner = pick(rng, tuple(words.partners.values()))
    asked = [one for one in hand if one.name != partner]
    key = Column(f"{partner}_id", "INTEGER")
    columns = [one.column for one in asked]
    columns.insert(between(rng, 0, len(columns)), key)
    table = Table(main, (ID, *columns))
    return Drawn(Schema((table,)), main, (Link(main, key.name, main),), partner, {main: asked})


@lru_cache(maxsize=16384)
def _link_of(lexicon: str, child: str, parent: str) -> tuple[Link, Column]:
    """How rows of `child` belong to rows of `parent`, and the column that says so."""
    key = f"{LEXICONS[lexicon].singular(parent)}_id"
    return Link(child, key, parent), Column(key, "INTEGER")


def with_constraints(drawn: Drawn) -> Drawn:
    """The same tables with their keys declared: PRIMARY KEY and REFERENCES, parents first."""
    parents = {link.key: link.parent for link in drawn.links}
    tables = []
    for table in drawn.schema.tables:
        columns = [Column(c.name, c.type, parents.get(c.name), c.name == "id") for c in table.columns]
        tables.append(Table(table.name, tuple(columns)))
    tables.sort(key=lambda table: table.name == drawn.main)
    return replace(drawn, schema=Schema(tuple(tables)))
