"""A kernel and its arguments -> its launch, without Triton's look at every argument where one like it went before.

What a kernel is compiled for are dtypes, whether addresses and numbers are multiples of 16, and constants. Triton asks
for all of it at each launch, which takes the host longer than the launch itself; here one `kind` answers for the
arrays of all launches of a call.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

_KNOWN: dict[Hashable, Any] = {}


def kind(first: Tensor, *rest: Tensor | None) -> Hashable:
    """What kernels are compiled for of these arrays, and so of all new ones, whose dtypes follow from theirs."""
    of_each = ((t.dtype, t.data_ptr() % 16 == 0) if t is not None else None for t in (first, *rest))
    return (first.device, *of_each)


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    alike: Hashable,
    arrays: Sequence[Tensor | None],
    numbers: tuple[Any, ...],
    **options: int,
) -> None:
    """`kernel[grid](*arrays, *numbers, **options)`, where `alike` is the `kind` of all arrays that are not new."""
    key = (kernel.fn, alike, numbers, *options.values())
    compiled = _KNOWN.get(key)
    if compiled is None:
        # Triton's interpreter compiles nothing and gives None.
        _KNOWN[key] = kernel[grid](*arrays, *numbers, **options)
    else:
        compiled[grid](*arrays, *numbers)
