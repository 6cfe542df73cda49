"""Model and pairs -> Flows: what each head carries from the tokens of one role to those of another.

Edges join writers and readers at one position; heads carry between positions. The gradient at what a head reads at
position s is a sum over the positions t that look at s, so a head's score falls into parts s -> t, and these into
roles. With integrated gradients over the inputs, `g_z` the gradient at a head's output and `Δ = corrupt - clean`:

    values  pattern[t, s] g_z[t] · Δv[s]                  what is carried
    keys    (∂metric / ∂scores[t, s]) q[t] · Δk[s]        what makes t look at s

and in a Mamba head, whose scan is the pattern `M dt` (see `looking.patterns`), x stands for v, B for k and C for q;
what changes through dt, the memory's clock, is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.engine.batching import by_length
from circuits.engine.ports import blocks_of, frozen
from circuits.engine.recording import Machine, prompts
from circuits.looking.by_role import Grouping, numbered
from circuits.looking.patterns import effective_attention
from circuits.metrics import Metric, check_finite, check_moves, logit_diff, measured, metric_name
from data_gen.errors import InputError
from saes.roles import family
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

PATHS = ("values", "keys")
Kept = Mapping[str, Tensor]
"""Activations of one run by hook name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Flows:
    """Mean score of what each head carries between roles; signs as in `eap_ig`."""

    heads: tuple[str, ...]
    """Writers of the graph: `blocks.0.attn.head.3`, `blocks.2.mamba.head.0`."""
    roles: tuple[str, ...]
    values: Float[Tensor, "head path source target"]
    """By `PATHS`: what is carried, and what makes the target look at the source."""
    errors: Float[Tensor, "head path source target"]
    """Standard errors over the pairs; zero for a single pair."""
    metric: str
    edit: str
    n_pairs: int

    def table(self, n: int = 20) -> list[dict[str, Any]]:
        """The `n` largest: head, path, role it comes from, role it goes to, score and standard error."""
        order = self.values.flatten().abs().argsort(descending=True, stable=True)[:n]
        found = []
        for place in zip(
            *(part.tolist() for part in torch.unravel_index(order, self.values.shape)), strict=True
        ):
            head, path, source, target = place
            found.append(
                {
                    "head": self.heads[head],
                    "path": PATHS[path],
                    "from": self.roles[source],
                    "to": self.roles[target],
                    "score": self.values[place].item(),
                    "error": self.errors[place].item(),
                }
            )
        return [row for row in found if row["score"] != 0]


