"""What a training step of an SAE costs: multiples of its five bare matrix products, and transient memory.

    python benchmarks/sae.py --json sae.json
    python benchmarks/sae.py --peers DIR --json sae.json      # DIR holds dictionary_learning and sparsify
    python benchmarks/sae.py --device cuda --shapes bm1 bm2 bm3 --longest --json sae-gpu.json

One CPU thread, d_in 512, d_sae 4096, k 32, batch 2048, float32, activations with 2,048 true features in memory. The
five products (encode, decode, and three of the backward pass) are timed beside every step in the same process, in
processor seconds, and a row's multiple is the median over its rounds. Memory is the most that one step allocates beyond
what stands before it, in units of batch x d_sae floats: as PyTorch's profiler counts allocations on the CPU, by its
allocator on a GPU. There milliseconds are the device's, at one of TinySQL's shapes in batches of 16,384, and the
five products are float32 as well. `bound ms` is what a step of that kind costs at least, by ceilings measured first
(`sae_bound.py`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

import torch
from torch import Tensor

from benchmarks.sae_bound import Ceilings, Shape, Step, bound, ceilings, seconds
from data_gen.files import write_atomic
from saes.disk import stock
from saes.training.config import SAEConfig
from saes.training.loop import Loop

FEATURES = 2048
ROUNDS, BATCHES = 7, 4
LOOKING = 496
"""Half way, a step at which every device looks for dead latents (`saes.training.loop.LOOK_EVERY`)."""


SHAPES = {
    "tiny": Shape(64, 512, 8, 128),
    "small": Shape(512, 4096, 32, 2048),
    "bm1": Shape(1024, 15 * 1024, 32, 16_384),
    "bm2": Shape(896, 16 * 896, 64, 16_384),
    "bm3": Shape(2048, 16 * 2048, 64, 16_384),
}


def activations(shape: Shape, device: str) -> list[Tensor]:
    """Batches of sparse sums of random directions, scaled to a mean squared norm of d_in."""
    generator = torch.Generator(device).manual_seed(0)
    here: Any = {"generator": generator, "device": device}
    directions = torch.nn.functional.normalize(torch.randn(FEATURES, shape.d_in, **here), dim=1)
    found = []
    for _ in range(BATCHES):
        active = torch.rand(shape.batch, FEATURES, **here) < shape.k / FEATURES
        strength = active * torch.rand(shape.batch, FEATURES, **here)
        x = strength @ directions
        found.append(x * (shape.d_in / x.square().sum(1).mean()).sqrt())
    return found


def floor(x: Tensor, d_sae: int) -> Step:
    """The five products on matrices of these shapes."""
    weights = torch.randn(d_sae, x.shape[1], device=x.device)
    dense = torch.randn(len(x), d_sae, device=x.device)

    def products(_: Tensor) -> tuple[Tensor, ...]:
        return x @ weights.T, dense @ weights, x @ weights.T, dense.T @ x, dense.T @ x

    return products


def ours(shape: Shape, device: str, architecture: Any, *, n_dead: int = 0, form: Any = "sae") -> Step:
    """A step of ours, in which `n_dead` latents are held to be dead.

    A crosscoder reads the same numbers as four hooks side by side; a transcoder reads x and writes x.
    """
    config = SAEConfig(
        architecture=architecture,
        form=form,
        d_sae=shape.d_sae,
        k=shape.k,
        widths=shape.widths if architecture == "matryoshka" else None,
        batch_size=shape.batch,
        dead_after=1000,
    )
    writes = form.endswith("transcoder")
    loop = Loop.begin(
        config,
        d_in=shape.d_in,
        d_out=shape.d_in if writes else None,
        skip=form == "skip_transcoder",
        hooks=(shape.d_in // 4,) * 4 if form == "crosscoder" else None,
        device=torch.device(device),
    )

    loop.step = LOOKING

    def step(x: Tensor) -> None:
        if n_dead:
            loop.since_fired[:n_dead] = 2000
        loop.advance(x, x if writes else None)
        loop.step = LOOKING + 1  # the first step alone waits for the device

    return step


def sae_lens(shape: Shape, device: str, name: str, *, n_dead: int = 0, **settings: Any) -> Step:
    """A step of sae-lens' own trainer, with its defaults."""
    config = getattr(stock(), f"{name}TrainingSAEConfig")(
        d_in=shape.d_in, d_sae=shape.d_sae, device=device, **settings
    )
    sae = getattr(stock(), f"{name}TrainingSAE")(config)
    trainer_config = stock().config.SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=shape.batch,
        lr=4e-3,
        lr_end=4e-3,
        device=device,
        dead_feature_window=1000,
    )
    trainer = stock().training.sae_trainer.SAETrainer(trainer_config, sae, iter([]))

    def step(x: Tensor) -> None:
        if n_dead:
            trainer.n_forward_passes_since_fired[:n_dead] = 2000
        trainer.step(x)

    return step


