"""tinysql: train text-to-SQL models whose every token has a known role, and look inside them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinysql.models.config import ModelConfig
    from tinysql.models.hybrid import HybridLM
    from tinysql.runs import Run, load, open_run
    from tinysql.tokens import Tokenizer, TokenPairs, Tokens

__all__ = ["HybridLM", "ModelConfig", "Run", "TokenPairs", "Tokenizer", "Tokens", "load", "open_run"]

_HOMES = {
    "HybridLM": "tinysql.models.hybrid",
    "ModelConfig": "tinysql.models.config",
    "Run": "tinysql.runs",
    "TokenPairs": "tinysql.tokens",
    "Tokenizer": "tinysql.tokens",
    "Tokens": "tinysql.tokens",
    "load": "tinysql.runs",
    "open_run": "tinysql.runs",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use, because torch and transformer-lens take seconds to import.
    if name not in _HOMES:
        raise AttributeError(f"module 'tinysql' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
