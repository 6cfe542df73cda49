"""What docs/data.md and docs/pairs.md show in Python runs as it stands there."""

import re
from pathlib import Path

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from tinysql.tokens import Tokenizer

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


@pytest.mark.parametrize(("name", "count"), [("data.md", 1), ("pairs.md", 2)])
def test_the_python_of_a_document_runs(name, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    texts = (example.text.string for example in make_examples(DataConfig(command_sets=("cs4",)), 0, 200))
    Tokenizer.train(texts, vocab_size=512).save(run / "tokenizer.json")
    shown, names = blocks(name), {}
    assert len(shown) == count
    # Later blocks of a document go on from earlier ones.
    for block in shown:
        exec(compile(block, name, "exec"), names)


@pytest.mark.parametrize("name", ["data.md", "pairs.md"])
def test_a_module_that_a_document_names_is_there_after_import_of_the_package(name):
    import data_gen

    dotted = re.findall(r"`data_gen\.(\w+)", (DOCS / name).read_text())
    assert [one for one in dotted if not hasattr(data_gen, one)] == []
