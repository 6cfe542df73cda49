"""Rows of a dataset -> what is wrong with them, property by property.

The audit trusts nothing but a row's own columns: it parses, executes, and re-renders. A dataset of others,
with the published columns alone, is audited as far as these go.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from data_gen.errors import InputError
from data_gen.example import Example, write_example
from data_gen.query import Query
from data_gen.read.canonical import canonical
from data_gen.read.parse import SqlError, parse_sql, read_sql
from data_gen.read.rewrites import rewrites
from data_gen.review.wordcheck import ambiguous_names, misused_phrases
from data_gen.run.database import open_database, same_rows
from data_gen.run.discriminating import find_evidence
from data_gen.run.duck import Duck
from data_gen.run.sqlite import run_statement
from data_gen.say.style import Style
from data_gen.schema import Schema, parse_schema
from data_gen.seeding import stable_hash

PROPERTIES: dict[str, str] = {
    "rows have their columns": "english_prompt, create_statement and sql_statement are there and are text",
    "SQL parses": "sqlglot reads it in the SQLite and in the DuckDB dialect",
    "schema parses": "create_statement is CREATE TABLE statements whose names SQL can tell apart",
    "no reserved word": "no table or column is called by a word that an engine keeps for itself",
    "round trip": "the SQL read again is the row's query",
    "rendered": "English, schema, SQL and roles are what the row's query and style give",
    "one meaning per name": "what the English calls a table or column is one table or column of the schema",
    "phrases suit": "no phrase contradicts its column's type, its direction or its aggregate",
    "SQLite executes": "the SQL runs on the row's own schema and data",
    "DuckDB executes": "the SQL runs there too, CREATE TABLE as the row has it",
    "engines agree": "both give the same rows",
    "order is settled": "no two different rows tie on all sort keys of the query",
    "discriminating": "every query one mistake away gives other rows on one of the databases",
    "rewrites accepted": "every other spelling of the query has the same canonical form and the same rows",
    "one right answer": "no other row has this prompt and another SQL",
}
"""What is checked -> what it means."""
SHOWN = 5
"""Findings that a report keeps for each property."""
TARGETS = {"discriminating": 0.995}
"""Share of rows that have to have a property, where that is not all of them."""


@dataclass
class Audit:
    """How many rows were checked for each property and how many lack it, with the first findings."""

    rows: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)
    mutants: Counter[str] = field(default_factory=Counter)
    """Mistake -> rows on whose databases it does not show."""

    def add(self, name: str, problem: str | None, row: int) -> None:
        """Count one check."""
        self.checked[name] += 1
        if problem is not None:
            self.failed[name] += 1
            shown = self.findings.setdefault(name, [])
            if len(shown) < SHOWN:
                shown.append(f"row {row}: {problem}")

    def share(self, name: str) -> float:
        """The share of checked rows that have a property; 1 if none was checked."""
        return 1 - self.failed[name] / self.checked[name] if self.checked[name] else 1.0

    @property
    def is_clean(self) -> bool:
        """Whether every property holds, on as many rows as it has to."""
        return all(self.share(name) >= TARGETS.get(name, 1.0) for name in PROPERTIES)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "rows": self.rows,
            "clean": self.is_clean,
            "properties": {
                name: {
                    "checked": self.checked[name],
                    "failed": self.failed[name],
                    "findings": self.findings.get(name, []),
                }
                for name in PROPERTIES
                if self.checked[name]
            },
            "mistakes that do not show": dict(self.mutants),
        }


class Auditor:
    """Checks row after row; `audit` holds what was found so far."""

    def __init__(self, *, duckdb: bool = True) -> None:
        self.audit = Audit()
        self.duck = Duck() if duckdb else None
        self.reserved = self.duck.reserved_words() if self.duck is not None else frozenset()
        self.answers: dict[int, tuple[int, int]] = {}
        """Hash of a prompt -> hash of its SQL, and the row that had it first."""

    def add(self, row: Mapping[str, Any], number: int) -> None:
        """Check row `number`."""
        audit = self.audit
        audit.rows += 1
        texts = [row.get(name) for name in ("english_prompt", "create_statement", "sql_statement")]
        missing = (
            None if all(isinstance(text, str) and text for text in texts) else "a column is missing or empty"
        )
        audit.add("rows have their columns", missing, number)
        if missing is not None:
            return
        english, create, sql = map(str, texts)
        audit.add("SQL parses", _unparsable(sql), number)
        schema, problem = _schema(create)
        audit.add("schema parses", problem, number)
        if schema is None:
            return
        reserved = self._reserved(schema) or _sqlite_refuses(create)
        audit.add("no reserved word", reserved, number)
        query, problem = _query(row, schema, sql)
        audit.add("round trip", problem, number)
        audit.add("one right answer", self._second_answer(english, create, sql, number), number)
        if query is None:
            return
        style = _style(row)
        if style is not None:
            try:
                self._compare(row, write_example(number, query, style), english, number)
            except (ValueError, TypeError, ArithmeticError, LookupError, AssertionError) as error:
                # A query that no English of ours says, as only rows of others or damaged ones have it.
                audit.add("rendered", f"{type(error).__name__} where the English of {sql} is written", number)
        if reserved is None:
            try:
                self._execute(query, create, sql, number)
            except (ValueError, TypeError, ArithmeticError, AssertionError) as error:
                # A literal that does not suit its column, say, as only rows of others have it.
                audit.add("SQLite executes", f"no data can be made for {sql}: {error}", number)

    def _compare(self, row: Mapping[str, Any], example: Example, english: str, number: int) -> None:
        """Hold what query and style give against the row."""
        self.audit.add("rendered", _not_rendered(row, example), number)
        self.audit.add("one meaning per name", _first(ambiguous_names(example, english)), number)
        self.audit.add("phrases suit", _first(misused_phrases(example)), number)

    def _reserved(self, schema: Schema) -> str | None:
        for table in schema.tables:
            for name in (table.name, *(column.name for column in table.columns)):
                if name.lower() in self.reserved:
                    return f"`{name}` is a reserved word"
        return None

    def _second_answer(self, english: str, create: str, sql: str, number: int) -> str | None:
        answer = stable_hash(sql)
        first, row = self.answers.setdefault(stable_hash(english, create), (answer, number))
        return None if first == answer else f"row {row} has this prompt and another SQL"

    def _execute(self, query: Query, create: str, sql: str, number: int) -> None:
        """Run the row's SQL, and its other spellings, on the databases of its query."""
        audit, ordered = self.audit, bool(query.order_by)
        spelled = list(rewrites(query))
        failures: dict[str, str] = {}
        evidence = find_evidence(query)
        for database in evidence.databases:
            connection = open_database(database)
            result = run_statement(connection, sql)
            if result.error is not None:
                failures.setdefault("SQLite executes", f"{result.error}: {sql}")
            for name, other in spelled:
                given = run_statement(connection, other)
                if given.error is not None or not same_rows(result.rows, given.rows, ordered=ordered):
                    failures.setdefault(
                        "rewrites accepted", f"{name}: {given.error or 'other rows'}: {other}"
                    )
            connection.close()
            if self.duck is not None:
                second = self.duck.run(create, database, sql)
                if second.error is not None:
                    failures.setdefault("DuckDB executes", f"{second.error}: {sql}")
                elif not same_rows(result.rows, second.rows, ordered=ordered):
                    failures.setdefault("engines agree", f"other rows: {sql}")
        gold = canonical(query)
        for name, other in spelled:
            if canonical(read_sql(other), query.schema) != gold:
                failures.setdefault("rewrites accepted", f"{name}: another tree: {other}")
        audit.mutants.update({mutant.mistake for mutant in evidence.hidden})
        if evidence.hidden:
            failures["discriminating"] = f"{evidence.hidden[0].mistake} does not show: {sql}"
        if not evidence.is_settled:
            failures["order is settled"] = f"rows tie on every key: {sql}"
        for name in ("SQLite executes", "order is settled", "rewrites accepted", "discriminating"):
            audit.add(name, failures.get(name), number)
        for name in ("DuckDB executes", "engines agree"):
            if self.duck is not None:
                audit.add(name, failures.get(name), number)


