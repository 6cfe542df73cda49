"""Candidates for the table of tiles -> what each compiles to, whether its numbers are right, and its times.

    python benchmarks/scan_tiles.py --compile --json compiled.json
    python benchmarks/scan_tiles.py --device cuda --json tiles.json
    python benchmarks/scan_tiles.py --tiny

`--compile` needs no GPU: every kernel is compiled for Hopper (sm_90), and registers, spilled bytes and shared memory
of a program are read off the result. With `--device cuda` each candidate is first compiled and checked against
float64 at a small shape with the same heads, in several processes side by side; what is wrong, or not the same bits
twice, is never timed. Milliseconds are medians over repeats of a CUDA graph's replay. `--tiny` checks anywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from scan import SHAPES, TINY, Shape, compared, draw, graphed, guarded, made_by, timed
from torch import Tensor

from tinysql.kernels.gradients import scan_backward
from tinysql.kernels.scan import scan_forward
from tinysql.kernels.tiles import TABLE, Tiles

BOUND = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Greatest `|a - b| / |b|` of any output or gradient of a right candidate."""
SHARED_LIMIT = 232448
"""Bytes of shared memory that one program may have on Hopper."""


class Launch(NamedTuple):
    """One kernel as it would be launched."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, int]


def candidates(shape: Shape, dtype: torch.dtype) -> Iterator[Tiles]:
    """Forward and backward choices varied apart from each other, around the table's own."""
    table = TABLE[dtype == torch.float32]
    found = {table: None}
    chunks = (16, 32) if dtype == torch.float32 else (32, 64, 128)
    for chunk, heads, warps, stages in itertools.product(chunks, (2, 4), (4, 8), (1, 2, 3)):
        found[dataclasses.replace(table, chunk=chunk, heads=heads, forward_warps=warps, stages=stages)] = None
    for heads, warps, stages in itertools.product((1, 2, 4, 8), (4, 8), (1, 2)):
        ours = {"backward_heads": heads, "backward_warps": warps, "backward_stages": stages}
        found[dataclasses.replace(table, **ours)] = None
    for block, warps, stages in itertools.product((64, 128), (4, 8), (1, 2, 3, 4)):
        found[dataclasses.replace(table, mix_block=block, mix_warps=warps, mix_stages=stages)] = None
    for block, warps, stages in itertools.product((32, 64, 128), (2, 4, 8), (1, 2, 3, 4)):
        found[dataclasses.replace(table, state_block=block, state_warps=warps, state_stages=stages)] = None
    yield from found


def launches(shape: Shape, tiles: Tiles, dtype: torch.dtype, packed: bool = False) -> list[Launch]:
    """All kernels of a scan and of its gradients, recorded instead of run."""
    from triton.runtime.jit import JITFunction

    given = draw(shape, dtype, "cpu")
    args = (*(given[k] for k in ("x", "dt", "log_decay", "B", "C", "D")), None)
    segments = torch.zeros(shape[:2], dtype=torch.long) if packed else None
    found: list[Launch] = []

    def record(kernel: Any, *values: Any, grid: Any, warmup: bool, **options: int) -> None:
        found.append(Launch(kernel, dict(zip(kernel.arg_names, values, strict=True)), options))

    with patch.object(JITFunction, "run", record):
        got = scan_forward(*args, segments, tiles)
        scan_backward(torch.zeros_like(got.y), got.final, *args, segments, got.states, got.decays, tiles)
    return found


def compiled(launch: Launch) -> dict[str, Any]:
    """Registers, spilled bytes (stack) and shared memory of a program, of the kernel compiled for sm_90."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[parameter.name] = "*" + NAMES[value.dtype]
            attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(launch.options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (int(n) for n in re.search(r"REG:(\d+) STACK:(\d+)", text).groups())
    shared = made.metadata.shared
    return {"registers": registers, "stack": stack, "shared": shared, "fits": shared <= SHARED_LIMIT}


NAMES = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int64: "i64", torch.uint8: "u8",
}  # fmt: skip


def compile_all(shapes: dict[str, Shape], dtypes: list[torch.dtype], every: bool) -> Iterator[dict[str, Any]]:
    """One row per kernel of the table's entries, or of `every` candidate."""
    for (name, shape), dtype in itertools.product(shapes.items(), dtypes):
        short = min(shape.seq, 512)
        own = TABLE[dtype == torch.float32]
        for tiles in candidates(shape, dtype) if every else [own]:
            seen = set()
            for launch in launches(shape._replace(batch=1, seq=short), tiles, dtype):
                flags = {k: launch.arguments.get(k) for k in ("REVERSE", "KEEP")}
                flags = {k: v for k, v in flags.items() if v is not None}
                line = {"shape": name, "dtype": NAMES[dtype], "kernel": launch.kernel.fn.__name__} | flags
                if str(line) not in seen:
                    seen.add(str(line))
                    yield line | {"tiles": told(tiles)} | guarded_row(launch)


