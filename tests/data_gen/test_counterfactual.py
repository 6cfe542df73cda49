"""Config + edit -> pairs: one span of the prompt differs, so does the SQL, tokens are aligned, both sides are valid."""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from data_gen.commands import add_arguments
from data_gen.config import DataConfig
from data_gen.draw.splits import has_held_out_clauses, is_test_schema
from data_gen.errors import InputError
from data_gen.example import make_examples, write_example
from data_gen.pairs import counterfactual
from data_gen.pairs.counterfactual import counterfactuals, encoder_of, make_pair, sets_without
from data_gen.pairs.edits import EDITS, sets_with
from data_gen.pairs.slots import names_used
from data_gen.read.parse import parse_sql
from data_gen.run.grade import grade
from data_gen.vocabulary.lexicon import LEXICONS

ROLES = {
    "schema.table": r"schema\.table",
    "english.table": r"english\.table",
    "join.0.key": r"english\.join\.0\.(left|right)\.column",
    "where.0.negated": r"english\.where\.0\.operator",
    "where.0.subquery.kind": r"english\.where\.0\.operator",
    "where.connective": r"english\.where(\.0)?\.keyword",
}
"""Edit -> the role of the changed span; for the others it is the name, behind `english`."""
SPLITS = [("test", "full"), ("train", "demo"), ("names", "full")]


def role_of(edit):
    if edit in ROLES:
        return ROLES[edit]
    name = re.sub(r"^window", r"select.N", edit.replace("aggregate.column", "column"))
    return r"english\." + re.escape(name).replace("N", r"\d")


def pairs_of(edit, split="test", lexicon="full", n=4, **more):
    sets = tuple(name for name in sets_with(EDITS[edit]) if lexicon == "full" or name != "cs8")
    config = DataConfig(command_sets=sets or ("cs8",), split=split, lexicon=lexicon, max_columns=8)
    return counterfactuals(config, edit=edit, n=n, **more)


def cases():
    for edit in EDITS:
        for split, lexicon in SPLITS:
            if lexicon == "full" or sets_with(EDITS[edit]) != ["cs8"]:
                yield edit, split, lexicon


@pytest.mark.parametrize(("edit", "split", "lexicon"), list(cases()))
def test_one_span_of_the_prompt_differs_and_both_sides_are_valid_rows_of_the_split(edit, split, lexicon):
    for pair in pairs_of(edit, split, lexicon):
        clean, corrupt = pair.clean, pair.corrupt
        prompts = clean.prompt.string, corrupt.prompt.string
        spans = pair.change
        before = {p[: s.start] for p, s in zip(prompts, spans, strict=True)}
        behind = {p[s.end :] for p, s in zip(prompts, spans, strict=True)}
        assert len(before) == len(behind) == 1
        assert prompts[0] != prompts[1]
        assert all(re.fullmatch(role_of(edit), span.role) for span in spans if span.end > span.start)
        assert clean.style == corrupt.style
        assert clean.sql.string[: pair.sql_offset] == corrupt.sql.string[: pair.sql_offset]
        # One literal may begin like the other: `5` and `57`.
        ends = (side.sql.string[pair.sql_offset :][:1] for side in (clean, corrupt))
        assert len(set(ends)) == 2
        assert has_held_out_clauses(clean.query) == has_held_out_clauses(corrupt.query) is False
        for side in (clean, corrupt):
            assert write_example(side.index, side.query, side.style) == side
            assert parse_sql(side.sql.string, side.query.schema, side.query.command_set) == side.query
            if split != "names":
                assert is_test_schema(side.query.schema, 0.1) == (split == "test")


def test_each_side_is_right_for_itself_and_wrong_for_the_other():
    told_apart = total = 0
    for edit in EDITS:
        if edit == "window.function":
            # Data without ties, which a row number needs for one right answer, show no difference to a rank.
            continue
        for pair in pairs_of(edit, n=1):
            for one, other in [(pair.clean, pair.corrupt), (pair.corrupt, pair.clean)]:
                assert grade(one, one.sql.string).execution
                verdict = grade(one, other.sql.string)
                assert not verdict.tree
                told_apart, total = told_apart + (not verdict.execution), total + 1
    assert told_apart >= 0.95 * total


