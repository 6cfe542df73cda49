"""One process or many: what a step has to ask the others, and how weights are shared out (torchrun, FSDP2).

With one process everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM


@dataclass(frozen=True)
class World:
    """The processes that train one model; every one runs the same program."""

    rank: int = 0
    size: int = 1

    def first(self, work: Callable[[], None]) -> None:
        """Let the first process do `work` while the others wait; what it is refused, all raise."""
        refused: list[InputError | OSError | None] = [None]
        if self.rank == 0:
            try:
                work()
            except (InputError, OSError) as error:
                refused = [error]
        if self.size > 1:
            dist.broadcast_object_list(refused)
        if refused[0] is not None:
            raise refused[0]

    def shard(self, model: HybridLM) -> HybridLM:
        """Share the weights out: each process keeps a part of every block and gathers the rest when it is needed."""
        if self.size == 1:
            return model
        from torch.distributed.fsdp import fully_shard

        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        return model

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def mean(self, value: float, device: torch.device) -> float:
        """The mean over all processes, the same to the last bit in each."""
        if self.size == 1:
            return value
        return self.total(torch.tensor(value, dtype=torch.float64, device=device)).item() / self.size

    def whole(self, value: Tensor) -> Tensor:
        """A tensor that is shared out, in full."""
        return whole(value)

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors, whole; every process must call it."""
        return {name: self.whole(tensor) for name, tensor in tensors.items()}

    def shared(self, whole: Tensor, like: Tensor) -> Tensor:
        """A whole tensor, put where `like` is and shared out as it is."""
        return shared_as(like, whole.to(like.device))

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is shared out among processes, in full; every process must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shared_as(like: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor that every process has, shared out as `like` is; nothing is sent."""
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def divided(work: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """`work(items)` of a stack `[item ...]`, item by item independent: each process does a part, all get the whole.

    Every process must call it with the same items; zeros make the parts equally long.
    """
    size = dist.get_world_size() if dist.is_initialized() else 1
    if size == 1:
        return work(items)
    each = -(-len(items) // size)
    filled = torch.cat([items, items.new_zeros(each * size - len(items), *items.shape[1:])])
    mine = work(filled.chunk(size)[dist.get_rank()]).contiguous()
    found = mine.new_empty(each * size, *mine.shape[1:])
    dist.all_gather_into_tensor(found, mine)
    return found[: len(items)]


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
