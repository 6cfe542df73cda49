"""Any plain values -> a 64-bit number, the same on every machine and in every process."""

from __future__ import annotations

from hashlib import blake2b
from random import Random


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash of the parts; unlike the built-in `hash` it does not change from process to process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def stable_rng(*parts: str | int) -> Random:
    """A generator of its own for the thing that the parts name, so that no draw depends on another thing."""
    return Random(stable_hash(*parts))
