"""Random shapes and hard inputs -> the kernels' greatest errors against the recurrence, position by position.

    python benchmarks/scan_fuzz.py --cases 100 --dtype float32
    python benchmarks/scan_fuzz.py --device cuda --jobs 12 --cases 96 --dtype bfloat16 --json fuzz.json

Each case draws S from 1 to 130, P, N, G, heads, tiles (heads of a program, chunks of 16), packed documents, an initial
state or none, log-decays of 0 to -1000 and steps of up to 100, and compares the output, the final state and the
gradients of everything with `reference.ssd_step` in float64: `|a - b| / |b|`.
Without a GPU the cases run in Triton's interpreter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scan import NAMES, distance, made_by
from torch import Tensor

from tinysql.kernels import reference
from tinysql.kernels.gradients import scan_backward
from tinysql.kernels.scan import scan_forward
from tinysql.kernels.tiles import TABLE, Tiles


def mend_interpreter() -> None:
    """Let Triton's interpreter multiply bfloat16, whose bits it would multiply, and round to it, where it would cut."""
    import triton.language as tl
    from triton.runtime import interpreter

    multiply, convert = interpreter.InterpreterBuilder.create_dot, interpreter._convert_float

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        wide = (
            interpreter.TensorHandle(
                convert(t.data, tl.bfloat16, tl.float32, None).view("float32"), tl.float32
            )
            if t.dtype.scalar == tl.bfloat16
            else t
            for t in (a, b)
        )
        return multiply(self, *wide, *rest)

    def convert_float(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16:
            return torch.from_numpy(data.copy()).bfloat16().view(torch.uint16).numpy().reshape(data.shape)
        return convert(data, source, target, rounding)

    interpreter.InterpreterBuilder.create_dot, interpreter._convert_float = create_dot, convert_float


def logs(low: float, high: float, *sizes: int, made: torch.Generator) -> Tensor:
    """Numbers whose logarithms are spread evenly between those of `low` and `high`."""
    return torch.exp(math.log(low) + torch.rand(*sizes, generator=made) * math.log(high / low))


def drawn(
    seed: int, dtype: torch.dtype, device: str
) -> tuple[list[Tensor | None], Tensor | None, Tiles, str]:
    """Inputs of one case, its documents, its tiles, and what it is called."""
    dice, made = random.Random(seed), torch.Generator().manual_seed(seed)
    groups = dice.choice((1, 2, 8))
    batch, seq, heads = (
        dice.choice((1, 2)),
        dice.choice((1, dice.randint(2, 130))),
        groups * dice.choice((1, 2)),
    )
    width, state = dice.choice((32, 48, 64, 128)), dice.choice((16, 64, 128, 256))
    packed, started = dice.random() < 0.3, dice.random() < 0.7
    tiles = TABLE[dtype == torch.float32]
    tiles = dataclasses.replace(tiles, backward_heads=dice.choice((1, tiles.backward_heads)))
    if dice.random() < 0.3:
        tiles = dataclasses.replace(tiles, chunk=16, span=2)
    log = -logs(1e-4, dice.choice((1, 30, 1000)), batch, seq, heads, made=made)
    log = log.masked_fill(torch.rand(log.shape, generator=made) < 0.1, 0.0).clamp_min(-1000)
    found: dict[str, Tensor | None] = {
        "x": torch.randn(batch, seq, heads, width, generator=made).to(dtype),
        "dt": logs(1e-3, dice.choice((0.1, 100)), batch, seq, heads, made=made),
        "log_decay": log,
        "B": torch.randn(batch, seq, groups, state, generator=made).to(dtype),
        "C": torch.randn(batch, seq, groups, state, generator=made).to(dtype),
        "D": torch.randn(heads, generator=made),
        "initial": torch.randn(batch, heads, width, state, generator=made) if started else None,
    }
    segments = (torch.rand(batch, seq, generator=made) < 0.1).long().cumsum(1) if packed else None
    name = f"B{batch} S{seq} H{heads} P{width} N{state} G{groups} Q{tiles.chunk}"
    name += "".join(f" {word}" for word, there in (("packed", packed), ("started", started)) if there)
    move = (t if t is None else t.to(device) for t in (*(found[k] for k in NAMES), segments))
    *given, segments = move
    return given, segments, tiles, name


def errors(seed: int, dtype: torch.dtype, device: str) -> tuple[str, dict[str, float], int]:
    """One case: what it is called, its errors, and how many numbers are not finite."""
    given, segments, tiles, name = drawn(seed, dtype, device)
    wide = [None if t is None else t.double().requires_grad_() for t in given]
    x, initial = given[0], given[6]
    empty = torch.zeros(x.shape[0], *x.shape[2:], given[3].shape[3], device=device, dtype=torch.float64)
    expected = reference.ssd_recurrent(
        *wide[:5], D=wide[5], initial_state=empty if initial is None else wide[6], segments=segments
    )
    made = torch.Generator().manual_seed(seed + 1)
    dy = torch.randn(x.shape, generator=made).to(x)
    dfinal = torch.randn(expected[1].shape, generator=made).to(device)
    asked = [t for t in wide if t is not None]
    slopes = torch.autograd.grad(expected, asked, (dy.double(), dfinal.double()), allow_unused=True)
    got = scan_forward(*given, segments, tiles)
    found = scan_backward(dy, dfinal, *given, segments, got.states, got.decays, tiles)
    pairs = [("y", got.y, expected[0].detach()), ("final", got.final, expected[1].detach())]
    present = [(n, t) for n, t, there in zip(NAMES, found, given, strict=True) if there is not None]
    pairs += [(n, t, s) for (n, t), s in zip(present, slopes, strict=True) if s is not None]
    bad = sum(int((~t.isfinite()).sum()) for _, t, _ in pairs)
    # A gradient that is nothing but the rounding of others has no size of its own to be compared with.
    return name, {n: distance(a, b) for n, a, b in pairs if b.norm() > 1e-12}, bad


def row(task: tuple[int, torch.dtype, str]) -> dict[str, Any]:
    """One case as a line of the result."""
    name, found, bad = errors(*task)
    return {"seed": task[0], "case": name, "errors": found, "not finite": bad}


def run(cases: int, first: int, dtype: torch.dtype, device: str, jobs: int) -> Iterator[dict[str, Any]]:
    """All cases; on a GPU most of their time is compiling, which several processes do side by side."""
    tasks = [(seed, dtype, device) for seed in range(first, first + cases)]
    if jobs == 1:
        yield from map(row, tasks)
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(row, tasks)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Median and greatest error of each tensor, and the case of the greatest, as Markdown."""
    yield "| of | median | greatest | in |\n|---|---|---|---|"
    for name in dict.fromkeys(n for row in rows for n in row["errors"]):
        having = [row for row in rows if name in row["errors"]]
        worst = max(having, key=lambda row: row["errors"][name])
        middle = median(row["errors"][name] for row in having)
        yield f"| {name} | {middle:.1e} | {worst['errors'][name]:.1e} | {worst['seed']}: {worst['case']} |"
    yield f"\n{len(rows)} cases; {sum(row['not finite'] for row in rows)} numbers that are not finite"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="float32")
    parser.add_argument("--jobs", type=int, default=1, help="processes; with --device cuda")
    parser.add_argument("--json", help="write the cases there")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        mend_interpreter()
    dtype, jobs = getattr(torch, arguments.dtype), arguments.jobs if arguments.device == "cuda" else 1
    rows = []
    for found in run(arguments.cases, arguments.first, dtype, arguments.device, jobs):
        rows.append(found)
        if found["not finite"]:
            print(json.dumps(found), flush=True)
    print("\n".join(table(rows)))
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"made_by": made_by(arguments.device), "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