def guarded_row(launch: Launch) -> dict[str, Any]:
    """`compiled`, or why not."""
    found = guarded(lambda: compiled(launch))
    return found if isinstance(found, dict) else {"failed": found}


def told(tiles: Tiles) -> dict[str, Any]:
    """What distinguishes a candidate."""
    return {name: value for name, value in vars(tiles).items() if name not in ("walks", "span")}


def check(task: tuple[Shape, torch.dtype, str, Tiles]) -> dict[str, Any]:
    """Errors of a candidate at a small shape of the same heads, packed and not, and whether they are small."""
    shape, dtype, device, tiles = task
    small = shape._replace(batch=1, seq=min(shape.seq, 3 * tiles.chunk + 5))
    found = guarded(lambda: [compared(small, dtype, device, packed, tiles) for packed in (False, True)])
    if isinstance(found, str):
        return {"right": False, "why": found}
    errors = {name: max(one[name] for one in found) for name in found[0]}
    right = all(value <= BOUND[dtype] for value in errors.values()) and not errors["differs from rerun"]
    return {"right": right, "errors": errors}


def times(shape: Shape, dtype: torch.dtype, device: str, tiles: Tiles) -> dict[str, Any]:
    """Milliseconds of forward and of backward alone."""
    given = draw(shape, dtype, device)
    args = (*(given[k] for k in ("x", "dt", "log_decay", "B", "C", "D")), None, None)
    got = scan_forward(*args, tiles)
    dy = torch.ones_like(got.y)

    def back() -> Any:
        return scan_backward(dy, None, *args, got.states, got.decays, tiles)

    return {
        "forward": timed(graphed(lambda: scan_forward(*args, tiles)), device),
        "backward": timed(graphed(back), device),
    }


def tune(
    shapes: dict[str, Shape], dtype: torch.dtype, device: str, jobs: int, most: int | None
) -> Iterator[dict[str, Any]]:
    """Candidates (at `most` so many) of every shape: checked, and timed where they are right."""
    tasks = [
        (name, shape, t) for name, shape in shapes.items() for t in islice(candidates(shape, dtype), most)
    ]
    alike = list(dict.fromkeys((s._replace(batch=1, seq=999), dtype, device, t) for _, s, t in tasks))
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            verdicts = dict(zip(alike, pool.map(check, alike), strict=True))
    else:
        verdicts = dict(zip(alike, map(check, alike), strict=True))
    for name, shape, tiles in tasks:
        row = {"shape": name, "tiles": told(tiles)} | verdicts[
            shape._replace(batch=1, seq=999), dtype, device, tiles
        ]
        if row["right"] and device == "cuda":
            row["ms"] = guarded(lambda a=(shape, dtype, device, tiles): times(*a))
        yield row


def best(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The fastest right candidates of each shape, forward and backward."""
    for name in dict.fromkeys(row["shape"] for row in rows):
        timed_rows = [r for r in rows if r["shape"] == name and isinstance(r.get("ms"), dict)]
        for part in ("forward", "backward"):
            for row in sorted(timed_rows, key=lambda r: r["ms"][part])[:3]:
                yield f"{name:6} {part:8} {row['ms'][part]:8.4f} ms  {row['tiles']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument(
        "--compile", action="store_true", help="compile for Hopper and stop, with or without a GPU"
    )
    parser.add_argument(
        "--every", action="store_true", help="with --compile: every candidate, not the table's alone"
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--jobs", type=int, default=1, help="processes that compile and check")
    parser.add_argument("--tiny", action="store_true", help="two candidates of a small shape in float32")
    parser.add_argument("--json", help="write the rows there")
    arguments = parser.parse_args()
    shapes = TINY if arguments.tiny else {name: SHAPES[name] for name in arguments.shapes}
    dtype = torch.float32 if arguments.tiny else getattr(torch, arguments.dtype)
    if arguments.compile:
        found = compile_all(shapes, [dtype], arguments.every)
    else:
        found = tune(shapes, dtype, arguments.device, arguments.jobs, 2 if arguments.tiny else None)
    rows = []
    for row in found:
        rows.append(row)
        print(json.dumps(row), flush=True)
    print("\n".join(best(rows)))
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"made_by": made_by(arguments.device), "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
