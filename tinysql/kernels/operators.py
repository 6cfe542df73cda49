"""Kernels -> differentiable operators, as `torch.library` operators when compiled and with less to do when not.

`tinysql::scan`, `tinysql::carried`, `tinysql::conv`, `tinysql::norm` and the operators of their gradients are opaque
to `torch.compile`, which therefore neither breaks its graph at them nor looks inside. Run eagerly, the same functions
hang on an `autograd.Function`, which costs the host less than an operator in Python does; without gradients on nothing
at all.
"""

# Without postponed annotations: torch.library reads them.
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinysql.kernels.conv import ConvGradients, conv_backward, conv_forward
from tinysql.kernels.decays import ROWS
from tinysql.kernels.gradients import Gradients, scan_backward
from tinysql.kernels.norm import NormGradients, norm_backward, norm_forward
from tinysql.kernels.pairs import PairGradients, carried_gradients
from tinysql.kernels.pairs import carried as carried_forward
from tinysql.kernels.scan import scan_forward
from tinysql.kernels.tiles import choose

Found = tuple[Tensor | None, ...]


def scan(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial: Tensor | None,
    segments: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`y` and the final state of `reference.ssd_scan`, with gradients of both to all but `segments`."""
    y, final, *_ = _call(_scan, _Scan, _scan_now)(x, dt, log_decay, B, C, D, initial, segments)
    return y, final


def carried(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    entries: Tensor,
    segments: Tensor | None,
) -> Tensor:
    """`reference.carried`, with gradients to all but `entries` and `segments`."""
    return _call(_carried, _Carried, _carried_now)(x, dt, log_decay, B, C, entries, segments)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None, segments: Tensor | None
) -> Tensor:
    """SiLU of `reference.causal_conv`'s output, with gradients to all but `segments`."""
    return _call(_conv, _Conv, conv_forward)(x, weight, bias, before, segments)


def norm(y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """`reference.gated_norm`, with gradients to `y`, `z` and `weight`."""
    return _call(_norm, _Norm, norm_forward)(y, z, weight, groups, eps)


def _call(
    operator: Callable[..., Any], function: type[torch.autograd.Function], plain: Callable[..., Any]
) -> Any:
    if torch.compiler.is_compiling():
        return operator
    return function.apply if torch.is_grad_enabled() else plain


def _once(backward: Callable[..., Found]) -> Any:
    """A backward pass that refuses to be differentiated itself."""
    return staticmethod(once_differentiable(backward))


def _like(inputs: Sequence[Tensor | None], one: Tensor) -> tuple[Tensor, ...]:
    """Room for the gradient of each input; an empty tensor where there is none."""
    return tuple(one.new_empty(0) if t is None else t.new_empty(t.shape) for t in inputs)


def _scan_now(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial: Tensor | None,
    segments: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return scan_forward(x, dt, log_decay, B, C, D, initial, segments, choose(x.dtype))


_scan = torch.library.custom_op("tinysql::scan", _scan_now, mutates_args=())


@_scan.register_fake
def _(x: Tensor, dt: Any, log_decay: Any, B: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    (batch, seq, heads, width), tiles = x.shape, choose(x.dtype)
    state = (heads, width, B.shape[3])
    chunks = (seq + tiles.chunk - 1) // tiles.chunk
    return (
        x.new_empty(x.shape),
        x.new_empty(batch, *state, dtype=torch.float32),
        x.new_empty(batch, chunks, *state),
        x.new_empty(batch, heads, chunks, ROWS, tiles.chunk, dtype=torch.float32),
    )


def _scan_gradients_now(
    dy: Tensor,
    dfinal: Tensor | None,
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial: Tensor | None,
    segments: Tensor | None,
    states: Tensor,
    decays: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    tiles = choose(x.dtype)
    return scan_backward(dy, dfinal, x, dt, log_decay, B, C, D, initial, segments, states, decays, tiles)


_scan_gradients = torch.library.custom_op("tinysql::scan_gradients", _scan_gradients_now, mutates_args=())


@_scan_gradients.register_fake
def _(dy: Any, dfinal: Any, x: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    return _like((x, *rest[:6]), x)


def _scan_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, *output[2:])


def _scan_backward(run: Callable[..., Any]) -> Callable[..., Found]:
    def backward(ctx: Any, dy: Tensor | None, dfinal: Tensor | None, *unused: Tensor | None) -> Found:
        x, *rest = ctx.saved_tensors
        found = Gradients(*run(torch.zeros_like(x) if dy is None else dy, dfinal, x, *rest))
        present = (*(t is not None for t in (x, *rest[:-3])), False)
        return tuple(g if there else None for g, there in zip((*found, None), present, strict=True))

    return backward


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        found = _scan_now(*inputs)
        _scan_context(ctx, inputs, found)
        return found[:2]

    backward = _once(_scan_backward(_scan_gradients_now))


def _carried_now(
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    entries: Tensor,
    segments: Tensor | None,
) -> Tensor:
    return carried_forward(x, dt, log_decay, B, C, entries, segments, choose(x.dtype))


_carried = torch.library.custom_op("tinysql::carried", _carried_now, mutates_args=())


@_carried.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)


def _carried_gradients_now(
    dout: Tensor,
    x: Tensor,
    dt: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    entries: Tensor,
    segments: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    tiles = choose(x.dtype)
    return carried_gradients(dout, x, dt, log_decay, B, C, entries, segments, tiles)


_carried_gradients = torch.library.custom_op(
    "tinysql::carried_gradients", _carried_gradients_now, mutates_args=()
)


@_carried_gradients.register_fake
def _(dout: Any, x: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    return _like((x, *rest[:4]), x)


def _carried_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _carried_backward(run: Callable[..., Any]) -> Callable[..., Found]:
    def backward(ctx: Any, dout: Tensor) -> Found:
        return (*PairGradients(*run(dout, *ctx.saved_tensors)), None, None)

    return backward


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _carried_context(ctx, inputs, None)
        return _carried_now(*inputs)

    backward = _once(_carried_backward(_carried_gradients_now))


@torch.library.custom_op("tinysql::conv", mutates_args=())
def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, before: Tensor | None, segments: Tensor | None
) -> Tensor:
    return conv_forward(x, weight, bias, before, segments)


@_conv.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("tinysql::conv_gradients", mutates_args=())
def _conv_gradients(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    before: Tensor | None,
    segments: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return conv_backward(dy, x, weight, bias, before, segments)


@_conv_gradients.register_fake
def _(dy: Any, x: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    return _like((x, *rest[:3]), x)


def _conv_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _conv_backward(run: Callable[..., Any]) -> Callable[..., Found]:
    def backward(ctx: Any, dy: Tensor) -> Found:
        saved = ctx.saved_tensors
        found = ConvGradients(*run(dy, *saved))
        return (*(None if t is None else g for g, t in zip(found, saved[:4], strict=True)), None)

    return backward


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _conv_context(ctx, inputs, None)
        return conv_forward(*inputs)

    backward = _once(_conv_backward(conv_backward))


@torch.library.custom_op("tinysql::norm", mutates_args=())
def _norm(y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    return norm_forward(y, z, weight, groups, eps)


@_norm.register_fake
def _(y: Tensor, *rest: Any) -> Tensor:
    return y.new_empty(y.shape)


@torch.library.custom_op("tinysql::norm_gradients", mutates_args=())
def _norm_gradients(
    dout: Tensor, y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return norm_backward(dout, y, z, weight, groups, eps)


@_norm_gradients.register_fake
def _(dout: Any, y: Tensor, z: Tensor, weight: Tensor, groups: Any, eps: Any) -> tuple[Tensor, ...]:
    return _like((y, z, weight), y)


def _norm_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.groups, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _norm_backward(run: Callable[..., Any]) -> Callable[..., Found]:
    def backward(ctx: Any, dout: Tensor) -> Found:
        return (*NormGradients(*run(dout, *ctx.saved_tensors, ctx.groups, ctx.eps)), None, None)

    return backward


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _norm_context(ctx, inputs, None)
        return norm_forward(*inputs)

    backward = _once(_norm_backward(norm_backward))


_scan.register_autograd(_scan_backward(_scan_gradients), setup_context=_scan_context)
_carried.register_autograd(_carried_backward(_carried_gradients), setup_context=_carried_context)
_conv.register_autograd(_conv_backward(_conv_gradients), setup_context=_conv_context)
_norm.register_autograd(_norm_backward(_norm_gradients), setup_context=_norm_context)
