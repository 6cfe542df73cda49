"""What one call of the scan costs the host: microseconds of Python, up to where Triton's launcher would call CUDA.

    python benchmarks/scan_host.py --json host.json

Needs no GPU, only a Triton for CUDA. Kernels are neither compiled nor run: a driver that answers as a Hopper would,
and a launcher whose last call does nothing, leave all else as it is. Arrays are short, so that what they cost on a CPU
does not show; the heads are those of *toy*. Not in it: what CUDA takes to launch, and autograd's thread of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["TRITON_INTERPRET"] = "0"

import torch
from scan import Shape, draw, leaves, made_by, plain
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.driver import CudaLauncher
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from tinysql.kernels import operators

SHAPE = Shape(1, 64, 16, 64, 128, 1)
CALLS, REPEATS = 500, 15


class Hopper:
    """Triton's driver, as far as a launch asks it."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


class Compiled:
    """Triton's `CompiledKernel`, whose launcher does all but the call of CUDA."""

    function, packed_metadata = 1, ()

    def __init__(self) -> None:
        self.run = CudaLauncher.__new__(CudaLauncher)
        vars(self.run).update(
            launch=lambda *_: None, arg_annotations=(), kernel_signature=(), num_ctas=1, launch_cooperative_grid=False,
            launch_pdl=False, global_scratch_size=0, global_scratch_align=1, profile_scratch_size=0,
            profile_scratch_align=1,
        )  # fmt: skip

    def launch_metadata(self, *_: Any) -> None:
        return None

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        def launched(*arguments: Any) -> None:
            stream = driver.active.get_current_stream(driver.active.get_current_device())
            self.run(*grid, stream, self.function, self.packed_metadata, None, None, None, *arguments)

        return launched


def compiled(kernel: Any, key: Any, signature: Any, device: int, *rest: Any) -> Compiled:
    """In place of Triton's compilation, what it would have kept."""
    return kernel.device_caches[device][0].setdefault(key, Compiled())


def calls() -> dict[str, Callable[[], Any]]:
    """What is timed."""
    given = draw(SHAPE, torch.bfloat16, "cpu")
    wanted = leaves(given, plain)
    args = (*(given[name] for name in ("x", "dt", "log_decay", "B", "C", "D")), None, None)
    dy = torch.ones_like(given["x"], requires_grad=False)

    def without(run: Callable[..., Any]) -> Callable[[], Any]:
        return torch.no_grad()(lambda: run(*args))

    def both(run: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(run(*args)[0], wanted, dy)

    return {
        "forward, no gradients": without(operators.scan),
        "forward": lambda: operators.scan(*args),
        "forward and backward": both(operators.scan),
        "operator, no gradients": without(operators._scan),
        "operator, forward and backward": both(operators._scan),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the rows there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    driver.set_active(Hopper())
    rows = {}
    with patch.object(JITFunction, "_do_compile", compiled):
        for name, run in calls().items():
            run()
            rows[name] = round(min(timeit.repeat(run, number=CALLS, repeat=REPEATS)) / CALLS * 1e6, 1)
            print(f"{name:32} {rows[name]:7.1f} us")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"made_by": made_by("cpu"), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
