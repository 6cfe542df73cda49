"""What tests of dictionaries share: a run whose model is as it was drawn."""

from pathlib import Path

import pytest

from data_gen.example import make_example
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.runs import record_model, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.checkpoints import save_tensors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model as a run directory."""
    path, recipe = tmp_path_factory.mktemp("runs") / "tiny", tiny()
    texts = [make_example(recipe.data, index).text.string for index in range(100)]
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    shape = ModelConfig(pattern="*-*-", d_model=32, n_heads=2, n_ctx=256, d_vocab=tokenizer.vocab_size)
    record_model(start_run(path, recipe), shape)
    tokenizer.save(path / "tokenizer.json")
    save_tensors(path / "model.safetensors", HybridLM(shape).state_dict())
    return path
