"""Examples -> direct logit attribution: what each writer adds to the logit difference by itself.

With the final norm's scale σ frozen at the run, the difference of two logits is linear in the stream,
`Σ_writer ⟨centred(writer) * w / σ, W_U[:, a] - W_U[:, b]⟩ + ⟨b_norm, W_U[:, a] - W_U[:, b]⟩`
(centred for LayerNorm only), so the contributions sum to it exactly. Heads are read before their output projection
and the direction is carried back through it, so that no writer's output is ever written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuits.looking.by_role import Grouping, RoleMeans, Targets, role_means, targets_of
from circuits.looking.running import look, pair_batches, row_batches
from circuits.metrics import check_finite, check_weights
from data_gen.errors import InputError
from saes.roles import family
from tinysql.models.hybrid import Block, HybridLM
from tinysql.tokens import TokenPairs, Tokens

Shares = dict[str, Float[Tensor, " target"]]
"""By writer: its contribution at each target."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contributions:
    """What every writer, and every bias, adds to the logit difference of each target, in nats."""

    names: tuple[str, ...]
    """`embed`, then block by block: `blocks.0.attn.head.1`, `blocks.0.attn.bias`, ...; `ln_final.bias` last."""
    values: Float[Tensor, "target writer"]
    total: Float[Tensor, " target"]
    """The model's own logit difference, which the values sum to."""
    targets: Targets

    def __getitem__(self, name: str) -> Float[Tensor, " target"]:
        """One writer's contributions."""
        return self.values[:, self.names.index(name)]

    def means(self, *, seed: int = 0) -> RoleMeans:
        """Mean contribution by the role of the right token, `[role writer]`."""
        return role_means(self.values, self.targets, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Means by role and writer, as plain JSON values."""
        totals = role_means(self.total[:, None], self.targets)
        return {
            "targets": len(self.targets),
            "contributions": self.means().table(self.names),
            "logit_difference": totals.table(("total",)),
        }


@torch.no_grad()
def contributions(
    model: HybridLM, examples: Tokens | TokenPairs, *, group: Grouping = family, batch_size: int = 64
) -> Contributions:
    """Direct logit attribution of every writer at every answer token, or at the position of each pair.

    The difference is that of the clean and the corrupt answer for pairs (of the clean run), and of the right token
    and the mean over the vocabulary for rows.
    Raises `InputError` for no examples, a batch size below 1, rows longer than the model's context, pairs that all
    have one answer for both sides, or a model whose weights or contributions are not finite.
    """
    check_weights(model.named_parameters())
    if isinstance(examples, TokenPairs):
        _check_answers(examples)
        batches = [batch.clean for batch in pair_batches(model, examples, batch_size)]
    else:
        batches = row_batches(model, examples, batch_size)
    targets, done = targets_of(examples, group), 0
    found: list[Shares] = []
    totals = []
    for batch in batches:
        here, start = targets.of_rows(done, done + len(batch)), done
        done += len(batch)
        seen = look(model, batch.ids, _hooks(model))
        at = (targets.row[here] - start, targets.position[here])
        kept = {name: value[at] for name, value in seen.at.items()}
        unread = _direction(model, targets, here)
        totals.append((seen.logits[at] * unread.logits).sum(-1))
        found.append(_shares(model, kept, unread))
    names = tuple(found[0])
    values = torch.stack([torch.cat([shares[name] for shares in found]) for name in names], dim=1)
    total = torch.cat(totals)
    check_finite("contributions", torch.cat([values, total[:, None]], dim=1))
    return Contributions(names=names, values=values.cpu(), total=total.cpu(), targets=targets)


def _check_answers(pairs: TokenPairs) -> None:
    """Raises `InputError` where no pair's answers differ: every contribution to their difference would be zero."""
    if len(pairs) and bool((pairs.clean_answer == pairs.corrupt_answer).all()):
        raise InputError(
            f"the clean and the corrupt answer are the same token in every pair of edit `{pairs.edit}`, so there is"
            " nothing to attribute",
            hint="give pairs whose answers differ, or the clean side alone: pairs.clean",
        )


@dataclass(frozen=True)
class _Direction:
    logits: Float[Tensor, "target d_vocab"]
    """Weights of the logits whose sum is looked at."""
    normalized: Float[Tensor, "target d_model"]
    """The same in what the unembedding reads."""


def _direction(model: HybridLM, targets: Targets, here: slice) -> _Direction:
    weight = model.unembed.W_U
    token = targets.token[here].to(weight.device)
    logits = torch.nn.functional.one_hot(token, weight.shape[1]).to(weight)
    if targets.other is None:
        logits = logits - 1 / weight.shape[1]
    else:
        other = targets.other[here].to(weight.device)
        logits = logits - torch.nn.functional.one_hot(other, weight.shape[1]).to(weight)
    return _Direction(logits, logits @ weight.T)


def _hooks(model: HybridLM) -> list[str]:
    """Everything that is added to the stream, before its output projection; and the final scale."""
    found = ["blocks.0.hook_resid_pre", "ln_final.hook_scale"]
    inner = {
        "*": ("attn.hook_z",),
        "-": ("mlp.hook_post",),
        "M": ("mamba.hook_gated",),
        "E": ("moe.hook_expert_out", "moe.hook_weights", "moe.hook_chosen", "moe.hook_shared_out"),
    }
    for index, kind in enumerate(model.cfg.pattern):
        found += [f"blocks.{index}.{name}" for name in inner[kind]]
    return found


def _shares(model: HybridLM, kept: Mapping[str, Tensor], direction: _Direction) -> Shares:
    norm = model.ln_final
    stream = direction.normalized * norm.w
    if norm.centred:
        stream = stream - stream.mean(-1, keepdim=True)
    stream = stream / kept["ln_final.hook_scale"]
    found: Shares = {"embed": (kept["blocks.0.hook_resid_pre"] * stream).sum(-1)}
    for index, block in enumerate(model.blocks):
        for name, share in _of_block(cast(Block, block), f"blocks.{index}", kept, stream):
            found[f"blocks.{index}.{name}"] = share
    if norm.b is not None:
        found["ln_final.bias"] = direction.normalized @ norm.b
    return found


def _of_block(
    block: Block, here: str, kept: Mapping[str, Tensor], stream: Float[Tensor, "target d_model"]
) -> Iterator[tuple[str, Tensor]]:
    """Name and contribution of every writer of one block."""
    if block.kind == "*":
        heads = _through(kept[f"{here}.attn.hook_z"], block.attn.W_O, stream)
        yield from ((f"attn.head.{head}", share) for head, share in enumerate(heads))
        if block.attn.b_O is not None:
            yield "attn.bias", stream @ block.attn.b_O
    elif block.kind == "M":
        heads = _through(kept[f"{here}.mamba.hook_gated"], block.mamba.W_out, stream)
        yield from ((f"mamba.head.{head}", share) for head, share in enumerate(heads))
    elif block.kind == "-":
        yield "mlp", _through(kept[f"{here}.mlp.hook_post"][:, None], block.mlp.W_out[None], stream)[0]
        if block.mlp.b_out is not None:
            yield "mlp.bias", stream @ block.mlp.b_out
    else:
        moe = f"{here}.moe"
        inner = stream if block.moe.W_up is None else stream @ block.moe.W_up.T
        weighted = kept[f"{moe}.hook_expert_out"] * kept[f"{moe}.hook_weights"].to(inner)[..., None]
        active = einsum(weighted, inner, "target active d, target d -> target active")
        experts = active.new_zeros(len(active), len(block.moe.W_in))
        experts = experts.scatter_add(1, kept[f"{moe}.hook_chosen"], active)
        yield from ((f"moe.expert.{expert}", share) for expert, share in enumerate(experts.unbind(1)))
        yield "moe.shared", (kept[f"{moe}.hook_shared_out"] * stream).sum(-1)


def _through(
    latent: Float[Tensor, "target slot width"],
    weight: Float[Tensor, "slot width d_model"],
    stream: Float[Tensor, "target d_model"],
) -> Float[Tensor, "slot target"]:
    """`⟨latent @ weight, stream⟩` per slot."""
    back = einsum(stream, weight, "target d, slot width d -> target slot width")
    return (latent * back).sum(-1).T
