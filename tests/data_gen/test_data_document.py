"""docs/data.md shows what the code gives.

`python tests/data_gen/test_data_document.py` prints its generated parts anew.
"""

import re
from collections import Counter
from pathlib import Path

from data_gen.config import DataConfig
from data_gen.draw.sampling import sample_style
from data_gen.draw.splits import HELD_OUT_CLAUSES, SPLITS, UNSEEN
from data_gen.example import Example, make_examples, write_example
from data_gen.query import COMMAND_SETS, SKILLS, Condition, Query
from data_gen.review.leakage import KINDS, asked
from data_gen.review.outline import clauses
from data_gen.seeding import Draws
from data_gen.store.columns import COLUMNS
from data_gen.vocabulary.lexicon import LEXICONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
BASES = {"cs2": "cs1", "cs3": "cs2", "cs4": "cs3", "cs5": "cs4", "cs6": "cs4", "cs7": "cs4", "cs8": "cs5"}
BASES |= {"cs9": "cs4", "cs10": "cs4"}
SHOWN = {
    "cs1": (),
    "cs2": ("ORDER BY",),
    "cs3": ("GROUP BY", "ORDER BY"),
    "cs4": ("WHERE", "GROUP BY", "ORDER BY"),
    "cs5": ("WHERE", "JOIN", "ORDER BY"),
    "cs6": ("WHERE", "GROUP BY", "HAVING", "ORDER BY"),
    "cs7": ("WHERE", "OR", "ORDER BY"),
    "cs8": ("LEFT JOIN", "ORDER BY"),
    "cs9": ("WHERE", "ORDER BY", "subquery"),
    "cs10": ("OVER",),
}
"""Set -> the clauses that its example shows, and no others."""


def sets() -> list[str]:
    lines = []
    for name, one in COMMAND_SETS.items():
        base = BASES.get(name)
        new = one.skills - (COMMAND_SETS[base].skills if base else frozenset())
        listed = "; ".join(f"`{skill}`: {what}" for skill, what in SKILLS.items() if skill in new)
        lines.append(f"| `{name}` | {base or ''} | {listed or 'SELECT of columns FROM one table'} |")
    return lines


def block(example: Example) -> list[str]:
    return ["", "```text", example.english.string, example.schema_text.string, example.sql.string, "```", ""]


def first(name: str) -> Example:
    config = DataConfig(command_sets=(name,), max_columns=4)
    return next(one for one in make_examples(config, 0, 10_000) if tuple(clauses(one.query)) == SHOWN[name])


MEASURED = 1000
"""Rows of each set that `shares` counts, of seed 0."""
OWN = {
    "cs2": {"ORDER BY"},
    "cs3": {"aggregate"},
    "cs4": {"WHERE"},
    "cs5": {"JOIN"},
    "cs6": {"HAVING", "DISTINCT", "LIMIT"},
    "cs7": {"logic"},
    "cs8": {"JOIN", "LEFT JOIN"},
    "cs9": {"WITH", "subquery", "set operation"},
    "cs10": {"OVER"},
}
"""Set -> what its rows show of the skills that it adds."""


def shown(query: Query) -> set[str]:
    conditions = [condition for group in query.where for condition in group]
    logical = any(len(group) > 1 for group in query.where) or any(map(is_logical, conditions))
    aggregated = bool(query.group_by) or any(item.aggregate for item in query.select)
    found = {"aggregate": aggregated, "ORDER BY": bool(query.order_by), "WHERE": bool(query.where)}
    found |= {"HAVING": bool(query.having), "DISTINCT": query.distinct, "LIMIT": query.limit is not None}
    found |= {"JOIN": bool(query.joins), "logic": logical, "OVER": any(i.window for i in query.select)}
    found |= {"WITH": query.cte is not None, "set operation": query.compound is not None}
    found |= {"subquery": any(condition.subquery is not None for condition in conditions)}
    return {name for name, there in found.items() if there}


def is_logical(condition: Condition) -> bool:
    if condition.operator == "LIKE" and not re.fullmatch("%.*%", str(condition.values[0])):
        return True
    return condition.negated or condition.operator in ("IN", "BETWEEN", "IS NULL", "<>")


