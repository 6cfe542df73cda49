"""How many answers a second one core grades, first answers to a question and further ones.

    python benchmarks/grade.py

Cold: the first answer to a question, whose databases have to be searched for; of right answers in another
spelling, which have to be right on all of them, and of wrong ones, every fifth query one mistake away. Warm:
answers to a question whose databases are open. Gold SQL is not among the answers: it needs no database.
Process CPU time.
"""

from __future__ import annotations

import time

from data_gen.config import DataConfig
from data_gen.example import Example, make_examples
from data_gen.query import COMMAND_SETS, Query
from data_gen.read.rewrites import rewrites
from data_gen.run.grade import Grade, Grader
from data_gen.run.mutations import mutants
from data_gen.sql import sql_string

ROWS = 100
COLD_MISTAKES = 5


def main() -> None:
    """Print one line per command set."""
    print("set   cold, wrong  cold, right  warm  spellings accepted  mistakes refused")
    for name in COMMAND_SETS:
        examples = list(make_examples(DataConfig(command_sets=(name,), seed=3), 0, ROWS))
        wrong, right = _Timer(), _Timer()
        for example in examples:
            for mistake in _mistakes(example)[::COLD_MISTAKES]:
                wrong.grade_first(example.query, mistake)
            right.grade_first(example.query, _spellings(example)[0])
        warm, accepted, spelled, refused, mistaken = _Timer(), 0, 0, 0, 0
        for example in examples:
            grader, spellings, mistakes = Grader(example.query), _spellings(example), _mistakes(example)
            grader.grade(spellings[0])
            found = [warm.grade(grader, answer) for answer in (*spellings, *mistakes)]
            grader.close()
            accepted += sum(one.tree and all(one.clauses.values()) for one in found[: len(spellings)])
            refused += sum(not one.execution for one in found[len(spellings) :])
            spelled, mistaken = spelled + len(spellings), mistaken + len(mistakes)
        print(
            f"{name:5} {wrong.rate:11,.0f} {right.rate:12,.0f} {warm.rate:5,.0f}"
            f"  {accepted:,} of {spelled:,}  {refused:,} of {mistaken:,}"
        )


def _spellings(example: Example) -> list[str]:
    return [sql for _, sql in rewrites(example.query)]


def _mistakes(example: Example) -> list[str]:
    return [sql_string(mutant.query) for mutant in mutants(example.query)]


class _Timer:
    def __init__(self) -> None:
        self.seconds, self.grades = 0.0, 0

    def grade(self, grader: Grader, answer: str) -> Grade:
        start = time.process_time()
        found = grader.grade(answer)
        self._add(start)
        return found

    def grade_first(self, query: Query, answer: str) -> None:
        start = time.process_time()
        grader = Grader(query)
        grader.grade(answer)
        grader.close()
        self._add(start)

    def _add(self, start: float) -> None:
        self.seconds += time.process_time() - start
        self.grades += 1

    @property
    def rate(self) -> float:
        return self.grades / self.seconds


if __name__ == "__main__":
    main()
