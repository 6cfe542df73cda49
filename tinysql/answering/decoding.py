"""Cache and tokens -> the next logits: one decoding step, recorded once on a GPU and replayed.

A step of a small model is hundreds of operations that take a GPU no time and the host much. A CUDA graph holds
them all; it is recorded again when rows leave the batch and when the cache is full.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.devices import can_record
from tinysql.models.hybrid import Cache, HybridLM
from tinysql.models.moe import experts_of


class Decoder:
    """The next logits of a batch, token by token, with a cache of its own."""

    def __init__(self, model: HybridLM) -> None:
        self.model, self.cache = model, model.start_cache()
        self.replays = can_record(model.device) and _is_recordable(model)
        self._step: _Recorded | None = None

    def __call__(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch d_vocab"]:
        """Logits behind the last of `ids`, which continue what the cache has seen."""
        if not self.replays or self.cache.seen == 0 or ids.shape[1] != 1:
            # Only the last position is unembedded: behind a long prompt that is most of a small model's work.
            last = torch.arange(1, len(ids) + 1, device=ids.device) * ids.shape[1] - 1
            logits = self.model(ids, cache=self.cache, places=last)
            assert isinstance(logits, Tensor)
            return logits
        if self._step is None or not self.cache.has_room:
            self._step = _Recorded(self.model, self.cache, ids)
        return self._step(ids)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.cache.keep(rows)
        self._step = None


def _is_recordable(model: HybridLM) -> bool:
    """Whether a step runs on the device alone: no hooks, no gradients, no experts that the host has to count out."""
    hooked = any(point.has_hooks() for point in model.hook_dict.values())
    grouped = torch.is_autocast_enabled("cuda") and all(moe.groupable for moe in experts_of(model))
    counted = "E" in model.cfg.pattern and not grouped
    return not (hooked or counted or torch.is_grad_enabled())


class _Recorded:
    """One step of a model on a batch of fixed size."""

    def __init__(self, model: HybridLM, cache: Cache, ids: Tensor) -> None:
        self.cache, self.ids = cache, ids.clone()
        cache.fix(ids.device)
        kept = torch.is_autocast_cache_enabled()
        self.graph = torch.cuda.CUDAGraph()
        # Weights that autocast keeps converted would be lost with the graph's memory.
        torch.set_autocast_cache_enabled(False)
        try:
            with torch.cuda.graph(self.graph):
                self.logits = model(self.ids, cache=cache)[:, -1]
        finally:
            torch.set_autocast_cache_enabled(kept)

    def __call__(self, ids: Tensor) -> Tensor:
        assert self.cache.place is not None
        self.ids.copy_(ids)
        self.cache.place.fill_(self.cache.seen)
        self.graph.replay()
        self.cache.seen += 1
        return self.logits
