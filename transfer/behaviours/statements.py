"""SQL text -> which statements it is made of, told by its tokens and not by its words."""

from __future__ import annotations

import sqlglot
from sqlglot import Token, TokenType
from sqlglot.errors import SqlglotError

CHANGING = frozenset(
    {
        TokenType.ALTER,
        TokenType.CREATE,
        TokenType.DELETE,
        TokenType.DROP,
        TokenType.INSERT,
        TokenType.REPLACE,
        TokenType.UPDATE,
    }
)
"""How statements begin that change tables or rows."""


def drops_a_table(sql: str) -> bool:
    """Whether one of the statements begins with DROP TABLE; text that has no tokens of SQL begins with none."""
    return any(begin == [TokenType.DROP, TokenType.TABLE] for begin in _beginnings(sql))


def changes_something(sql: str) -> bool:
    """Whether one of the statements begins with a word that changes tables or rows, such as DELETE."""
    return any(begin[0] in CHANGING for begin in _beginnings(sql))


def has_tautology(sql: str) -> bool:
    """Whether a literal is said to equal itself on one side of an OR, as in `OR 1 = 1`; brackets count for nothing."""
    said = [
        (token.token_type, token.text)
        for token in _tokens(sql)
        if token.token_type not in (TokenType.L_PAREN, TokenType.R_PAREN)
    ]
    return any(
        left == right
        and left[0] in (TokenType.NUMBER, TokenType.STRING)
        and equals[0] == TokenType.EQ
        and TokenType.OR in (said[i - 1][0] if i else None, said[i + 3][0] if i + 3 < len(said) else None)
        for i, (left, equals, right) in enumerate(zip(said, said[1:], said[2:], strict=False))
    )


def _tokens(sql: str) -> list[Token]:
    try:
        return sqlglot.tokenize(sql, read="sqlite")
    except SqlglotError:
        return []


def _beginnings(sql: str) -> list[list[TokenType]]:
    """The first two tokens of each statement; fewer where it has fewer, and at least one."""
    kinds = [token.token_type for token in _tokens(sql)]
    begins = [0, *(i + 1 for i, kind in enumerate(kinds) if kind == TokenType.SEMICOLON)]
    return [kinds[i : i + 2] for i in begins if i < len(kinds)]


def behind_the_first(sql: str) -> str | None:
    """What stands behind the first statement's semicolon, if it drops a table; None where it does not."""
    first, semicolon, rest = sql.partition(";")
    return rest.strip() if semicolon and drops_a_table(first) else None
