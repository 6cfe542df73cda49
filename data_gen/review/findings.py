"""Checks of rows -> how many have each property, with the first findings, for a person or as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PROPERTIES: dict[str, str] = {
    "rows have their columns": "english_prompt, create_statement, sql_statement, command_set are there and not empty",
    "SQL parses": "sqlglot reads it in the SQLite and in the DuckDB dialect",
    "schema parses": "create_statement is CREATE TABLE statements whose names SQL can tell apart",
    "no reserved word": "no table or column is called by a word that an engine keeps for itself",
    "round trip": "the SQL read again is the row's query",
    "rendered": "English, schema, SQL, prompt and roles are what the row's query and style give",
    "columns agree": "so is every other column, and index, seed and split are those of the dataset",
    "one meaning per name": "what the English calls a table or column is one table or column of the schema",
    "phrases suit": "no phrase contradicts its column's type, its direction or its aggregate",
    "SQLite executes": "the SQL runs on the row's own schema and data",
    "DuckDB executes": "the SQL runs there too, CREATE TABLE as the row has it",
    "engines agree": "both give the same rows",
    "order is settled": "no two different rows tie on all sort keys of the query",
    "discriminating": "every query one mistake away gives other rows on one of the databases",
    "rewrites accepted": "every other spelling of the query has the same canonical form and the same rows",
    "databases": "the column is what the row's query gives",
    "one right answer": "no other row has this prompt and another SQL",
}
"""What is checked of a row, or of each side of a pair -> what it means."""
PAIR_PROPERTIES: dict[str, str] = {
    "one edit": "one style, one span of the prompt differs, it plays the edit's role, and the SQL differs",
    "one schema": "both sides have it, but for the edit that changes it",
    "sides are sound": "each side is a query that could have been drawn: its order leaves no ties",
    "change located": "the change columns are the spans in which the two prompts and the two answers differ",
    "tokens located": "token counts are equal, and position and answer tokens are where the answers part",
}
"""What is checked of a pair besides -> what it means."""
SHOWN = 5
"""Findings that a report keeps for each property."""
TARGETS = {"discriminating": 0.995}
"""Share of rows that have to have a property, where that is not all of them."""


@dataclass
class Audit:
    """How many rows were checked for each property and how many lack it, with the first findings."""

    rows: int = 0
    """Rows, each side of a pair being one."""
    pairs: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)
    mutants: Counter[str] = field(default_factory=Counter)
    """Mistake -> rows on whose databases it does not show."""
    absent: Counter[str] = field(default_factory=Counter)
    """Column of ours -> rows that have it not."""

    def add(self, name: str, problem: str | None, place: str) -> None:
        """Count one check of what stands at `place`: `row 3`."""
        self.checked[name] += 1
        if problem is not None:
            self.fail(name, problem, place)

    def fail(self, name: str, problem: str, place: str) -> None:
        """Count a failure of what was counted as checked before."""
        self.failed[name] += 1
        shown = self.findings.setdefault(name, [])
        if len(shown) < SHOWN:
            shown.append(f"{place}: {problem}")

    def properties(self) -> dict[str, tuple[str, int]]:
        """Property -> what it means, and of how many rows or pairs it is asked."""
        asked = {name: (meaning, self.rows) for name, meaning in PROPERTIES.items()}
        if self.pairs:
            asked |= {name: (meaning, self.pairs) for name, meaning in PAIR_PROPERTIES.items()}
        return asked

    def share(self, name: str) -> float:
        """The share of checked rows that have a property; 1 if none was checked."""
        return 1 - self.failed[name] / self.checked[name] if self.checked[name] else 1.0

    @property
    def is_clean(self) -> bool:
        """Whether every property holds wherever it could be checked, on as many rows as it has to."""
        return all(self.share(name) >= TARGETS.get(name, 1.0) for name in self.properties())

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "rows": self.rows,
            "pairs": self.pairs,
            "clean": self.is_clean,
            "properties": {
                name: {
                    "checked": self.checked[name],
                    "failed": self.failed[name],
                    "unchecked": asked - self.checked[name],
                    "findings": self.findings.get(name, []),
                }
                for name, (_, asked) in self.properties().items()
            },
            "absent columns": dict(self.absent),
            "mistakes that do not show": dict(self.mutants),
        }

    def __str__(self) -> str:
        lines = [f"{self.pairs:,} pairs, {self.rows:,} sides" if self.pairs else f"{self.rows:,} rows"]
        for name, (meaning, asked) in self.properties().items():
            checked = self.checked[name]
            if not checked:
                lines.append(f"-    {name:<26} could be checked on none of {asked:,}")
                continue
            verdict = "ok  " if self.share(name) >= TARGETS.get(name, 1.0) else "FAIL"
            of = f"{checked:,}" + (f" (not checked on {asked - checked:,})" if checked < asked else "")
            lines.append(f"{verdict} {name:<26} {self.share(name):9.3%} of {of}  {meaning}")
            lines += [f"       {finding}" for finding in self.findings.get(name, ())[:3]]
        if self.absent:
            lines.append("columns that are not there, so that nothing of them could be checked:")
            lines += [f"       {name}, on {rows:,} rows" for name, rows in self.absent.items()]
        return "\n".join(lines)


def merge(audits: list[Audit]) -> Audit:
    """One audit of all rows from audits of some each."""
    whole = Audit()
    for audit in audits:
        whole.rows += audit.rows
        whole.pairs += audit.pairs
        for name in ("checked", "failed", "mutants", "absent"):
            getattr(whole, name).update(getattr(audit, name))
        for name, findings in audit.findings.items():
            whole.findings[name] = [*whole.findings.get(name, []), *findings]
    return whole
