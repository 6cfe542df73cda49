"""Every token has the role of the characters it came from, and pairs are aligned or refused."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from data_gen.errors import InputError
from data_gen.example import DataConfig, Example, make_example, make_examples, write_example
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.query import COMMAND_SETS, Query
from data_gen.say.style import VARIANTS
from data_gen.sql import write_value
from tinysql.tokens import END_ROLE, Tokenizer

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=5)
EVERYTHING = DataConfig(command_sets=tuple(COMMAND_SETS))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(make_examples(DATA, 0, 1500))


@pytest.fixture(scope="module")
def tokenizer(examples: list[Example]) -> Tokenizer:
    return Tokenizer.train((example.text.string for example in examples), vocab_size=900)


@pytest.fixture(scope="module")
def full_tokenizer() -> Tokenizer:
    return Tokenizer.train(
        (example.text.string for example in make_examples(EVERYTHING, 0, 1500)), vocab_size=3000
    )


def test_tokens_spell_the_text_and_end(tokenizer: Tokenizer, examples: list[Example]) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, example in enumerate(examples[:50]):
        ids = tokens.ids[row][tokens.mask[row]].tolist()
        assert ids[-1] == tokenizer.end_id
        assert tokenizer.decode(ids) == example.text.string


@pytest.mark.parametrize(
    "string", ["", " ", "a  b", "x),(y';%. '", "COUNT(*)", "über 5.5% – 'naïve'", "\tline\n", "it's (a; b)."]
)
def test_decoding_gives_back_any_string(full_tokenizer: Tokenizer, string: str) -> None:
    assert full_tokenizer.decode(full_tokenizer.encode_text(string)) == string


@pytest.mark.parametrize("padded", [False, True])
def test_strings_together_are_encoded_as_each_alone(padded: bool, tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    if padded:
        backend.enable_padding()
        backend.enable_truncation(5)
    strings = ["a", "", " the price of orders", "SELECT name FROM t"]
    together = Tokenizer(backend).encode_texts(strings)
    assert together == [tokenizer.encode_text(string) for string in strings]
    assert (backend.padding is not None) == padded  # the one that was given stays as it was


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_built_in_token_lies_in_two_spans(full_tokenizer: Tokenizer, variant: str) -> None:
    # Words that the tokenizer never saw may fall into pieces, but never across a border.
    for example in make_examples(replace(EVERYTHING, variant=variant, seed=1), 0, 300):
        text = example.text
        tokens = full_tokenizer.encode([example])
        encoding = full_tokenizer.backend.encode(text.string)
        for role, (start, end) in zip(tokens.roles[0], encoding.offsets, strict=False):
            piece = text.string[start:end]
            start += len(piece) - len(piece.lstrip()) if piece.strip() else 0
            assert {text.role_of(char, char + 1) for char in range(start, end)} == {role}, (
                piece,
                text.string,
            )


def test_the_answer_starts_at_select(tokenizer: Tokenizer, examples: list[Example]) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, start in enumerate(tokens.answer_start.tolist()):
        assert tokens.roles[row][start] == "sql.select.keyword"
        assert tokens.roles[row][start - 1] == "prompt.markup"


def test_the_tokens_of_a_prompt_do_not_depend_on_its_answer(
    tokenizer: Tokenizer, examples: list[Example]
) -> None:
    tokens = tokenizer.encode(examples[:50])
    for row, example in enumerate(examples[:50]):
        start = int(tokens.answer_start[row])
        assert tokens.ids[row, :start].tolist() == tokenizer.encode_text(example.prompt.string)


def test_tokens_do_not_depend_on_their_neighbours(tokenizer: Tokenizer, examples: list[Example]) -> None:
    together, alone = tokenizer.encode(examples[:20]), tokenizer.encode(examples[7:8])
    width = alone.ids.shape[1]
    assert torch.equal(together.ids[7, :width], alone.ids[0])
    assert not together.mask[7, width:].any()


# The oracle of roles: the query's values, looked for in the string in the order in which they have to stand.


def sql_values(query: Query) -> Iterator[tuple[str, str]]:
    """What the SQL of a query of CS1 to CS5 says, in its order, and the slot of each."""
    for i, item in enumerate(query.select):
        if item.aggregate:
            yield item.aggregate, f"sql.select.{i}.aggregate"
        yield item.column, f"sql.select.{i}.column"
        if item.alias:
            yield item.alias, f"sql.select.{i}.alias"
    yield query.table, "sql.table"
    for i, join in enumerate(query.joins):
        yield join.table, f"sql.join.{i}.table"
        for side in ("left", "right"):
            yield getattr(join, side).table, f"sql.join.{i}.{side}.table"
            yield getattr(join, side).column, f"sql.join.{i}.{side}.column"
    for i, [condition] in enumerate(query.where):
        yield condition.column, f"sql.where.{i}.column"
        yield condition.operator, f"sql.where.{i}.operator"
        yield write_value(condition.values[0]), f"sql.where.{i}.value"
    for i, ref in enumerate(query.group_by):
        yield ref.column, f"sql.group_by.{i}.column"
    for i, key in enumerate(query.order_by):
        yield key.column, f"sql.order_by.{i}.column"
        yield key.direction, f"sql.order_by.{i}.direction"


def schema_values(query: Query) -> Iterator[tuple[str, str]]:
    for number, table in enumerate(query.schema.tables):
        place = f"schema.tables.{number}" if number else "schema"
        yield table.name, f"{place}.table"
        for i, column in enumerate(table.columns):
            yield column.name, f"{place}.columns.{i}.name"
            yield column.type, f"{place}.columns.{i}.type"


def english_values(query: Query) -> Iterator[tuple[str, str]]:
    """The selected columns, which the English lists in this order."""
    for i, item in enumerate(query.select):
        yield item.column, f"english.select.{i}.column"


def find(string: str, start: int, values: Iterator[tuple[str, str]]) -> Iterator[tuple[int, int, str]]:
    for value, role in values:
        match = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)").search(string, start)
        assert match, (value, string[start:])
        start = match.end()
        yield match.start(), match.end(), role


def slots(example: Example) -> Iterator[tuple[int, int, str]]:
    """Where in prompt and SQL each value of the query stands, found without its spans."""
    string, prompt = example.text.string, len(example.prompt.string)
    context = string.index("### Context:")
    yield from find(string, prompt, sql_values(example.query))
    yield from find(string, context, schema_values(example.query))
    english = string[:context]
    names = [item.column for item in example.query.select]
    if all(len(re.findall(rf"(?<!\w){name}(?!\w)", english)) == 1 for name in names):
        yield from find(english, 0, english_values(example.query))
    if example.style.mentions_table and not example.query.joins:
        yield from find(english, 0, iter([(example.query.table, "english.table")]))


def other_bpe(corpus: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    return backend


def word_piece(corpus: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    ends = [(token, backend.token_to_id(token)) for token in special[1:]]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return backend


def unigram(corpus: list[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    return backend


ROWS = DataConfig(command_sets=("cs1", "cs2", "cs3", "cs4", "cs5"), seed=3)


@pytest.fixture(scope="module")
def fast_tokenizers(full_tokenizer: Tokenizer) -> dict[str, PreTrainedTokenizerFast]:
    root = Path(__file__).parents[2]
    prose = [path.read_text() for path in [*sorted(root.glob("*.md")), *sorted((root / "docs").glob("*.md"))]]
    own = [example.text.string for example in make_examples(ROWS, 1000, 1500)]
    backends = {
        "built-in": full_tokenizer.backend,
        "byte-level BPE": other_bpe(prose),
        "WordPiece": word_piece(own),
        "Unigram": unigram(own),
    }
    return {name: PreTrainedTokenizerFast(tokenizer_object=backend) for name, backend in backends.items()}


def test_every_character_that_came_from_the_query_has_its_role() -> None:
    for example in make_examples(ROWS, 0, 200):
        for start, end, role in slots(example):
            assert {example.text.role_of(char, char + 1) for char in range(start, end)} == {role}


@pytest.mark.parametrize("name", ["built-in", "byte-level BPE", "WordPiece", "Unigram"])
def test_a_token_of_any_fast_tokenizer_has_the_role_of_its_slot(
    fast_tokenizers: dict[str, PreTrainedTokenizerFast], name: str
) -> None:
    fast, checked = fast_tokenizers[name], 0
    for example in make_examples(ROWS, 0, 100):
        string = example.text.string
        offsets = fast(string, return_offsets_mapping=True)["offset_mapping"]
        roles = example.text.roles_of(offsets)
        assert [role == "" for role in roles] == [start == end for start, end in offsets]
        inside = sorted(slots(example))
        for (start, end), role in zip(offsets, roles, strict=True):
            piece = string[start:end]
            left, right = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
            for first, last, slot in inside:
                if first <= left < right <= last:
                    assert role == slot, (piece, string)
                    checked += 1
    assert checked > 3000


def test_a_token_across_two_spans_has_the_role_of_the_longer_part(examples: list[Example]) -> None:
    example = examples[0]
    border = next(i for i, span in enumerate(example.text.spans) if span.role == "sql.select.keyword")
    keyword, column = example.text.spans[border : border + 2]
    whole = example.text.roles_of([(keyword.start, column.start + 2), (column.start - 1, column.end), (0, 0)])
    assert whole == ["sql.select.keyword", column.role, ""]


def test_a_foreign_tokenizer_encodes_examples_with_its_own_padding_and_end(
    fast_tokenizers: dict[str, PreTrainedTokenizerFast], examples: list[Example]
) -> None:
    foreign = Tokenizer(fast_tokenizers["WordPiece"].backend_tokenizer, pad="[UNK]", end="[SEP]")
    tokens = foreign.encode(examples[:4])
    for row in range(4):
        length, start = int(tokens.mask[row].sum()), int(tokens.answer_start[row])
        assert tokens.ids[row, length - 1] == foreign.end_id
        assert tokens.roles[row][length - 1] == END_ROLE
        assert tokens.roles[row][start] == "sql.select.keyword"
        assert tokens.roles[row][start - 1] == "prompt.markup"
    with pytest.raises(InputError, match="no token `<pad>`"):
        Tokenizer(fast_tokenizers["WordPiece"].backend_tokenizer)


EDITS = ("schema.table", "select.0.column", "order_by.0.direction", "english.table", "order_by.1.column")


@pytest.mark.parametrize("edit", EDITS)
def test_pairs_differ_in_one_role_and_part_at_their_position(tokenizer: Tokenizer, edit: str) -> None:
    test = replace(DATA, split="test")
    found = counterfactuals(test, edit=edit, n=20, seed=1, encode=tokenizer.encode_text)
    pairs = tokenizer.encode_pairs(found)
    assert len(pairs) == 20
    assert pairs.refused == ()
    assert torch.equal(pairs.clean.mask, pairs.corrupt.mask)
    assert torch.equal(pairs.clean.answer_start, pairs.corrupt.answer_start)
    assert bool((pairs.clean_answer != pairs.corrupt_answer).all())
    for row, pair in enumerate(found):
        position, start = int(pairs.position[row]), int(pairs.clean.answer_start[row])
        differs = pairs.clean.ids[row] != pairs.corrupt.ids[row]
        assert {pairs.clean.roles[row][i] for i in differs.nonzero().flatten().tolist()} <= {
            f"schema.{edit.removeprefix('schema.')}",
            f"english.{edit.removeprefix('english.')}",
        }
        assert bool(differs[:start].any())
        assert not bool(differs[start:].any())
        assert int(pairs.clean.mask[row].sum()) == position + 1
        assert tuple(pair.divergence(tokenizer.encode_text)) == (
            position,
            int(pairs.clean_answer[row]),
            int(pairs.corrupt_answer[row]),
        )


def test_pairs_that_were_drawn_without_a_tokenizer_may_be_left_out(tokenizer: Tokenizer) -> None:
    found = counterfactuals(replace(DATA, split="test"), edit="select.0.column", n=40, seed=1)
    pairs = tokenizer.encode_pairs(found, drop_misaligned=True)
    assert len(pairs) + len(pairs.refused) == 40
    assert len(pairs) > 10
    assert all("the prompts have" in reason for reason in pairs.refused)


def test_misaligned_pairs_are_refused_with_the_reason(tokenizer: Tokenizer) -> None:
    test = replace(DATA, split="test")
    [pair] = counterfactuals(test, edit="select.0.column", n=1, seed=0, encode=tokenizer.encode_text)
    other = make_example(test, 12345)
    with pytest.raises(
        InputError, match=r"1 of 1 pairs of edit `select.0.column` are not aligned; pair 0: the prompts"
    ):
        tokenizer.encode_pairs([replace(pair, corrupt=other)])
    kept = tokenizer.encode_pairs([pair, replace(pair, corrupt=other)], drop_misaligned=True)
    assert (len(kept), len(kept.refused)) == (1, 1)


def test_a_pair_that_differs_in_two_roles_is_refused(tokenizer: Tokenizer) -> None:
    test = replace(DATA, split="test")
    [pair] = counterfactuals(test, edit="order_by.0.direction", n=1, seed=0, encode=tokenizer.encode_text)
    # The same question with another table besides: as many tokens, but two spans differ.
    query = pair.corrupt.query
    [table] = query.schema.tables
    length = len(tokenizer.encode_text(f" {table.name}"))
    name = next(
        n
        for n in ("toys", "maps", "coins", "books", "toy_maps", "toy_coins")
        if n not in (table.name, *pair.corrupt.english.string.split())
        and len(tokenizer.encode_text(f" {n}")) == length
    )
    schema = msgspec.structs.replace(query.schema, tables=(msgspec.structs.replace(table, name=name),))
    moved = msgspec.structs.replace(query, table=name, schema=schema)
    other = write_example(0, moved, pair.corrupt.style)
    with pytest.raises(InputError, match="the prompts differ in the roles"):
        tokenizer.encode_pairs([replace(pair, corrupt=other)])


def test_transformers_reads_the_same_tokenizer(
    full_tokenizer: Tokenizer, examples: list[Example], tmp_path: Path
) -> None:
    full_tokenizer.save(tmp_path / "tokenizer.json")
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    for example in [*examples[:10], *make_examples(EVERYTHING, 0, 20)]:
        expected = full_tokenizer.encode_text(example.text.string)
        assert fast(example.text.string)["input_ids"] == expected
        assert again.encode_text(example.text.string) == expected


@pytest.mark.parametrize("content", ["", '{"version": "1.0", "mod'])
def test_a_tokenizer_file_cut_short_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="not a whole tokenizer file"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_path_may_be_a_string(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert (tmp_path / "special_tokens_map.json").exists()
    again = Tokenizer.load(str(tmp_path / "tokenizer.json"))
    assert again.backend.to_str() == tokenizer.backend.to_str()


def test_rows_are_taken_by_number_in_their_order(examples: list[Example], tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(examples[:5])
    found = tokens[torch.tensor([3, 0, 3])]
    for place, row in enumerate((3, 0, 3)):
        assert torch.equal(found.ids[place], tokens.ids[row])
        assert found.roles[place] == tokens.roles[row]
        assert found.answer_start[place] == tokens.answer_start[row]
    assert torch.equal(tokens[1:3].ids, tokens[torch.tensor([1, 2])].ids)
