"""Tokenizer files of a checkpoint <-> `Tokenizer`: the vocabulary, and which tokens pad and end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from tinysql.models.huggingface.folder import find
from tinysql.tokens import Tokenizer

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's own tokenizer cuts strings before its merges."""


def tokenizer_from_hf(source: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint (a directory or a hub id); where it has no token for padding, the end pads.

    Raises:
        InputError: there is no `tokenizer.json`, it is cut short, or no end token is named.

    Example: `tokenizer_from_hf("Qwen/Qwen2-0.5B").encode_text("SELECT 1")`.
    """
    folder = find(source)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(
            f"`{folder}` has no tokenizer.json",
            hint="copy the files of its tokenizer there; of a run of tinysql, give `to_hf` the tokenizer beside the "
            "model, or name the run itself by --init",
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"`{path}` is not a whole tokenizer file ({error})", hint="restore it") from error
    end = _token(folder, backend, "eos_token")
    if end is None:
        special = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
        raise InputError(
            f"`{folder}` names no end token",
            hint="copy tokenizer_config.json or special_tokens_map.json there too, or write "
            f'{{"eos_token": "..."}} into the first, with a token it has{_listed(special)}',
        )
    return Tokenizer(backend, pad=_token(folder, backend, "pad_token") or end, end=end)


def write_tokenizer(folder: Path, tokenizer: Tokenizer, n_ctx: int) -> None:
    """The files from which `AutoTokenizer` gives the same ids, unless `is_recut`."""
    named = {
        "eos_token": tokenizer.backend.id_to_token(tokenizer.end_id),
        "pad_token": tokenizer.backend.id_to_token(tokenizer.pad_id),
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_ctx,
        "clean_up_tokenization_spaces": False,
        **named,
    }
    tokenizer.save(folder / "tokenizer.json")
    write_atomic(folder / "tokenizer_config.json", json.dumps(settings, indent=1))
    write_atomic(folder / "special_tokens_map.json", json.dumps(named, indent=1))


def is_recut(family: str, tokenizer: Tokenizer) -> bool:
    """Whether `AutoTokenizer` (transformers 5.23) cuts strings in another way than the `tokenizer.json` says.

    Beside a qwen2 model it always builds Qwen2's tokenizer, whatever class the files name.
    """
    return family == "qwen2" and json.dumps(QWEN2_SPLIT) not in tokenizer.backend.to_str()


def _token(folder: Path, backend: tokenizers.Tokenizer, name: str) -> str | None:
    """The token that the tokenizer's files call `name`, or else the one whose id config.json gives."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        found = _values(folder / file).get(name)
        found = found.get("content") if isinstance(found, dict) else found
        if isinstance(found, str):
            return found
    number = _values(folder / "config.json").get(f"{name}_id")
    number = number[0] if isinstance(number, list) and number else number
    return backend.id_to_token(number) if type(number) is int and number >= 0 else None


def _listed(tokens: list[str]) -> str:
    return f": {', '.join(tokens[:5])}" if tokens else ""


def _values(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
