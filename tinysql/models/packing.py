"""Several documents in one row: which positions belong together, and attention that stays within each.

A packed batch is `[batch seq]` ids and `[batch seq]` document numbers that rise along a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the documents of a batch lie."""

    segments: Int[Tensor, "batch seq"]
    """Number of the document at each position."""
    positions: Int[Tensor, "batch seq"]
    """Distance of each token from the start of its document."""
    bounds: Int[Tensor, " document"] | None = None
    """Start of every document in the flattened batch, and its end, int32; on a GPU, attention runs within these.

    Unused entries at the end repeat the end, so that the shape may stay the same from batch to batch.
    """
    longest: int = 0
    """At least the length of the longest document, where `bounds` are given."""

    @classmethod
    def of(cls, segments: Int[Tensor, "batch seq"]) -> Packing:
        """The packing that document numbers describe."""
        line = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
        begins = torch.ones_like(segments, dtype=torch.bool)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        return cls(segments, line - (line * begins).cummax(dim=1).values)

    @property
    def together(self) -> Bool[Tensor, "batch seq seq"]:
        """Which pairs of positions are of one document."""
        return self.segments[:, :, None] == self.segments[:, None, :]

    def is_fused(self, q: Tensor) -> bool:
        """Whether attention can run within bounds, without a mask."""
        return self.bounds is not None and q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)

    def attend(
        self,
        q: Float[Tensor, "batch seq head d_head"],
        k: Float[Tensor, "batch seq shared d_head"],
        v: Float[Tensor, "batch seq shared d_head"],
        scale: float,
    ) -> Float[Tensor, "batch seq head d_head"]:
        """Causal attention within each document (FlashAttention over `bounds`)."""
        from torch.nn.attention.varlen import varlen_attn

        assert self.bounds is not None
        each = q.shape[2] // k.shape[2]
        k, v = (t.repeat_interleave(each, dim=2) if each > 1 else t for t in (k, v))
        z = varlen_attn(
            q.flatten(0, 1),
            k.flatten(0, 1),
            v.flatten(0, 1),
            self.bounds,
            self.bounds,
            self.longest,
            self.longest,
            scale=scale,
            window_size=(-1, 0),
        )
        assert isinstance(z, Tensor)
        return z.unflatten(0, q.shape[:2])
