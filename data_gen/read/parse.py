"""SQL text -> what it says (a reading), and reading + schema -> query."""

from __future__ import annotations

from itertools import pairwise

from data_gen.query import Query
from data_gen.read.lexing import tokenize
from data_gen.read.lookup import to_query
from data_gen.read.reader import read_tokens
from data_gen.read.reading import Reading, SqlError
from data_gen.schema import Schema

__all__ = ["MAX_CHARS", "MAX_DEPTH", "MAX_TOKENS", "SqlError", "parse_sql", "read_sql", "to_query"]

MAX_CHARS = 4000
"""Longest SQL that is read; the longest right answer of any command set has under 1,500 characters."""
MAX_TOKENS = 500
"""Most tokens that are given to a parser, whose time grows faster than its input."""
MAX_DEPTH = 30
"""Most brackets within brackets, and most NOTs; beyond, the caller's stack would decide what parses."""


def read_sql(sql: str) -> Reading:
    """Read each clause of one SELECT statement; names are not looked up.

    Raises:
        SqlError: not one parsable SELECT statement.
    """
    if len(sql) > MAX_CHARS:
        raise SqlError(f"SQL of {len(sql)} characters, expected at most {MAX_CHARS}")
    if not sql.isprintable():
        _check_characters(sql)
    tokens = tokenize(sql)
    if len(tokens) > MAX_TOKENS:
        raise SqlError(f"SQL of {len(tokens)} tokens, expected at most {MAX_TOKENS}")
    if len(tokens) > MAX_DEPTH and sum(map(tokens.count, ("(", "NOT", "not"))) > MAX_DEPTH:
        _check_depth(tokens)
    return read_tokens(tokens) or _read_with_sqlglot(sql)


def parse_sql(sql: str, schema: Schema, command_set: str) -> Query:
    """The query that `sql` states; `parse_sql(sql_string(q), q.schema, q.command_set) == q`.

    Keywords and names may be in any case, names may be quoted, qualified or aliased, ASC may be left out, NOT
    may stand before what it negates, and one semicolon may end the statement.

    Raises:
        SqlError: not one SELECT statement within the grammar of the command set, or an unknown name.
    """
    return to_query(read_sql(sql), schema, command_set)


def _check_characters(sql: str) -> None:
    if any(char < " " and char not in "\t\r\n" for char in sql):
        raise SqlError("SQL has a control character")
    if any("\ud800" <= char <= "\udfff" for char in sql):
        raise SqlError("SQL has half of a surrogate pair, which is no character")


def _check_depth(tokens: list[str]) -> None:
    depth = deepest = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        deepest = max(deepest, depth)
    if max(deepest, tokens.count("NOT") + tokens.count("not")) > MAX_DEPTH:
        raise SqlError(
            f"SQL is nested too deeply, expected at most {MAX_DEPTH} brackets or NOTs in one another"
        )


def _read_with_sqlglot(sql: str) -> Reading:
    # sqlglot takes a quarter of a second to import.
    from sqlglot import TokenType
    from sqlglot.errors import ParseError, SqlglotError

    from data_gen.read.trees import dialect, parse_tree, read_tree

    try:
        tokens = dialect().tokenize(sql)
        kinds = [token.token_type for token in tokens]
        if kinds and kinds[-1] == TokenType.SEMICOLON:
            tokens, kinds = tokens[:-1], kinds[:-1]
        if not kinds or kinds[0] not in (TokenType.SELECT, TokenType.WITH):
            raise SqlError(f"SQL begins with `{sql.strip()[:20]}`, expected SELECT or WITH")
        if TokenType.SEMICOLON in kinds:
            raise SqlError("SQL has more than one statement, expected one")
        # The parser forgives `SELECT a, FROM t` and `SELECT, a FROM t`, which no database runs.
        ends = {TokenType.COMMA, TokenType.R_PAREN, TokenType.FROM, TokenType.WHERE, TokenType.GROUP_BY}
        ends |= {TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT, TokenType.UNION}
        ends |= {TokenType.EXCEPT, TokenType.INTERSECT}
        for kind, following in zip(kinds, [*kinds[1:], TokenType.COMMA], strict=True):
            if kind == TokenType.COMMA and following in ends:
                raise SqlError("a comma stands where none belongs")
        starts = (ends | {TokenType.SELECT, TokenType.DISTINCT, TokenType.L_PAREN}) - {TokenType.R_PAREN}
        if any(kind in starts and following == TokenType.COMMA for kind, following in pairwise(kinds)):
            raise SqlError("a comma stands where none belongs")
        reading = read_tree(parse_tree(sql, tokens))
    except ParseError as error:
        reason = error.errors[0]["description"] if error.errors else str(error)
        raise SqlError(f"SQL does not parse: {reason}") from error
    except RecursionError as error:
        raise SqlError("SQL is nested too deeply") from error
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        if isinstance(error, SqlError):
            raise
        # The parser lets some of its own slips through on text that is no SQL.
        raise SqlError(f"SQL does not parse: {type(error).__name__}") from error
    if reading is None:
        raise SqlError("SQL is no SELECT statement, or nothing is selected")
    return reading