def test_the_english_of_a_schema_pair_does_not_name_the_table():
    for pair in pairs_of("schema.table"):
        assert not pair.clean.style.mentions_table
        assert pair.clean.english == pair.corrupt.english


@pytest.mark.parametrize("variant", ["base", "syn", "nat"])
@pytest.mark.parametrize(
    "edit", ["select.0.column", "where.0.operator", "order_by.0.direction", "join.0.table"]
)
def test_pairs_are_made_in_every_variant(edit, variant):
    config = DataConfig(command_sets=("cs5",), split="test", variant=variant)
    for pair in counterfactuals(config, edit=edit, n=3):
        assert pair.clean.style.variant == variant
        assert re.fullmatch(role_of(edit), pair.change.clean.role)


@pytest.mark.parametrize("edit", [name for name, edit in EDITS.items() if edit.names])
def test_a_novel_name_is_one_that_training_never_sees(edit):
    unseen = LEXICONS["full"].unseen_names
    for pair in pairs_of(edit, novel=True, n=2):
        used = [
            {*names_used(q), q.table, *(j.table for j in q.joins)}
            for q in (pair.clean.query, pair.corrupt.query)
        ]
        new = {name.removeprefix("running_") for name in used[1] - used[0]}
        assert new
        assert new <= unseen


def test_only_names_can_be_novel():
    with pytest.raises(InputError, match="changes no name"):
        make_pair(DataConfig(command_sets=("cs2",)), "order_by.0.direction", 0, novel=True)


def test_pairs_depend_on_config_edit_seed_and_index_alone():
    first = counterfactuals("cs2", edit="order_by.0.direction", n=8, seed=1)
    assert counterfactuals("cs2", edit="order_by.0.direction", n=4, seed=1) == first[:4]
    assert counterfactuals("cs2", edit="order_by.0.direction", n=4, seed=2) != first[:4]
    config = DataConfig(command_sets=("cs2",), split="test")
    assert make_pair(config, "order_by.0.direction", 3, 1) == first[3]


def test_pairs_never_have_random_names():
    config = DataConfig(command_sets=("cs1",), random_names=1.0)
    tables = {pair.clean.query.table for pair in counterfactuals(config, edit="schema.table", n=30)}
    assert any("_" not in table for table in tables)


def test_an_edit_takes_only_the_command_sets_that_have_its_slot():
    config = DataConfig(command_sets=("cs1", "cs2"), split="test")
    pairs = counterfactuals(config, edit="order_by.0.direction", n=6)
    assert {pair.clean.query.command_set for pair in pairs} == {"cs2"}
    assert sets_without(config, "order_by.0.direction") == ["cs1"]
    assert sets_without(config, "select.0.column") == []
    with pytest.raises(InputError, match="needs ORDER BY with a direction per key, which cs1 does not have"):
        sets_without(DataConfig(command_sets=("cs1",)), "order_by.0.direction")


def test_the_command_line_says_which_command_sets_have_no_pairs(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = f"pairs cs1 cs2 --edit order_by.0.direction --rows 4 --out {tmp_path}/p"
    arguments = parser.parse_args(words.split())
    arguments.call(arguments)
    assert "no pairs of cs1: edit `order_by.0.direction` has no slot there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "edit", "n", "reason"),
    [
        (
            "cs1",
            "order_by.0.direction",
            1,
            "needs ORDER BY with a direction per key, which cs1 does not have",
        ),
        ("cs8", "join.0.table", 1, "and names without their table, which cs8 does not have"),
        ("cs2", "order_by.direction", 1, "did you mean `order_by.1.direction`"),
        ("cs33", "schema.table", 1, "no command set `cs33`"),
        ("cs2", "schema.table", 0, "n is 0"),
        (
            DataConfig(min_columns=1, max_columns=1),
            "select.0.column",
            1,
            "0 of 2,000 draws fit edit `select.0.column`: 2,000 have no bare column as first item with another",
        ),
        (
            DataConfig(variant="nat"),
            "schema.table",
            1,
            "no instruction of variant `nat` leaves out the table",
        ),
    ],
)
def test_a_pair_that_cannot_be_made_is_one_sentence(config, edit, n, reason):
    with pytest.raises(InputError) as caught:
        counterfactuals(config, edit=edit, n=n)
    assert reason in caught.value.message


