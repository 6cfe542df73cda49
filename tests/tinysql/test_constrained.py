"""Constrained decoding: no right answer is blocked, and no name comes out that the schema does not give."""

import re

import pytest
import tokenizers
import torch

from data_gen.config import DataConfig
from data_gen.draw.nesting import CTE_NAMES
from data_gen.errors import InputError
from data_gen.example import Example, make_example
from data_gen.schema import Schema, parse_schema
from tinysql.answering.constrained import KEYWORDS, NUMBERINGS, Constraint, State, Vocabulary
from tinysql.answering.generation import answer
from tinysql.answering.sampling import Sampling
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

SETS = [f"cs{number}" for number in range(1, 11)]
ROWS = {name: [make_example(DataConfig(command_sets=(name,)), row) for row in range(40)] for name in SETS}
SCHEMA = parse_schema(
    "CREATE TABLE workers ( name TEXT, manager_id INTEGER ); CREATE TABLE shops ( id INTEGER, price REAL )"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [example.text.string for name in SETS for example in ROWS[name][:20]]
    return Tokenizer.train(texts, vocab_size=1500)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer, tokenizer.vocab_size)


@pytest.fixture(scope="module")
def words_with_spaces() -> Tokenizer:
    """Tokens as GPT-2 has them: a word with the space before it, marks and quotes joined."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([e.text.string for name in SETS for e in ROWS[name][:20]], trainer)
    return Tokenizer(backend)


def blocked(tokenizer: Tokenizer, constraint: Constraint, sql: str) -> str | None:
    """The SQL up to the first token that is not allowed; None when all are, and then the end."""
    state, ids = constraint.start, tokenizer.encode_text(" " + sql)
    for at, token in enumerate(ids):
        if not constraint.allowed(state)[token]:
            return tokenizer.decode(ids[: at + 1])
        state = constraint.after(state, token)
    return None if constraint.allowed(state)[tokenizer.end_id] else sql


@pytest.mark.parametrize("name", SETS)
def test_the_right_answer_is_never_blocked(
    name: str, tokenizer: Tokenizer, vocabulary: Vocabulary, words_with_spaces: Tokenizer
) -> None:
    spaced = Vocabulary(words_with_spaces, words_with_spaces.vocab_size)
    for example in ROWS[name]:
        schema, sql = example.query.schema, example.sql.string
        assert blocked(tokenizer, Constraint(vocabulary, schema), sql) is None
        assert blocked(words_with_spaces, Constraint(spaced, schema), sql) is None


@pytest.mark.parametrize(
    ("sql", "at"),
    [
        ("SELECT nama FROM workers", "SELECT nama"),
        ("SELECT workers FROM workers", "SELECT workers "),
        ("SELECT name FROM name", "SELECT name FROM n"),
        ("SELECT name FROM offices", "SELECT name FROM o"),
        ("SELECT shops.name FROM shops", "SELECT shops.n"),
        ("SELECT name.id FROM shops", "SELECT name."),
        ("SELECT MAX_price FROM shops", "SELECT MAX_"),
        ("SELECT MAX(price) AS best FROM shops", "SELECT MAX(price) AS b"),
        ("SELECT manager FROM workers", "SELECT manager "),
        ("SELECT name FROM picks", "SELECT name FROM p"),
        ("WITH picks AS (SELECT name FROM workers) SELECT name FROM matches", "SELECT name FROM m"),
        ('SELECT "name" FROM workers', 'SELECT "'),
        ("SELECT [x] FROM workers", "SELECT ["),
        ("SELECT name FROM workers -- gone", "workers --"),
        ("SELECT name FROM workers /* gone */", "workers /"),
        ("SELECT name FROM workers; DROP TABLE workers", "workers;"),
        ("SELECT 5price FROM shops", "SELECT 5p"),
        ("DROP TABLE workers", "D"),
        ("SELECT name FROM", "SELECT name FROM"),
        ("SELECT name FROM workers WHERE name = 'x", "name = 'x"),
        ("SELECT name FROM workers ORDER BY", "ORDER BY"),
        ("SELECT name,", "SELECT name,"),
    ],
)
def test_what_names_nothing_of_the_schema_is_blocked_where_it_parts(
    sql: str, at: str, vocabulary: Vocabulary
) -> None:
    # Byte by byte, so that the place does not hang on where tokens end.
    constraint = Constraint(vocabulary, SCHEMA)
    byte_of = {content: number for number, content in vocabulary.tokens.items() if len(content) == 1}
    state, said = constraint.start, b""
    for byte in sql.encode():
        said += bytes([byte])
        token = byte_of[bytes([byte])]
        if not constraint.allowed(state)[token]:
            assert said.decode().endswith(at)
            return
        state = constraint.after(state, token)
    assert not constraint.allowed(state)[vocabulary.end_id]
    assert sql.endswith(at)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT workers.name, manager.name FROM workers JOIN workers AS manager ON workers.manager_id = manager.id",
        "WITH picks AS (SELECT MAX(price) AS MAX_price FROM shops) SELECT picks.MAX_price FROM picks",
        "SELECT price FROM shops WHERE price > -2.5 AND price <> 3",
        "SELECT name FROM workers WHERE name = 'it''s \u00e9 FROM nowhere; -- \"x\"'",
    ],
)
def test_names_that_a_query_makes_itself_are_names(
    sql: str, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> None:
    schema = parse_schema(
        "CREATE TABLE workers ( id INTEGER, name TEXT, manager_id INTEGER ); CREATE TABLE shops ( price REAL )"
    )
    assert blocked(tokenizer, Constraint(vocabulary, schema), sql) is None


def test_an_allowed_token_is_one_whose_every_byte_may_follow(words_with_spaces: Tokenizer) -> None:
    """The walk through the trie against each token tried by itself."""
    vocabulary = Vocabulary(words_with_spaces, words_with_spaces.vocab_size)
    constraint = Constraint(vocabulary, SCHEMA)
    states = [constraint.start]
    states += [State(kind, "any") for kind in ("between", "string", "number", "minus")]
    states += [State("between", place) for place in ("open", "table", "new name", "new table")]
    states += [State("word", "any", b"SEL"), State("word", "any", b"workers"), State("point", b"shops")]
    for state in states:
        allowed = constraint.allowed(state)
        for token in vocabulary.tokens:
            try:
                constraint.after(state, token)
            except ValueError:
                assert not allowed[token]
            else:
                assert allowed[token]


def names_of(schema: Schema) -> set[str]:
    columns = {column.name for table in schema.tables for column in table.columns}
    made = {
        f"{prefix}_{name}" for prefix in ("COUNT", "SUM", "AVG", "MIN", "MAX", "running") for name in columns
    }
    roles = {name.removesuffix("_id") for name in columns if name.endswith("_id")}
    return (
        {table.name for table in schema.tables}
        | columns
        | made
        | roles
        | {*CTE_NAMES, *NUMBERINGS}
        | KEYWORDS
    )


@pytest.mark.parametrize("pattern", ["*-", "M*-"])
def test_a_model_that_knows_nothing_says_no_unknown_name(pattern: str, tokenizer: Tokenizer) -> None:
    examples: list[Example] = [ROWS[name][row] for name in SETS for row in range(5)]
    prompts = [example.prompt.string for example in examples]
    schemas = [example.query.schema for example in examples]
    longest = max(len(tokenizer.encode_text(prompt)) for prompt in prompts)
    shape = {"mamba": MambaConfig(d_head=8)} if "M" in pattern else {}
    config = ModelConfig(
        pattern=pattern, d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=longest + 30, **shape
    )
    model = HybridLM(config, seed=1).eval()
    drawn = Sampling(temperature=2.0)
    unknown = 0
    for schema, free, sql in zip(
        schemas,
        answer(model, tokenizer, prompts, sampling=drawn),
        answer(model, tokenizer, prompts, sampling=drawn, schemas=schemas),
        strict=True,
    ):
        assert sql.startswith(("SELECT", "WITH"))
        unknown += bool(set(words(free)) - names_of(schema))
        # The context may have filled up within the last word.
        whole = words(sql) if not sql[-1:].isalnum() and sql[-1:] != "_" else words(sql)[:-1]
        assert set(whole) - names_of(schema) == set(), sql
    assert unknown == len(examples)


def words(sql: str) -> list[str]:
    """The words outside of strings, also of one that is still open."""
    return re.findall(r"[^\W\d]\w*", re.sub(r"'[^']*('|$)", " ", sql))


def test_an_answer_is_not_empty(vocabulary: Vocabulary) -> None:
    constraint = Constraint(vocabulary, SCHEMA)
    assert not constraint.allowed(constraint.start)[vocabulary.end_id]
    [space] = [number for number, content in vocabulary.tokens.items() if content == b" "]
    spaced = constraint.after(constraint.start, space)
    assert {vocabulary.tokens[token][:1] for token in allowed(constraint, spaced)} == {b"S", b"W"}


def allowed(constraint: Constraint, state: State) -> list[int]:
    return constraint.allowed(state).nonzero().flatten().tolist()


@pytest.mark.parametrize("place", ["start", "any", "open", "table", "new name", "new table"])
def test_behind_a_space_comes_no_other(place: str, vocabulary: Vocabulary) -> None:
    constraint = Constraint(vocabulary, SCHEMA)
    [space] = [number for number, content in vocabulary.tokens.items() if content == b" "]
    state = State("between", place)
    assert space in allowed(constraint, state)
    spaced = constraint.after(state, space)
    assert space not in allowed(constraint, spaced)
    assert constraint.allowed(spaced)[vocabulary.end_id] == constraint.allowed(state)[vocabulary.end_id]
    for token in set(allowed(constraint, spaced)) - {vocabulary.end_id}:
        constraint.after(spaced, token)


def test_a_model_that_would_say_spaces_alone_answers(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    prompt = ROWS[SETS[0]][0].prompt.string
    n_ctx = len(tokenizer.encode_text(prompt)) + 20
    model = HybridLM(
        ModelConfig(pattern="-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=n_ctx)
    )
    [space] = [number for number, content in vocabulary.tokens.items() if content == b" "]
    model.unembed.register_forward_hook(
        lambda module, given, logits: logits.index_fill(-1, torch.tensor(space), 99.0)
    )
    free, [constrained] = (
        answer(model, tokenizer, [prompt]),
        answer(model, tokenizer, [prompt], schemas=[SCHEMA]),
    )
    assert free == [""]
    assert constrained.startswith(("SELECT", "WITH"))


def test_a_model_may_know_more_tokens_than_the_tokenizer(tokenizer: Tokenizer) -> None:
    mask = Constraint(Vocabulary(tokenizer, tokenizer.vocab_size + 9), SCHEMA).allowed(State())
    assert len(mask) == tokenizer.vocab_size + 9
    assert not mask[tokenizer.vocab_size :].any()


def test_a_tokenizer_without_bytes_is_refused(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.decoder = tokenizers.decoders.Metaspace()
    with pytest.raises(InputError, match="decoder is Metaspace"):
        Vocabulary(Tokenizer(backend), tokenizer.vocab_size)
