"""The pieces of a query's SQL -> pieces that spell the same query otherwise.

A piece is edited by its role, never by searching the SQL for a word.
"""

from __future__ import annotations

from collections.abc import Callable

from data_gen.query import Condition, OrderBy, Query, SelectItem, conditions, selects
from data_gen.read.reading import FLIPPED, NEGATED

Pieces = list[tuple[str, str]]
"""(piece, role) pairs; a piece begins with the space before its word."""
Spelling = Callable[[Query, Pieces], Pieces]
"""`pieces` are those of the query; what comes back is valid in SQLite and in DuckDB."""


def join_pieces(pieces: Pieces) -> str:
    """The SQL that the pieces make."""
    return "".join([piece for piece, _ in pieces])


# Pieces one by one

_VALUES = frozenset(["value", "low", "high"])
_NAMES = frozenset(["column", "table", "alias", "name"])


def _each(change: Callable[[str, str], str]) -> Spelling:
    """A spelling that changes pieces one by one: `change(piece, last part of its role)`."""

    def respell(query: Query, pieces: Pieces) -> Pieces:
        return [(change(piece, role.rpartition(".")[2]), role) for piece, role in pieces]

    return respell


def _instead(**changes: dict[str, str]) -> Spelling:
    """A spelling that puts other pieces for some: last part of the role -> piece -> the other piece."""
    return _each(lambda piece, part: changes.get(part, {}).get(piece, piece))


def _around(piece: str, before: str, after: str) -> str:
    """The piece with something on both sides of its word, and the space kept in front."""
    word = piece.lstrip()
    return f"{piece[: len(piece) - len(word)]}{before}{word}{after}"


def _lower(piece: str, part: str) -> str:
    return piece if part in _VALUES and "'" in piece else piece.lower()


def _quote(piece: str, part: str) -> str:
    is_name = part in _NAMES and piece.strip() not in ("*", "1")
    return _around(piece, '"', '"') if is_name else piece


def _spread(piece: str, part: str) -> str:
    if piece.startswith(" "):
        return f" \n\t{piece[1:]}"
    return f"  {piece}" if part in ("separator", "bracket") else piece


def _tighten(query: Query, pieces: Pieces) -> Pieces:
    tight: Pieces = []
    for piece, role in pieces:
        if tight and (tight[-1][0].endswith((",", "=", "<", ">")) or piece.strip() in FLIPPED):
            piece = piece.lstrip()
        tight.append((piece, role))
    return tight


# Conditions


def _per_condition(change: Callable[[Condition, str, str, str], str | None]) -> Spelling:
    """A spelling that rewrites conditions: `change(condition, left, operator, right)`, None to leave it."""

    def respell(query: Query, pieces: Pieces) -> Pieces:
        places = [found for select, place in selects(query) for found in conditions(select, place)]
        # What stands in a subquery comes first, because a condition becomes one piece.
        for condition, place in reversed(places):
            start, end = _span(pieces, place)
            middle = next(i for i in range(start, end) if pieces[i][1] == f"{place}.operator")
            left, right = join_pieces(pieces[start:middle]), join_pieces(pieces[middle + 1 : end])
            new = change(condition, left.strip(), pieces[middle][0].strip(), right.strip())
            if new is not None:
                # Behind an opening bracket there is no space.
                space = " " if pieces[start][0].startswith(" ") else ""
                pieces = [*pieces[:start], (space + new, f"{place}.condition"), *pieces[end:]]
        return pieces

    return respell


def _span(pieces: Pieces, place: str) -> tuple[int, int]:
    """Where the pieces of a place begin and end; (0, 0) if there are none."""
    inside = [number for number, (_, role) in enumerate(pieces) if role.startswith(f"{place}.")]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _said(*parts: str) -> str:
    return " ".join([part for part in parts if part])


def _literal_first(condition: Condition, left: str, operator: str, right: str) -> str | None:
    if condition.operator not in FLIPPED:
        return None
    return f"{right} {FLIPPED[condition.operator]} {left}"


def _not_before(condition: Condition, left: str, operator: str, right: str) -> str | None:
    """`NOT x IN (...)` for `x NOT IN (...)`, `NOT a <= b` for `a > b`."""
    if condition.operator in NEGATED:
        return f"NOT {left} {NEGATED[condition.operator]} {right}"
    if condition.negated and condition.operator != "EXISTS":
        return _said("NOT", left, operator.replace("NOT ", ""), right)
    return None


def _not_around(condition: Condition, left: str, operator: str, right: str) -> str | None:
    """`NOT (x IN (...))`, and two NOTs where there is none."""
    if condition.negated:
        return f"NOT ({_said(left, operator.replace('NOT ', ''), right)})"
    return f"NOT (NOT ({_said(left, operator, right)}))"


def _bounds(condition: Condition, left: str, operator: str, right: str) -> str | None:
    if condition.operator != "BETWEEN":
        return None
    low, high = right.split(" AND ")
    if condition.negated:
        return f"({left} < {low} OR {left} > {high})"
    return f"({left} >= {low} AND {left} <= {high})"


def _bracketed(condition: Condition, left: str, operator: str, right: str) -> str | None:
    if condition.operator in FLIPPED and condition.subquery is None:
        return f"(({left}) {operator} ({right}))"
    return f"({_said(left, operator, right)})"


def _literal_first_bracketed(condition: Condition, left: str, operator: str, right: str) -> str | None:
    return f"({_literal_first(condition, left, operator, right) or _said(left, operator, right)})"


def _bracketed_where(query: Query, pieces: Pieces) -> Pieces:
    for _, place in selects(query):
        start, end = _span(pieces, f"{place}.where")
        if end:
            # The first piece is the keyword.
            pieces[start + 1] = (_around(pieces[start + 1][0], "(", ""), pieces[start + 1][1])
            pieces[end - 1] = (f"{pieces[end - 1][0]})", pieces[end - 1][1])
    return pieces


