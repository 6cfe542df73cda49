"""`tinysql data ...`: what it prints, writes and refuses."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from data_gen.commands import add_arguments
from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from data_gen.store.dataset import read_dataset


def call(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args([str(word) for word in words])
    arguments.call(arguments)


def test_make_writes_the_dataset_that_the_options_describe(tmp_path, capsys):
    out = tmp_path / "d"
    options = [
        "--split",
        "test",
        "--seed",
        3,
        "--lexicon",
        "demo",
        "--set",
        "max_columns=5",
        "--variant",
        "nat",
    ]
    call("make", "cs1", "cs2", "--rows", 12, "--out", out, "--format", "jsonl", *options)
    config = DataConfig(
        command_sets=("cs1", "cs2"), split="test", seed=3, lexicon="demo", max_columns=5, variant="nat"
    )
    assert json.loads((out / "config.json").read_text())["config"] == config.to_dict()
    assert [row["sql_statement"] for row in read_dataset(out)] == [
        make_example(config, i).sql.string for i in range(12)
    ]
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert re.fullmatch(r"12 of 12 rows, [\d,]+ rows/s\n", printed.err)


def test_parts_workers_and_databases_are_options_of_make(tmp_path):
    words = ["make", "cs1", "--rows", 9, "--shard-rows", 3, "--databases", "--format", "jsonl", "--out"]
    call(*words, tmp_path / "whole", "--workers", 2)
    call(*words, tmp_path / "parts", "--shards", "1/2")
    call(*words, tmp_path / "parts", "--shards", "0/2")
    whole, parts = list(read_dataset(tmp_path / "whole")), list(read_dataset(tmp_path / "parts"))
    assert whole == parts
    assert all(row["databases"] for row in whole)
    assert sorted(path.name for path in (tmp_path / "parts").glob("train-*")) == [
        f"train-0000{shard}-of-00003.jsonl" for shard in range(3)
    ]


def test_progress_in_a_log_counts_no_rows_that_were_there_before(tmp_path, capsys):
    words = ["make", "cs1", "--rows", 9, "--shard-rows", 3, "--format", "jsonl", "--out", tmp_path]
    call(*words, "--shards", "0/3")
    capsys.readouterr()
    call(*words, "--resume")
    assert re.fullmatch(r"9 of 9 rows, [\d,]+ rows/s\n", capsys.readouterr().err)


def test_export_converts_a_dataset(tmp_path, capsys):
    call("make", "cs1", "--rows", 4, "--out", tmp_path / "d")
    capsys.readouterr()
    out = tmp_path / "rows.jsonl"
    call("export", tmp_path / "d", "--out", out, "--format", "jsonl", "--columns", "published")
    assert capsys.readouterr().out == f"{out}\n"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["command_set"] for row in rows] == [1] * 4


def test_export_pushes_to_the_hub(tmp_path, capsys, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        "data_gen.store.export.push_dataset",
        lambda *names, **options: pushed.append((*names, options)) or "https://hub/x",
    )
    call("export", tmp_path, "--to", "hub:me/x")
    assert pushed == [(str(tmp_path), "me/x", {"columns": "all"})]
    assert capsys.readouterr().out == "https://hub/x\n"


def test_make_overwrites_and_resumes_only_when_told(tmp_path):
    words = ["make", "cs1", "--out", tmp_path / "d", "--format", "jsonl", "--rows"]
    call(*words, 3)
    call(*words, 3, "--resume")
    with pytest.raises(InputError, match="not empty"):
        call(*words, 4)
    call(*words, 4, "--overwrite")
    assert len(list(read_dataset(tmp_path / "d"))) == 4


def test_make_never_overwrites_a_training_run(tmp_path):
    (tmp_path / "config.json").write_text('{"recipe": {}, "made_by": {}}')
    (tmp_path / "model.safetensors").write_text("days of work")
    with pytest.raises(InputError, match="holds a training run, which a dataset does not overwrite"):
        call("make", "cs1", "--rows", 3, "--out", tmp_path, "--format", "jsonl", "--overwrite")
    assert (tmp_path / "model.safetensors").exists()


def test_pairs_writes_pairs(tmp_path):
    call("pairs", "cs2", "--edit", "schema.table", "--rows", 3, "--out", tmp_path / "p", "--format", "jsonl")
    [file] = (tmp_path / "p").glob("test-pairs-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["clean_sql_statement"] != row["corrupt_sql_statement"] for row in rows)


def test_show_prints_question_schema_and_answer(capsys):
    call("show", "cs2", "--rows", 2)
    printed = capsys.readouterr().out
    for index in range(2):
        example = make_example(DataConfig(command_sets=("cs2",)), index)
        for text in (example.english, example.schema_text, example.sql):
            assert f" {text.string}\n" in printed


def test_show_shows_every_set_that_was_asked_for(capsys):
    call("show", "cs1", "cs10", "cs3", "--rows", 2)
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("row")]
    sets = ["cs1", "cs10", "cs3"] * 2
    assert heads == [f"row {index}, {name}" for index, name in enumerate(sets)]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["show", "cs11"], "did you mean `cs1`"),
        (["show", "cs1", "--rows", "0"], "rows is 0"),
        (["show", "cs1", "--split", "trian"], "did you mean `train`"),
        (["show", "cs1", "--lexicon", "dem"], "did you mean `demo`"),
        (["show", "cs1", "--set", "max_colums=3"], "did you mean `max_columns`"),
        (["make", "cs1", "--rows", "0", "--out", "{out}"], "rows is 0"),
        (["make", "cs1", "--rows", "1", "--out", "{out}", "--format", "parket"], "did you mean `parquet`"),
        (["make", "cs1", "--rows", "1", "--out", "{out}", "--variant", "sin"], "did you mean `syn`"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--shards", "3/2"], "shards is 3/2"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--shards", "0/2"], "9 rows make 1 file"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--workers", "0"], "workers is 0"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--engine", "dask"], "no engine `dask`"),
        (["make", "cs1", "--rows", "9", "--out", "{out}/a/b/c", "--shard-rows", "0"], "shard_rows is 0"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--shards", "0/0"], "expected at least 1 part"),
        (["make", "cs1", "cs2", "cs1", "--rows", "9", "--out", "{out}"], "`cs1` is named twice"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--set", "command_sets=cs2"], "given twice"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--set", "seed=7"], "`seed` has an option"),
        (["show", "cs1", "--set", "split=test"], "`split` has an option of its own"),
        (["show", "cs1", "--set", "max_keys=2", "--set", "max_keys=3"], "`max_keys` is given twice"),
        (["show", "cs1", "--set", "max_columns=1"], "columns from 2 to 1"),
        (["show", "cs1", "--set", "max_keys=0"], "max_keys is 0"),
        (["show", "cs1", "--set", "random_names=2.0"], "random_names is 2.0"),
        (["show", "cs1", "--set", "test_fraction=1"], "test_fraction is 1"),
        (["show", "cs1", "--set", "max_keys=few"], "max_keys is `few`"),
        (["make", "cs1", "--rows", "9", "--out", "{out}", "--shards", "1"], "shards is `1`"),
        (["export", "{out}", "--out", "{out}.x"], "is no dataset"),
        (["export", "{out}", "--to", "me/x"], "`me/x` is no repository of the hub"),
        (["export", "{out}", "--to", "hub:"], "`hub:` is no repository of the hub"),
        (
            ["pairs", "cs1", "--rows", "1", "--out", "{out}", "--edit", "order_by.0.direction"],
            "needs ORDER BY",
        ),
        (["pairs", "cs1", "--rows", "1", "--out", "{out}", "--edit", "schema.tables"], "`schema.table`"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, words, reason):
    with pytest.raises(InputError) as caught:
        call(*[word.replace("{out}", str(tmp_path / "d")) for word in words])
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint or "did you mean" in caught.value.message
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "command",
    [
        "make cs1 --rows 3 --out=",
        "pairs cs2 --edit order_by.0.direction --rows 3 --out=",
        "pairs cs2 --edit order_by.0.direction --rows 3 --out=x --tokenizer=",
        "export d --out=",
        "check d --out=",
        "check d --against=",
        "import d --out=",
    ],
)
def test_an_empty_path_is_refused_and_not_the_current_directory(command, tmp_path, monkeypatch, capsys):
    from tinysql.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["data", *command.split()]) == 2
    assert "the path is empty" in capsys.readouterr().err
    assert main(["data", "stats", ""]) == 2
    assert not list(tmp_path.iterdir())


def test_the_seed_of_the_config_of_pairs_is_a_setting(tmp_path):
    words = ["pairs", "cs2", "--edit", "order_by.0.direction", "--rows", 2, "--format", "jsonl"]
    call(*words, "--seed", 3, "--set", "seed=7", "--out", tmp_path / "p")
    header = json.loads((tmp_path / "p" / "config.json").read_text())
    assert (header["pair_seed"], header["config"]["seed"]) == (3, 7)


def loaded_by(code):
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(told.stdout.split())


def test_importing_the_package_loads_none_of_its_modules():
    loaded = loaded_by("import data_gen")
    assert [name for name in loaded if name.startswith("data_gen.")] == ["data_gen.lazy"]


def test_making_grading_and_the_command_line_never_load_what_is_heavy():
    heavy = {"torch", "datasets", "pyarrow", "numpy", "sqlglot", "transformers", "pandas"}
    assert (
        not loaded_by("import data_gen.commands, data_gen.run.grade, data_gen.pairs.counterfactual") & heavy
    )


def test_writing_parquet_never_loads_torch(tmp_path):
    code = (
        "from data_gen import DataConfig, write_dataset;"
        f"write_dataset(DataConfig(), 5, {str(tmp_path / 'd')!r})"
    )
    assert "torch" not in loaded_by(code)


def test_pairs_are_aligned_under_the_tokenizer_that_is_named(tmp_path, capsys):
    import tokenizers

    from tinysql.cli import main

    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(["the orders of a customer sorted by price in descending order"] * 3, trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    command = ["data", "pairs", "cs2", "--edit", "select.0.column", "--rows", "12", "--set", "max_columns=5"]
    command += ["--tokenizer", str(tmp_path / "tokenizer.json"), "--out", str(tmp_path / "pairs")]
    assert main(command) == 0
    rows = list(read_dataset(tmp_path / "pairs"))
    lengths = [
        [len(backend.encode(row[f"{side}_prompt"]).ids) for side in ("clean", "corrupt")] for row in rows
    ]
    assert len(lengths) == 12
    assert all(clean == corrupt for clean, corrupt in lengths)
    (tmp_path / "pairs" / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    inside = [*command[:-3], str(tmp_path / "pairs" / "tokenizer.json"), "--out", str(tmp_path / "pairs")]
    assert main([*inside, "--overwrite"]) == 2
    assert "would replace what is read" in capsys.readouterr().err
    assert (tmp_path / "pairs" / "tokenizer.json").exists()
    (tmp_path / "broken.json").write_text("{")
    assert main([*command[:-3], str(tmp_path / "broken.json"), "--out", str(tmp_path / "other")]) == 2
    assert "not a whole tokenizer file" in capsys.readouterr().err
