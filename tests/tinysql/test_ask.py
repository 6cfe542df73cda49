"""`tinysql ask`: the answer comes piece by piece, repeats, keeps to the schema, and a closed pipe is no fault."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinysql.cli import main
from tinysql.commands.ask import read_schema
from tinysql.recipes import find_recipe
from tinysql.runs import Run
from tinysql.tokens import Tokenizer
from tinysql.training.fit import fit

SCHEMA = "CREATE TABLE cars ( wheels INTEGER )"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(find_recipe("tiny"), tmp_path_factory.mktemp("ask") / "run").path


def ask(run: Path, *options: str) -> int:
    return main(["ask", str(run), "show me the wheels of cars", "--schema", SCHEMA, *options])


def test_a_seed_draws_an_answer_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("1", "1", "2"):
        assert ask(run, "--temperature", "2", "--seed", seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_top_p_leaves_out_what_is_unlikely(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for options in ((), ("--temperature", "2", "--top-p", "1e-9"), ("--temperature", "2")):
        assert ask(run, *options) == 0
        said.append(capsys.readouterr().out)
    # The likeliest token alone is left, however flat the distribution.
    assert said[0] == said[1] != said[2]


def test_the_model_runs_on_the_device_that_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, load = [], Run.load
    monkeypatch.setattr(
        Run, "load", lambda self, device="cpu": asked.append(str(device)) or load(self, device)
    )
    for options in ((), ("--device", "cpu:0")):
        assert ask(run, *options) == 0
    assert asked == ["cpu", "cpu:0"]
    first, again = capsys.readouterr().out.splitlines()
    assert first == again
    assert ask(run, "--device", "cqu") == 2
    assert "device `cqu` cannot be used" in capsys.readouterr().err


def test_a_constrained_answer_has_names_of_the_schema_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The model is too small to be right: on its own it says names of its training rows.
    names = {}
    for options in ((), ("--constrain",)):
        assert ask(run, *options, "--temperature", "3", "--seed", "1") == 0
        names[options] = set(re.findall(r"\b[a-z]\w*", capsys.readouterr().out))
    assert names[()] - {"wheels", "cars"}
    assert names[("--constrain",)] <= {"wheels", "cars"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--temperature=-1", "temperature is -1.0"),
        ("--temperature=nan", "temperature is nan"),
        ("--temperature=hot", "--temperature: invalid"),
        ("--top-p=0", "top_p is 0.0, expected more than 0"),
        ("--top-p=1.5", "top_p is 1.5, expected more than 0 and at most 1"),
        ("--seed=x", "--seed: "),
    ],
)
def test_numbers_that_are_none_are_refused(
    given: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(run, given) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_an_empty_answer_is_said_to_be_empty(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.answering.generation.stream", lambda *_, **__: iter(["", " "]))
    assert ask(run) == 0
    assert capsys.readouterr().err == "warning: the model answered nothing\n"


@pytest.mark.parametrize("given", ["nowhere.sql", "two words.sql", "schemas/cars", "cars.db", "cars.json"])
def test_a_schema_file_that_is_not_there_is_named(
    given: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", str(run), "show me the wheels", "--schema", given]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(
        f"tinysql: there is no file `{given}` to read the schema from\nhint: check the path"
    )
    assert printed.out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "hello world",
            "schema file `FILE`: schema `hello world` is not CREATE TABLE statements\nhint: write",
        ),
        ("CREATE TABLE t ( a BLOB )", "schema file `FILE`: column `a`"),
        ("", "schema file `FILE` is empty\nhint: give a file with"),
        (" \n", "schema file `FILE` is empty\nhint: give a file with"),
        (None, "`FILE` is a directory, expected a file with a CREATE TABLE statement\nhint: name the file"),
    ],
)
def test_a_file_that_holds_no_schema_is_named(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cars.sql"
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    # Before the run is looked at, which is none.
    assert main(["ask", str(tmp_path), "show me the wheels", "--schema", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"tinysql: {said.replace('FILE', str(file))}")


def test_a_statement_is_no_path(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "CREATE TABLE cars ( " + ", ".join(f"a{number} TEXT" for number in range(60)) + " )"
    assert read_schema(long) == long
    assert main(["ask", str(run), "show me the wheels", "--schema", "CREATE TABLE"]) == 2
    assert "there is no file" not in capsys.readouterr().err
    assert main(["ask", str(run), "show me the wheels", "--schema", "x" * 300]) == 2
    assert "cannot read `xxx" in capsys.readouterr().err


def test_what_asks_nothing_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", str(run), " ", "--schema", SCHEMA]) == 2
    assert "the question is empty" in capsys.readouterr().err


def test_a_broken_recipe_is_not_blamed_on_the_answer(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["recipe"]["data"]["command_sets"] = ["cs99"]
    (copy / "config.json").write_text(json.dumps(config))
    assert ask(copy) == 2
    printed = capsys.readouterr()
    assert "no command set `cs99`" in printed.err
    assert printed.out == ""


def test_a_tokenizer_that_is_not_the_model_s_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    texts = [f"a{i} b{i * i} c{i**3}" for i in range(2000)]
    Tokenizer.train(texts, vocab_size=2000).save(copy / "tokenizer.json")
    assert ask(copy) == 2
    assert re.search(r"tokenizer.json has \d+ tokens and the model knows \d+\nhint", capsys.readouterr().err)


def test_a_reader_that_goes_away_is_no_fault(run: Path) -> None:
    command = [sys.executable, "-m", "tinysql.cli", "ask", str(run), "show me the wheels", "--schema", SCHEMA]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
