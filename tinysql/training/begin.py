"""Checkpoint of transformers, or a run of ours -> the model and the tokenizer that training begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_gen.errors import InputError
from data_gen.files import find_json
from tinysql.models.huggingface import from_hf, n_ctx_of_hf, tokenizer_from_hf
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import open_run
from tinysql.tokens import Tokenizer


def is_run(init: str) -> bool:
    """Whether `init` is a run directory of ours; what is none is a checkpoint of transformers."""
    return "recipe" in (find_json(Path(init) / "config.json") or {})


def with_context_of(recipe: Recipe, init: str) -> Recipe:
    """The recipe with the whole context of the checkpoint `init`."""
    n_ctx = open_run(init).shape.n_ctx if is_run(init) else n_ctx_of_hf(init)
    return replace(recipe, train=replace(recipe.train, model=replace(recipe.train.model, n_ctx=n_ctx)))


def start_model(init: str, n_ctx: int) -> HybridLM:
    """The model of a checkpoint, with a context of `n_ctx`; `InputError` where it has fewer positions."""
    return _model_of_run(init, n_ctx) if is_run(init) else from_hf(init, n_ctx=n_ctx)


def start_tokenizer(init: str) -> Tokenizer:
    """The tokenizer of a checkpoint."""
    return Tokenizer.load(Path(init) / "tokenizer.json") if is_run(init) else tokenizer_from_hf(init)


def check_start(init: str, n_ctx: int) -> None:
    """Refuse a checkpoint with which training cannot begin."""
    tokens, known = start_tokenizer(init).vocab_size, start_model(init, n_ctx).cfg.d_vocab
    if tokens > known:
        raise InputError(
            f"the tokenizer of `{init}` has {tokens} tokens and its model knows {known}",
            hint="put there the tokenizer.json that the model was trained with, or name the run itself by --init",
        )


def _model_of_run(path: str, n_ctx: int) -> HybridLM:
    model, _ = open_run(path).load()
    if n_ctx == model.cfg.n_ctx:
        return model
    if n_ctx > model.cfg.n_ctx:
        raise InputError(
            f"n_ctx is {n_ctx}, more than the {model.cfg.n_ctx} positions of `{path}`",
            hint="ask for fewer, or leave out train.model.n_ctx",
        )
    shorter, weights = HybridLM(replace(model.cfg, n_ctx=n_ctx)), model.state_dict()
    if "pos_embed.W_pos" in weights:
        weights["pos_embed.W_pos"] = weights["pos_embed.W_pos"][:n_ctx]
    shorter.load_state_dict(weights)
    return shorter.eval()
