"""Schema and SQL so far -> the tokens that may follow: every name in an answer is one that the schema gives.

A small lexer reads the SQL byte by byte, because tokens end anywhere. It knows whether it is within a word, a
string or a number, and which names the place calls for:

- behind FROM and JOIN the tables, or a name that WITH gave;
- behind WITH and AS a new name, as `write_sql` makes them: `MAX_price`, `running_price`, `picks`, ...;
- behind `orders.` the columns of `orders`;
- elsewhere a keyword, a column, a name that AS gave, or a table with its point.

It is no parser: which word follows which is the model's to know. Strings and numbers are free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool
from tokenizers.decoders import ByteLevel
from torch import Tensor

from data_gen.draw.nesting import CTE_NAMES
from data_gen.errors import InputError
from data_gen.query import AggregateFunction, SetOperator, WindowFunction
from data_gen.schema import Schema
from tinysql.tokens import Tokenizer

ENDING = frozenset(["ASC", "DESC", "NULL", "TRUE", "FALSE"])
"""The keywords behind which SQL may end."""
# fmt: off
KEYWORDS = ENDING.union(
    [
        "SELECT", "DISTINCT", "FROM", "JOIN", "LEFT", "ON", "WHERE", "AND", "OR", "NOT", "LIKE", "IN", "BETWEEN",
        "IS", "EXISTS", "GROUP", "ORDER", "BY", "HAVING", "LIMIT", "AS", "WITH", "OVER", "PARTITION",
    ],
    get_args(AggregateFunction), get_args(SetOperator), get_args(WindowFunction),
)
# fmt: on
"""The words of `write_sql` that are no names."""
NUMBERINGS = ("row_no", "place")
"""What ROW_NUMBER and RANK are called."""

BETWEEN, WORD, POINT, STRING, NUMBER, MINUS = "between", "word", "point", "string", "number", "minus"
SPACE = "space"
"""What the text so far ends in; behind a space no other follows, or an answer could be spaces to its end."""
START, ANY, OPEN, TABLE, NEW_NAME, NEW_TABLE = "start", "any", "open", "table", "new name", "new table"
"""Which words a place calls for; `OPEN` is as `ANY`, and more must follow."""
_PLACES = {b"FROM": TABLE, b"JOIN": TABLE, b"AS": NEW_NAME, b"WITH": NEW_TABLE}
"""Keyword -> the place behind it; every other one leads to `OPEN`, or to `ANY` if it may be the last."""
_DIGITS = frozenset(b"0123456789")
_OPENING, _CLOSING = frozenset(b",(=<>"), frozenset(b")*")
_SPACE, _QUOTE, _MINUS, _POINT, _BRACKET = b" '-.("


class State(NamedTuple):
    """What the lexer knows behind the SQL so far."""

    kind: str = BETWEEN
    place: str | bytes = START
    """Bytes are the name whose point stands before."""
    word: bytes = b""
    """The word so far, where `kind` is `WORD`."""
    made: frozenset[bytes] = frozenset()
    """The names that AS and WITH gave."""


class _Words(NamedTuple):
    """The words of one place."""

    whole: frozenset[bytes]
    """What may stand by itself."""
    pointed: frozenset[bytes]
    """What may stand before a point."""
    letters: dict[bytes, set[int]]
    """Each beginning of a word -> the bytes that may follow; of nothing, those that may begin one."""


class _Moves(dict[State, dict[int, State]]):
    """State -> byte -> the state behind it, worked out when first asked for; bytes that may not follow are absent."""

    def __init__(self, make: Callable[[State], dict[int, State]]) -> None:
        self._make = make

    def __missing__(self, state: State) -> dict[int, State]:
        self[state] = made = self._make(state)
        return made


class Vocabulary:
    """A tokenizer's tokens as bytes, in a trie, for a model that knows `d_vocab` of them, or some beyond.

    Raises:
        InputError: the tokenizer's tokens are no byte strings.
    """

    def __init__(self, tokenizer: Tokenizer, d_vocab: int) -> None:
        if not isinstance(tokenizer.backend.decoder, ByteLevel):
            raise InputError(
                f"the tokenizer's decoder is {type(tokenizer.backend.decoder).__name__}, and constrained decoding "
                "needs the bytes of each token",
                hint="use a byte-level tokenizer, such as one that tinysql trained, or decode freely",
            )
        self.end_id, self.size = tokenizer.end_id, d_vocab
        self.tokens: dict[int, bytes] = {}
        special = {
            number for number, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special
        }
        for token, number in tokenizer.backend.get_vocab().items():
            if number not in special | {tokenizer.pad_id, tokenizer.end_id}:
                self.tokens[number] = _bytes_of(token)
        self.root = _Node()
        for number, content in self.tokens.items():
            self.root.add(content, number)
        self.quoted = tuple(number for number, content in self.tokens.items() if _QUOTE in content)
        self.unquoted = torch.zeros(self.size, dtype=torch.bool)
        self.unquoted[[number for number, content in self.tokens.items() if _QUOTE not in content]] = True


class _Node:
    """The tokens that begin alike: those that are whole here, and one node per byte that may follow."""

    def __init__(self) -> None:
        self.whole: list[int] = []
        self.next: dict[int, _Node] = {}

    def add(self, content: bytes, number: int) -> None:
        node = self
        for byte in content:
            node = node.next.setdefault(byte, _Node())
        node.whole.append(number)


class Constraint:
    """Which tokens may follow in an answer about one schema.

    Example:
        >>> constraint = Constraint(Vocabulary(tokenizer, model.cfg.d_vocab), schema)
        >>> state = constraint.start
        >>> token = logits.masked_fill(~constraint.allowed(state), float("-inf")).argmax()
        >>> state = constraint.after(state, int(token))
    """

    def __init__(self, vocabulary: Vocabulary, schema: Schema) -> None:
        self.start = State()
        self._vocabulary = vocabulary
        self._columns = {
            table.name.encode(): frozenset(column.name.encode() for column in table.columns)
            for table in schema.tables
        }
        columns = frozenset[bytes]().union(*self._columns.values())
        # A table that refers to itself is joined under the name of the key: `manager` for `manager_id`.
        self._roles = frozenset(name.removesuffix(b"_id") for name in columns if name.endswith(b"_id")) - {
            b""
        }
        self._all_columns = columns
        self._outputs = frozenset(
            [
                *(
                    function.encode() + b"_" + name
                    for function in get_args(AggregateFunction)
                    for name in columns
                ),
                *(b"running_" + name for name in columns),
                *(name.encode() for name in NUMBERINGS),
            ]
        )
        self._words: dict[tuple[str | bytes, frozenset[bytes]], _Words] = {}
        self._moves = _Moves(self._list_moves)
        self._masks: dict[State, Bool[Tensor, " d_vocab"]] = {}

    def allowed(self, state: State) -> Bool[Tensor, " d_vocab"]:
        """True for each token that may follow; the end may where the SQL so far ends in a whole word."""
        if state not in self._masks:
            self._masks[state] = self._mask(state)
        return self._masks[state]

    def after(self, state: State, token: int) -> State:
        """The state behind one more token; raises `ValueError` for a token that is not allowed."""
        if token == self._vocabulary.end_id:
            return state
        found = self._read(state, self._vocabulary.tokens[token])
        if found is None:
            raise ValueError(f"token {token} may not follow")
        return found

    def _mask(self, state: State) -> Bool[Tensor, " d_vocab"]:
        vocabulary = self._vocabulary
        if state.kind == STRING:
            mask = vocabulary.unquoted.clone()
            fits = [n for n in vocabulary.quoted if self._read(state, vocabulary.tokens[n]) is not None]
        else:
            mask = torch.zeros(vocabulary.size, dtype=torch.bool)
            fits = self._walk(state)
        mask[fits] = True
        closed = state if state.kind == SPACE else self._moves[state].get(_SPACE)
        mask[vocabulary.end_id] = closed is not None and (closed.kind, closed.place) == (SPACE, ANY)
        return mask

    def _walk(self, state: State) -> list[int]:
        """The tokens that may follow, found from byte to byte, so that what begins wrongly is left out at once."""
        found: list[int] = []
        todo = [(self._vocabulary.root, state)]
        while todo:
            node, at = todo.pop()
            found += node.whole
            moves = self._moves[at]
            todo += [(node.next[byte], moves[byte]) for byte in moves.keys() & node.next.keys()]
        return found

    def _read(self, state: State, content: bytes) -> State | None:
        current: State | None = state
        for byte in content:
            current = self._moves[current].get(byte) if current is not None else None
        return current

    def _list_moves(self, state: State) -> dict[int, State]:
        kind, place, word, made = state
        between = State(BETWEEN, ANY, made=made)
        if kind == STRING:
            return dict.fromkeys(range(256), state) | {_QUOTE: between}
        if kind == MINUS:
            return dict.fromkeys(_DIGITS, State(NUMBER, ANY, made=made))
        if kind == NUMBER:
            return self._separate(between) | dict.fromkeys((*_DIGITS, _POINT), state)
        words = self._words_at(place, made)
        further = {
            byte: State(WORD, place, word + bytes([byte]), made) for byte in words.letters.get(word, ())
        }
        if kind == POINT:
            return further
        if kind in (BETWEEN, SPACE):
            digits = dict.fromkeys(_DIGITS, State(NUMBER, ANY, made=made)) if place in (ANY, OPEN) else {}
            moves = self._separate(state) | digits | further
            return {byte: to for byte, to in moves.items() if kind == BETWEEN or byte != _SPACE}
        pointed = {_POINT: State(POINT, word, made=made)} if word in words.pointed else {}
        behind = self._separate(self._behind(state)) if word in words.whole else {}
        return behind | pointed | further

    def _separate(self, between: State) -> dict[int, State]:
        """Between two words, the bytes that are part of neither."""
        made = between.made
        opened, closed = State(BETWEEN, OPEN, made=made), State(BETWEEN, ANY, made=made)
        moves = {_SPACE: between._replace(kind=SPACE)}
        if between.place == NEW_NAME:
            moves[_BRACKET] = opened  # `WITH picks AS (`
        if between.place in (ANY, OPEN):
            moves |= dict.fromkeys(_OPENING, opened) | dict.fromkeys(_CLOSING, closed)
            moves |= {_QUOTE: State(STRING, ANY, made=made), _MINUS: State(MINUS, ANY, made=made)}
        return moves

    def _behind(self, state: State) -> State:
        """Behind a whole word: what place it leads to, and whether it is a new name."""
        if state.place in (NEW_NAME, NEW_TABLE):
            return State(BETWEEN, ANY, made=state.made | {state.word})
        is_keyword = state.place in (START, ANY, OPEN) and state.word not in self._all_columns
        place = _PLACES.get(state.word, OPEN if state.word in _GOING_ON else ANY) if is_keyword else ANY
        return State(BETWEEN, place, made=state.made)

    def _words_at(self, place: str | bytes, made: frozenset[bytes]) -> _Words:
        if (place, made) not in self._words:
            self._words[place, made] = _spelled(*self._list_words(place, made))
        return self._words[place, made]

    def _list_words(
        self, place: str | bytes, made: frozenset[bytes]
    ) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """The words of a place that may stand by themselves, and those that may stand before a point."""
        tables, nothing = frozenset(self._columns), frozenset[bytes]()
        if isinstance(place, bytes):
            return self._columns.get(place, self._all_columns | (made & self._outputs)), nothing
        if place == START:
            return frozenset([b"SELECT", b"WITH"]), nothing
        if place == TABLE:
            return tables | (made & _CTES), nothing
        if place == NEW_TABLE:
            return _CTES, nothing
        if place == NEW_NAME:
            return self._outputs | self._roles, nothing
        return _KEYWORDS | self._all_columns | (made & self._outputs), tables | self._roles | (made & _CTES)


_KEYWORDS = frozenset(word.encode() for word in KEYWORDS)
_GOING_ON = frozenset(word.encode() for word in KEYWORDS - ENDING)
_CTES = frozenset(name.encode() for name in CTE_NAMES)


def _spelled(whole: frozenset[bytes], pointed: frozenset[bytes]) -> _Words:
    letters: dict[bytes, set[int]] = {}
    for word in whole | pointed:
        for at, byte in enumerate(word):
            letters.setdefault(word[:at], set()).add(byte)
    return _Words(whole, pointed, letters)


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte, as byte-level tokenizers write bytes: printable ones as they are, the others from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_ALPHABET = _byte_alphabet()


def _bytes_of(token: str) -> bytes:
    known = all(char in _ALPHABET for char in token)
    return bytes(_ALPHABET[char] for char in token) if known else token.encode()
