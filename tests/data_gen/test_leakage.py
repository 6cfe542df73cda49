"""A split has nothing of what it promises to hold out, and a leak that is there is found."""

import time
from functools import lru_cache
from typing import Any

import pytest

from data_gen.config import DataConfig
from data_gen.draw.splits import SPLITS, UNSEEN, Split
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.review.leakage import KINDS, Reference, asked, leakage
from data_gen.review.outline import skeleton
from data_gen.review.sides import sides
from data_gen.store.columns import example_table
from data_gen.text import Text
from data_gen.vocabulary.lexicon import LEXICONS
from tinysql.tokens import Tokenizer

SETS = tuple(f"cs{number}" for number in range(1, 11))


@lru_cache
def rows(split: Split, n: int, lexicon: str = "full") -> list[dict[str, Any]]:
    # No query of CS1 and CS2 shows a pair of clauses that could be held out.
    sets = SETS[2:] if split == "clauses" else SETS
    config = DataConfig(command_sets=sets, split=split, lexicon=lexicon)
    made: list[dict[str, Any]] = example_table(make_examples(config, 0, n), seed=0, split=split).to_pylist()
    return made


@pytest.fixture(scope="module")
def train() -> Reference:
    return Reference(rows("train", 5000, "full"))


def test_every_split_but_train_promises_something() -> None:
    assert [split for split in SPLITS if not asked(split)] == ["train"]
    assert all(kinds <= set(KINDS) for kinds in map(asked, SPLITS))


@pytest.mark.parametrize("split", [split for split in SPLITS if UNSEEN[split]])
def test_a_split_has_nothing_of_what_it_holds_out(split: Split, train: Reference) -> None:
    report = leakage(rows(split, 500), train)
    assert (report.rows, report.reference_rows) == (500, 5000)
    assert report.asked == asked(split)
    assert {kind: report.found[kind] for kind in report.asked} == dict.fromkeys(report.asked, 0)
    assert not report.broken
    # Something of it must be shared, or nothing was compared.
    assert report.found["masked 8-gram"] > 0


@pytest.mark.parametrize("split", [split for split in SPLITS if UNSEEN[split]])
def test_a_planted_row_is_found_in_every_kind(split: Split) -> None:
    held_out = rows(split, 500)
    report = leakage(held_out, [*rows("train", 200), held_out[17]])
    assert set(report.broken) == asked(split)
    assert all(report.found[kind] > 0 for kind in KINDS)
    assert report.examples["prompt"] == 17
    assert f"LEAK, first in row {report.examples['prompt']}" in str(report)


def test_rows_of_another_order_of_columns_have_the_same_schema() -> None:
    [one] = rows("test", 1)
    head, body = one["create_statement"].removesuffix(" )").split("( ")
    turned = {**one, "create_statement": f"{head}( {', '.join(reversed(body.split(', ')))} )"}
    assert turned["create_statement"] != one["create_statement"]
    assert leakage([turned], [one]).found["schema"] == 1


def test_the_report_counts_rows_and_knows_both_sizes() -> None:
    report = leakage(rows("train", 40), rows("train", 40))
    assert (report.rows, report.reference_rows) == (40, 40)
    assert report.found["prompt"] == 40
    assert report.share("sql") == 1.0
    assert report.to_dict()["kinds"]["schema"] == {"rows": 40, "share": 1.0, "asked": None}
    assert report.to_dict()["ok"] is True


def test_a_split_can_be_named_for_rows_that_say_another() -> None:
    assert leakage(rows("train", 40), rows("train", 40), split="test").broken == ("prompt", "schema")


def test_rows_of_two_splits_promise_what_both_promise() -> None:
    mixed = [*rows("names", 5), *rows("templates", 5)]
    assert leakage(mixed, rows("train", 10)).asked == {"prompt"}


def test_names_and_literals_are_left_open_in_a_skeleton() -> None:
    sql = "SELECT COUNT(price) AS COUNT_price FROM orders WHERE name LIKE '%it''s%' AND price > 1.5"
    assert skeleton(sql) == "SELECT COUNT(_) AS _ FROM _ WHERE _ LIKE _ AND _ > _"


def of_pieces(pieces: list[tuple[str, str]]) -> dict[str, Any]:
    """A row of training with another question."""
    [one] = rows("train", 1)
    text = Text.of([("### Instruction:", "prompt.markup"), *pieces, (" ### Context:", "prompt.markup")])
    question = "".join(piece for piece, _ in pieces).strip()
    return {
        **one,
        "english_prompt": question,
        "prompt": text.string,
        "roles": [span._asdict() for span in text.spans],
    }


