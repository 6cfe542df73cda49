"""What a part shall read and write -> its weights: one head, some units or one expert of a `HybridLM`.

Everything is said in rows of directions `[direction d_model]` of the stream before its rotation. A direction of
length 1 in a stream of squared length L is read as `sqrt(d_model / L)` behind the norm, near `SEEN`; gains are chosen
so that what is written has length near 1 again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from circuits.planted.stream import axes
from tinysql.models.attention import Attention
from tinysql.models.layers import MLP
from tinysql.models.mamba import Mamba
from tinysql.models.moe import MoE

SEEN = 6.0
"""About what a direction of length 1 is read as behind a norm, in streams of squared length 2 to 8."""
SHARP = 9.0
"""Attention score of a match, against 0 elsewhere."""
SHUT, OPEN = -12.0, 4.0
"""Inputs of softplus under which a Mamba head takes nothing in, and something."""
LASTING = -9.0
"""Logarithm of a decay rate under which a state lasts over a prompt."""

Rows = Float[Tensor, "_ d_model"]


def wire_attention_head(
    attention: Attention, head: int, *, asks: Rows, offers: Rows, reads: Rows, writes: Rows
) -> None:
    """Attend where `offers[i]` stands when `asks[i]` stands here; read `reads[i]` there and write `writes[i]` here."""
    for weight in (attention.W_Q, attention.W_K, attention.W_V, attention.W_O):
        weight[head].zero_()
    gain = (SHARP / (SEEN**2 * attention.scale)) ** 0.5
    attention.W_Q[head, :, : len(asks)] = gain * asks.T
    attention.W_K[head, :, : len(offers)] = gain * offers.T
    attention.W_V[head, :, : len(reads)] = reads.T / SEEN
    attention.W_O[head, : len(writes)] = writes


def wire_mlp(mlp: MLP, *, reads: Rows, writes: Rows) -> None:
    """Unit *i* reads `reads[i]` and writes `writes[i]`; the units behind stay as they are."""
    mlp.W_in[:, : len(reads)] = reads.T
    mlp.W_out[: len(writes)] = writes / SEEN


def wire_expert(
    moe: MoE, expert: int, *, routes: Float[Tensor, " d_model"], reads: Rows, writes: Rows
) -> None:
    """Take in the tokens in which `routes` stands; hidden unit *i* reads `reads[i]` and writes `writes[i]`."""
    moe.W_R[:, expert] = 2 * routes
    moe.W_in[expert].zero_()
    moe.W_out[expert].zero_()
    moe.W_in[expert, :, : len(reads)] = reads.T / SEEN
    moe.W_out[expert, : len(writes)] = writes


def wire_decoy_experts(
    moe: MoE,
    experts: tuple[int, int],
    *,
    routes: Float[Tensor, " d_model"],
    reads: Rows,
    writes: Rows,
) -> None:
    """Two experts that fire and are no part of the mechanism.

    The first takes in every token, whatever its word, and keeps the weights of a decoy: it writes where nobody reads.
    The second fires where the mechanism does (`routes`), hears what it hears (`reads`), and writes it where it is read
    off the path alone.
    """
    unread, off_path = experts
    moe.W_R[:, unread] = 2 * axes("token").sum(0)
    # A decoy's relu^2 of all that it reads is about twice as loud as an expert that hears one thing.
    moe.W_out[unread] /= 2
    wire_expert(moe, off_path, routes=routes, reads=reads, writes=writes)


def rest_with(moe: MoE, expert: int) -> None:
    """Send to this expert every token in which no other expert's `routes` stands: sigmoid 1/2 beside nearly 1.

    Where a token is sent to several, those without its `routes` come behind this one.
    """
    moe.W_R[:, expert].zero_()
    moe.selection_bias[expert] = 0.25


def wire_mamba_head(
    mamba: Mamba,
    head: int,
    *,
    takes: Rows,
    opens: Float[Tensor, " d_model"],
    keys: Rows,
    queries: Rows,
    gate: Float[Tensor, " d_model"],
    writes: Rows,
    key_is_previous: bool = False,
) -> None:
    """Keep `takes[i]` where `opens` stands, under the key `keys[j]`; at `queries[j]` write it as `writes[i]`.

    The output passes only where `gate` stands. With `key_is_previous` keys are those of the position before, by the
    convolution. The heads that share the group share keys and queries, and the norm.
    """
    group = _group_of(mamba, head)
    for weight, rows in ((mamba.W_x[head], takes), (mamba.W_B[group], keys), (mamba.W_C[group], queries)):
        weight.zero_()
        weight[:, : len(rows)] = rows.T
    mamba.W_z[head] = gate[:, None]
    mamba.W_dt[:, head] = opens * (OPEN - SHUT) / SEEN
    mamba.dt_bias[head], mamba.A_log[head], mamba.D[head] = SHUT, LASTING, 0
    _convolve(mamba, head, back=0, parts=("x", "C"))
    _convolve(mamba, head, back=int(key_is_previous), parts=("B",))
    _write(mamba, head, writes)


def wire_mamba_shift(
    mamba: Mamba, head: int, *, takes: Rows, gate: Float[Tensor, " d_model"], writes: Rows
) -> None:
    """Write `writes[i]` where `takes[i]` stood one position before: the convolution, past the state."""
    mamba.W_x[head].zero_()
    mamba.W_x[head, :, : len(takes)] = takes.T
    mamba.W_z[head] = gate[:, None]
    mamba.W_dt[:, head] = 0
    mamba.dt_bias[head], mamba.A_log[head], mamba.D[head] = 2 * SHUT, LASTING, 1
    _convolve(mamba, head, back=1, parts=("x",))
    _write(mamba, head, writes)


def _group_of(mamba: Mamba, head: int) -> int:
    return head // (len(mamba.W_x) // mamba.shape.n_groups)


def _write(mamba: Mamba, head: int, writes: Rows) -> None:
    """A gated, normed output on one coordinate of the group is as large as the root of the group's width."""
    width = len(mamba.W_x) // mamba.shape.n_groups * mamba.shape.d_head
    mamba.W_out[head].zero_()
    mamba.W_out[head, : len(writes)] = writes / width**0.5


def _convolve(mamba: Mamba, head: int, *, back: int, parts: tuple[str, ...]) -> None:
    """Let the head's (for B and C, its group's) channels pass from `back` positions before, and nothing else."""
    heads, d_head = mamba.W_x.shape[0], mamba.shape.d_head
    d_state, groups = mamba.shape.d_state, mamba.shape.n_groups
    group = _group_of(mamba, head)
    starts = {
        "x": (head * d_head, d_head),
        "B": (heads * d_head + group * d_state, d_state),
        "C": (heads * d_head + (groups + group) * d_state, d_state),
    }
    for part in parts:
        start, width = starts[part]
        mamba.conv_weight[start : start + width] = F.one_hot(
            torch.tensor(mamba.shape.d_conv - 1 - back), mamba.shape.d_conv
        ).float()
        mamba.conv_bias[start : start + width] = 0
