"""How many names of the cells `random_names` and `invented_names` a training of `bm1` has met: counted and computed.

    python benchmarks/names_met.py --rows 12000 --tokens 98e6 653e6 1.57e9

Counted: which names of a cell's rows stand in the first rows of the recipe's seed 0. Computed, for more tokens than
can be gone through here: names are drawn independently, so one of probability p is met in n draws with probability
1 - exp(-n p). Keys and `id` are left aside. Of an invented word p is the sum over its readings in syllables.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import exp, prod

from accuracy import cells_of

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.vocabulary.invented import CODAS, ONSETS, VOWELS
from data_gen.vocabulary.lexicon import LEXICONS
from tinysql.recipes import find_recipe
from tinysql.tokens import Tokenizer
from tinysql.training.feed import mixed_texts

LAST = Counter(CODAS)


def names(config: DataConfig, rows: int) -> Iterator[tuple[list[str], list[str]]]:
    """The tables and the columns of each row's schema, without keys."""
    for example in make_examples(config, 0, rows):
        tables = example.query.schema.tables
        columns = [column.name for table in tables for column in table.columns]
        yield [table.name for table in tables], [n for n in columns if n != "id" and not n.endswith("_id")]


@cache
def readings(word: str, syllables: int) -> float:
    """Probability that so many random syllables spell `word`."""
    if not syllables:
        return float(not word)
    found = 0.0
    for start in (onset + vowel for onset in ONSETS if word.startswith(onset) for vowel in VOWELS):
        if not word.startswith(start):
            continue
        for coda, times in LAST.items():
            if word.startswith(coda, len(start)):
                found += times * readings(word[len(start + coda) :], syllables - 1)
    return found / (len(ONSETS) * len(VOWELS) * len(CODAS))


def probability(name: str) -> float:
    """Of an invented name: one word or two, half of the names each, of two or three syllables."""
    return prod((readings(word, 2) + readings(word, 3)) / 2 for word in name.split("_")) / 2


def main() -> None:
    """Print what was met, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_000, help="of training, gone through")
    parser.add_argument("--asked", type=int, default=10_000, help="rows of each cell")
    parser.add_argument(
        "--tokens", type=float, nargs="+", default=[98e6, 1.57e9], help="of training, computed"
    )
    arguments = parser.parse_args()
    recipe, words = find_recipe("bm1"), LEXICONS["full"]
    cells = cells_of(recipe.data)
    asked = {cell: list(names(cells[cell], arguments.asked)) for cell in ("random_names", "invented_names")}
    met: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for source in recipe.sources:
        for row in names(source, arguments.rows // len(recipe.sources)):
            for counter, some in zip(met, row, strict=True):
                counter.update(some)
    tables, columns = (sum(counter.values()) / arguments.rows for counter in met)
    texts = mixed_texts(recipe.sources, range(arguments.rows))
    tokenizer = Tokenizer.train(
        (f"{prompt} {sql}" for prompt, sql in texts), vocab_size=recipe.train.vocab_size
    )
    length = sum(len(ids) + 1 for ids in tokenizer.encode_texts([f"{p} {s}" for p, s in texts])) / len(texts)
    found: dict[str, object] = {"tokens a row": length, "tables, columns a row": [tables, columns]}
    for cell, rows in asked.items():
        for place, what in enumerate(("tables", "columns")):
            every = {name for row in rows for name in row[place]}
            share = sum(name in met[place] for name in every) / len(every)
            found[f"{cell}: {what} met in {arguments.rows} rows"] = share
    pools = {"tables": len(words.last_table_pieces), "columns": len(words.last_column_pieces)}
    for tokens in arguments.tokens:
        draws = tokens / length * recipe.data.random_names
        for what, each in (("tables", tables), ("columns", columns)):
            times = draws * each / (len(words.first_pieces) * pools[what])
            found[f"{tokens:.3g} tokens: recombined {what}, times each, share met"] = [times, 1 - exp(-times)]
        draws = tokens / length * recipe.data.invented_names * (tables + columns)
        shares = [
            [1 - exp(-draws * probability(n)) for some in row for n in some]
            for row in asked["invented_names"]
        ]
        every_name = [share for row in shares for share in row]
        found[f"{tokens:.3g} tokens: invented names met"] = sum(every_name) / len(every_name)
        new = sum(prod(1 - share for share in row) for row in shares) / len(shares)
        found[f"{tokens:.3g} tokens: rows of new invented names alone"] = new
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