def around(name: str, value: str) -> dict[str, Any]:
    """Nine words with a name and a literal in their middle, so that every 8-gram has both."""
    return of_pieces(
        [
            (" fetch for me each", "english.template"),
            (f" {name}", "english.where.0.column"),
            (" beyond", "english.where.0.operator"),
            (f" {value}", "english.where.0.value"),
            (" right now please", "english.phrase"),
        ]
    )


@pytest.mark.parametrize(("name", "value"), [("fee", "7"), ("price", "8"), ("fee", "8")])
def test_names_and_literals_are_left_open_in_masked_8_grams_alone(name: str, value: str) -> None:
    report = leakage([around(name, value)], [around("price", "7")])
    assert (report.found["8-gram"], report.found["masked 8-gram"]) == (0, 1)
    assert (report.found["prompt"], report.found["question"]) == (0, 1)


def test_other_words_around_names_make_another_masked_8_gram() -> None:
    other = around("price", "7")
    changed = {**other, "prompt": other["prompt"].replace("beyond", "bounds")}
    assert leakage([changed], [other]).found["masked 8-gram"] == 0


NULLS = ["prompt", "english_prompt", "sql_statement", "create_statement", "query", "roles"]


@pytest.mark.parametrize("column", NULLS)
def test_a_row_with_a_null_is_refused_by_its_number(column: str) -> None:
    one, two = rows("train", 2)
    with pytest.raises(InputError, match="row 1"):
        leakage([], [one, {**two, column: None}])
    with pytest.raises(InputError, match="row 1"):
        leakage([one, {**two, column: None}], [])


@pytest.mark.parametrize(
    "spans", [[(0, 9), (0, 9)], [(0, 9), (8, 12)], [(4, 9), (0, 3)], [(-5, 3)], [(9, 4)]]
)
def test_spans_that_overlap_are_refused(spans: list[tuple[int, int]]) -> None:
    [one] = rows("train", 1)
    roles = [{"start": start, "end": end, "role": "english.phrase"} for start, end in spans]
    with pytest.raises(InputError, match="row 0: `roles` has a span from .* behind one that ends at"):
        leakage([], [{**one, "roles": roles}])


SHARED = {"clean_query": "{}", "corrupt_query": "{}"}


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("### Instruction: a\nb ### Context: c ### Response:", ("a\nb", "c")),
        ("### Instruction: a ### Context: b ### Context: c ### Response:", ("a ### Context: b", "c")),
        ("### Instruction:  ### Context:  ### Response:", ("", "")),
        ("### Instruction: a ### Context: c ### Response: ", None),
        ("### Instruction: a ### Context: ### Response:", None),
        ("### Instruction: a ### Response:", None),
        ("### Instruction: ### Response:", None),
        ("a ### Context: c ### Response:", None),
        ("", None),
    ],
)
def test_the_sides_of_a_pair_have_the_question_and_the_tables_of_their_prompts(
    prompt: str, parts: tuple[str, str] | None
) -> None:
    clean, corrupt = sides({**SHARED, "clean_prompt": prompt})
    given = (clean.get("english_prompt"), clean.get("create_statement"))
    assert given == (parts or (None, None))
    assert "english_prompt" not in corrupt


def test_a_long_prompt_is_taken_apart_in_time() -> None:
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        sides({**SHARED, "clean_prompt": "### Instruction: " + " ### Context: " * 4000})
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.05


def test_rows_that_name_no_split_promise_nothing() -> None:
    named, unnamed = rows("test", 1)[0], {**rows("train", 1)[0], "split": None}
    assert leakage([named], []).asked == asked("test")
    assert leakage([named, unnamed], []).asked == frozenset()


def test_rows_without_our_columns_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="row 0 has no column 'roles'"):
        leakage([], [{k: v for k, v in row.items() if k != "roles"} for row in rows("train", 1)])


@pytest.mark.parametrize(("lexicon", "n"), [("full", 5000), ("demo", 1500)])
def test_every_held_out_name_is_made_of_tokens_that_training_prompts_have(lexicon: str, n: int) -> None:
    texts = [row["prompt"] for row in rows("train", n, lexicon)]
    tokenizer = Tokenizer.train(texts, vocab_size=2048)
    known = {token for ids in tokenizer.backend.encode_batch(texts) for token in ids.ids}
    names = LEXICONS[lexicon].unseen_names
    unknown = [name for name in names if not set(tokenizer.encode_text(f" {name}")) <= known]
    assert len(names) > 10
    assert unknown == []
