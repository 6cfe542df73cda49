"""Role and scores -> a label in words: what a latent stands for, as far as the roles say.

No model is asked: the label is the role that the latent detects best, with its measured F1.
"""

from __future__ import annotations

from collections.abc import Mapping

PARTS = {"english": "question", "schema": "schema", "sql": "SQL", "prompt": "prompt"}
CLAUSES = {
    "select": "SELECT",
    "from": "FROM",
    "where": "WHERE",
    "join": "JOIN",
    "group_by": "GROUP BY",
    "order_by": "ORDER BY",
    "having": "HAVING",
    "limit": "LIMIT",
    "distinct": "DISTINCT",
}
TELLING_F1 = 0.3
"""From which F1 on a role is worth naming."""
ONE_TOKEN = 0.9
"""From which share of its activation at one token on a latent is said to stand for that token."""


def role_words(role: str) -> str:
    """A dotted role as words.

    Example:
        >>> role_words("sql.order_by.0.direction")
        'SQL: ORDER BY direction, 1st'
    """
    part, *rest = role.split(".")
    words = [CLAUSES.get(word, word.replace("_", " ")) for word in rest if not word.isdigit()]
    numbers = [ordinal(int(word) + 1) for word in rest if word.isdigit()]
    said = " ".join(words)
    if numbers:
        said = f"{said}, {' '.join(numbers)}"
    return f"{PARTS.get(part, part)}: {said}" if said else PARTS.get(part, part)


def ordinal(number: int) -> str:
    """1 -> '1st', 12 -> '12th'."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def auto_label(role: str, f1: float, activation_by_token: Mapping[str, float]) -> str:
    """What a latent stands for: its role, the token if it is nearly always the same one, and F1.

    Example:
        >>> auto_label("sql.order_by.0.direction", 0.97, {" DESC": 31.0, " ASC": 0.5})
        'SQL: ORDER BY direction, 1st “DESC”, F1 .97'
    """
    total = sum(activation_by_token.values())
    token = max(activation_by_token, key=lambda one: activation_by_token[one], default="")
    alone = f" “{token.strip()}”" if total > 0 and activation_by_token[token] >= ONE_TOKEN * total else ""
    score = f"{f1:.2f}".removeprefix("0")
    if f1 < TELLING_F1:
        return f"no role{alone} (nearest {role_words(role)}, F1 {score})"
    return f"{role_words(role)}{alone}, F1 {score}"
