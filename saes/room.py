"""What is asked of a training -> the bytes that it takes at least, or a refusal before anything is drawn.

A system that promises more memory than it has ends the process that uses it, without a sentence. So bytes are counted
in front of the work, as far as they are known there; where the memory of a device is not known, nothing is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from data_gen.errors import InputError
from data_gen.example import make_example
from saes.activations import HookedModel, capture_many
from saes.training.config import SAEConfig
from tinysql.devices import is_out_of_memory, memory_of
from tinysql.runs import Run
from tinysql.tokens import Tokenizer

SAMPLED = 32
"""Rows that are drawn to know how many tokens one has."""
TOKEN_BYTES = 45
"""What a token takes beside its activations while rows are drawn: roles' names, ids (45 to 48 were measured)."""
FLOAT, STORED = 4, 2
"""Bytes of a number in memory, and on disk in bfloat16."""
COPIES = 4
"""Numbers per weight: itself, its gradient and two moments."""


def widths_of(model: HookedModel, hooks: Sequence[str]) -> tuple[int, ...]:
    """How wide each hook is, from a pass over one token; `InputError` as `capture_many`."""
    device = next(model.parameters()).device
    carried = capture_many(model, torch.zeros(1, 1, dtype=torch.long, device=device), hooks)
    return tuple(carried[hook].shape[-1] for hook in hooks)


def tokens_per_row(run: Run, tokenizer: Tokenizer) -> float:
    """Tokens of a training row that fits the model's context, the mean of some; 1 where none of them fits."""
    texts = [make_example(run.split("train"), index).text.string for index in range(SAMPLED)]
    lengths = [length + 1 for length in map(len, tokenizer.encode_texts(texts)) if length < run.shape.n_ctx]
    return sum(lengths) / len(lengths) if lengths else 1.0


def check_rows(
    rows: int,
    validation: int,
    per_row: float,
    widths: Sequence[int],
    device: torch.device,
    on_disk: Path | None,
) -> None:
    """Raise `InputError` where `rows` and as many more of `validation` take more than there is.

    `on_disk` is where the activations of `rows`, but not of `validation`, are to stand, unless in memory as well.
    """
    option, most = max(("--rows", rows), ("--validation", validation), key=lambda asked: asked[1])
    said = f"{option} {most} is some {most * per_row:,.0f} tokens"
    named, host = int(TOKEN_BYTES * per_row * most), memory_of(torch.device("cpu"))
    if host is not None and named > host:
        raise InputError(
            f"{said}, which take {_gib(named)} beside their activations, and `cpu` has {_gib(host)}",
            hint="ask for fewer",
        )
    in_memory = validation if on_disk is not None else rows + validation
    held, memory = int(FLOAT * sum(widths) * per_row * in_memory), memory_of(device)
    if memory is not None and held > memory:
        can_move = on_disk is None and option == "--rows"
        raise InputError(
            f"{said}, whose activations take {_gib(held)}, and `{device.type}` has {_gib(memory)}",
            hint="ask for fewer, or pass --on-disk" if can_move else "ask for fewer",
        )
    if on_disk is not None:
        stored = int(STORED * sum(widths) * per_row * rows)
        free = shutil.disk_usage(next(place for place in on_disk.parents if place.exists())).free
        if stored > free:
            raise InputError(
                f"--rows {rows} is some {rows * per_row:,.0f} tokens, whose activations take {_gib(stored)}, and the "
                f"disk of {on_disk.parent} has {_gib(free)} left",
                hint="ask for fewer, or make room",
            )


def check_weights(
    config: SAEConfig, reads: Sequence[int], writes: Sequence[int], device: torch.device
) -> None:
    """Raise `InputError` where a dictionary that reads and writes these widths cannot be trained in the memory.

    What an SAE or a crosscoder writes is what it reads.
    """
    latents, wide = config.latents(reads[0]), sum(reads)
    per_latent = wide + sum(writes)
    if config.form == "cross_layer_transcoder":
        # Each is of one layer, and writes that one and all later ones: half of them and one half, on average.
        latents, wide = latents * len(reads), reads[0]
        per_latent = wide + writes[0] * (len(writes) + 1) // 2
    needed, memory = COPIES * FLOAT * latents * per_latent, memory_of(device)
    if memory is not None and needed > memory:
        why = f": their training takes {_gib(needed)}, and `{device.type}` has {_gib(memory)}"
        raise _too_many(latents, wide, why)


@contextmanager
def room_for(latents: int, d_in: int) -> Iterator[None]:
    """`InputError` where the memory does not hold so many latents."""
    try:
        yield
    except RuntimeError as error:
        # More bytes than a 64-bit number counts are an overflow, not a refusal of the system.
        if not is_out_of_memory(error) and "overflow" not in str(error):
            raise
        raise _too_many(latents, d_in) from error


def _too_many(latents: int, d_in: int, why: str = "") -> InputError:
    return InputError(
        f"{latents} latents of activations {d_in} wide do not fit into memory{why}", hint="lower d_sae"
    )


def _gib(n: int) -> str:
    return f"{n / 2**30:,.1f} GiB"