def dictionary_learning(shape: Shape, device: str, module: str, name: str, **settings: Any) -> Step:
    """A step of dictionary_learning's trainer; nnsight, which its step does not use, is stood in for."""
    for missing in ("nnsight", "datasets", "zstandard", "wandb"):
        try:
            importlib.import_module(missing)
        except ImportError:
            stand_in: Any = types.ModuleType(missing)
            stand_in.LanguageModel = stand_in.load_dataset = object
            sys.modules[missing] = stand_in
    trainers = importlib.import_module(f"dictionary_learning.trainers.{module}")
    trainer = getattr(trainers, name)(
        steps=10**6,
        activation_dim=shape.d_in,
        dict_size=shape.d_sae,
        k=shape.k,
        layer=0,
        lm_name="m",
        device=device,
        **settings,
    )
    number = iter(range(1, 10**6))
    return lambda x: trainer.update(next(number), x)


def sparsify(shape: Shape, device: str) -> Step:
    """The inner loop of sparsify's trainer with its Adam: forward, backward, projection, step, unit rows."""
    package = importlib.import_module("sparsify")
    config = package.SparseCoderConfig(num_latents=shape.d_sae, k=shape.k)
    coder = package.SparseCoder(shape.d_in, config, device=device)
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-3)

    def step(x: Tensor) -> None:
        output = coder(x)
        (output.fvu + output.auxk_loss).backward()
        torch.nn.utils.clip_grad_norm_(coder.parameters(), 1.0)
        if config.normalize_decoder:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        if config.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()

    return step


def cases(shape: Shape, device: str) -> dict[str, Callable[[], Step]]:
    """Every row of the table."""
    at, quarter = (shape, device), shape.d_sae // 4
    nested = {"k": shape.k, "matryoshka_widths": list(shape.widths)}
    return {
        "tinysql topk": lambda: ours(*at, "topk"),
        "tinysql batchtopk": lambda: ours(*at, "batchtopk"),
        "tinysql matryoshka": lambda: ours(*at, "matryoshka"),
        "tinysql topk, a quarter dead": lambda: ours(*at, "topk", n_dead=quarter),
        "tinysql standard": lambda: ours(*at, "standard"),
        "tinysql gated": lambda: ours(*at, "gated"),
        "tinysql jumprelu": lambda: ours(*at, "jumprelu"),
        "tinysql transcoder": lambda: ours(*at, "batchtopk", form="transcoder"),
        "tinysql skip transcoder": lambda: ours(*at, "batchtopk", form="skip_transcoder"),
        "tinysql crosscoder": lambda: ours(*at, "batchtopk", form="crosscoder"),
        "tinysql crosscoder standard": lambda: ours(*at, "standard", form="crosscoder"),
        "sae-lens topk": lambda: sae_lens(*at, "TopK", k=shape.k),
        "sae-lens batchtopk": lambda: sae_lens(*at, "BatchTopK", k=shape.k),
        "sae-lens matryoshka": lambda: sae_lens(*at, "MatryoshkaBatchTopK", **nested),
        "sae-lens topk, a quarter dead": lambda: sae_lens(*at, "TopK", k=shape.k, n_dead=quarter),
        "sae-lens standard": lambda: sae_lens(*at, "Standard"),
        "sae-lens gated": lambda: sae_lens(*at, "Gated"),
        "sae-lens jumprelu": lambda: sae_lens(*at, "JumpReLU"),
        "dictionary_learning topk": lambda: dictionary_learning(*at, "top_k", "TopKTrainer"),
        "dictionary_learning batchtopk": lambda: dictionary_learning(*at, "batch_top_k", "BatchTopKTrainer"),
        "sparsify topk": lambda: sparsify(*at),
    }


def peak(step: Step, x: Tensor, d_sae: int) -> float:
    """The most that one step allocates beyond what stood before it, in batch x d_sae floats."""
    unit = 4 * len(x) * d_sae
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(x)
        return (torch.cuda.max_memory_allocated() - before) / unit
    settings = {"activities": [torch.profiler.ProfilerActivity.CPU], "profile_memory": True}
    with torch.profiler.profile(**settings) as profiler:
        step(x)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most / unit


