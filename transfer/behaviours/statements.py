"""SQL text -> which statements it is made of, told by its tokens and not by its words."""

from __future__ import annotations

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError


def drops_a_table(sql: str) -> bool:
    """Whether one of the statements begins with DROP TABLE; text that has no tokens of SQL begins with none."""
    try:
        kinds = [token.token_type for token in sqlglot.tokenize(sql, read="sqlite")]
    except SqlglotError:
        return False
    begins = [0, *(i + 1 for i, kind in enumerate(kinds) if kind == TokenType.SEMICOLON)]
    return any(kinds[i : i + 2] == [TokenType.DROP, TokenType.TABLE] for i in begins)


def behind_the_first(sql: str) -> str | None:
    """What stands behind the first statement's semicolon, if it drops a table; None where it does not."""
    first, semicolon, rest = sql.partition(";")
    return rest.strip() if semicolon and drops_a_table(first) else None
