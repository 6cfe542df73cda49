"""What the scan's kernels cost and how exact they are, beside the reference and other packages, on one device.

    python benchmarks/scan.py --device cuda --json scan.json
    python benchmarks/scan.py --device cuda --check
    python benchmarks/scan.py --tiny

Milliseconds are medians of a call: `eager` with what the host does, `graph` replayed as a CUDA graph. A floor is what
bytes or products alone would take at the rates that this run measures. Errors are against `reference.ssd_scan` in
float64, `|a - b| / |b|` over all numbers of a tensor. Packages that cannot be imported have a row that says so.
`--check` goes over every entry of the table at odd shapes and over extreme inputs. `--tiny` runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

if not {"--device", "--compile"} & set(sys.argv):
    os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
import triton
from torch import Tensor

from tinysql.kernels import operators, reference
from tinysql.kernels.gradients import scan_backward
from tinysql.kernels.scan import scan_forward
from tinysql.kernels.step import step_forward
from tinysql.kernels.tiles import TABLE

REPEATS, CALLS = 11, 10
NAMES = ("x", "dt", "log_decay", "B", "C", "D", "initial")


class Shape(NamedTuple):
    """Sizes of one scan."""

    batch: int
    seq: int
    heads: int
    width: int
    state: int
    groups: int


SHAPES = {
    "toy": Shape(8, 512, 16, 64, 128, 1),
    "batch": Shape(128, 256, 16, 64, 128, 1),
    "big": Shape(8, 4096, 32, 64, 128, 8),
    "long": Shape(1, 131072, 32, 64, 128, 8),
}
TINY = {"tiny": Shape(1, 40, 2, 16, 16, 1)}
STEPS = {"decode 64": Shape(64, 1, 32, 64, 128, 8), "decode 512": Shape(512, 1, 32, 64, 128, 8)}
ODD = [
    Shape(2, seq, 8, width, state, groups)
    for seq in (1, 63, 65, 513, 1000)
    for width, state, groups in ((32, 16, 1), (48, 64, 2), (64, 128, 8), (128, 256, 1), (64, 128, 2))
]


def draw(shape: Shape, dtype: torch.dtype, device: str, strength: float = 1.0) -> dict[str, Tensor]:
    """Inputs of a scan as a trained block has them: steps of .001 to .1, A of 1 to 16."""
    b, s, h, p, n, g = shape
    made = torch.Generator(device).manual_seed(0)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=made, device=device)

    dt = torch.exp(torch.rand(b, s, h, generator=made, device=device) * 4.6 - 6.9) * strength
    A = -torch.linspace(1, 16, h, device=device) * strength
    found = {"x": normal(b, s, h, p), "B": normal(b, s, g, n), "C": normal(b, s, g, n)}
    found = {name: value.to(dtype) for name, value in found.items()}
    return {**found, "dt": dt, "A": A, "log_decay": dt * A, "D": normal(h)}


# Each gives y for the inputs of `draw`.


def ours(i: dict[str, Tensor]) -> Tensor:
    return operators.scan(i["x"], i["dt"], i["log_decay"], i["B"], i["C"], i["D"], None, None)[0]


def ours_from_A(i: dict[str, Tensor]) -> Tensor:
    return operators.scan(i["x"], i["dt"], i["dt"] * i["A"], i["B"], i["C"], i["D"], None, None)[0]


def plain(i: dict[str, Tensor]) -> Tensor:
    return reference.ssd_scan(i["x"], i["dt"], i["log_decay"], i["B"], i["C"], D=i["D"]).y


def compiled(i: dict[str, Tensor]) -> Tensor:
    return _compiled(i)


_compiled = torch.compile(plain)


def mamba_ssm(i: dict[str, Tensor]) -> Tensor:
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    return mamba_chunk_scan_combined(i["x"], i["dt"], i["A"], i["B"], i["C"], chunk_size=128, D=i["D"])


def fla(i: dict[str, Tensor]) -> Tensor:
    from fla.ops.simple_gla import chunk_simple_gla

    each = i["x"].shape[2] // i["B"].shape[2]
    q, k = (i[name].repeat_interleave(each, 2) for name in ("C", "B"))
    v = (i["x"] * i["dt"][..., None]).to(i["x"].dtype)
    return chunk_simple_gla(q, k, v, g=i["log_decay"], scale=1.0)[0] + i["D"][:, None].to(v.dtype) * i["x"]


ROWS = {
    "kernels": ours,
    "kernels, dt * A in it": ours_from_A,
    "reference": plain,
    "reference, compiled": compiled,
    "mamba_ssm": mamba_ssm,
    "fla simple_gla": fla,
}


def leaves(i: dict[str, Tensor], run: Callable[..., Tensor]) -> list[Tensor]:
    """What gradients are taken of."""
    steps = ("dt", "A") if run in (ours_from_A, mamba_ssm) else ("dt", "log_decay")
    return [i[name].requires_grad_() for name in ("x", *steps, "B", "C", "D")]


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], device: str, calls: int = CALLS) -> float:
    """Median milliseconds of a call, of several in a row."""
    run()
    found = []
    for _ in range(REPEATS):
        wait(device)
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        wait(device)
        found.append((time.perf_counter() - begun) * 1000 / calls)
    return round(median(found), 4)


def graphed(run: Callable[[], Any]) -> Callable[[], None]:
    """`run` captured once, to be replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def both(run: Callable[[], Any], device: str) -> dict[str, float | str]:
    """The eager and the graphed time of `run`."""
    found: dict[str, float | str] = {"eager": timed(run, device)}
    if device == "cuda":
        found["graph"] = guarded(lambda: timed(graphed(run), device))
    return found


