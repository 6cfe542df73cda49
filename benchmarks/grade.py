"""How many answers a second one core grades: right ones, other spellings, and every query one mistake away.

    python benchmarks/grade.py

Databases are filled and open, as they are from the second answer to a question on. Process CPU time.
"""

from __future__ import annotations

import time

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.read.rewrites import rewrites
from data_gen.run.grade import Grader
from data_gen.run.mutations import mutants
from data_gen.sql import sql_string

ROWS = 100
SETS = ("cs1", "cs2", "cs3", "cs4", "cs5")


def main() -> None:
    """Print one line per command set."""
    print("set  grades/s  spellings accepted  mistakes refused")
    for name in SETS:
        spent, grades, accepted, spelled, refused, wrong = 0.0, 0, 0, 0, 0, 0
        for example in make_examples(DataConfig(command_sets=(name,), seed=3), 0, ROWS):
            grader = Grader(example.query)
            spellings = [sql for _, sql in rewrites(example.query)]
            mistakes = [sql_string(mutant.query) for mutant in mutants(example.query)]
            answers = [example.sql.string, *spellings, *mistakes]
            start = time.process_time()
            found = [grader.grade(answer) for answer in answers]
            spent += time.process_time() - start
            grades += len(answers)
            right = found[1 : 1 + len(spellings)]
            accepted += sum(one.tree and one.execution and all(one.clauses.values()) for one in right)
            spelled += len(spellings)
            refused += sum(not one.execution and not one.tree for one in found[1 + len(spellings) :])
            wrong += len(mistakes)
            grader.close()
        print(f"{name}  {grades / spent:8,.0f}  {accepted:,} of {spelled:,}  {refused:,} of {wrong:,}")


if __name__ == "__main__":
    main()
