"""Projected inputs -> SSM outputs and states: Mamba-2's scan, convolution and gated norm in plain PyTorch.

One head keeps a state `S` `[d_head, d_state]` and obeys (Dao and Gu, arXiv 2405.21060)

    S_t = decay_t * S_{t-1} + dt_t * x_t ⊗ B_t        y_t = S_t C_t + D x_t

with a scalar `decay_t = exp(log_decay_t)`, `log_decay_t <= 0`. `ssd_step` is that line; `ssd_scan` gives the same
in chunks: matrix products inside a chunk, one state handed from chunk to chunk. States, decays and their sums are
kept in float32 at least, and no exponent is ever positive.

Packed sequences: `segments` `[batch seq]` numbers the documents of a row in rising order; nothing crosses from one
to the next. An initial state belongs to the first document.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError

LEAST = -110.0
"""Logarithm of a step's decay that counts as lower: 0 in float32, and its sums stay far from float64's last digits."""


class Scanned(NamedTuple):
    """What a scan gives."""

    y: Float[Tensor, "batch seq head d_head"]
    state: Float[Tensor, "batch head d_head d_state"]
    """After the last position, float32 at least."""


def ssd_scan(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    *,
    D: Float[Tensor, " head"] | None = None,
    initial_state: Float[Tensor, "batch head d_head d_state"] | None = None,
    segments: Int[Tensor, "batch seq"] | None = None,
    chunk: int = 64,
) -> Scanned:
    """The whole recurrence in chunks of `chunk` positions; head *h* reads group `h // (heads / groups)`.

    `dt` is positive and already limited, `log_decay = dt * A` with `A < 0`. Matrix products run in the dtype of `x`.
    """
    seq, groups = x.shape[1], B.shape[2]
    chunk = min(chunk, seq)
    wide = torch.promote_types(x.dtype, torch.float32)
    update = (x.to(wide) * dt.to(wide)[..., None]).to(x.dtype)
    # Padding has no input and does not decay, so the state goes through it untouched.
    u, log, b, c = (_chunks(t, chunk) for t in (update, log_decay.to(wide), B, C))
    u = rearrange(u, "b c q (g r) p -> b c q g r p", g=groups)
    log = rearrange(log, "b c q (g r) -> b c g r q", g=groups)
    places = _chunks(segments, chunk, repeat_last=True) if segments is not None else None

    within = _decay_within(log, places)  # [b c g r query key]
    mixing = einsum(c, b, "b c i g n, b c j g n -> b c g i j")[:, :, :, None].to(wide) * within
    y = einsum(mixing.to(x.dtype), u, "b c g r i j, b c j g r p -> b c i g r p").to(wide)

    to_end = rearrange(within[..., -1, :], "b c g r q -> b c q g r 1")
    written = einsum((u.to(wide) * to_end).to(x.dtype), b, "b c q g r p, b c q g n -> b c g r p n").to(wide)
    entering, state = _pass_states(written, log, places, initial_state)

    from_start = rearrange(_decay_from_start(log, places), "b c g r q -> b c q g r 1")
    y = y + from_start * einsum(c, entering.to(x.dtype), "b c q g n, b c g r p n -> b c q g r p").to(wide)
    y = rearrange(y, "b c q g r p -> b (c q) (g r) p")[:, :seq]
    if D is not None:
        y = y + D.to(wide)[:, None] * x.to(wide)
    return Scanned(y.to(x.dtype), rearrange(state, "b g r p n -> b (g r) p n"))


def ssd_step(
    x: Float[Tensor, "batch head d_head"],
    dt: Float[Tensor, "batch head"],
    log_decay: Float[Tensor, "batch head"],
    B: Float[Tensor, "batch group d_state"],
    C: Float[Tensor, "batch group d_state"],
    state: Float[Tensor, "batch head d_head d_state"],
    *,
    D: Float[Tensor, " head"] | None = None,
) -> tuple[Float[Tensor, "batch head d_head"], Float[Tensor, "batch head d_head d_state"]]:
    """One position: the output and the new state."""
    each = x.shape[1] // B.shape[1]
    b, c = (t.repeat_interleave(each, dim=1).to(state.dtype) for t in (B, C))
    wide = x.to(state.dtype)
    written = einsum(wide * dt.to(state.dtype)[..., None], b, "b h p, b h n -> b h p n")
    state = state * log_decay.to(state.dtype).exp()[..., None, None] + written
    y = einsum(state, c, "b h p n, b h n -> b h p")
    y = y + D.to(state.dtype)[:, None] * wide if D is not None else y
    return y.to(x.dtype), state


def ssd_recurrent(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    *,
    D: Float[Tensor, " head"] | None = None,
    initial_state: Float[Tensor, "batch head d_head d_state"],
    segments: Int[Tensor, "batch seq"] | None = None,
) -> Scanned:
    """`ssd_scan` position by position, the state forgotten where a document begins: what faster forms are held to."""
    outputs, state = [], initial_state
    for t in range(x.shape[1]):
        if segments is not None and t:
            state = state * (segments[:, t] == segments[:, t - 1])[:, None, None, None]
        y, state = ssd_step(x[:, t], dt[:, t], log_decay[:, t], B[:, t], C[:, t], state, D=D)
        outputs.append(y)
    return Scanned(torch.stack(outputs, 1), state)


def effective_attention(
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    *,
    queries: range | None = None,
    keys: range | None = None,
    segments: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """`M_ij = C_i . B_j exp(log_decay_{j+1} + ... + log_decay_i)`, 0 for j > i (Dao and Gu, equation 16).

    A scan's output is `M @ (dt x) + D x` and what an initial state adds. Whole, or rows `queries` and columns `keys`
    of it; in float32 at least. Sums of logarithms run in float64, so that their differences do not cancel.
    """
    seq, each = log_decay.shape[1], log_decay.shape[2] // B.shape[2]
    rows, columns = (slice(r.start, r.stop) for r in (within(queries, seq), within(keys, seq)))
    wide = torch.promote_types(B.dtype, torch.float32)
    products = einsum(C[:, rows].to(wide), B[:, columns].to(wide), "b i g n, b j g n -> b g i j")
    sums = rearrange(log_decay.double().clamp_min(LEAST).cumsum(1), "b s h -> b h s")
    gap = sums[:, :, rows, None] - sums[:, :, None, columns]
    place = torch.arange(seq, device=B.device)
    seen = place[rows, None] >= place[None, columns]
    if segments is not None:
        seen = seen & (segments[:, rows, None] == segments[:, None, columns])[:, None]
    return products.repeat_interleave(each, 1) * gap.masked_fill(~seen, float("-inf")).exp().to(wide)


def carried(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    entries: Bool[Tensor, "batch head query key"],
    *,
    segments: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch seq head d_head"]:
    """What given pairs carry: the sum over keys j of `M_ij dt_j x_j` where `entries` is true; float32 at least.

    Taken away from a scan's output, these pairs are knocked out of it.
    """
    mixing = effective_attention(log_decay, B, C, segments=segments)
    update = (x.to(mixing.dtype) * dt.to(mixing.dtype)[..., None]).to(x.dtype).to(mixing.dtype)
    return einsum(torch.where(entries, mixing, 0), update, "b h i j, b j h p -> b i h p")


def within(positions: range | None, seq: int) -> range:
    """Neighbouring positions of a sequence, all where none are given; `InputError` for others."""
    found = range(seq) if positions is None else positions
    if found.step != 1 or not 0 <= found.start <= found.stop <= seq:
        raise InputError(
            f"{found} are not neighbouring positions of a sequence of {seq}",
            hint="give range(first, behind_last)",
        )
    return found


def linear_recurrence(
    update: Float[Tensor, "batch seq head d_head d_state"],
    log_decay: Float[Tensor, "batch seq head"],
    *,
    initial_state: Float[Tensor, "batch head d_head d_state"] | None = None,
    segments: Int[Tensor, "batch seq"] | Int[Tensor, "batch seq head"] | None = None,
    chunk: int = 32,
) -> Float[Tensor, "batch seq head d_head d_state"]:
    """`S_t = decay_t S_{t-1} + update_t` at every position, for when the states themselves are looked at."""
    seq = update.shape[1]
    chunk = min(chunk, seq)
    wide = torch.promote_types(update.dtype, torch.float32)
    log = rearrange(_chunks(log_decay.to(wide), chunk), "b c q h -> b c h 1 q")
    places = None
    if segments is not None:
        places = _chunks(segments, chunk, repeat_last=True)
        places = places if places.ndim == 3 else rearrange(places, "b c q h -> b c h 1 q")
    within, from_start = _decay_within(log, places), _decay_from_start(log, places)
    parts = einsum(
        within[:, :, :, 0], _chunks(update.to(wide), chunk), "b c h i j, b c j h p n -> b c i h p n"
    )
    state = initial_state.to(wide) if initial_state is not None else torch.zeros_like(parts[:, 0, 0])
    found = []
    for part, decay in zip(parts.unbind(1), from_start.unbind(1), strict=True):
        found.append(part + rearrange(decay, "b h 1 q -> b q h 1 1") * state[:, None])
        state = found[-1][:, -1]
    return torch.cat(found, dim=1)[:, :seq]


def causal_conv(
    x: Float[Tensor, "batch seq channel"],
    weight: Float[Tensor, "channel tap"],
    bias: Float[Tensor, " channel"] | None = None,
    *,
    before: Float[Tensor, "batch tap-1 channel"] | None = None,
    segments: Int[Tensor, "batch seq"] | None = None,
) -> tuple[Float[Tensor, "batch seq channel"], Float[Tensor, "batch tap-1 channel"]]:
    """Depthwise convolution over each position and the `tap - 1` before it; and the `before` of the next call."""
    seq, reach = x.shape[1], weight.shape[1] - 1
    history = before.to(x.dtype) if before is not None else x.new_zeros(len(x), reach, x.shape[2])
    long = torch.cat([history, x], dim=1)
    y = x * weight[:, reach]
    for back in range(1, reach + 1):
        term = long[:, reach - back : reach - back + seq] * weight[:, reach - back]
        if segments is not None:
            same = segments == torch.cat([segments[:, :1].expand(-1, back), segments], dim=1)[:, :seq]
            term = term * same[..., None]
        y = y + term
    return (y if bias is None else y + bias), long[:, seq:]


def gated_norm(
    y: Float[Tensor, "batch seq head d_head"],
    z: Float[Tensor, "batch seq head d_head"],
    weight: Float[Tensor, "head d_head"],
    *,
    groups: int,
    eps: float,
) -> Float[Tensor, "batch seq head d_head"]:
    """`RMSNorm(y * silu(z)) * weight`, normalised over the heads of each group: gate before norm, as in Nemotron-H."""
    wide = torch.promote_types(y.dtype, torch.float32)
    gated = y.to(wide) * F.silu(z.to(wide))
    return grouped_norm(gated, weight, groups=groups, eps=eps).to(y.dtype)


def grouped_norm(
    x: Float[Tensor, "batch seq head d_head"],
    weight: Float[Tensor, "head d_head"],
    *,
    groups: int,
    eps: float,
) -> Float[Tensor, "batch seq head d_head"]:
    """`RMSNorm(x) * weight`, normalised over the heads of each group."""
    grouped = rearrange(x, "b s (g r) p -> b s g (r p)", g=groups)
    normalized = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + eps)
    return rearrange(normalized, "b s g (r p) -> b s (g r) p", p=x.shape[3]) * weight


def _chunks(x: Tensor, chunk: int, *, repeat_last: bool = False) -> Tensor:
    """`[batch seq ...]` -> `[batch n chunk ...]`, the end filled with zeros or with the last entry."""
    missing = -x.shape[1] % chunk
    if missing:
        filler = x[:, -1:].expand(-1, missing, *x.shape[2:])
        x = torch.cat([x, filler if repeat_last else torch.zeros_like(filler)], dim=1)
    return x.unflatten(1, (-1, chunk))


def _decay_within(log: Float[Tensor, "b c g r q"], places: Tensor | None) -> Float[Tensor, "b c g r q q"]:
    """Decay from each position (last axis) to each later one of its chunk: 0 above the diagonal and across documents.

    Sums run over masked copies; a difference of running sums would cancel (state-spaces/mamba issue 352).
    """
    q = log.shape[-1]
    later = torch.ones(q, q, dtype=torch.bool, device=log.device).tril(-1)
    sums = log[..., :, None].expand(*log.shape, q).masked_fill(~later, 0).cumsum(-2)
    seen = later | torch.eye(q, dtype=torch.bool, device=log.device)
    if places is not None:
        places = places if places.ndim == 5 else places[:, :, None, None]
        seen = seen & (places[..., :, None] == places[..., None, :])
    return sums.masked_fill(~seen, float("-inf")).exp()


def _decay_from_start(log: Float[Tensor, "b c g r q"], places: Tensor | None) -> Float[Tensor, "b c g r q"]:
    """Decay of the state that enters a chunk up to each of its positions; 0 in documents that begin behind it."""
    decay = log.cumsum(-1).exp()
    if places is None:
        return decay
    places = places if places.ndim == 5 else places[:, :, None, None]
    last = torch.cat([places[:, :1, ..., :1], places[:, :-1, ..., -1:]], dim=1)
    return decay * (places == last)


def _pass_states(
    written: Float[Tensor, "b c g r p n"],
    log: Float[Tensor, "b c g r q"],
    places: Tensor | None,
    initial_state: Float[Tensor, "batch head d_head d_state"] | None,
) -> tuple[Float[Tensor, "b c g r p n"], Float[Tensor, "b g r p n"]]:
    """The state entering each chunk and the one leaving the last."""
    decay = _decay_from_start(log, places)[..., -1, None, None]
    if initial_state is None:
        state = torch.zeros_like(written[:, 0])
    else:
        state = rearrange(initial_state.to(written.dtype), "b (g r) p n -> b g r p n", g=written.shape[2])
    entering = []
    for part, kept in zip(written.unbind(1), decay.unbind(1), strict=True):
        entering.append(state)
        state = state * kept + part
    return torch.stack(entering, dim=1), state
