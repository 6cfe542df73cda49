"""Checkpoint of transformers <-> `HybridLM` and `Tokenizer`: GPT-2, GPT-Neo, Llama, Qwen2 and NemotronH, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

# Whether a checkpoint is one of these is known before torch is loaded.
if TYPE_CHECKING:
    from tinysql.models.huggingface.exchange import from_hf as from_hf
    from tinysql.models.huggingface.exchange import n_ctx_of_hf as n_ctx_of_hf
    from tinysql.models.huggingface.exchange import to_hf as to_hf
    from tinysql.models.huggingface.tokenizer import tokenizer_from_hf as tokenizer_from_hf

__all__ = lazy_exports(
    __name__, {"exchange": ["from_hf", "n_ctx_of_hf", "to_hf"], "tokenizer": ["tokenizer_from_hf"]}
)
