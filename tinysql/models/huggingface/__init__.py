"""Checkpoint of transformers <-> `HybridLM` and `Tokenizer`: GPT-2, GPT-Neo, Llama, Qwen2 and NemotronH, both ways."""

from tinysql.models.huggingface.exchange import from_hf as from_hf
from tinysql.models.huggingface.exchange import n_ctx_of_hf as n_ctx_of_hf
from tinysql.models.huggingface.exchange import to_hf as to_hf
from tinysql.models.huggingface.tokenizer import tokenizer_from_hf as tokenizer_from_hf
