"""A device's name -> the name, or its refusal by how it is written, before torch is loaded, which takes seconds."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

KINDS = ("cpu", "cuda", "mps")
"""Devices that hold numbers and that torch trains on."""


def read_device(text: str) -> str:
    """A device as the command line gives it, such as `cuda` or `cuda:1`; `find_device` sees whether it is there.

    Raises:
        argparse.ArgumentTypeError: no device has such a name; argparse names the option in front of the sentence.
    """
    if not re.fullmatch(rf"({'|'.join(KINDS)})(:[0-9]+)?", text):
        raise ArgumentTypeError(f"device `{text}` cannot be used (tinysql computes on {', '.join(KINDS)})")
    return text