WORDS = {
    "schema.table": "table that stands alone",
    "english.table": "table that stands alone",
    "select.0.table": "table joined with itself",
    "where.0.subquery.kind": "IN or EXISTS",
    "where.0.subquery.select": "MIN or MAX",
    "where.0.subquery": "subquery",
    "where.0.0": "IN with a list",
    "where.0.low": "BETWEEN",
    "where.0.high": "BETWEEN",
    "where.connective": "pair of conditions",
    "select.0": "first item",
    "select.1": "second item",
    "distinct": "DISTINCT",
    "join": "JOIN",
    "where.0": "first condition",
    "where.1": "second condition",
    "cte": "WITH",
    "compound": "set operation",
    "having": "HAVING",
    "order_by.0": "first sort key",
    "order_by.1": "second sort key",
    "limit": "LIMIT",
    "window.function": "RANK",
    "window.column": "running sum",
    "window.partition_by": "PARTITION BY",
    "window": "window",
}
"""How an edit's name begins -> what its refusal says that queries lack; the first that fits counts."""


@pytest.mark.parametrize("edit", EDITS)
def test_a_refusal_names_what_the_queries_lack(edit, monkeypatch):
    monkeypatch.setattr(counterfactual, "ATTEMPTS", 2)
    never = replace(EDITS[edit], change=lambda draft, query: (), rebuild=None, hide_table=False)
    monkeypatch.setitem(EDITS, edit, never)
    with pytest.raises(InputError) as caught:
        pairs_of(edit, n=1)
    lacking = next(words for start, words in WORDS.items() if edit.startswith(start))
    assert re.search(rf"`: 2 have no .*{lacking}", caught.value.message)
    # More columns help where the slot is a column, more keys where it is the second one, and nowhere else.
    is_second = edit.startswith("order_by.1.")
    assert ("max_columns" in caught.value.hint) == (edit.endswith("column") or is_second)
    assert ("max_keys" in caught.value.hint) == is_second
    assert "whose queries have it" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "edit", "remedy"),
    [
        (DataConfig(command_sets=("cs3",), split="clauses"), "order_by.1.direction", "another split"),
        # Most draws have no slot, but the one that came furthest says what to do.
        (DataConfig(command_sets=("cs8",), variant="nat"), "join.0.kind", "another variant"),
        (DataConfig(command_sets=("cs9",), split="clauses"), "compound.operator", "command set or split"),
    ],
)
def test_the_draw_that_came_furthest_decides_the_remedy(config, edit, remedy, monkeypatch):
    monkeypatch.setattr(counterfactual, "ATTEMPTS", 100)
    with pytest.raises(InputError) as caught:
        make_pair(config, edit, 0)
    assert remedy in caught.value.hint


def texts(n):
    sets = tuple(f"cs{i}" for i in range(1, 11))
    return [example.text.string for example in make_examples(DataConfig(command_sets=sets), 0, n)]


def byte_level(corpus, size):
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    return backend