def distance(a: Tensor, b: Tensor) -> float:
    """`|a - b| / |b|`."""
    return float(f"{((a.double() - b).norm() / b.norm().clamp_min(1e-30)).item():.2e}")


def exact(shape: Shape, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """y in float64, the gradient given to it, and the gradients of `leaves` of `plain`, for the rounded inputs."""
    given = {name: value.double() for name, value in draw(shape, dtype, device).items()}
    wanted = leaves(given, plain)
    y = plain(given)
    dy = torch.randn(y.shape, generator=torch.Generator(device).manual_seed(1), device=device)
    return y.detach(), dy, [g.detach() for g in torch.autograd.grad(y, wanted, dy.double())]


def measured(
    run: Callable[..., Tensor],
    shape: Shape,
    dtype: torch.dtype,
    device: str,
    truth: tuple[Tensor, Tensor, list[Tensor]],
) -> dict[str, Any]:
    """Times, errors and memory of one implementation at one shape."""
    given = draw(shape, dtype, device)
    begun = time.perf_counter()
    with torch.no_grad():
        y = run(given)
    wait(device)
    row: dict[str, Any] = {"first call, s": round(time.perf_counter() - begun, 2)}
    with torch.no_grad():
        row["forward"] = both(lambda: run(given), device)
    wanted, dy = leaves(given, run), truth[1].to(y.dtype)

    def whole() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(given), wanted, dy)

    row["forward+backward"] = both(whole, device)
    row["errors"] = {"y": distance(y, truth[0])}
    names = ("x", "dt", "log_decay", "B", "C", "D")
    if run not in (ours_from_A, mamba_ssm):  # their dt and A stand for other derivatives
        row["errors"] |= {n: distance(a, b) for n, a, b in zip(names, whole(), truth[2], strict=True)}
    if device == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        whole()
        row["peak MB"] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    return row


def rates(device: str) -> dict[str, float]:
    """GB/s of a copy and TFLOP/s of a bfloat16 product, measured here."""
    if device != "cuda":
        return {}
    a, m = (
        torch.empty(2**28, device=device, dtype=torch.int32),
        torch.randn(8192, 8192, device=device).bfloat16(),
    )
    copy, product = timed(a.clone, device), timed(lambda: m @ m, device)
    return {"GB/s": round(2 * a.numel() * 4 / copy / 1e6), "TFLOP/s": round(2 * 8192**3 / product / 1e9)}


def floors(shape: Shape, rate: dict[str, float], chunk: int = 64, size: int = 2) -> dict[str, float]:
    """Milliseconds that bytes or products alone take, forward and with backward; every array touched once."""
    b, s, h, p, n, g = shape
    forward_bytes, forward = (
        size * (2 * h * p + 2 * g * n) + 4 * h,
        g * chunk * n + h * chunk * p + 4 * h * n * p,
    )
    backward_bytes = size * (3 * h * p + 4 * g * n) + 8 * h
    backward = 3 * g * chunk * n + 2 * h * chunk * p + 8 * h * n * p

    def at(number: float, products: float) -> float:
        return round(b * s * max(number / rate["GB/s"] / 1e6, products / rate["TFLOP/s"] / 1e9), 4)

    return {
        "forward": at(forward_bytes, forward),
        "forward+backward": at(forward_bytes, forward) + at(backward_bytes, backward),
    }


def steps(device: str, shapes: dict[str, Shape]) -> dict[str, Any]:
    """The decoding step."""
    found = {}
    for name, shape in shapes.items():
        given = draw(shape, torch.bfloat16 if device == "cuda" else torch.float32, device)
        state = torch.randn(shape.batch, shape.heads, shape.width, shape.state, device=device)
        args = (*(given[k][:, 0] for k in ("x", "dt", "log_decay", "B", "C")), state)
        faster = torch.compile(reference.ssd_step)

        def peer(args: tuple[Tensor, ...] = args, given: dict[str, Tensor] = given) -> Tensor:
            from mamba_ssm.ops.triton.selective_state_update import selective_state_update

            x, dt, _, B, C, state = args
            heads, width = x.shape[1:]
            wide = (heads, width)
            A = given["A"][:, None, None].expand(*wide, state.shape[3])
            per_head = (given["D"], torch.zeros_like(given["D"]))
            D, bias = (t[:, None].expand(wide) for t in per_head)  # without a bias its own check fails
            steps = dt[:, :, None].expand(-1, -1, width)
            return selective_state_update(state, x, steps, A, B, C, D, dt_bias=bias)

        rows = {
            "kernels": lambda args=args, D=given["D"]: step_forward(*args, D),
            "reference": lambda args=args, D=given["D"]: reference.ssd_step(*args, D=D),
            "reference, compiled": lambda args=args, D=given["D"], run=faster: run(*args, D=D),
            "mamba_ssm": peer,
        }
        with torch.no_grad():
            found[name] = {row: guarded(lambda run=run: both(run, device)) for row, run in rows.items()}
    return found


