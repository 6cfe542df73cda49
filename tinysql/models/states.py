"""Hooked SSM states: read them at chosen positions, change them there, and let the recurrence go on from the change.

A hook on the states sees those of the run as it is. Where it returns another state for a head, that state is set,
and everything behind it follows: `S_t` for later *t* moves by the decayed difference, by linearity, so no position
is ever walked one by one. At a later position that the hook sets too, its word is final there.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from tinysql.kernels.ops import ssd_scan
from tinysql.kernels.reference import Scanned, linear_recurrence

States = Float[Tensor, "batch position head d_head d_state"]


def scan_with_states(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    D: Float[Tensor, " head"],
    hook: HookPoint,
    positions: tuple[int, ...] | None,
    state: Float[Tensor, "batch head d_head d_state"] | None,
    segments: Int[Tensor, "batch seq"] | None,
    chunk: int,
) -> Scanned:
    """`ssd_scan` whose states after `positions` (all, when None) go through `hook`, with gradients through both.

    All positions cost memory of `batch * seq * head * d_head * d_state` numbers; a few cost little more than the
    scan. Raises `InputError` for positions outside the sequence or packed documents with chosen positions.
    """
    if positions is None:
        return _everywhere(x, dt, log_decay, B, C, D, hook, state, segments)
    seq = x.shape[1]
    if (
        segments is not None
        or not positions
        or list(positions) != sorted({p for p in positions if 0 <= p < seq})
    ):
        raise InputError(
            f"states at positions {positions} of a sequence of {seq} tokens"
            f"{' of packed documents' if segments is not None else ''} cannot be hooked",
            hint="give rising positions within the sequence, of rows that hold one document each",
        )
    cuts = [*(p + 1 for p in positions), seq]
    starts = [0, *cuts[:-1]]
    outputs, states = [], []
    for start, end in zip(starts, cuts, strict=True):
        if start < end:
            piece = (t[:, start:end] for t in (x, dt, log_decay, B, C))
            scanned = ssd_scan(*piece, D=D, initial_state=state, chunk=chunk)
            outputs.append(scanned.y)
            state = scanned.state
        states.append(state)
    assert state is not None
    seen = torch.stack([s for s in states[:-1] if s is not None], dim=1)
    given = hook(seen.view_as(seen))  # a tensor of its own, so that the gradient at it is of all that follows
    moved = torch.zeros_like(state)
    for i, end in enumerate(cuts[:-1]):
        set_here = _changed(given[:, i : i + 1], seen[:, i : i + 1])[:, 0, :, None, None]
        here = given[:, i] - seen[:, i] - moved * set_here
        moved = moved + here
        last = _read(here, C[:, end - 1 : end], torch.ones_like(log_decay[:, :1]))
        outputs[i] = torch.cat([outputs[i][:, :-1], outputs[i][:, -1:] + last.to(x.dtype)], dim=1)
        if end < cuts[i + 1]:
            span = slice(end, cuts[i + 1])
            decay = log_decay[:, span].to(moved.dtype).cumsum(1).exp()
            outputs[i + 1] = outputs[i + 1] + _read(moved, C[:, span], decay).to(x.dtype)
            moved = moved * decay[:, -1, :, None, None]
    return Scanned(torch.cat(outputs, dim=1), state + moved)


def _everywhere(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    hook: HookPoint,
    state: Tensor | None,
    segments: Tensor | None,
) -> Scanned:
    each = x.shape[2] // B.shape[2]
    b, c = (t.repeat_interleave(each, dim=2) for t in (B, C))
    wide = torch.promote_types(x.dtype, torch.float32)
    update = einsum(x.to(wide) * dt.to(wide)[..., None], b.to(wide), "b s h p, b s h n -> b s h p n")
    seen = linear_recurrence(update, log_decay, initial_state=state, segments=segments)
    given = hook(seen.view_as(seen))  # a tensor of its own, so that the gradient at it is of all that follows
    # A position that the hook sets starts anew, as a document does: what was changed before it no longer counts.
    fresh = _changed(given, seen).cumsum(1)
    if segments is not None:
        fresh = fresh + segments[..., None] * (fresh.shape[1] + 1)
    states = seen + linear_recurrence(given - seen, log_decay, segments=fresh)
    y = einsum(states, c.to(wide), "b s h p n, b s h n -> b s h p") + D.to(wide)[:, None] * x.to(wide)
    return Scanned(y.to(x.dtype), states[:, -1])


def _changed(given: States, seen: States) -> Bool[Tensor, "batch position head"]:
    """Which heads' states the hook did not return as they were."""
    return (given.detach() != seen.detach()).flatten(3).any(-1)


def _read(
    state: Float[Tensor, "batch head d_head d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    decay: Float[Tensor, "batch seq head"],
) -> Float[Tensor, "batch seq head d_head"]:
    """What later positions read of a state that decays on its way to them."""
    c = C.repeat_interleave(state.shape[1] // C.shape[2], dim=2).to(state.dtype)
    return einsum(state, c, decay, "b h p n, b s h n, b s h -> b s h p")
