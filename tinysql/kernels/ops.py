"""Inputs of a Mamba-2 block's steps -> their outputs: by kernels on a GPU with Triton, by the reference otherwise.

What the models call. Each function is the one of the same meaning in `reference.py`, which says what it computes and
in which shapes; there is no other setting. Products add up in another order in the kernels, so the two agree to
rounding, not bit for bit.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError
from tinysql.kernels import reference
from tinysql.kernels.inputs import axes, expect, whole
from tinysql.kernels.reference import Scanned
from tinysql.kernels.tiles import choose

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_STATE = 256
"""Largest `d_state` that fits on chip."""
MAX_TAPS = 4
"""Widest convolution of the kernels."""
HAS_TRITON = find_spec("triton") is not None
"""Looked up once: a compiled step would be cut in two wherever it were asked."""


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
    """`reference.ssd_scan`, with B and C of any dtype; `chunk` is for the reference, kernels choose their own."""
    _check_sequence(x, dt, log_decay, B, C, D=D, initial_state=initial_state, segments=segments)
    if chunk < 1:
        raise InputError(
            f"chunk is {chunk}, expected at least 1", hint="64 positions at once are the default"
        )
    B, C = B.to(x.dtype), C.to(x.dtype)
    if not on_kernels(x) or B.shape[3] > MAX_STATE:
        return reference.ssd_scan(
            x, dt, log_decay, B, C, D=D, initial_state=initial_state, segments=segments, chunk=chunk
        )
    from tinysql.kernels import operators

    return Scanned(*operators.scan(x, dt, log_decay, B, C, D, initial_state, segments))


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
    """`reference.ssd_step`; by a kernel when no gradient is asked for and the state is float32."""
    batch, heads, width = axes("x", x, "batch head d_head")
    groups, size = axes("B", B, "batch group d_state")[1:]
    of_head, of_group = (batch, heads), (batch, groups, size)
    expect(
        "x", x, ("dt", dt, of_head), ("log_decay", log_decay, of_head), ("B", B, of_group), ("C", C, of_group),
        ("state", state, (batch, heads, width, size)), ("D", D, (heads,)),
    )  # fmt: skip
    whole(heads, groups)
    plain = torch.is_grad_enabled() or state.dtype != torch.float32 or B.shape[2] > MAX_STATE
    if plain or not on_kernels(x):
        return reference.ssd_step(x, dt, log_decay, B, C, state, D=D)
    from tinysql.kernels.step import step_forward

    return step_forward(x, dt, log_decay, B, C, state, D)


def effective_attention(
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    *,
    queries: range | None = None,
    keys: range | None = None,
    segments: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """`reference.effective_attention`, with C of any dtype; by a kernel when no gradient is asked for."""
    batch, seq, groups, _ = axes("B", B, "batch seq group d_state")
    heads = axes("log_decay", log_decay, "batch seq head")[2]
    expect(
        "B", B, ("C", C, B.shape), ("log_decay", log_decay, (batch, seq, heads)), ("segments", segments, (batch, seq))
    )  # fmt: skip
    whole(heads, groups)
    C = C.to(B.dtype)
    if torch.is_grad_enabled() or not on_kernels(B) or B.shape[3] > MAX_STATE:
        return reference.effective_attention(log_decay, B, C, queries=queries, keys=keys, segments=segments)
    from tinysql.kernels.pairs import mixing

    seq = log_decay.shape[1]
    queries, keys = reference.within(queries, seq), reference.within(keys, seq)
    return mixing(log_decay, B, C, queries, keys, segments, choose(B.dtype))


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
    """`reference.carried`; `entries` expanded over batch or heads take no more room than one."""
    _check_sequence(x, dt, log_decay, B, C, segments=segments)
    batch, seq, heads, _ = x.shape
    expect("x", x, ("entries", entries, (batch, heads, seq, seq)))
    if entries.dtype != torch.bool:
        raise InputError(
            f"`entries` are {entries.dtype}, expected torch.bool", hint="compare them with a threshold first"
        )
    B, C = B.to(x.dtype), C.to(x.dtype)
    if not on_kernels(x) or B.shape[3] > MAX_STATE:
        return reference.carried(x, dt, log_decay, B, C, entries, segments=segments)
    from tinysql.kernels import operators

    return operators.carried(x, dt, log_decay, B, C, entries, segments)


def conv_silu(
    x: Float[Tensor, "batch seq channel"],
    weight: Float[Tensor, "channel tap"],
    bias: Float[Tensor, " channel"],
    *,
    before: Float[Tensor, "batch tap-1 channel"] | None = None,
    segments: Int[Tensor, "batch seq"] | None = None,
) -> tuple[Float[Tensor, "batch seq channel"], Float[Tensor, "batch tap-1 channel"]]:
    """SiLU of `reference.causal_conv`, with weights of any dtype; and the `before` of the next call."""
    batch, seq, channels = axes("x", x, "batch seq channel")
    taps = axes("weight", weight, "channel tap")[1]
    expect(
        "x", x, ("weight", weight, (channels, taps)), ("bias", bias, (channels,)),
        ("before", before, (batch, taps - 1, channels)), ("segments", segments, (batch, seq)),
    )  # fmt: skip
    if not on_kernels(x) or weight.shape[1] > MAX_TAPS:
        mixed, tail = reference.causal_conv(
            x, weight.to(x.dtype), bias.to(x.dtype), before=before, segments=segments
        )
        return F.silu(mixed), tail
    from tinysql.kernels import operators

    reach = weight.shape[1] - 1
    before = before.to(x.dtype) if before is not None else None
    tail = x[:, max(0, x.shape[1] - reach) :]
    if x.shape[1] < reach:
        history = x.new_zeros(len(x), reach, x.shape[2]) if before is None else before
        tail = torch.cat([history[:, x.shape[1] :], tail], dim=1)
    return operators.conv(x, weight, bias, before, segments), tail


def gated_norm(
    y: Float[Tensor, "batch seq head d_head"],
    z: Float[Tensor, "batch seq head d_head"],
    weight: Float[Tensor, "head d_head"],
    *,
    groups: int,
    eps: float,
) -> Float[Tensor, "batch seq head d_head"]:
    """`reference.gated_norm`."""
    _, _, heads, width = axes("y", y, "batch seq head d_head")
    expect("y", y, ("z", z, y.shape), ("weight", weight, (heads, width)))
    whole(heads, groups)
    if not on_kernels(y):
        return reference.gated_norm(y, z, weight, groups=groups, eps=eps)
    from tinysql.kernels import operators

    return operators.norm(y, z, weight, groups, eps)


def _check_sequence(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    segments: Tensor | None = None,
) -> None:
    """The inputs of a scan fit each other."""
    batch, seq, heads, width = axes("x", x, "batch seq head d_head")
    groups, size = axes("B", B, "batch seq group d_state")[2:]
    of_head, of_group = (batch, seq, heads), (batch, seq, groups, size)
    expect(
        "x", x, ("dt", dt, of_head), ("log_decay", log_decay, of_head), ("B", B, of_group), ("C", C, of_group),
        ("D", D, (heads,)), ("initial_state", initial_state, (batch, heads, width, size)),
        ("segments", segments, (batch, seq)),
    )  # fmt: skip
    whole(heads, groups)


def on_kernels(x: Tensor) -> bool:
    """Whether kernels treat `x`: on a GPU, in a dtype they know, with Triton installed."""
    return x.is_cuda and x.dtype in DTYPES and HAS_TRITON
