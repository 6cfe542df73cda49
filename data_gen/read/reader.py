"""SQL text -> reading, for our own grammar and nothing else.

A grader reads thousands of statements a second, nearly all of them in this grammar, and a whole parser takes
several times as long for each. Whatever this reader does not know, it leaves to sqlglot (`data_gen.read.parse`).
"""

from __future__ import annotations

from data_gen.query import ColumnRef, OrderBy, SelectItem, Value, Window
from data_gen.read.lexing import (
    AGGREGATES,
    BOOLEANS,
    COMPARED,
    DIRECTIONS,
    JOINS,
    KEYWORDS,
    QUOTES,
    SETS,
    TESTS,
    WINDOWS,
    Unknown,
    name_of,
    number_of,
    string_of,
    unquoted,
)
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

_Literal = tuple[Value]
_Operand = SelectItem | _Literal | Reading | Atom | Group
_ITEM_ENDS = frozenset([",", "from"])
_TEST_STARTS = frozenset(["is", "not", "in", "like", "between"])
_LITERAL_STARTS = frozenset("'-0123456789")


def read_tokens(tokens: list[str]) -> Reading | None:
    """The reading of a statement, or None where it has anything that this reader does not know."""
    try:
        return _Reader(tokens).statement()
    except (Unknown, RecursionError):
        return None