def shares() -> list[str]:
    lines = []
    for name in COMMAND_SETS:
        queries = [one.query for one in make_examples(DataConfig(command_sets=(name,)), 0, MEASURED)]
        counts = Counter(what for query in queries for what in shown(query))
        own = sum(not shown(query).isdisjoint(OWN.get(name, ())) for query in queries)
        grouped = [query for query in queries if query.group_by]
        long = sum(len(query.order_by) > 3 for query in grouped)
        cells = [counts["ORDER BY"], counts["aggregate"], counts["WHERE"], own]
        said = [f"{count / MEASURED:.1%}".replace("%", " %") if count else "-" for count in cells]
        said.append(f"{long / len(grouped):.1%} of {len(grouped)}".replace("%", " %") if grouped else "-")
        lines.append(f"| `{name}` | {' | '.join(said)} |")
    return lines


def examples() -> list[str]:
    found = {name: first(name) for name in COMMAND_SETS}
    return [line for name, one in found.items() for line in (f"`{name}`, row {one.index}:", *block(one))]


def variants() -> list[str]:
    lines, query = [], first("cs4").query
    for variant in ("base", "syn", "nat"):
        style = sample_style(Draws(0, 3), query, DataConfig(command_sets=("cs4",), variant=variant))
        lines += [f"`{variant}`:", "", "```text", write_example(0, query, style).english.string, "```", ""]
    return lines


def lexicon() -> list[str]:
    words = LEXICONS["full"]
    said = words.wording
    sorts = {phrase for some in said.sort_phrases.values() for phrase in some}
    aggregates = {
        pattern for kinds in said.aggregates.values() for some in kinds.values() for pattern in some
    }
    operators = {pattern for kinds in said.operators.values() for some in kinds.values() for pattern in some}
    plain, person = said.templates_of["base"], said.templates_of["nat"]
    counts = {
        "table names of training (of one piece; of two)": (
            f"{len(words.tables)} ({len(words.single_tables)}; {len(words.compound_tables)})"
        ),
        "column names of training (of one piece; of two)": (
            f"{len(words.columns)} ({len(words.single_columns)}; {len(words.compound_columns)})"
        ),
        "synonyms of each name of one piece": min(
            len(words.synonyms[name]) for name in (*words.single_tables, *words.single_columns)
        ),
        "held-out table names, held-out column names": (
            f"{len(words.held_out_tables)}, {len(words.held_out_columns)}"
        ),
        "foreign keys: pairs of tables, tables that refer to themselves": (
            f"{sum(map(len, words.relations.values()))}, {len(words.partners)}"
        ),
        "the same of held-out tables": (
            f"{sum(map(len, words.held_out_relations.values()))}, {len(words.held_out_partners)}"
        ),
        "words that text columns are compared with": len(words.values),
        "instructions, explicit and as a person asks": f"{len(plain)}, {len(person)}",
        "sort phrases, each ascending and descending": len(sorts),
        "aggregate phrases": len(aggregates),
        "phrases for the operators of conditions": len(operators),
    }
    return [f"| {what} | {count} |" for what, count in counts.items()]


def splits() -> list[str]:
    lines = []
    for split in SPLITS:
        new = ", ".join(sorted(UNSEEN[split])) or "nothing"
        lines.append(
            f"| `{split}` | {new} | {', '.join(kind for kind in KINDS if kind in asked(split)) or '-'} |"
        )
    return lines


def pairs() -> list[str]:
    return [
        "  "
        + ", ".join(" with ".join(f"`{part}`" for part in sorted(pair)) for pair in HELD_OUT_CLAUSES)
        + "."
    ]


def kinds() -> list[str]:
    return [f"| {kind} | {what} |" for kind, what in KINDS.items()]


PARTS = {
    "sets": sets,
    "shares": shares,
    "examples": examples,
    "variants": variants,
    "lexicon": lexicon,
    "splits": splits,
    "pairs": pairs,
    "kinds": kinds,
}
_PART = re.compile(r"(<!-- rows (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """The document with its generated parts made anew."""
    return _PART.sub(lambda part: part[1] + "".join(f"{line}\n" for line in PARTS[part[2]]()) + part[3], text)


def test_the_generated_parts_are_what_the_code_gives() -> None:
    text = DOCUMENT.read_text()
    assert [name for _, name, _ in _PART.findall(text)] == list(PARTS)
    assert render(text) == text


def test_every_column_is_explained() -> None:
    table = DOCUMENT.read_text().partition("## Columns")[2].partition("## Roles")[0]
    assert [name for name in COLUMNS if f"`{name}`" not in table] == []


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text()))
