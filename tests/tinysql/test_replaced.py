"""Names that a constraint replaced: the first is the model's own word of its free answer, which the schema lacks."""

from pathlib import Path

import pytest
import torch

from data_gen.example import prompt_string
from data_gen.read.create import read_create
from data_gen.schema import write_schema
from tinysql.answering.constrained import KEYWORDS
from tinysql.answering.generation import stream
from tinysql.answering.replaced import WORD, replaced_names
from tinysql.cli import main
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import find_recipe
from tinysql.runs import open_run
from tinysql.training.fit import fit

QUESTIONS = (
    "show me the price and the name",
    "show me the wheels of cars",
    "list the salary and the city from staff",
)
SCHEMAS = (
    "CREATE TABLE cars ( wheels INTEGER )",
    "CREATE TABLE orders ( id INTEGER, name TEXT, cost REAL )",
    "CREATE TABLE staff ( city TEXT, salary INTEGER )",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(find_recipe("tiny"), tmp_path_factory.mktemp("replaced") / "run").path


@pytest.mark.parametrize("created", SCHEMAS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_first_name_is_the_first_of_the_free_answer_that_the_schema_lacks(
    run: Path, question: str, created: str
) -> None:
    (model, tokenizer), schema = open_run(run).load(), read_create(created).schema
    prompt, heard = prompt_string(question, write_schema(schema).string), []
    free = "".join(stream(model, tokenizer, prompt))
    kept = "".join(stream(model, tokenizer, prompt, schema=schema, heard=heard))
    known = {table.name for table in schema.tables} | {
        c.name for table in schema.tables for c in table.columns
    }
    lacking = [word for word in WORD.findall(free) if word not in known | KEYWORDS]
    found = replaced_names(model, tokenizer, prompt, schema, heard)
    assert lacking, "the model is too small to be right"
    assert next(iter(found)) == lacking[0]
    assert not found.keys() & (known | KEYWORDS)
    # Each stands for another word of the answer, or for its end.
    words = iter([*WORD.findall(kept), ""])
    assert all(said in words for said in found.values())
    # Up to that name the two answers are one, and the word that has its place stands there.
    at = free.index(lacking[0])
    assert kept.startswith(free[:at])
    assert WORD.search(kept, at)[0] == found[lacking[0]]


def test_of_an_answer_that_needed_no_constraint_nothing_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model, tokenizer), own = open_run(run).load(), read_create(SCHEMAS[0]).schema
    prompt = prompt_string(QUESTIONS[0], write_schema(own).string)
    free: list[int] = []
    words = WORD.findall("".join(stream(model, tokenizer, prompt, heard=free)))
    names = [word for word in words if word not in KEYWORDS]
    # A schema that has what the model says, though it was told of another.
    fitting = read_create(
        f"CREATE TABLE {names[-1]} ( {' TEXT, '.join(dict.fromkeys(names[:-1]))} TEXT )"
    ).schema
    kept: list[int] = []
    list(stream(model, tokenizer, prompt, schema=fitting, heard=kept))
    assert kept == free
    assert replaced_names(model, tokenizer, prompt, fitting, kept) == {}


COUNTED = " SELECT MAX(wheels) AS MAX_wheels FROM cars ORDER BY MAX_wheels"


@pytest.mark.parametrize(
    ("begun", "rest", "freely", "found"),
    [
        # A name of the model's that goes on is told beside the one that ends there.
        (" SELECT wheels", " FROM cars", "_size FROM cars", {"wheels_size": "wheels"}),
        # What is no name is none, though one follows it.
        (" SELECT wheels", " FROM cars", ". toys FROM cars", {}),
        # Neither is lacking what the answer made.
        (COUNTED, "", ". FROM cars", {}),
    ],
)
def test_what_a_model_would_have_written_behind_an_answer(
    begun: str, rest: str, freely: str, found: dict[str, str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model, tokenizer), schema = open_run(run).load(), read_create(SCHEMAS[0]).schema
    prompt = prompt_string(QUESTIONS[1], write_schema(schema).string)
    given, before = tokenizer.encode_text(prompt), tokenizer.encode_text(begun)
    tokens = [*before, *tokenizer.encode_text(rest), tokenizer.end_id]
    likeliest = [*tokens]
    likeliest[len(before)], *more = tokenizer.encode_text(freely)

    def forward(self: HybridLM, ids: torch.Tensor) -> torch.Tensor:
        """Logits of a model that says what the answer has, but for one place."""
        return torch.eye(model.cfg.d_vocab)[[0] * (len(given) - 1) + likeliest][None]

    asked = []
    monkeypatch.setattr(HybridLM, "forward", forward)
    monkeypatch.setattr(
        "tinysql.answering.replaced.generate",
        lambda _, prompts, **__: asked.extend(prompts) or iter([([0], [token]) for token in more]),
    )
    assert replaced_names(model, tokenizer, prompt, schema, tokens) == found
    assert asked == [[*given, *before, likeliest[len(before)]]], "the place is one that may not follow"


def test_ask_says_in_one_line_what_was_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for options in ((), ("--constrain",), ("--constrain", "--temperature", "1")):
        assert main(["ask", str(run), QUESTIONS[0], "--schema", SCHEMAS[0], *options]) == 0
        said[options] = [
            line for line in capsys.readouterr().err.splitlines() if "would have written" in line
        ]
    assert len(said[("--constrain",)]) == 1
    assert said[("--constrain",)][0].startswith(
        "warning: the schema lacks what the model would have written: `"
    )
    assert "where the answer has `" in said[("--constrain",)][0]
    # Freely it is no warning of a constraint, and what is drawn is not what the model would have written.
    assert said[()] == said[("--constrain", "--temperature", "1")] == []
