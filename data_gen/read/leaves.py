"""sqlglot node -> the name, the column or the value that it is, or why it is none.

Like `data_gen.read.trees`, imported only where sqlglot is needed.
"""

from __future__ import annotations

import math
import re
from typing import Any

from sqlglot import exp

from data_gen.query import ColumnRef, Value

Node = Any
"""A node of sqlglot's tree, whose arguments are not typed."""
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Outside(Exception):
    """Why a clause is outside the grammar."""


def refuse(node: Node, place: str) -> Outside:
    return Outside(f"{type(node).__name__} is outside the grammar {place}")


def only(node: Node, *known: str) -> None:
    """Refuse a node that says more than the grammar has."""
    for name, value in node.args.items():
        if value and name not in known:
            raise Outside(f"{name.strip('_').upper()} is outside the grammar of {type(node).__name__}")


def bare(node: Node) -> Node:
    while type(node) is exp.Paren:
        node = node.this
    return node


def name_of(node: Node, *, given: bool = False) -> str:
    """A name in lower case, or as written if the statement itself gives it."""
    if not isinstance(node, exp.Identifier) or not isinstance(node.this, str):
        raise refuse(node, "where a name is expected")
    name = node.this
    if name in ("", "*", "1"):
        raise Outside(f"`{name}` is outside the grammar where a name is expected")
    return name if given else name.lower()


def ref_of(node: Node) -> ColumnRef:
    node = bare(node)
    if type(node) is not exp.Column:
        raise refuse(node, "where a column is expected")
    only(node, "this", "table")
    table = node.args.get("table")
    return ColumnRef(name_of(node.this), None if table is None else name_of(table))


def literal_of(node: Node) -> tuple[Value] | None:
    node = bare(node)
    if type(node) is exp.Boolean:
        return (bool(node.this),)
    if type(node) is exp.Neg:
        inner = literal_of(node.this)
        if inner is None or isinstance(inner[0], str | bool):
            return None
        return (-inner[0],)
    if type(node) is not exp.Literal:
        return None
    return (str(node.this),) if node.is_string else (_number(str(node.this)),)


def value_of(node: Node) -> tuple[Value]:
    value = literal_of(node)
    if value is None:
        raise refuse(bare(node), "where a value is expected")
    return value


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise Outside(f"number `{text[:20]}` is outside the grammar")
    value = int(text) if text.isdigit() else float(text)
    if (isinstance(value, int) and value >= 2**63) or not math.isfinite(value):
        raise Outside(f"number `{text[:20]}` is too large")
    return value
