"""tinysql: train text-to-SQL models whose every token has a known role, and look inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from tinysql.answering.generation import answer as answer
    from tinysql.answering.generation import stream as stream
    from tinysql.answering.grading import grade_model as grade_model
    from tinysql.answering.sampling import Sampling as Sampling
    from tinysql.models.config import MambaConfig as MambaConfig
    from tinysql.models.config import ModelConfig as ModelConfig
    from tinysql.models.config import MoEConfig as MoEConfig
    from tinysql.models.foreign import as_hybrid as as_hybrid
    from tinysql.models.huggingface import from_hf as from_hf
    from tinysql.models.huggingface import to_hf as to_hf
    from tinysql.models.huggingface import tokenizer_from_hf as tokenizer_from_hf
    from tinysql.models.hybrid import HybridLM as HybridLM
    from tinysql.recipes import Recipe as Recipe
    from tinysql.runs import Run as Run
    from tinysql.runs import load as load
    from tinysql.runs import open_run as open_run
    from tinysql.tokens import Tokenizer as Tokenizer
    from tinysql.tokens import TokenPairs as TokenPairs
    from tinysql.tokens import Tokens as Tokens
    from tinysql.training.config import TrainConfig as TrainConfig
    from tinysql.training.fit import fit as fit

__all__ = lazy_exports(
    __name__,
    {
        "training.fit": ["fit"],
        "answering.generation": ["answer", "stream"],
        "answering.grading": ["grade_model"],
        "answering.sampling": ["Sampling"],
        "models.config": ["MambaConfig", "MoEConfig", "ModelConfig"],
        "models.foreign": ["as_hybrid"],
        "models.huggingface": ["from_hf", "to_hf", "tokenizer_from_hf"],
        "models.hybrid": ["HybridLM"],
        "recipes": ["Recipe"],
        "runs": ["Run", "load", "open_run"],
        "tokens": ["TokenPairs", "Tokenizer", "Tokens"],
        "training.config": ["TrainConfig"],
    },
)
