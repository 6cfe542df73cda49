"""Checkpoint -> `HybridLM`, and `HybridLM` -> a directory that `AutoModelForCausalLM.from_pretrained` loads."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, write_atomic
from data_gen.outputs import claim_directory
from tinysql.models.config import ModelConfig
from tinysql.models.huggingface.folder import find, read_settings, read_tensors
from tinysql.models.huggingface.reading import read_config
from tinysql.models.huggingface.settings import Settings
from tinysql.models.huggingface.tokenizer import is_recut, write_tokenizer
from tinysql.models.huggingface.weights import read_weights, with_one_name_each, write_weights
from tinysql.models.huggingface.writing import write_config
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

EMBEDDINGS = (
    "transformer.wte.weight",
    "model.embed_tokens.weight",
    "backbone.embeddings.weight",
)
"""What the families call the token embedding."""


def from_hf(source: str | Path, *, n_ctx: int | None = None, dtype: torch.dtype = torch.float32) -> HybridLM:
    """The model of a GPT-2, GPT-Neo, Llama, Qwen2 or NemotronH checkpoint, in evaluation mode.

    `source` is a directory with `config.json` and safetensors, or an id of the Hugging Face hub. `n_ctx` shortens the
    context. Weights come in `dtype` whatever the files have; selection biases of routers stay in float32. Code in the
    checkpoint is never run, and heads that predict later tokens (`mtp.*`) are left out with a warning.

    Raises:
        InputError: the checkpoint is of another family, incomplete, inconsistent, or not in safetensors.

    Example: `from_hf("Qwen/Qwen2-0.5B", n_ctx=1024)`.
    """
    folder = find(source)
    family, config = read_config(Settings(read_settings(folder), f"`{folder / 'config.json'}`"))
    tensors = with_one_name_each(read_tensors(folder))
    if any(name.startswith("mtp.") for name in tensors):
        warnings.warn(f"`{folder}`: the heads for later tokens (mtp.*) are left out", stacklevel=2)
    return model_of(family, _shortened(config, n_ctx, tensors), tensors, where=f"`{folder}`", dtype=dtype)


def n_ctx_of_hf(source: str | Path) -> int:
    """The positions that a checkpoint's `config.json` gives; raises as `from_hf`."""
    folder = find(source)
    return read_config(Settings(read_settings(folder), f"`{folder / 'config.json'}`"))[1].n_ctx


def model_of(
    family: str, config: ModelConfig, tensors: dict[str, Tensor], *, where: str, dtype: torch.dtype
) -> HybridLM:
    """A model of this shape and family with the tensors of a checkpoint, in evaluation mode; raises as `from_hf`."""
    model = HybridLM(_as_tied(config, tensors))
    read_weights(model, family, tensors, where=where)
    # Parameters alone: rotary tables and selection biases would lose what they are for.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def to_hf(model: HybridLM, directory: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write `config.json` and `model.safetensors`, and the tokenizer's files, to a new or empty directory.

    `AutoModelForCausalLM.from_pretrained(directory)` gives the model and `AutoTokenizer` the tokenizer, with no code
    of ours. The family follows from the model's shape. transformers 5.23 knows no upper limit of dt (`mamba.dt_max`),
    and its `AutoTokenizer` no tokenizer beside qwen2 but Qwen2's own: both are written with a warning.

    Raises:
        InputError: no family fits the model, the tokenizer has more tokens than the model, or the directory is not
            empty.
    """
    values = write_config(model.cfg)
    family = values["model_type"]
    if tokenizer is not None and tokenizer.vocab_size > model.cfg.d_vocab:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, more than the {model.cfg.d_vocab} of the model",
            hint="give the tokenizer that the model was trained with",
        )
    if "M" in model.cfg.pattern and model.cfg.mamba.dt_max is not None:
        warnings.warn("transformers up to 5.23 ignores mamba.dt_max and computes other logits", stacklevel=2)
    if tokenizer is not None and is_recut(family, tokenizer):
        warnings.warn(
            "AutoTokenizer replaces the pre-tokenization of tokenizers beside qwen2 models: load this one with "
            "PreTrainedTokenizerFast.from_pretrained",
            stacklevel=2,
        )
    values |= {
        "bos_token_id": None,
        "eos_token_id": tokenizer.end_id if tokenizer is not None else None,
        "pad_token_id": tokenizer.pad_id if tokenizer is not None else None,
        "dtype": str(model.embed.W_E.dtype).removeprefix("torch."),
    }
    with atomic_directory(_claimed(directory)) as folder:
        write_atomic(folder / "config.json", json.dumps(values, indent=1))
        tensors = safetensors.torch.save(write_weights(model, family), metadata={"format": "pt"})
        write_atomic(folder / "model.safetensors", tensors)
        if tokenizer is not None:
            write_tokenizer(folder, tokenizer, model.cfg.n_ctx)


def _claimed(directory: str | Path) -> Path:
    """The directory, made and empty; `to_hf` replaces nothing, so it offers no option that would."""
    try:
        return claim_directory(directory)
    except InputError as error:
        hint = "name a new or an empty directory" if error.message.endswith("is not empty") else error.hint
        raise InputError(error.message, hint=hint) from error


def _as_tied(config: ModelConfig, tensors: dict[str, Tensor]) -> ModelConfig:
    """Two different embeddings are not tied, whatever the configuration says: as transformers has it."""
    head = tensors.get("lm_head.weight")
    if not config.tied or head is None:
        return config
    embedding = next((tensors[name] for name in EMBEDDINGS if name in tensors), head)
    if not torch.equal(head, embedding):
        return replace(config, tied=False)
    del tensors["lm_head.weight"]
    return config


def _shortened(config: ModelConfig, n_ctx: int | None, tensors: dict[str, Tensor]) -> ModelConfig:
    if n_ctx is None or n_ctx == config.n_ctx:
        return config
    if n_ctx > config.n_ctx:
        raise InputError(
            f"n_ctx is {n_ctx}, more than the {config.n_ctx} positions of the checkpoint",
            hint="ask for fewer; unset, it is the checkpoint's own",
        )
    positions = tensors.get("transformer.wpe.weight")
    if positions is not None and len(positions) == config.n_ctx:
        tensors["transformer.wpe.weight"] = positions[:n_ctx]
    return replace(config, n_ctx=n_ctx)