def measure(make: Callable[[], Step], batches: list[Tensor], products: Step, d_sae: int) -> dict[str, Any]:
    """Median milliseconds, multiple of the five products, tokens per second and memory."""
    try:
        torch.manual_seed(0)
        step = make()
        step(batches[0])
        most = peak(
            step, batches[1], d_sae
        )  # ours is recorded now; a replay allocates nothing and holds as much
        step(batches[2])
        own, floors = [], []
        for turn in range(ROUNDS):
            for run, into in ((products, floors), (step, own)):
                into.append(seconds(run, batches[turn % BATCHES]))
    # A peer that does not run on this machine, whatever it says, must not take the other rows with it.
    except (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        return {"not run": f"{type(error).__name__}: {error}".splitlines()[0]}
    multiples = [a / b for a, b in zip(own, floors, strict=True)]
    return {
        "ms": 1e3 * median(own),
        "x five products": median(multiples),
        "range": [min(multiples), max(multiples)],
        "five products ms": 1e3 * median(floors),
        "tokens per second": len(batches[0]) / median(own),
        "peak": most,
    }


def beside_bound(name: str, row: dict[str, Any], shape: Shape, of: Ceilings) -> dict[str, Any]:
    """The same row with the bound of its kind, and how many times that the step takes."""
    if "not run" in row:
        return row
    kind, _, dead = name.split(" ", 1)[1].partition(", ")
    parts = bound(kind, shape, of, shape.d_sae // 4 if dead else 0)
    total = 1e3 * sum(parts.values())
    each = {part: 1e3 * value for part, value in parts.items()}
    return {**row, "bound ms": total, "bound of": each, "x bound": row["ms"] / total}


def longest(step: Step, x: Tensor, n: int = 16) -> dict[str, float]:
    """Milliseconds of the kernels, or on a CPU operators, that take most of a step."""
    kind = torch.profiler.ProfilerActivity.CUDA if x.is_cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[kind]) as profiler:
        step(x)
    name = "self_device_time_total" if x.is_cuda else "self_cpu_time_total"
    spent = {event.key: getattr(event, name) / 1e3 for event in profiler.key_averages()}
    return dict(sorted(spent.items(), key=lambda item: -item[1])[:n])


def show(name: str, row: dict[str, Any]) -> None:
    if "not run" in row:
        print(f"{name:<32} not run: {row['not run']}", flush=True)
        return
    print(
        f"{name:<32}{row['ms']:>8.4g}{row['x five products']:>10.2f}{row['bound ms']:>10.3g}"
        f"{row['x bound']:>10.2f}{row['tokens per second']:>12,.0f}{row['peak']:>8.2f}",
        flush=True,
    )
    for kernel, milliseconds in row.get("longest", {}).items():
        print(f"    {milliseconds:8.3f}  {kernel[:90]}", flush=True)


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def at_shape(shape: Shape, arguments: argparse.Namespace, save: Callable[[dict[str, Any]], None]) -> None:
    """Every row at one shape; what is there is saved after each of them."""
    batches = activations(shape, arguments.device)
    products = floor(batches[0], shape.d_sae)
    products(batches[0])
    of = ceilings(batches[0], shape, min(seconds(products, batches[0]) for _ in range(ROUNDS)))
    made: dict[str, Any] = {"shape": asdict(shape), "ceilings": asdict(of), "steps": {}}
    print(asdict(shape), {name: value and f"{value:.4g}" for name, value in asdict(of).items()})
    print(
        f"{'trainer step':<32}{'ms':>8}{'x floor':>10}{'bound ms':>10}{'x bound':>10}{'tok/s':>12}{'memory':>8}"
    )
    for name, make in cases(shape, arguments.device).items():
        if arguments.only and arguments.only not in name:
            continue
        row = beside_bound(name, measure(make, batches, products, shape.d_sae), shape, of)
        if arguments.longest and name.startswith("tinysql") and "not run" not in row:
            step = make()
            for x in batches[:2]:
                step(x)
            row["longest"] = longest(step, batches[1])
        made["steps"][name] = row
        show(name, row)
        save(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="a directory of packages to import peers from")
    parser.add_argument("--only", help="rows whose names hold this word")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--shapes", "--shape", nargs="+", choices=SHAPES, default=["small"], help="default: small"
    )
    parser.add_argument("--longest", action="store_true", help="also what takes longest in each of our steps")
    parser.add_argument("--json", type=Path, help="write the table there, after every row")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(str(arguments.peers))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    made: dict[str, Any] = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "sae-lens": stock().__version__,
        "shapes": {},
    }

    def save() -> None:
        if arguments.json:
            write_atomic(arguments.json, json.dumps(made, indent=1))

    for name in arguments.shapes:

        def keep(rows: dict[str, Any], name: str = name) -> None:
            made["shapes"][name] = rows
            save()

        at_shape(SHAPES[name], arguments, keep)


if __name__ == "__main__":
    main()
