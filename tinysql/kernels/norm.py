"""Outputs of a scan and their gate -> the gated, normalised stream: kernels forward and backward.

    u = y silu(z)        out = u / sqrt(mean(u^2) + eps) * weight        the mean over the heads of one group

One program holds the `W = heads / groups * d_head` numbers of one position and group. The backward kernel computes
`u` again; each of its programs adds up the weight's gradient over the positions it visits, in a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from tinysql.kernels.launch import kind, launch
from tinysql.kernels.scan import rows
from tinysql.kernels.tiles import block

PROGRAMS = 256
"""Programs per group of the backward kernel; a constant, so that sums do not depend on the device."""


class NormGradients(NamedTuple):
    """Gradients of the norm's inputs."""

    y: Float[Tensor, "batch seq head d_head"]
    z: Float[Tensor, "batch seq head d_head"]
    weight: Float[Tensor, "head d_head"]


@triton.jit
@no_type_check
def _norm(y, z, w, out, eps, y_row, z_row, W: tl.constexpr, BW: tl.constexpr):
    """out [T, groups * W], of one position and group."""
    i_t, i_g = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_w = tl.arange(0, BW)
    # [W]
    b_y = tl.load(y + i_t * y_row + i_g * W + o_w, mask=o_w < W, other=0.0).to(tl.float32)
    b_z = tl.load(z + i_t * z_row + i_g * W + o_w, mask=o_w < W, other=0.0).to(tl.float32)
    b_w = tl.load(w + i_g * W + o_w, mask=o_w < W, other=0.0).to(tl.float32)
    b_u = b_y * b_z * tl.sigmoid(b_z)
    scale = 1.0 / tl.sqrt(tl.sum(b_u * b_u, 0) / W + eps)
    p_out = out + (i_t * tl.num_programs(1) + i_g) * W + o_w
    tl.store(p_out, (b_u * scale * b_w).to(out.dtype.element_ty), mask=o_w < W)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _norm_gradients(
    dout, y, z, w, dy, dz, parts, eps, count, d_row, y_row, z_row, W: tl.constexpr, BW: tl.constexpr
):
    """dy, dz [T, groups * W], and this program's part of the weight's gradient [program, groups * W]."""
    i_g, groups = tl.program_id(1), tl.num_programs(1)
    o_w = tl.arange(0, BW)
    mask = o_w < W
    b_w = tl.load(w + i_g * W + o_w, mask=mask, other=0.0).to(tl.float32)
    b_dw = tl.zeros([BW], tl.float32)
    for i in range(tl.program_id(0), count, tl.num_programs(0)):
        i_t = tl.cast(i, tl.int64)
        b_y = tl.load(y + i_t * y_row + i_g * W + o_w, mask=mask, other=0.0).to(tl.float32)
        b_z = tl.load(z + i_t * z_row + i_g * W + o_w, mask=mask, other=0.0).to(tl.float32)
        b_d = tl.load(dout + i_t * d_row + i_g * W + o_w, mask=mask, other=0.0).to(tl.float32)
        b_gate = tl.sigmoid(b_z)
        b_u = b_y * b_z * b_gate
        scale = 1.0 / tl.sqrt(tl.sum(b_u * b_u, 0) / W + eps)
        b_dw += b_d * b_u * scale
        b_du = b_d * b_w
        b_du = scale * (b_du - b_u * (scale * scale * tl.sum(b_du * b_u, 0) / W))
        p = (i_t * groups + i_g) * W + o_w
        tl.store(dy + p, (b_du * b_z * b_gate).to(dy.dtype.element_ty), mask=mask)
        b_dz = b_du * b_y * b_gate * (1.0 + b_z * (1.0 - b_gate))
        tl.store(dz + p, b_dz.to(dz.dtype.element_ty), mask=mask)
    tl.store(parts + (tl.program_id(0) * groups + i_g) * W + o_w, b_dw, mask=mask)


def norm_forward(
    y: Float[Tensor, "batch seq head d_head"],
    z: Float[Tensor, "batch seq head d_head"],
    weight: Float[Tensor, "head d_head"],
    groups: int,
    eps: float,
) -> Float[Tensor, "batch seq head d_head"]:
    """`reference.gated_norm` in one launch."""
    y, z, weight = rows(y), rows(z), weight.contiguous()
    width = weight.numel() // groups
    out = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    launch(
        _norm, (y.shape[0] * y.shape[1], groups, 1), kind(y, z, weight), (y, z, weight, out),
        (eps, y.stride(1), z.stride(1), width, block(width)), num_warps=4,
    )  # fmt: skip
    return out


def norm_backward(
    dout: Float[Tensor, "batch seq head d_head"],
    y: Float[Tensor, "batch seq head d_head"],
    z: Float[Tensor, "batch seq head d_head"],
    weight: Float[Tensor, "head d_head"],
    groups: int,
    eps: float,
) -> NormGradients:
    """Gradients of `norm_forward`: one launch, and a sum of the programs' parts of the weight's."""
    dout, y, z, weight = rows(dout), rows(y), rows(z), weight.contiguous()
    count, width = y.shape[0] * y.shape[1], weight.numel() // groups
    dy = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    dz = torch.empty(y.shape, dtype=z.dtype, device=y.device)
    programs = min(count, PROGRAMS)
    parts = y.new_empty(programs, *weight.shape, dtype=torch.float32)
    launch(
        _norm_gradients, (programs, groups, 1), kind(dout, y, z, weight), (dout, y, z, weight, dy, dz, parts),
        (eps, count, dout.stride(1), y.stride(1), z.stride(1), width, block(width)), num_warps=4,
    )  # fmt: skip
    return NormGradients(dy, dz, parts.sum(0).to(weight.dtype))
