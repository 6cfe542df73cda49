"""A step of a small dictionary on a GPU: recorded once as a CUDA graph and replayed.

Such a step is about a hundred operations that take the device less time than the host needs to ask for them. A graph
holds them all, for one shape of batch and one room for dead latents; what changes from step to step (the batch, the
rates) is copied into tensors that it reads.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saes.dictionaries.parameters import Gradients

Step = Callable[[Tensor, Tensor | None, int], Gradients]
"""A batch, what is to be written (None but for transcoders) and the room for dead latents -> what the step found."""


class Replay:
    """A step that runs as it is the first time, so that kernels are compiled, and from a graph afterwards."""

    def __init__(self) -> None:
        self.recorded: dict[Any, _Recorded | None] = {}

    def __call__(self, step: Step, x: Tensor, y: Tensor | None, room: int) -> Gradients:
        """What the step found; a later call overwrites it.

        `step`, always the same one, changes its state in place, waits for nothing and reads tensors that stay.
        """
        key = (x.shape, x.dtype, y is None or y.shape, room)
        if key not in self.recorded:
            self.recorded[key] = None
            return step(x, y, room)
        recorded = self.recorded[key]
        if recorded is None:
            recorded = self.recorded[key] = _record(step, x, y, room, self._pool())
        return recorded(x, y)

    def _pool(self) -> Any:
        """Memory that all graphs share, as they run one after the other."""
        return next((one.graph.pool() for one in self.recorded.values() if one is not None), None)


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    x: Tensor
    y: Tensor | None
    """What the graph reads."""
    found: Gradients

    def __call__(self, x: Tensor, y: Tensor | None) -> Gradients:
        self.x.copy_(x)
        if self.y is not None:
            assert y is not None, "a graph is found by the shapes of both"
            self.y.copy_(y)
        self.graph.replay()
        return self.found


def _record(step: Step, x: Tensor, y: Tensor | None, room: int, pool: Any) -> _Recorded:
    """The step on copies of these; recording it changes nothing."""
    x, y = x.clone(), None if y is None else y.clone()
    graph = torch.cuda.CUDAGraph()
    with _nothing_collected(), torch.cuda.graph(graph, pool=pool):
        found = step(x, y, room)
    return _Recorded(graph=graph, x=x, y=y, found=found)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Python's garbage stays for a while: a graph that is thrown away while another is recorded spoils that."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
