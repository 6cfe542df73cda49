"""Model and batch -> arithmetic: how many operations a training step needs, and how much of a GPU that is.

A multiplication and its addition are two operations, the backward pass costs twice the forward one. Counted is
what the algorithm needs: matrix products, attention's lower triangle within documents, the scan in chunks; the
head only where next tokens are scored; no recomputation, no element-wise work.
"""

from __future__ import annotations

import torch

from tinysql.models.config import ModelConfig
from tinysql.training.batches import Batch

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second, by a part of the device's name (NVIDIA's data sheets, SXM)."""


def step_flops(config: ModelConfig, batch: Batch) -> float:
    """Operations of one step, forward and backward."""
    body = batch.tokens * body_flops(config, _keys_seen(batch) / batch.tokens)
    return 3 * (body + len(batch.places) * 2 * config.d_model * config.d_vocab)


def body_flops(config: ModelConfig, seen: float) -> float:
    """Operations of all blocks per token, forward, where a query sees `seen` keys on average, its own among them."""
    looked_up = config.d_vocab * (1 if config.tied else 2)
    looked_up += config.n_ctx if config.positions == "learned" else 0
    blocks = config.num_active_parameters() - config.d_model * looked_up
    attention = 2 * 2 * config.n_heads * config.head_width * seen
    mamba, chunk = config.mamba, config.mamba.chunk
    inner = config.mamba_heads * mamba.d_head
    scan = chunk * (mamba.n_groups * mamba.d_state + inner) + 4 * inner * mamba.d_state
    kinds = config.pattern
    return 2 * blocks + kinds.count("*") * attention + kinds.count("M") * scan


def _keys_seen(batch: Batch) -> int:
    """Keys that the tokens of a batch see, all together: of a document of n tokens, n (n + 1) / 2."""
    places = batch.real.cumsum(1) if batch.packing is None else batch.packing.positions + 1
    return int((places * batch.real).sum())


def utilisation(per_second: float) -> float | None:
    """Share of the GPU's peak (MFU, arXiv 2204.02311); None without a GPU whose peak is known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    peak = next((value for part, value in PEAK.items() if part in name), None)
    return per_second / peak if peak is not None else None