def flows(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    steps: int = 5,
    group: Grouping = family,
    batch_size: int | None = None,
) -> Flows:
    """What every attention and Mamba head carries between roles, by `eap_ig`'s integrated gradients over the inputs.

    `group` turns a role into the name it is counted under; the default drops the numbers.
    Raises `InputError` for fewer than one step, no pairs, a model without such heads, or as `check_moves` does.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    names = _names(model)
    if not names:
        raise InputError(
            f"a model of pattern {model.cfg.pattern!r} has no heads that carry anything between tokens"
        )
    roles, label = numbered(pairs.clean, group)
    total = squares = torch.zeros((), dtype=torch.float64)
    done = 0
    sides = []
    with frozen(model):
        batches = by_length(model, pairs, batch_size)
        for batch in batches.batches:
            length = int(batch.position.max()) + 1
            here = label[batches.order[done : done + len(batch)], :length].to(model.device)
            member = (here[..., None] == torch.arange(len(roles), device=model.device)).to(
                model.embed.W_E.dtype
            )
            done += len(batch)
            each, ends = _of_batch(model, batch, metric, steps, member)
            sides.append(ends)
            each = each.double().cpu()
            total, squares = total + each.sum(0), squares + each.square().sum(0)
    check_finite("flows", total)
    clean, corrupt = (torch.cat(side) for side in zip(*sides, strict=True))
    check_moves(clean, corrupt, pairs.edit)
    count = len(pairs)
    spread = (squares - total.square() / count).clamp_min(0)
    return Flows(
        heads=tuple(name for block in names.values() for name in block),
        roles=roles,
        values=(total / count).float(),
        errors=(spread / max(count - 1, 1) / count).sqrt().float(),
        metric=metric_name(metric),
        edit=pairs.edit,
        n_pairs=count,
    )


def _names(model: HybridLM) -> dict[int, list[str]]:
    """The heads of every block that looks back."""
    counts = {
        "*": ("attn", model.cfg.n_heads),
        "M": ("mamba", model.cfg.mamba_heads if "M" in model.cfg.pattern else 0),
    }
    return {
        block: [f"blocks.{block}.{counts[kind][0]}.head.{head}" for head in range(counts[kind][1])]
        for block, kind in enumerate(model.cfg.pattern)
        if kind in counts
    }


def _of_batch(
    model: HybridLM, batch: TokenPairs, metric: Metric, steps: int, member: Float[Tensor, "batch seq role"]
) -> tuple[Float[Tensor, "batch head path source target"], list[Float[Tensor, " batch"]]]:
    """What is carried, and the metric of the clean and the corrupt run."""
    machine = Machine(model)
    with torch.no_grad():
        clean, corrupt = (machine.embedding(ids) for ids in prompts(batch))
        runs = [_run(model, batch, side, metric) for side in (clean, corrupt)]
    ends, sides = [kept for kept, _ in runs], [value for _, value in runs]
    found = torch.zeros(())
    for step in range(steps):
        stream = torch.lerp(corrupt, clean, (step + 0.5) / steps).requires_grad_()
        with torch.enable_grad():
            kept, value = _run(model, batch, stream, metric)
        outputs = [name for name in kept if name.endswith(("hook_z", "hook_y"))]
        at_outputs = [kept[name] for name in outputs]
        grads = dict(zip(outputs, torch.autograd.grad(value.sum(), at_outputs), strict=True))
        with torch.no_grad():
            parts = [
                part
                for block in _names(model)
                for part in (_attention if model.cfg.pattern[block] == "*" else _mamba)(
                    model, block, {name: x.detach() for name, x in kept.items()}, grads, ends
                )
            ]
            by_path = [torch.cat(some, dim=1) for some in (parts[0::2], parts[1::2])]
            each = torch.stack(by_path, dim=2)
            to_roles = einsum(each, member, "batch head path t s, batch t target -> batch head path s target")
            found = found + einsum(
                to_roles, member, "b head path s target, b s source -> b head path source target"
            )
    return found / steps, sides


def _run(
    model: HybridLM, batch: TokenPairs, stream: Float[Tensor, "batch seq d_model"], metric: Metric
) -> tuple[dict[str, Tensor], Float[Tensor, " batch"]]:
    """Activations between the positions of a run on an embedding stream, and the metric."""
    kept: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: HookPoint) -> Tensor:
        kept[str(hook.name)] = x
        return x

    wanted = {
        "*": [f"attn.hook_{name}" for name in ("rot_q", "rot_k", "v", "pattern", "z")],
        "M": [f"mamba.hook_{name}" for name in ("x", "B", "C", "dt", "decay", "y")],
    }
    names = [
        f"blocks.{block}.{name}"
        for block, kind in enumerate(model.cfg.pattern)
        for name in wanted.get(kind, ())
    ]
    ids = prompts(batch)[0]
    with model.hooks(
        fwd_hooks=[("blocks.0.hook_resid_pre", lambda x, hook: stream), *((name, keep) for name in names)]
    ):
        logits = model(ids)
    rows = torch.arange(len(ids), device=ids.device)
    whole = batch.position.ndim == 2
    logits = logits[rows[:, None], batch.position] if whole else logits[rows, batch.position]
    return kept, measured(metric, logits, batch)


def _attention(
    model: HybridLM, block: int, kept: Kept, grads: Kept, ends: list[dict[str, Tensor]]
) -> tuple[Float[Tensor, "batch head t s"], Float[Tensor, "batch head t s"]]:
    name = f"blocks.{block}.attn.hook_"
    each = model.cfg.n_heads // model.cfg.kv_heads
    pattern, z_grad = kept[name + "pattern"], grads[name + "z"]
    v = kept[name + "v"].repeat_interleave(each, dim=2)
    change_k, change_v = (
        (ends[1][name + port] - ends[0][name + port]).repeat_interleave(each, dim=2)
        for port in ("rot_k", "v")
    )
    values = pattern * einsum(z_grad, change_v, "batch t head d, batch s head d -> batch head t s")
    at_pattern = einsum(z_grad, v, "batch t head d, batch s head d -> batch head t s")
    at_scores = pattern * (at_pattern - (pattern * at_pattern).sum(-1, keepdim=True))
    asked = einsum(kept[name + "rot_q"], change_k, "batch t head d, batch s head d -> batch head t s")
    return values, at_scores * asked * blocks_of(model)[block].attn.scale


def _mamba(
    model: HybridLM, block: int, kept: Kept, grads: Kept, ends: list[dict[str, Tensor]]
) -> tuple[Float[Tensor, "batch head t s"], Float[Tensor, "batch head t s"]]:
    name, mamba = f"blocks.{block}.mamba.hook_", blocks_of(model)[block].mamba
    change_x, change_b = (ends[1][name + port] - ends[0][name + port] for port in ("x", "B"))
    b, c, decay, y_grad = kept[name + "B"], kept[name + "C"], kept[name + "decay"], grads[name + "y"]
    dt = rearrange(kept[name + "dt"], "batch s head -> batch head 1 s")
    carried = einsum(y_grad, change_x, "batch t head d, batch s head d -> batch head t s")
    values = effective_attention(b, c, decay) * dt * carried
    # What a head passes on at its own position.
    values = values + torch.diag_embed(carried.diagonal(dim1=-2, dim2=-1) * mamba.D[:, None])
    written = einsum(y_grad, kept[name + "x"], "batch t head d, batch s head d -> batch head t s")
    return values, effective_attention(change_b, c, decay) * dt * written