def whole_words(corpus):
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("_", "isolated")]
    )
    trainer = trainers.WordLevelTrainer(vocab_size=9000, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    return backend


def word_piece(corpus):
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    ends = [(token, backend.token_to_id(token)) for token in special[1:]]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return backend


def unigram(corpus):
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    return backend


@pytest.fixture(scope="module")
def foreign():
    root = Path(__file__).parents[2]
    prose = [path.read_text() for path in [*sorted(root.glob("*.md")), *sorted((root / "docs").glob("*.md"))]]
    own = texts(2000)
    return {
        "words": whole_words(own),
        "byte level": byte_level(own[:600], 1200),
        "other text": byte_level(prose, 2000),
        "word piece": word_piece(own[:600]),
        "unigram": unigram(own[:600]),
    }


def check_aligned(pair, backend):
    """By the offsets, which `encode` does not know."""
    encode = lambda string: backend.encode(string).ids  # noqa: E731
    one, other = (backend.encode(side.prompt.string) for side in (pair.clean, pair.corrupt))
    assert len(one.ids) == len(other.ids)
    differing = [i for i, (a, b) in enumerate(zip(one.ids, other.ids, strict=True)) if a != b]
    assert differing
    for encoding, span in zip((one, other), pair.change, strict=True):
        for i in differing:
            start, end = encoding.offsets[i]
            assert start < span.end
            assert end > span.start
    found = pair.divergence(encode)
    whole, changed = (backend.encode(side.text.string) for side in (pair.clean, pair.corrupt))
    assert whole.ids[found.position + 1] == found.clean_answer != found.corrupt_answer
    assert changed.ids[found.position + 1] == found.corrupt_answer
    # It is the first one of the answer that differs, and, but for a space, no later than the first character that does.
    start = len(pair.clean.prompt.string)
    assert start <= whole.offsets[found.position + 1][0] <= start + 2 + pair.sql_offset
    first = next(i for i, (_, end) in enumerate(whole.offsets) if end > start)
    assert whole.ids[first : found.position + 1] == changed.ids[first : found.position + 1]


@pytest.mark.parametrize("edit", EDITS)
def test_prompts_have_equal_token_counts_and_differ_inside_the_span_alone(edit, foreign):
    backend = foreign["words"]
    encode = lambda string: backend.encode(string).ids  # noqa: E731
    for pair in pairs_of(edit, n=2, encode=encode):
        check_aligned(pair, backend)


@pytest.mark.parametrize("name", ["byte level", "other text", "word piece", "unigram"])
def test_pairs_are_aligned_under_foreign_tokenizers(name, foreign):
    backend = foreign[name]
    for edit in (
        "schema.table",
        "select.0.column",
        "order_by.0.direction",
        "where.0.value",
        "having.0.operator",
    ):
        for pair in pairs_of(edit, n=3, encode=lambda string: backend.encode(string).ids):
            check_aligned(pair, backend)


def test_a_pair_that_is_not_aligned_says_so(foreign):
    encode = lambda string: foreign["words"].encode(string).ids  # noqa: E731
    pair = pairs_of("distinct", n=1)[0]
    with pytest.raises(
        InputError, match="not aligned under this tokenizer: the two sides have prompts of unequal"
    ):
        pair.divergence(encode)
    twice = replace(pair, corrupt=pair.clean)
    with pytest.raises(InputError, match="differ in other than one place"):
        _ = twice.change


def test_a_tokenizer_that_tells_no_names_apart_makes_no_pair(monkeypatch):
    monkeypatch.setattr(counterfactual, "ATTEMPTS", 100)
    # One token per word, the same for all: prompts are as long, but nothing in them differs.
    config = DataConfig(command_sets=("cs1",))
    with pytest.raises(InputError, match="0 of 100 draws .* change tokens outside the edited span"):
        make_pair(config, "select.0.column", 0, encode=lambda string: [7] * len(string.split()))


def test_a_tokenizer_that_cuts_the_answers_off_makes_no_pair():
    pair = pairs_of("order_by.0.direction", n=1, encode=lambda string: [ord(char) for char in string])[0]
    longest = max(len(side.prompt.string) for side in (pair.clean, pair.corrupt))
    with pytest.raises(InputError, match="the two sides have answers in which no token differs"):
        pair.divergence(lambda string: [ord(char) for char in string[:longest]])


def test_a_tokenizer_file_gives_its_encode_function(tmp_path, foreign):
    foreign["words"].save(str(tmp_path / "tokenizer.json"))
    encode = encoder_of(tmp_path / "tokenizer.json")
    assert encode("SELECT price") == foreign["words"].encode("SELECT price").ids
    with pytest.raises(InputError, match="no tokenizer file"):
        encoder_of(tmp_path / "nowhere.json")
    (tmp_path / "cut.json").write_text('{"version":')
    with pytest.raises(InputError, match="not a whole tokenizer file"):
        encoder_of(tmp_path / "cut.json")
