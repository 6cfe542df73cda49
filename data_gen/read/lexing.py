"""SQL text -> tokens, and a token -> the name or the value it stands for."""

from __future__ import annotations

import math
import re
from typing import get_args

from data_gen.query import (
    COMPARISONS,
    AggregateFunction,
    Comparison,
    Direction,
    JoinKind,
    Operator,
    SetOperator,
    WindowFunction,
)

_TOKEN = re.compile(
    r"""[^\W\d]\w*|'[^']*'(?:'[^']*')*|[0-9][\w.]*|<>|[<>!=]=|"[^"]*"(?:"[^"]*")*|`[^`]*`(?:`[^`]*`)*"""
    r"""|\[[^\]]*\]|[^ \t\r\n]"""
)
# fmt: off
KEYWORDS = frozenset([
    "abort", "action", "add", "after", "all", "alter", "always", "analyze", "and", "as", "asc",
    "attach", "autoincrement", "before", "begin", "between", "by", "cascade", "case", "cast", "check",
    "collate", "column", "commit", "conflict", "constraint", "create", "cross", "current",
    "current_date", "current_time", "current_timestamp", "database", "default", "deferrable",
    "deferred", "delete", "desc", "detach", "distinct", "do", "drop", "each", "else", "end", "escape",
    "except", "exclude", "exclusive", "exists", "explain", "fail", "false", "filter", "first",
    "following", "for", "foreign", "from", "full", "generated", "glob", "group", "groups", "having",
    "if", "ignore", "immediate", "in", "index", "indexed", "initially", "inner", "insert", "instead",
    "intersect", "into", "is", "isnull", "join", "key", "last", "left", "like", "limit", "match",
    "materialized", "natural", "no", "not", "nothing", "notnull", "null", "nulls", "of", "offset", "on",
    "or", "order", "others", "outer", "over", "partition", "plan", "pragma", "preceding", "primary",
    "query", "raise", "range", "recursive", "references", "regexp", "reindex", "release", "rename",
    "replace", "restrict", "returning", "right", "rollback", "row", "rows", "savepoint", "select",
    "set", "table", "temp", "temporary", "then", "ties", "to", "transaction", "trigger", "true",
    "unbounded", "union", "unique", "update", "using", "vacuum", "values", "view", "virtual", "when",
    "where", "window", "with", "without",
])
# fmt: on
"""SQLite's keywords: none of them is taken for a name, though SQLite allows some."""
QUOTES = frozenset('"`[')
"""What a quoted name begins with."""
COMPARED: dict[str, Comparison] = {**{sign: sign for sign in COMPARISONS}, "!=": "<>", "==": "="}
AGGREGATES: dict[str, AggregateFunction] = {name.lower(): name for name in get_args(AggregateFunction)}
WINDOWS: dict[str, WindowFunction] = {name.lower(): name for name in get_args(WindowFunction)}
SETS: dict[str, SetOperator] = {name.lower(): name for name in get_args(SetOperator)}
TESTS: dict[str, Operator] = {"like": "LIKE", "in": "IN", "between": "BETWEEN"}
DIRECTIONS: dict[str, Direction] = {"asc": "ASC", "desc": "DESC"}
JOINS: dict[str, JoinKind] = {
    "inner": "INNER",
    "join": "INNER",
    "left": "LEFT",
    "cross": "CROSS",
    ",": "CROSS",
}
BOOLEANS = {"true": True, "false": False}
_MOST_DIGITS = 18
_PLAIN_FLOAT = re.compile(r"[0-9]+\.[0-9]+")


class Unknown(Exception):
    """Something that is not for our own reader."""


def tokenize(sql: str) -> list[str]:
    """The tokens of SQL: names, literals, operators and marks; what is no SQL comes as single characters."""
    return _TOKEN.findall(sql)


def name_of(word: str) -> str:
    """The name that a token in lower case is."""
    if word in KEYWORDS:
        raise Unknown
    if word.isidentifier():
        return word
    return unquoted(word)


def unquoted(token: str) -> str:
    """A name as it is written, without its quotes."""
    if token[:1] in QUOTES:
        name = token[1:-1]
        # A quote in a name is written twice, no name of ours has one; `*` and `1` mean something else in a reading.
        if name in ("", "*", "1") or '"' in name or "`" in name:
            raise Unknown
        return name
    if not token.isidentifier():
        raise Unknown
    return token


def string_of(token: str) -> str:
    """The text that a token in single quotes stands for."""
    if len(token) < 2:
        raise Unknown
    return token[1:-1].replace("''", "'")


def number_of(word: str) -> int | float:
    """The number that a token is: digits, perhaps with a point among them."""
    if len(word) <= _MOST_DIGITS and word.isascii() and word.isdigit():
        return int(word)
    if _PLAIN_FLOAT.fullmatch(word):
        value = float(word)
        if math.isfinite(value):
            return value
    raise Unknown
