"""A device's name -> the device, checked before any work is done."""

from __future__ import annotations

import os

import torch

from data_gen.errors import InputError

KINDS = ("cpu", "cuda", "mps")
"""Devices that hold numbers and that torch trains on."""


def find_device(name: str) -> torch.device:
    """The torch device of that name; `InputError` when it does not exist on this machine.

    Of several processes that `torchrun` starts, each takes its own `cuda`.
    """
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        if device.type not in KINDS:
            raise RuntimeError(f"tinysql computes on {', '.join(KINDS)}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device `{name}` cannot be used ({reason})", hint="use `cpu`, or `cuda` with a GPU"
        ) from error
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    return device
