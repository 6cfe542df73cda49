"""Triton's kernels of sparse steps, compiled where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="there is nothing to compile with")

COMPILING = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
from saes.dictionaries import kernels, ranking, searching

def compiled(kernel, *given, grid, warmup, num_warps):
    signature, constants, attributes = {}, {}, {}
    for i, (parameter, value) in enumerate(zip(kernel.params, given, strict=True)):
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            names = {torch.float32: "*fp32", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64"}
            signature[parameter.name], attributes[(i,)] = names[value.dtype], [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i64" if value >= 2**31 else "i32"
            if isinstance(value, int) and value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    print(kernel.fn.__name__)

JITFunction.run = compiled
index, start, weight = torch.zeros(64, dtype=torch.long), torch.arange(0, 64, 8), torch.ones(64)
for d in (300, 1024):
    rows = torch.zeros(64, d)
    kernels.sum_rows(rows, index, weight, start)
    kernels.sum_rows(rows, index, weight, start, order=index, scale=0.5, share=2)
    for levels in (1, 2, 8):
        kernels.errors(rows, index, weight, start, rows[: 8 // levels])
    kernels.inner(rows, rows, index, index, bias=weight)
    kernels.inner(rows, rows, index, index, gate=weight, scale=0.5)
kernels.per_bag(weight, index, start, counted=False)
kernels.per_bag(weight, index, start, counted=True)
for width, k in ((300, 1), (300, 9), (15360, 32), (32768, 64)):
    searching.by_groups(torch.zeros(2, width), k)
    searching.by_columns(torch.zeros(2, width), k)
for length, n in ((300, 1), (300, 9), (300, 300), (65536, 512)):
    ranking.largest_of_all(torch.zeros(length), n)
whole, places = torch.zeros(8, dtype=torch.int32), torch.zeros(8, dtype=torch.int16)
ranking._list[(1,)](weight, whole, whole, whole, places, whole, 2**33, 9, 16, 256, num_warps=8)
"""


def test_every_kernel_compiles_for_an_h100() -> None:
    """What the interpreter runs need not compile, as where a name has two shapes behind a branch."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(root)}
    ran = subprocess.run(
        [sys.executable, "-c", COMPILING],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    expected = {
        "_sum_rows",
        "_errors",
        "_inner",
        "_added",
        "_per_bag",
        "_maxima",
        "_in_groups",
        "_in_columns",
        "_count",
        "_add_up",
        "_list",
        "_write",
    }
    assert set(ran.stdout.split()) == expected
