"""Example + SQL text -> grade: is it right as text, as a tree, clause by clause, and by what it gives?"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from data_gen.example import Example
from data_gen.query import SKILLS, CommandSet, Query, command_set
from data_gen.read.canonical import clause_values
from data_gen.read.parse import SqlError, read_sql, to_query
from data_gen.run.database import same_rows
from data_gen.run.discriminating import Search
from data_gen.run.sqlite import Result, Row, run_statement
from data_gen.sql import sql_string

KEPT = 256
"""Queries whose databases stay open in a thread, so that a further answer to one of them takes no filling."""

EVERYTHING = "+".join(["cs1", *SKILLS])
"""The command set that has every skill."""

CLAUSES: dict[str, frozenset[str]] = {
    "join": frozenset({"join", "left_join", "two_joins", "self_join"}),
    "where": frozenset({"where", "scalar", "in_subquery", "exists", "set_operation", "cte"}),
    "group_by": frozenset({"aggregate"}),
    "having": frozenset({"having"}),
    "order_by": frozenset({"order_by"}),
    "limit": frozenset({"limit"}),
    "distinct": frozenset({"distinct"}),
    "cte": frozenset({"cte"}),
    "compound": frozenset({"set_operation"}),
}
"""Clause -> the skills by which a command set has it; SELECT and FROM it has always."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How right an answer is: `exact` implies `tree`, and `tree` implies `execution`."""

    valid: bool
    """It runs."""
    exact: bool
    """It is the gold SQL, character for character, apart from white space around it."""
    tree: bool
    """It runs and states the same query, in whatever spelling."""
    execution: bool
    """It gives the same rows as the gold SQL on every database, in the same order if the gold SQL sorts."""
    clauses: Mapping[str, bool]
    """For each clause that the command set has, whether it states the same, also where neither has it; and
    False for each other clause that the answer has."""
    error: str | None = None
    """Why it does not run; or else why it cannot be read as a query of the grammar."""


def grade(example: Example, sql: str) -> Grade:
    """Grade `sql` as an answer to `example`; any string has a grade, and none raises.

    Column headers make no difference, the order of columns does. The databases of an example stay open for
    its next answer, so answers to the same question are best graded one after the other.
    """
    return _grader(example.query).grade(sql)


class Grader:
    """The databases of one query with its right rows, ready for answers; use it in the thread that made it.

    They are searched for and opened as answers need them: the gold SQL needs none, and a wrong answer none
    behind the first that refuses it.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.gold = sql_string(query)
        self.ordered = bool(query.order_by)
        self.clauses = clauses_of(command_set(query.command_set))
        self._opened: list[tuple[sqlite3.Connection, tuple[Row, ...]]] = []

    @cached_property
    def _search(self) -> Search:
        return Search(self.query)

    @cached_property
    def _values(self) -> dict[str, object]:
        return clause_values(read_sql(self.gold), self.query.schema)

    def _databases(self) -> Iterator[tuple[sqlite3.Connection, tuple[Row, ...]]]:
        yield from self._opened
        for found in self._search:
            self._opened.append((self._search.open(), tuple(found.right)))
            yield self._opened[-1]

    def grade(self, sql: str) -> Grade:
        """The grade of one answer."""
        answer = sql.strip()
        if answer == self.gold:
            return Grade(
                valid=True, exact=True, tree=True, execution=True, clauses=dict.fromkeys(self.clauses, True)
            )
        same, error = self._execute(answer)
        tree, outside = False, None
        values: dict[str, object] = {}
        try:
            reading = read_sql(answer)
            outside = reading.outside
            values = clause_values(reading, self.query.schema)
            tree = error is None and outside is None and values == self._values
            tree = tree and same
            if '"' in answer and not tree and outside is None:
                # SQLite takes an unknown name in double quotes for a text, and says nothing.
                to_query(reading, self.query.schema, EVERYTHING)
        except SqlError as reason:
            outside = reason.message
        return Grade(
            valid=error is None,
            exact=False,
            tree=tree,
            execution=same,
            clauses=self._clauses(values),
            error=error or outside,
        )

    def _clauses(self, values: dict[str, object]) -> dict[str, bool]:
        """Clause by clause; one that the command set does not have is there only where the answer has it."""
        verdicts = {name: name in values and values[name] == self._values[name] for name in self.clauses}
        verdicts.update(
            {name: False for name in values.keys() - verdicts if values[name] != self._values[name]}
        )
        return verdicts

    def _execute(self, answer: str) -> tuple[bool, str | None]:
        """Whether `answer` gives the right rows on every database, and the reason if it does not run."""
        for connection, right in self._databases():
            given: Result = run_statement(connection, answer)
            if given.error is not None:
                return False, given.error
            if not same_rows(right, given.rows, ordered=self.ordered):
                return False, None
        return True, None

    def close(self) -> None:
        """Free the databases."""
        for connection, _ in self._opened:
            connection.close()
        if "_search" in self.__dict__:
            self._search.close()


def clauses_of(skills: CommandSet) -> tuple[str, ...]:
    """The clauses that queries of a command set may have."""
    return ("select", "from", *(name for name, needed in CLAUSES.items() if needed & skills.skills))


@contextmanager
def keeping_open(queries: int) -> Iterator[None]:
    """Within it, databases of so many queries stay open in this thread, if more than `KEPT`: about 0.1 MB each.

    For who asks the same questions again and again, and gets other answers to them.
    """
    before, _KEPT.most = _KEPT.most, queries
    try:
        yield
    finally:
        _KEPT.most = before
        _KEPT.drop()


class _Kept(threading.local):
    def __init__(self) -> None:
        self.graders: OrderedDict[Query, Grader] = OrderedDict()
        self.most = 0

    def drop(self) -> None:
        """Close those that were asked for longest ago."""
        while len(self.graders) > max(KEPT, self.most):
            self.graders.popitem(last=False)[1].close()


_KEPT = _Kept()


def _grader(query: Query) -> Grader:
    graders = _KEPT.graders
    found = graders.get(query)
    if found is None:
        found = graders[query] = Grader(query)
        _KEPT.drop()
    else:
        graders.move_to_end(query)
    return found
