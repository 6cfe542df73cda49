"""HybridLM -> its ports: where each reader reads and where each writer writes.

A reader port is one linear map from the normed residual stream (`W_Q` of a head, `W_in` of an MLP); a writer
port is one linear map into the stream (`W_O` of a head, `W_out`) with the latent it is applied to (`z`,
`mlp.hook_post`). So the model runs bare: no per-head copies of its inputs and outputs are ever made, heads
are read before the output projection and scored through it by linearity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import Block, HybridLM
from tinysql.tokens import TokenPairs

Slots = Float[Tensor, "batch _ _ _"]
"""What flows through a port, `[batch seq slot width]`: one slot per head, a single slot for an MLP."""


@dataclass(frozen=True)
class ReaderPort:
    """`normed stream @ weight`, one slot per reader."""

    hook: str
    weight: Float[Tensor, "slot d_model width"]
    readers: slice
    """Columns of a score matrix."""


@dataclass(frozen=True)
class WriterPort:
    """`latent @ weight` is added to the stream, one slot per writer."""

    hook: str
    weight: Float[Tensor, "slot width d_model"]
    writers: slice
    """Rows of a score matrix."""


@dataclass(frozen=True)
class BlockPorts:
    """The ports of one block; readers q, k, v (or the MLP's one) and the writer computed from them."""

    reads: tuple[ReaderPort, ...]
    write: WriterPort

    @property
    def readers(self) -> slice:
        """Columns of all its readers."""
        return slice(self.reads[0].readers.start, self.reads[-1].readers.stop)


def blocks_of(model: HybridLM) -> tuple[Block, ...]:
    """The model's blocks, in order."""
    return tuple(cast(Block, block) for block in model.blocks)


def ports_of(model: HybridLM) -> tuple[BlockPorts, ...]:
    """The ports of every block, in order, numbered as in `Graph.of(model)`."""
    heads, found = model.cfg.n_heads, []
    reader, writer = 0, 1  # row 0 is the embedding
    for index, block in enumerate(blocks_of(model)):
        if block.kind == "*":
            name = f"blocks.{index}.attn"
            weights = {"q": block.attn.W_Q, "k": block.attn.W_K, "v": block.attn.W_V}
            reads = tuple(
                ReaderPort(f"{name}.hook_{port}", weight, slice(reader + i * heads, reader + (i + 1) * heads))
                for i, (port, weight) in enumerate(weights.items())
            )
            write = WriterPort(f"{name}.hook_z", block.attn.W_O, slice(writer, writer + heads))
        else:
            name = f"blocks.{index}.mlp"
            reads = (ReaderPort(f"{name}.hook_pre", block.mlp.W_in[None], slice(reader, reader + 1)),)
            write = WriterPort(f"{name}.hook_post", block.mlp.W_out[None], slice(writer, writer + 1))
        found.append(BlockPorts(reads, write))
        reader, writer = reads[-1].readers.stop, write.writers.stop
    return tuple(found)


def tail_of(model: HybridLM) -> int:
    """The first block behind the last attention block: from there on only the metric's position matters."""
    return model.cfg.pattern.rfind("*") + 1


def slots(activation: Tensor) -> Slots:
    """`[batch seq head d_head]` as it is, `[batch seq d_mlp]` as a single slot."""
    return activation if activation.ndim == 4 else activation.unsqueeze(2)


def latent(block: Block, reads: tuple[Slots, ...]) -> Slots:
    """What a block's writers are computed from, given what its readers read: attention's z, the MLP's post."""
    if block.kind == "*":
        q, k, v = reads
        return block.attn.attend(q, k, v)
    return block.mlp.activate(reads[0])


def written(port: WriterPort, latents: Slots) -> Float[Tensor, "slot batch seq d_model"]:
    """What each writer of a port adds to the stream."""
    return einsum(latents, port.weight, "batch seq slot width, slot width d_model -> slot batch seq d_model")


@contextmanager
def frozen(model: HybridLM) -> Iterator[HybridLM]:
    """Run without gradients for parameters; every `requires_grad` flag is put back at the end, whatever happens.

    Raises `InputError` when someone's hooks are on the model: they would change it behind the closed forms.
    """
    hooked = [name for name, point in model.hook_dict.items() if point.has_hooks()]
    if hooked:
        raise InputError(
            f"the model has hooks on {', '.join(hooked[:3])}",
            hint="call model.reset_hooks() or leave their context",
        )
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def batched(model: HybridLM, pairs: TokenPairs, batch_size: int) -> list[TokenPairs]:
    """Pairs in batches on the model's device.

    Raises `InputError` for no pairs, a batch size below 1, prompts of unlike shape or longer than the context.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1")
    if not len(pairs):
        raise InputError("there are no pairs", hint="make some with data_gen.counterfactuals")
    if pairs.clean.ids.shape != pairs.corrupt.ids.shape:
        shapes = [tuple(side.ids.shape) for side in (pairs.clean, pairs.corrupt)]
        raise InputError(
            f"clean and corrupt prompts have shapes {shapes[0]} and {shapes[1]}, expected the same"
        )
    length = int(pairs.position.max()) + 1
    if length > model.cfg.n_ctx:
        raise InputError(
            f"a prompt of {length} tokens is longer than the model's context of {model.cfg.n_ctx}"
        )
    starts = range(0, len(pairs), batch_size)
    return [pairs[start : start + batch_size].to(model.device) for start in starts]
