"""A head and pairs of positions -> the model whose head does not look from the one to the other.

In an attention head the entries of the pattern are set to zero; the others keep their weight. A Mamba head has no
pattern, but its scan is one (`patterns.effective_attention`), linear in what it carries: leaving `x_s` out of `y_t`
takes `M[t, s] dt_s x_s` away from it. Both are exact, and gradients go through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.graph import Graph
from circuits.looking.running import HookFunction
from data_gen.errors import InputError, nearest
from tinysql.kernels.ops import carried
from tinysql.models.hybrid import HybridLM

MAMBA = ("x", "B", "C", "dt", "decay")


@contextmanager
def knocked_out(
    model: HybridLM, head: str, entries: Bool[Tensor, "batch query key"] | Bool[Tensor, "query key"]
) -> Iterator[HybridLM]:
    """Within it, `head` (`blocks.2.attn.head.1`, `blocks.0.mamba.head.3`) does not carry the true `entries`.

    Raises `InputError` for a head the model does not have, and for entries of another length than the prompt.

    Example: `with knocked_out(model, "blocks.2.attn.head.1", entries): logits = model(ids)`.
    """
    heads = [writer.name for writer in Graph.of(model).writers if ".head." in writer.name]
    if head not in heads:
        raise InputError(f"the model has no head `{head}`{nearest(head, heads)}")
    block, kind, number = int(head.split(".")[1]), head.split(".")[2], int(head.rsplit(".", 1)[1])
    name = f"blocks.{block}.{kind}.hook_"
    kept: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name).removeprefix(name)] = x

    def without(pattern: Tensor, hook: HookPoint) -> Tensor:
        keeps = torch.ones_like(pattern)
        keeps[:, number] = (~_fitting(entries, len(pattern), pattern.shape[-1])).to(pattern)
        return pattern * keeps

    def less(y: Tensor, hook: HookPoint) -> Tensor:
        group = number // (y.shape[2] // kept["B"].shape[2])
        x, dt, decay = (kept[port][:, :, number : number + 1] for port in ("x", "dt", "decay"))
        b, c = (kept[port][:, :, group : group + 1] for port in ("B", "C"))
        gone = _fitting(entries, len(y), y.shape[1]).to(y.device).expand(len(y), -1, -1)[:, None]
        lost = carried(x, dt, decay.log(), b, c, gone)[:, :, 0]
        taken = torch.zeros_like(y, dtype=lost.dtype)
        taken[:, :, number] = lost
        return (y - taken).to(y.dtype)

    hooks: list[tuple[str, HookFunction]] = [(name + "pattern", without)]
    if kind == "mamba":
        hooks = [*((name + port, keep) for port in MAMBA), (name + "y", less)]
    with model.hooks(fwd_hooks=hooks):
        yield model


def _fitting(entries: Tensor, batch: int, seq: int) -> Tensor:
    if entries.shape[-2:] != (seq, seq) or (entries.ndim == 3 and len(entries) != batch):
        raise InputError(
            f"entries have shape {list(entries.shape)}, the prompts {[batch, seq, seq]}",
            hint="give a bool per pair of positions, for all prompts or for each",
        )
    return entries
