"""One process or many: what a step has to ask the others, and how weights are shared out (torchrun, FSDP2).

With one process everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM

TOGETHER = 4
"""Blocks whose weights are sent at once: fewer would keep the host busy with small messages."""


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

        blocks = list(model.blocks)
        for at in range(0, len(blocks), TOGETHER):
            fully_shard(blocks[at : at + TOGETHER])
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


def own_part(tensor: Tensor) -> Tensor:
    """What this process keeps of a tensor that is shared out; writing to it writes to the tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def wholes(tensors: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """Whole tensors, of which `parts` are this process', shared out as `tensors` are; all are sent at once."""
    if not any(hasattr(tensor, "full_tensor") for tensor in tensors):
        return list(parts)
    size = dist.get_world_size()
    # As FSDP shares out: so many rows to each process, fewer or none to the last ones.
    rows = [-(-len(tensor) // size) for tensor in tensors]
    filled = [
        torch.cat([part, part.new_zeros(n - len(part), *part.shape[1:])])
        for part, n in zip(parts, rows, strict=True)
    ]
    found = _gathered(torch.cat([part.flatten() for part in filled])).split(
        [p.numel() for p in filled], dim=1
    )
    return [
        each.reshape(-1, *tensor.shape[1:])[: len(tensor)]
        for each, tensor in zip(found, tensors, strict=True)
    ]


def part_of(whole: Tensor, tensor: Tensor) -> Tensor:
    """What this process keeps of `whole`, shared out as `tensor` is."""
    if not hasattr(tensor, "full_tensor"):
        return whole
    each = -(-len(whole) // dist.get_world_size())
    return whole[dist.get_rank() * each :][:each]


def divided(work: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """`work(items)` of a stack `[item ...]`, item by item independent: each process does a part, all get the whole.

    Every process must call it with the same items; zeros make the parts equally long.
    """
    size = dist.get_world_size() if dist.is_initialized() else 1
    if size == 1:
        return work(items)
    each = -(-len(items) // size)
    filled = torch.cat([items, items.new_zeros(each * size - len(items), *items.shape[1:])])
    return _gathered(work(filled.chunk(size)[dist.get_rank()])).flatten(0, 1)[: len(items)]


def _gathered(part: Tensor) -> Tensor:
    """The parts of all processes, `[process ...]`; they have one shape."""
    found = part.new_empty(dist.get_world_size(), *part.shape)
    dist.all_gather(list(found), part.contiguous())
    return found


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
