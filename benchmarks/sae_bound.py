"""A device and the sizes of a training -> what its step costs at least, by ceilings measured on that device.

docs/saes.md derives it (*The bound of a step*). Nothing here knows how a step is made: a kind's bound is the same for
every trainer, and parts of it are added up, as each of them keeps the whole device busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saes.dictionaries.pairs import on_kernels

Step = Callable[[Tensor], Any]
FLOAT = 4
"""Bytes of a float32."""
TRIES, READS = 5, 8
"""Timings of a ceiling, the best of which counts, and how often one of them reads a table."""
GATHERS = {"latents": 3, "rows": 2}
"""Of a k-sparse kind: values, decoding and products with the error; and two weight gradients."""
PRODUCTS = {"standard": 5, "jumprelu": 5, "gated": 8}
"""Products of the kinds whose number of active latents nobody knows beforehand (`saes/dictionaries/dense.py`)."""
REVIVING = 5
"""Products over dead latents, of which far more than k are active: forward two, backward three."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a training."""

    d_in: int
    d_sae: int
    k: int
    batch: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested levels of a Matryoshka SAE."""
        return (self.d_sae // 16, self.d_sae // 4, self.d_sae)

    @property
    def weights(self) -> int:
        """Numbers in both matrices and both biases."""
        return 2 * self.d_sae * self.d_in + self.d_sae + self.d_in


@dataclass(frozen=True)
class Ceilings:
    """The best that was measured: seconds of a product `[batch d_in] @ [d_in d_sae]`, and bytes per second."""

    choosing: float
    """In the precision that latents are chosen in: tf32 on a GPU, float32 on a CPU."""
    bfloat16: float | None
    """On a GPU; on many CPUs such a product has no fast path."""
    float32: float
    """The mean of the step's five products."""
    copying: float
    """Read and written."""
    latents: float
    """Rows of a `[d_sae d_in]` matrix, `k` of them per row of a batch and drawn at random, summed or just read."""
    rows: float
    """Rows of a `[batch d_in]` matrix, likewise, for every latent."""


def seconds(run: Step, x: Tensor) -> float:
    """The processor's seconds of a step, or a GPU's."""
    if not x.is_cuda:
        begun = time.process_time()
        run(x)
        return time.process_time() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run(x)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def ceilings(x: Tensor, shape: Shape, five: float) -> Ceilings:
    """Measured with a batch `x`; `five` are the seconds of the five products in float32."""
    weights = torch.randn(shape.d_sae, shape.d_in, device=x.device)
    bag_of_latents = torch.arange(0, shape.batch * shape.k, shape.k, device=x.device)
    bag_of_rows = torch.arange(shape.d_sae, device=x.device) * (shape.batch * shape.k) // shape.d_sae
    choosing = _best(lambda x: _coarse(x, weights), x)
    small, small_weights = x.bfloat16(), weights.bfloat16()
    bfloat16 = _best(lambda _: small @ small_weights.T, x) if x.is_cuda else None
    source = torch.empty(shape.batch, shape.d_sae, device=x.device)
    target = torch.empty_like(source)
    copying = 2 * FLOAT * source.numel() / _best(lambda _: target.copy_(source), x)
    del source, target
    return Ceilings(
        choosing=choosing,
        bfloat16=bfloat16,
        float32=five / 5,
        copying=copying,
        latents=_gathering(weights, bag_of_latents, shape),
        rows=_gathering(x, bag_of_rows, shape),
    )


def bound(kind: str, shape: Shape, of: Ceilings, n_dead: int = 0) -> dict[str, float]:
    """Seconds of each part of a step of `kind`, such as "topk" or "skip transcoder"."""
    weights, products = shape.weights, float(PRODUCTS.get(kind.removeprefix("crosscoder "), 0))
    parts: dict[str, float] = {}
    if not products:
        passes = shape.batch * shape.k * shape.d_in * FLOAT
        latents, rows = (min(passes / rate, of.float32) for rate in (of.latents, of.rows))
        parts = {"choosing": of.choosing, "gathers": GATHERS["latents"] * latents + GATHERS["rows"] * rows}
        products = REVIVING * n_dead / shape.d_sae
    if kind == "skip transcoder":
        weights += shape.d_in**2
        products += 2 * shape.d_in / shape.d_sae
    parts["products"] = products * of.float32
    # Gradients are written and read, weights and both moments read and written; the batch is read, its error written.
    parts["bytes"] = FLOAT * (8 * weights + 2 * shape.batch * shape.d_in) / of.copying
    return parts


def _coarse(x: Tensor, weights: Tensor) -> Tensor:
    """The product that latents are chosen by, as a step makes it."""
    setting = torch.backends.cuda.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "tf32" if x.is_cuda else before
    try:
        return x @ weights.T
    finally:
        setting.fp32_precision = before


def _gathering(table: Tensor, start: Tensor, shape: Shape) -> float:
    """Bytes per second of the fastest way found to read rows of a table, also of reading all of it in order."""
    generator = torch.Generator(table.device).manual_seed(0)
    index = torch.randint(len(table), (shape.batch * shape.k,), generator=generator, device=table.device)
    weight = torch.ones(len(index), device=table.device)
    column = torch.ones(table.shape[1], device=table.device)

    def in_order(_: Tensor) -> None:
        for _ in range(READS):
            torch.mv(table, column)

    def by_torch(_: Tensor) -> Tensor:
        return F.embedding_bag(index, table, start, mode="sum", per_sample_weights=weight)

    gathered = FLOAT * len(index) * table.shape[1]
    found = [
        FLOAT * READS * table.numel() / _best(in_order, table),
        gathered / _best(by_torch, table),
    ]
    if on_kernels(table):
        from saes.dictionaries import kernels

        found.append(gathered / _best(lambda _: kernels.sum_rows(table, index, weight, start), table))
    return max(found)


def _best(run: Step, x: Tensor) -> float:
    """The shortest of several timings, after one that does not count."""
    run(x)
    return min(seconds(run, x) for _ in range(TRIES))
