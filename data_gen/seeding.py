"""Any plain values -> a 64-bit number, the same on every machine and in every process."""

from __future__ import annotations

from argparse import ArgumentTypeError
from hashlib import blake2b
from random import Random


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash of the parts; unlike the built-in `hash` it does not change from process to process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def stable_rng(*parts: str | int) -> Random:
    """A generator of its own for the thing that the parts name, so that no draw depends on another thing."""
    return Random(stable_hash(*parts))


def read_seed(text: str) -> int:
    """A seed as the command line gives it: a whole number from 0 to 2^63 - 1.

    Raises:
        argparse.ArgumentTypeError: anything else; argparse names the option in front of the sentence.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise ArgumentTypeError(f"{text!r} is no seed, expected a whole number from 0 to 2^63 - 1")
    return int(text)