class _Reader:
    """A place in the tokens of one statement; each method reads from there on."""

    __slots__ = ("at", "tokens", "words")

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.words = [*map(str.lower, tokens), "", "", ""]
        self.at = 0

    def statement(self) -> Reading:
        words = self.words
        cte: tuple[Named, ...] = ()
        if words[0] == "with":
            name = self.given_name(1)
            self.at = 2
            self.expect("as", "(")
            cte = (Named(name, self.select()),)
            self.expect(")")
        reading = self.select(cte, top=True)
        if words[self.at] == ";":
            self.at += 1
        if words[self.at]:
            raise Unknown
        return reading

    def select(self, cte: tuple[Named, ...] = (), *, top: bool = False, exists: bool = False) -> Reading:
        words = self.words
        self.expect("select")
        distinct = words[self.at] == "distinct"
        self.at += distinct
        items = self.exists_items() if exists else self.items()
        self.expect("from")
        source = self.source()
        joins = self.joins() if words[self.at] in JOINS else ()
        where = self.clause() if words[self.at] == "where" else NO_CONDITION
        group_by = self.refs("group") if words[self.at] == "group" else ()
        having = self.clause() if words[self.at] == "having" else NO_CONDITION
        order_by = self.keys() if words[self.at] == "order" else ()
        limit = self.limit() if words[self.at] == "limit" else ()
        compound: tuple[Combined, ...] = ()
        if top and words[self.at] in SETS:
            operator = SETS[words[self.at]]
            self.at += 1
            second = self.select()
            # ORDER BY behind a compound is about the whole, and before it an error.
            if order_by or limit or second.order_by or second.limit:
                raise Unknown
            compound = (Combined(operator, second),)
        return Reading(
            select=items,
            source=source,
            joins=joins,
            where=where,
            group_by=group_by,
            having=having,
            order_by=order_by,
            limit=limit,
            distinct=distinct,
            cte=cte,
            compound=compound,
        )

    def expect(self, *expected: str) -> None:
        for word in expected:
            if self.words[self.at] != word:
                raise Unknown
            self.at += 1

    def given_name(self, at: int) -> str:
        """An alias, as it is written."""
        name_of(self.words[at])
        return unquoted(self.tokens[at])

    def alias(self) -> str | None:
        """`AS name`, or a name alone, if one stands here."""
        word = self.words[self.at]
        if word == "as":
            self.at += 2
            return self.given_name(self.at - 1)
        if word in KEYWORDS or not (word.isidentifier() or word[:1] in QUOTES):
            return None
        self.at += 1
        return self.given_name(self.at - 1)

    def items(self) -> tuple[SelectItem, ...]:
        words = self.words
        items: list[SelectItem] = []
        while True:
            item = self.expression()
            if words[self.at] not in _ITEM_ENDS:
                alias = self.alias()
                item = SelectItem(item.column, item.table, item.aggregate, item.window, alias)
            items.append(item)
            if words[self.at] != ",":
                return tuple(items)
            self.at += 1

    def exists_items(self) -> tuple[SelectItem, ...]:
        if self.words[self.at] in ("1", "*") and self.words[self.at + 1] == "from":
            self.at += 1
            return (SelectItem(self.words[self.at - 1]),)
        return self.items()

    def expression(self) -> SelectItem:
        """A column, an aggregate or a window function."""
        words, at = self.words, self.at
        word, following = words[at], words[at + 1]
        if following == "(":
            return self.call(word)
        if following == ".":
            self.at = at + 3
            if words[at + 3] == ".":
                raise Unknown
            return SelectItem(name_of(words[at + 2]), name_of(word))
        self.at = at + 1
        return SelectItem(name_of(word))

    def call(self, function: str) -> SelectItem:
        words = self.words
        self.at += 2
        argument = ColumnRef("*")
        takes_none = words[self.at] == ")"
        if words[self.at] == "*" and function == "count":
            self.at += 1
        elif not takes_none:
            argument = self.ref()
        self.expect(")")
        if words[self.at] == "over":
            if takes_none == (function == "sum"):
                raise Unknown
            return SelectItem(argument.column, argument.table, None, self.window(function))
        if function not in AGGREGATES or takes_none:
            raise Unknown
        return SelectItem(argument.column, argument.table, AGGREGATES[function])

    def window(self, function: str) -> Window:
        if function not in WINDOWS:
            raise Unknown
        self.expect("over", "(")
        partition = self.refs("partition") if self.words[self.at] == "partition" else ()
        keys = self.keys() if self.words[self.at] == "order" else ()
        self.expect(")")
        if not keys or any(key.item.aggregate or key.item.window for key in keys):
            raise Unknown
        order = tuple([OrderBy(key.item.column, key.direction, key.item.table) for key in keys])
        return Window(WINDOWS[function], order, partition)

    def ref(self) -> ColumnRef:
        item = self.expression()
        if item.aggregate or item.window:
            raise Unknown
        return ColumnRef(item.column, item.table)

    def refs(self, word: str) -> tuple[ColumnRef, ...]:
        self.expect(word, "by")
        refs = [self.ref()]
        while self.words[self.at] == ",":
            self.at += 1
            refs.append(self.ref())
        return tuple(refs)

    def keys(self) -> tuple[Key, ...]:
        words = self.words
        self.expect("order", "by")
        keys: list[Key] = []
        while True:
            item = self.expression()
            direction = DIRECTIONS.get(words[self.at])
            if direction is not None:
                self.at += 1
            keys.append(Key(item, direction or "ASC"))
            if words[self.at] != ",":
                return tuple(keys)
            self.at += 1

    def limit(self) -> tuple[int]:
        value = number_of(self.words[self.at + 1])
        if not isinstance(value, int):
            raise Unknown
        self.at += 2
        return (value,)

    def source(self) -> Source:
        self.at += 1
        return Source(name_of(self.words[self.at - 1]), self.alias())

    def joins(self) -> tuple[Joined, ...]:
        words = self.words
        joins: list[Joined] = []
        while (word := words[self.at]) in JOINS:
            self.at += 1
            kind = JOINS[word]
            if word == "left" and words[self.at] == "outer":
                self.at += 1
            if word not in (",", "join"):
                self.expect("join")
            source = self.source()
            if words[self.at] == "on":
                if kind == "CROSS":
                    raise Unknown
                joins.append(Joined(kind, source, self.clause()))
            elif kind == "LEFT":
                raise Unknown
            else:
                joins.append(Joined("CROSS", source))
        return tuple(joins)

    def clause(self) -> Group:
        """The conditions behind WHERE, HAVING or ON."""
        self.at += 1
        node = self.disjunction(negated=False)
        if type(node) is Group:
            return node if node.word == "AND" else Group("AND", (node,))
        if type(node) is Atom:
            return Group("AND", (node,))
        raise Unknown

    # NOT is carried down: `negated` tells the methods below to read the opposite of what is written. In
    # brackets may stand a condition or a part of one (`(price) > 5`), which only its reading tells; so they
    # also give operands.

    def disjunction(self, negated: bool) -> _Operand:
        node = self.conjunction(negated)
        if self.words[self.at] != "or":
            return node
        parts = [_condition(node)]
        while self.words[self.at] == "or":
            self.at += 1
            parts.append(_condition(self.conjunction(negated)))
        return join_group("AND" if negated else "OR", parts)

    def conjunction(self, negated: bool) -> _Operand:
        node = self.condition(negated)
        if self.words[self.at] != "and":
            return node
        parts = [_condition(node)]
        while self.words[self.at] == "and":
            self.at += 1
            parts.append(_condition(self.condition(negated)))
        return join_group("OR" if negated else "AND", parts)

    def condition(self, negated: bool) -> _Operand:
        words = self.words
        if words[self.at] == "not":
            self.at += 1
            return _condition(self.condition(not negated))
        if words[self.at] == "exists":
            self.at += 1
            self.expect("(")
            subquery = self.select(exists=True)
            self.expect(")")
            return Atom(None, "EXISTS", negated, (), None, subquery)
        left = self.operand(negated)
        word = words[self.at]
        operator = COMPARED.get(word)
        if operator is not None:
            self.at += 1
            right = self.operand(False)
            atom = compare(left, NEGATED[operator] if negated else operator, right)
            if atom is None:
                raise Unknown
            return atom
        if word in _TEST_STARTS:
            if type(left) is not SelectItem:
                raise Unknown
            return self.test(left, negated)
        return left

    def test(self, left: SelectItem, negated: bool) -> Atom:
        """LIKE, IN, BETWEEN and IS NULL, with NOT or without."""
        words = self.words
        if words[self.at] == "is":
            self.at += 1
            if words[self.at] == "not":
                self.at += 1
                negated = not negated
            self.expect("null")
            return Atom(left, "IS NULL", negated)
        if words[self.at] == "not":
            self.at += 1
            negated = not negated
        operator = TESTS.get(words[self.at])
        self.at += 1
        if operator == "LIKE":
            value = self.literal()
            if not isinstance(value[0], str):
                raise Unknown
            return Atom(left, operator, negated, value)
        if operator == "BETWEEN":
            low = self.literal()
            self.expect("and")
            return Atom(left, operator, negated, low + self.literal())
        if operator == "IN":
            return self.membership(left, negated)
        raise Unknown

    def membership(self, left: SelectItem, negated: bool) -> Atom:
        self.expect("(")
        if self.words[self.at] == "select":
            subquery = self.select()
            self.expect(")")
            return Atom(left, "IN", negated, (), None, subquery)
        values = [*self.literal()]
        while self.words[self.at] == ",":
            self.at += 1
            values += self.literal()
        self.expect(")")
        return Atom(left, "IN", negated, tuple(values))

    def operand(self, negated: bool) -> _Operand:
        words, at = self.words, self.at
        word = words[at]
        if word == "(":
            self.at = at + 1
            node = self.select() if words[at + 1] == "select" else self.disjunction(negated)
            self.expect(")")
            return node
        if word[:1] in _LITERAL_STARTS or word in BOOLEANS:
            return self.literal()
        return self.expression()

    def literal(self) -> _Literal:
        word = self.words[self.at]
        self.at += 1
        if word[:1] == "'":
            return (string_of(self.tokens[self.at - 1]),)
        if word in BOOLEANS:
            return (BOOLEANS[word],)
        if word == "-":
            self.at += 1
            return (-number_of(self.words[self.at - 1]),)
        if word == "(":
            value = self.literal()
            self.expect(")")
            return value
        return (number_of(word),)


def _condition(node: _Operand) -> Atom | Group:
    if type(node) is Atom or type(node) is Group:
        return node
    raise Unknown