# Aliases


def _aliased_tables(word: str) -> Spelling:
    """Each table under another name, `word` before it; the columns have to be qualified."""

    def respell(query: Query, pieces: Pieces) -> Pieces:
        names: dict[str, str] = {}
        for select, _ in selects(query):
            for table in (select.table, *(join.table for join in select.joins if join.alias is None)):
                names.setdefault(table, f"t{len(names)}")
        changed: Pieces = []
        for (piece, role), (following, behind) in zip(pieces, [*pieces[1:], ("", "")], strict=True):
            name = names.get(piece.strip()) if role.endswith(".table") else None
            if name is not None and behind.endswith(".qualifier"):
                piece = f"{piece[: -len(piece.lstrip())]}{name}"
            changed.append((piece, role))
            # The second table of a self-join has an alias already.
            if name is not None and not behind.endswith(".qualifier") and following != " AS":
                changed += [(word, f"{role}.keyword"), (f" {name}", f"{role}.alias")]
        return changed

    return respell


def _aliased_items(word: str) -> Spelling:
    """Each selected item of the outer SELECT under another name, `word` before it; ORDER BY uses those."""

    def respell(query: Query, pieces: Pieces) -> Pieces:
        items = {f"sql.select.{index}": item for index, item in enumerate(query.select)}
        names = {place: f"out_{index}" for index, place in enumerate(items)}
        keys = {
            f"sql.order_by.{index}": names[place]
            for index, key in enumerate(query.order_by)
            for place, item in items.items()
            if _names(key, item)
        }
        changed: Pieces = []
        for piece, role in pieces:
            at, _, part = role.rpartition(".")
            if at in keys and part in ("table", "qualifier"):
                continue
            if at in keys and part == "column":
                piece = f" {keys[at]}"
            elif at in names and part == "alias":
                piece = f" {names[at]}"
            elif at in names and piece == " AS":
                piece = word
            changed.append((piece, role))
            if at in names and part == "column" and items[at].aggregate is None and items[at].window is None:
                changed += [(word, f"{at}.keyword"), (f" {names[at]}", f"{at}.alias")]
        return changed

    return respell


def _names(key: OrderBy, item: SelectItem) -> bool:
    if item.alias is not None:
        return key.table is None and key.column == item.alias
    return (key.column, key.table) == (item.column, item.table)


def _repeated(keeps_alias: bool) -> Spelling:
    """ORDER BY says aggregates once more instead of their aliases, which `keeps_alias` leaves in SELECT."""

    def respell(query: Query, pieces: Pieces) -> Pieces:
        functions: dict[str, str] = {}
        places = set()
        for index, item in enumerate(query.select):
            if item.aggregate is not None and item.alias is not None:
                places.add(f"sql.select.{index}")
                parts = [piece for piece, role in pieces if role.startswith(f"sql.select.{index}.")]
                # The last two are AS and the alias.
                functions[item.alias] = "".join(parts[:-2])
        changed: Pieces = []
        for piece, role in pieces:
            at, _, part = role.rpartition(".")
            if at in places and part in ("keyword", "alias") and not keeps_alias:
                continue
            if at.startswith("sql.order_by.") and part == "column":
                piece = functions.get(piece.strip(), piece)
            changed.append((piece, role))
        return changed

    return respell


SPELLINGS: dict[str, Spelling] = {
    "lower case": _each(_lower),
    "quoted names": _each(_quote),
    "white space": _each(_spread),
    "no spaces beside signs": _tighten,
    "semicolon": lambda query, pieces: [*pieces, (" ;\n", "")],
    "INNER and OUTER": _instead(kind={" JOIN": " INNER JOIN", " LEFT JOIN": " LEFT OUTER JOIN"}),
    "ASC left out": _instead(direction={" ASC": ""}),
    "!=": _instead(operator={" <>": " !="}),
    "==": _instead(operator={" =": " =="}),
    "1 for TRUE": _instead(value={" TRUE": " 1", " FALSE": " 0"}),
    "EXISTS selects *": _instead(column={" 1": " *"}),
    "literal first": _per_condition(_literal_first),
    "NOT before": _per_condition(_not_before),
    "NOT around": _per_condition(_not_around),
    "bounds for BETWEEN": _per_condition(_bounds),
    "brackets": _per_condition(_bracketed),
    "brackets around WHERE": _bracketed_where,
    "items with aliases": _aliased_items(" AS"),
    "items with aliases, no AS": _aliased_items(""),
    "ORDER BY says the function": _repeated(True),
    "no aliases": _repeated(False),
}
"""Spellings that each start from the query's own SQL."""
TABLE_ALIASES: dict[str, Spelling] = {
    "tables with aliases": _aliased_tables(" AS"),
    "tables with aliases, no AS": _aliased_tables(""),
}
"""Spellings that start from SQL in which every column is qualified."""
TOGETHER: tuple[Spelling, ...] = (
    TABLE_ALIASES["tables with aliases"],
    SPELLINGS["items with aliases, no AS"],
    SPELLINGS["INNER and OUTER"],
    SPELLINGS["ASC left out"],
    SPELLINGS["!="],
    SPELLINGS["EXISTS selects *"],
    SPELLINGS["quoted names"],
    SPELLINGS["lower case"],
    _per_condition(_literal_first_bracketed),
    SPELLINGS["brackets around WHERE"],
    SPELLINGS["white space"],
    SPELLINGS["semicolon"],
)
"""Spellings that go with one another, in an order in which they do; they start from qualified SQL."""
