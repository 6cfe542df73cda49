"""Does the first column hang on the word that opens the question? The same rows, opened by other words.

    python benchmarks/openings.py runs/bm1 runs/t33 --rows 200 --json openings.json

Rows of CS1 in `base`, of schemas that training has not, whose question is a word and then its columns, as in `list a
and b from t`. Only that word is replaced: by those that training has directly before columns, by those that it has
before `the` alone (`show the a`), by those of held-out instructions, and by invented words. A row is right when its
answer is the right one letter by letter; of the wrong ones those count apart in which only the first item of SELECT is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

from data_gen.config import DataConfig
from data_gen.example import Example, make_example, prompt_string
from data_gen.files import write_atomic
from data_gen.seeding import Draws
from data_gen.vocabulary.invented import invented_word
from data_gen.vocabulary.lexicon import LEXICONS, Lexicon
from tinysql.answering.generation import answer
from tinysql.answering.shares import Share
from tinysql.models.hybrid import HybridLM
from tinysql.runs import open_run, provenance
from tinysql.tokens import Tokenizer

INVENTED = 5
"""Invented words, each of which opens all rows once."""
SHOWN = 5
"""Wrong answers that are kept of a kind."""


def openings(lexicon: Lexicon, *, held_out: bool, directly: bool) -> list[str]:
    """What stands before `{columns}` in front of instructions; if not `directly`, before `the {columns}`."""
    every = lexicon.wording.templates_of["base"]
    said = [every[number].text for number in lexicon.template_indexes("base", held_out=held_out)]
    before = {text.partition(" {columns}")[0] for text in said}
    plain = sorted(text for text in before if "{" not in text)
    if directly:
        return [text for text in plain if not text.endswith("the")]
    return [text.removesuffix(" the") for text in plain if text.endswith(" the")]


def rows_of(config: DataConfig, count: int) -> list[Example]:
    """The first rows whose question is a word, then its columns."""
    every = (make_example(config, index) for index in range(1000 * count))
    return list(islice((row for row in every if row.style.pattern.text.split()[1] == "{columns}"), count))


def opened(example: Example, word: str) -> str:
    """The prompt with another opening."""
    english = example.english.string
    return prompt_string(word + english[len(english.split()[0]) :], example.schema_text.string)


def without_first(sql: str) -> str:
    """An answer less the first item of SELECT."""
    head, comma, rest = sql.partition(" FROM ")[0].partition(",")
    return (comma + rest) + sql.partition(" FROM ")[2] if head else sql


def measured(
    model: HybridLM, tokenizer: Tokenizer, rows: Sequence[Example], words: Sequence[str]
) -> dict[str, Any]:
    """All rows, opened by each of `words`: how many are right, and how many but for the first item."""
    right: dict[str, int] = {}
    first, shown = 0, list[dict[str, str]]()
    for word in words:
        answers = answer(model, tokenizer, [opened(row, word) for row in rows], title=word)
        right[word] = sum(said == row.sql.string for row, said in zip(rows, answers, strict=True))
        for row, said in zip(rows, answers, strict=True):
            gold = row.sql.string
            if said != gold and without_first(said) == without_first(gold):
                first += 1
                shown.append({"prompt": opened(row, word), "gold": gold, "answer": said})
    share = Share(right=sum(right.values()), total=len(rows) * len(words))
    return {
        "rows": len(rows),
        "right": share.value,
        "interval": list(share.interval),
        "right by word": right,
        "wrong": share.total - share.right,
        "only the first item": first,
        "shown": shown[:SHOWN],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write everything measured here, run by run")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"made_by": provenance()}
    for path in arguments.runs:
        run = open_run(path)
        model, tokenizer = run.load(arguments.device)
        data = replace(
            run.data,
            command_sets=("cs1",),
            variant="base",
            split="test",
            random_names=0.0,
            invented_names=0.0,
        )
        lexicon, rng = LEXICONS[data.lexicon], Draws(0, 0)
        before = openings(lexicon, held_out=False, directly=True)
        kinds = {
            "before columns": before,
            "held out": openings(lexicon, held_out=True, directly=True),
            "before `the`": openings(lexicon, held_out=False, directly=False),
            "invented": [invented_word(rng) for _ in range(INVENTED)],
        }
        known = set[str]()
        for kind in kinds:
            kinds[kind] = [word for word in dict.fromkeys(kinds[kind]) if word not in known]
            known |= set(kinds[kind])
        rows = rows_of(data, arguments.rows)
        result[path.name] = {}
        for kind, words in ((kind, words) for kind, words in kinds.items() if words):
            found = result[path.name][kind] = measured(model, tokenizer, rows, words)
            low, high = found["interval"]
            print(
                f"{path.name:12} {kind:14} {len(words)} words  right {found['right']:.1%} ({low:.1%} to {high:.1%})  "
                f"wrong {found['wrong']}, only the first item {found['only the first item']}  {found['right by word']}",
                flush=True,
            )
            if arguments.json is not None:
                write_atomic(arguments.json, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