def audit_rows(rows: Iterable[Mapping[str, Any]], *, duckdb: bool = True) -> Audit:
    """Check every row.

    Raises:
        InputError: DuckDB is not installed and `duckdb` asks for it.
    """
    auditor = Auditor(duckdb=duckdb)
    for number, row in enumerate(rows):
        auditor.add(row, number)
    return auditor.audit


def _sqlite_refuses(create: str) -> str | None:
    """Why SQLite does not make the tables: its own reserved words stand in no list that it would give away."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(create)
    except sqlite3.Error as error:
        return f"SQLite refuses {create}: {error}"
    finally:
        connection.close()
    return None


def _first(problems: Iterator[str]) -> str | None:
    return next(problems, None)


def _unparsable(sql: str) -> str | None:
    import sqlglot
    from sqlglot.errors import SqlglotError

    for dialect in ("sqlite", "duckdb"):
        try:
            if len([tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]) != 1:
                return f"not one statement: {sql}"
        except (SqlglotError, RecursionError) as error:
            return f"not {dialect}: {str(error).splitlines()[0]}"
    return None


def _schema(create: str) -> tuple[Schema | None, str | None]:
    try:
        return parse_schema(create), None
    except InputError as error:
        return None, error.message


def _query(row: Mapping[str, Any], schema: Schema, sql: str) -> tuple[Query | None, str | None]:
    """The query of the row's SQL, and why it is not the one that the row names."""
    name = str(row.get("command_set") or "cs1").lower()
    try:
        query = parse_sql(sql, schema, name)
    except (SqlError, InputError) as error:
        return None, f"{error.message}: {sql}"
    if row.get("query") is None:
        return query, None
    try:
        own = Query.from_json(str(row["query"]))
    except InputError as error:
        return query, error.message
    return query, None if own == query else f"`query` says something else than {sql}"


def _style(row: Mapping[str, Any]) -> Style | None:
    text = row.get("style")
    try:
        return None if text is None else msgspec.json.decode(str(text), type=Style)
    except msgspec.DecodeError:
        return None


def _not_rendered(row: Mapping[str, Any], example: Example) -> str | None:
    """Which column is not what the query and the style give."""
    text = example.text
    roles = [tuple(span) for span in text.spans]
    given = [(span["start"], span["end"], span["role"]) for span in row.get("roles") or ()]
    wanted = {
        "english_prompt": example.english.string,
        "create_statement": example.schema_text.string,
        "sql_statement": example.sql.string,
        "prompt": example.prompt.string,
    }
    for name, value in wanted.items():
        if row.get(name) is not None and row[name] != value:
            return f"{name} is `{row[name]}`, expected `{value}`"
    if given and given != roles:
        wrong = next((g for g, r in zip(given, roles, strict=False) if g != r), given[-1])
        return f"roles: {wrong} is not what the query gives"
    return None
