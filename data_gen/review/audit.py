"""Rows of a dataset -> what is wrong with them, property by property.

The audit trusts nothing but a row's own columns: it parses, executes, and re-renders. A dataset of others,
with the published columns alone, is audited as far as these go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.errors import InputError
from data_gen.example import Example, write_example
from data_gen.pairs.alignment import tokenizer_of
from data_gen.query import Query
from data_gen.read.canonical import canonical
from data_gen.read.parse import SqlError, parse_sql, read_sql
from data_gen.read.rewrites import rewrites
from data_gen.review.findings import PROPERTIES as PROPERTIES
from data_gen.review.findings import Audit
from data_gen.review.hashes import Answers
from data_gen.review.pairs import pair_problems
from data_gen.review.rebuilt import (
    TEXTS,
    absent,
    absent_of_pair,
    contradiction,
    difference,
    expected_import,
    expected_of,
    is_imported,
    is_ours,
    misplaced,
    null_column,
    read_style,
)
from data_gen.review.sides import is_pair, sides
from data_gen.review.wordcheck import ambiguous_names, misused_phrases
from data_gen.run.database import open_database, same_rows
from data_gen.run.discriminating import find_evidence
from data_gen.run.duck import Duck
from data_gen.run.sqlite import run_statement
from data_gen.schema import Schema, parse_schema
from data_gen.seeding import stable_hash
from data_gen.store.columns import COLUMNS
from data_gen.store.pair_columns import SIDES
from data_gen.store.published import set_name


class Auditor:
    """Checks row after row; `audit` holds what was found so far, but for `one right answer`, which `finish` adds.

    With `stated`, what a dataset says of the `seed` and `split` of all its rows, these and `index` have to agree.
    With `tokenizer`, a `tokenizer.json`, the columns of pairs that speak of tokens are checked.
    """

    def __init__(
        self,
        *,
        duckdb: bool = True,
        stated: Mapping[str, Any] | None = None,
        tokenizer: Path | str | None = None,
    ) -> None:
        self.audit = Audit()
        self.stated = stated
        self.tokenizer = None if tokenizer is None else tokenizer_of(tokenizer)
        self.duck = Duck() if duckdb else None
        self.reserved = self.duck.reserved_words() if self.duck is not None else frozenset()
        self.answers = Answers()

    def add(self, row: Mapping[str, Any], number: int) -> None:
        """Check row or pair `number`."""
        if not is_pair(row):
            self._add_row(row, Place(number))
            return
        self.audit.pairs += 1
        self.audit.absent.update(absent_of_pair(row, aligned=self.tokenizer is not None))
        clean, corrupt = (
            self._add_row(side, Place(number, name)) for name, side in zip(SIDES, sides(row), strict=True)
        )
        if clean is not None and corrupt is not None:
            for name, problem in pair_problems(row, clean, corrupt, self.tokenizer):
                self.audit.add(name, problem, str(Place(number, "")))

    def finish(self, others: Iterable[Answers] = ()) -> Audit:
        """The audit with the prompts that have two answers, in these rows and in those that `others` are of."""
        for answers in others:
            self.answers.extend(answers)
        for row, first in self.answers.second():
            problem = f"{Place.of(first, self.audit.pairs)} has this prompt and another SQL"
            self.audit.fail("one right answer", problem, str(Place.of(row, self.audit.pairs)))
        return self.audit

    def _add_row(self, row: Mapping[str, Any], place: Place) -> Example | None:
        """Check one row, or one side of a pair; the example that it says, if it says one."""
        audit, where = self.audit, str(place)
        audit.rows += 1
        audit.absent.update(absent(row) if place.side is None else ())
        texts = [row.get(name) for name in ("english_prompt", "create_statement", "sql_statement")]
        missing = _missing(row, texts)
        audit.add("rows have their columns", missing, where)
        if missing is not None:
            return None
        english, create, sql = map(str, texts)
        audit.add("SQL parses", _unparsable(sql), where)
        schema, problem = _schema(create)
        audit.add("schema parses", problem, where)
        if schema is None:
            return None
        reserved = self._reserved(schema) or _sqlite_refuses(create)
        audit.add("no reserved word", reserved, where)
        query, problem = _query(row, schema, sql)
        # Of rows of others it is enough that their SQL states a query; a pair states it beside its SQL.
        if "query" in row or place.side is None or problem is not None:
            audit.add("round trip", problem, where)
        audit.checked["one right answer"] += 1
        self.answers.add(stable_hash(english, create), stable_hash(sql), place.key)
        if query is None:
            return None
        example = self._compare(row, query, place)
        if reserved is None:
            try:
                self._execute(row, query, create, sql, where)
            except (
                ValueError,
                TypeError,
                ArithmeticError,
                LookupError,
                AssertionError,
                sqlite3.Error,
            ) as error:
                # A literal that does not suit its column, say, as only rows of others have it.
                audit.add("SQLite executes", f"no data can be made for {sql}: {error}", where)
        return example

    def _compare(self, row: Mapping[str, Any], query: Query, place: Place) -> Example | None:
        """Hold what query and style give against the row; without a style, what the query alone gives."""
        audit, where = self.audit, str(place)
        if "style" not in row or is_imported(row):
            expected = expected_import(row, query) if is_imported(row) else {}
            if is_imported(row):
                audit.add("rendered", difference(row, expected, TEXTS), where)
            facts = difference(row, expected, set(expected) - set(TEXTS)) or contradiction(row, query)
            # What is not compared may yet not be null.
            audit.add("columns agree", facts or (null_column(row) if is_ours(row) else None), where)
            return None
        try:
            example = write_example(0, query, read_style(row["style"]))
            expected = expected_of(example)
        except InputError as error:
            audit.add("rendered", error.message, where)
            return None
        except (ValueError, TypeError, ArithmeticError, LookupError, AssertionError) as error:
            # A query that no English of ours says, as only rows of others or damaged ones have it.
            reason = f"{type(error).__name__} where the English of {row['sql_statement']} is written"
            audit.add("rendered", reason, where)
            return None
        audit.add("rendered", difference(row, expected, TEXTS), where)
        facts = difference(row, expected, [name for name in COLUMNS if name not in TEXTS])
        audit.add("columns agree", facts or misplaced(row, place.number, self.stated), where)
        english = str(row["english_prompt"])
        audit.add("one meaning per name", _first(ambiguous_names(example, english)), where)
        audit.add("phrases suit", _first(misused_phrases(example)), where)
        return example

    def _reserved(self, schema: Schema) -> str | None:
        for table in schema.tables:
            for name in (table.name, *(column.name for column in table.columns)):
                if name.lower() in self.reserved:
                    return f"`{name}` is a reserved word"
        return None

    def _execute(self, row: Mapping[str, Any], query: Query, create: str, sql: str, where: str) -> None:
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
            audit.add(name, failures.get(name), where)
        for name in ("DuckDB executes", "engines agree"):
            if self.duck is not None:
                audit.add(name, failures.get(name), where)
        if "databases" in row:
            inserts = [database.inserts() for database in evidence.databases]
            problem = None if row["databases"] == inserts else f"other rows than those of {sql}"
            audit.add("databases", problem, where)


def audit_rows(rows: Iterable[Mapping[str, Any]], *, duckdb: bool = True) -> Audit:
    """Check every row.

    Raises:
        InputError: DuckDB is not installed and `duckdb` asks for it.
    """
    auditor = Auditor(duckdb=duckdb)
    for number, row in enumerate(rows):
        auditor.add(row, number)
    return auditor.finish()


class Place(NamedTuple):
    """Where a row is found: its number, or that of its pair, and which side of the pair it is ("" for both)."""

    number: int
    side: str | None = None

    def __str__(self) -> str:
        if self.side is None:
            return f"row {self.number}"
        return f"pair {self.number}" + (f", {self.side}" if self.side else "")

    @property
    def key(self) -> int:
        """One number for it among all rows, or among both sides of all pairs."""
        return self.number if self.side is None else 2 * self.number + SIDES.index(self.side)

    @classmethod
    def of(cls, key: int, pairs: int) -> Place:
        """The place that has this key, in a file of pairs or else of rows."""
        return cls(key // 2, SIDES[key % 2]) if pairs else cls(key)


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


def _missing(row: Mapping[str, Any], texts: list[Any]) -> str | None:
    given = row.get("command_set")
    if isinstance(given, bool) or not isinstance(given, str | int):
        return "command_set is missing, or is neither a name nor a number"
    return None if all(isinstance(text, str) and text for text in texts) else "a column is missing or empty"


def _query(row: Mapping[str, Any], schema: Schema, sql: str) -> tuple[Query | None, str | None]:
    """The query of the row's SQL, and why it is not the one that the row names."""
    try:
        name = (
            row["command_set"] if isinstance(row["command_set"], str) else set_name(row["command_set"], sql)
        )
        query = parse_sql(sql, schema, name.lower())
    except (SqlError, InputError) as error:
        return None, f"{error.message}: {sql}"
    if "query" not in row:
        return query, None
    if row["query"] is None:
        return query, "`query` is null"
    try:
        own = Query.from_json(str(row["query"]))
    except InputError as error:
        return query, error.message
    return query, None if own == query else f"`query` says something else than {sql}"
