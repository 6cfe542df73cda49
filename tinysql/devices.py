"""A device's name -> the device, checked before any work is done."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from data_gen.errors import InputError
from tinysql.device_names import KINDS
from tinysql.models.config import Precision


def find_device(name: str) -> torch.device:
    """The torch device of that name; `InputError` when it does not exist on this machine.

    Of several processes that `torchrun` starts, each takes its own `cuda`.
    """
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        if name.split(":")[0] not in KINDS:
            raise RuntimeError(f"tinysql computes on {', '.join(KINDS)}")
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(
            f"device `{name}` cannot be used ({reason})", hint="use `cpu`, or `cuda` with a GPU"
        ) from error
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def can_record(device: torch.device) -> bool:
    """Whether a CUDA graph can hold what runs there: one records the current GPU, and of others nothing, silently."""
    return device.type == "cuda" and device.index in (None, torch.cuda.current_device())


def precision_on(device: torch.device, precision: Precision | None = None) -> Precision:
    """The precision of matrix products: what was asked for, or bfloat16 on a GPU and float32 elsewhere."""
    return precision or ("bfloat16" if device.type == "cuda" else "float32")


def products(device: torch.device, precision: Precision) -> torch.autocast:
    """Within it, matrix products are computed in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


def compiled(function: Callable[Arguments, Found]) -> Callable[Arguments, Found]:
    """What `torch.compile` makes of it, and no advice to round float32 products: here they are exact on purpose."""
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
    return torch.compile(function)


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that the device has, free or not; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says by this error that there is not enough memory, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_attention_refused(error: RuntimeError) -> bool:
    """Whether cuDNN could not run its fused attention: it does not say why, and was seen to where memory is full."""
    return "mha_graph.execute" in str(error)