def guarded(run: Callable[[], Any]) -> Any:
    """What `run` gives, or why it could not, as the table's entry."""
    try:
        return run()
    except Exception as problem:  # whatever a peer's kernel dies of must not cost the rows of the others
        return f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"[:160]


def checks(device: str, shapes: list[Shape]) -> Iterator[tuple[str, Any]]:
    """Every entry of the table at odd shapes, packed and not, with states; then extreme inputs, for NaN and Inf."""
    for single, config in TABLE.items():
        # Triton's interpreter cannot multiply bfloat16.
        narrow = (torch.bfloat16, torch.float16) if device == "cuda" else (torch.float16,)
        for dtype in (torch.float32,) if single else narrow:
            for shape in shapes:
                for packed in (False, True):
                    where = f"{dtype} {tuple(shape)}{' packed' if packed else ''}"
                    yield where, guarded(lambda a=(shape, dtype, device, packed, config): compared(*a))
            # Of float16 the results themselves go out of range.
            for strength in () if dtype == torch.float16 else (0.0, 1.0, 10.0, 100.0, 1000.0):
                given = draw(Shape(2, 300, 8, 64, 128, 2), dtype, device, strength)
                given["log_decay"] = given["log_decay"].clamp_min(-1e3)
                args = (*(given[k] for k in NAMES[:6]), None, None)
                got = scan_forward(*args, config)
                slopes = scan_backward(
                    torch.ones_like(got.y), got.final, *args, got.states, got.decays, config
                )
                bad = sum(int((~t.isfinite()).sum()) for t in (got.y, got.final, *slopes))
                yield f"extreme {dtype} strength {strength}", bad


def compared(shape: Shape, dtype: torch.dtype, device: str, packed: bool, config: Any) -> dict[str, float]:
    """Errors of outputs and of all gradients against float64."""
    given = draw(shape, dtype, device)
    given["initial"] = torch.randn(shape.batch, shape.heads, shape.width, shape.state, device=device)
    segments = (torch.rand(shape[:2], device=device) < 0.02).long().cumsum(1) if packed else None
    narrow = [given[name] for name in NAMES]
    wide = [t.double().requires_grad_() for t in narrow]
    expected = reference.ssd_scan(*wide[:5], D=wide[5], initial_state=wide[6], segments=segments)
    dy, dfinal = torch.randn_like(narrow[0]), torch.randn_like(narrow[6])
    slopes = torch.autograd.grad(tuple(expected), wide, (dy.double(), dfinal.double()))
    got = scan_forward(*narrow, segments, config)
    found = scan_backward(dy, dfinal, *narrow, segments, got.states, got.decays, config)
    again = scan_backward(dy, dfinal, *narrow, segments, got.states, got.decays, config)
    errors = {"y": distance(got.y, expected.y), "final": distance(got.final, expected.state)}
    errors |= {name: distance(a, b) for name, a, b in zip(NAMES, found, slopes, strict=True)}
    return errors | {
        "differs from rerun": float(any(not a.equal(b) for a, b in zip(found, again, strict=True)))
    }


def made_by(device: str) -> dict[str, str]:
    """Device, versions and time of a run."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--tiny", action="store_true", help="one small shape in float32, anywhere")
    parser.add_argument("--check", action="store_true", help="errors of every entry of the table, no times")
    parser.add_argument("--json", help="write the tables there")
    arguments = parser.parse_args()
    device, dtype = arguments.device, getattr(torch, "float32" if arguments.tiny else arguments.dtype)
    result: dict[str, Any] = {"made_by": made_by(device)}
    if arguments.check:
        result["check"] = {}
        for name, found in checks(device, list(TINY.values()) if arguments.tiny else ODD):
            result["check"][name] = found
            print(f"{name:60} {found}", flush=True)
    else:
        result["rates"] = rate = rates(device)
        for name, shape in (TINY if arguments.tiny else {n: SHAPES[n] for n in arguments.shapes}).items():
            truth = exact(shape, dtype, device)
            if rate:
                result.setdefault("floors", {})[name] = floors(shape, rate)
            for row in arguments.rows:
                found = guarded(lambda a=(ROWS[row], shape, dtype, device, truth): measured(*a))
                result.setdefault(name, {})[row] = found
                print(f"{name:8} {row:22} {found}", flush=True)
        result["decode"] = steps(device, {"tiny": Shape(2, 1, 2, 16, 16, 1)} if arguments.tiny else STEPS)
        print(json.dumps({k: result[k] for k in ("rates", "floors", "decode") if k in result}, indent=1))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
