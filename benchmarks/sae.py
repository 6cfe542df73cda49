"""What a training step of an SAE costs: multiples of its five bare matrix products, and transient memory.

    python benchmarks/sae.py --json sae.json
    python benchmarks/sae.py --peers DIR --json sae.json      # DIR holds dictionary_learning and sparsify
    python benchmarks/sae.py --device cuda --shape bm1 --json sae-bm1.json

One CPU thread, d_in 512, d_sae 4096, k 32, batch 2048, float32, activations with 2,048 true features in memory. The
five products (encode, decode, and three of the backward pass) are timed beside every step in the same process, in
processor seconds, and a row's multiple is the median over its rounds. Memory is the most that one step allocates beyond
what stands before it, in units of batch x d_sae floats: as PyTorch's profiler counts allocations on the CPU, by its
allocator on a GPU. There milliseconds are the device's, at one of TinySQL's shapes in batches of 16,384, and the
five products are float32 as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from saes.disk import stock
from saes.training.config import SAEConfig
from saes.training.loop import Loop

FEATURES = 2048
ROUNDS, BATCHES = 7, 4


@dataclass(frozen=True)
class Shape:
    """Sizes of a training."""

    d_in: int
    d_sae: int
    k: int
    batch: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested levels of a Matryoshka SAE."""
        return (self.d_sae // 16, self.d_sae // 4, self.d_sae)


SHAPES = {
    "small": Shape(512, 4096, 32, 2048),
    "bm1": Shape(1024, 15 * 1024, 32, 16_384),
    "bm2": Shape(896, 16 * 896, 64, 16_384),
    "bm3": Shape(2048, 16 * 2048, 64, 16_384),
}
Step = Callable[[Tensor], Any]


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

    def step(x: Tensor) -> None:
        loop.step = config.steps // 2
        if n_dead:
            loop.since_fired[:n_dead] = 2000
        loop.advance(x, x if writes else None)

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


def seconds(run: Step, x: Tensor) -> float:
    """The processor's seconds of a step, or a GPU's."""
    if not x.is_cuda:
        begun = time.process_time()
        run(x)
        return time.process_time() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run(x)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(make: Callable[[], Step], batches: list[Tensor], products: Step, d_sae: int) -> dict[str, Any]:
    """Median milliseconds, multiple of the five products, tokens per second and memory."""
    try:
        torch.manual_seed(0)
        step = make()
        for x in batches[:3]:
            step(x)
    except (ImportError, AttributeError, TypeError, torch.OutOfMemoryError) as error:
        return {"not run": f"{type(error).__name__}: {error}".splitlines()[0]}
    own, floors = [], []
    for turn in range(ROUNDS):
        for run, into in ((products, floors), (step, own)):
            into.append(seconds(run, batches[turn % BATCHES]))
    multiples = [a / b for a, b in zip(own, floors, strict=True)]
    return {
        "ms": 1e3 * median(own),
        "x five products": median(multiples),
        "range": [min(multiples), max(multiples)],
        "five products ms": 1e3 * median(floors),
        "tokens per second": len(batches[0]) / median(own),
        "peak": peak(step, batches[0], d_sae),
    }


def sparse_sums(n: int, seed: int) -> Tensor:
    """Rows of 8 of 512 directions of 128 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(
        torch.randn(512, 128, generator=torch.Generator().manual_seed(9)), dim=1
    )
    strength = torch.zeros(n, 512)
    where = torch.rand(n, 512, generator=generator).topk(8).indices
    return strength.scatter_(1, where, torch.rand(n, 8, generator=generator)) @ directions


def threshold_errors() -> dict[str, Any]:
    """L0 of the saved BatchTopK SAE on fresh rows after short trainings at k 8: ours beside sae-lens' running mean."""
    from saes.activations import Activations
    from saes.training.sae import train_sae

    x, fresh = sparse_sums(131_072, seed=0), sparse_sums(131_072, seed=1)
    zeros = torch.zeros(len(x), dtype=torch.long)
    data = Activations(hook="h", values=x, ids=zeros, roles=("",) * len(x), example=zeros, position=zeros)
    mean = x.mean(0)
    scale = (128 / (x - mean).square().sum(1).mean()).sqrt()
    found: dict[str, Any] = {}
    for steps in (20, 100, 400):
        config = SAEConfig(architecture="batchtopk", d_sae=1024, k=8, steps=steps, batch_size=256)
        trained = train_sae(data, config)
        theirs = stock().BatchTopKTrainingSAE(stock().BatchTopKTrainingSAEConfig(d_in=128, d_sae=1024, k=8))
        settings = stock().config.SAETrainerConfig(
            total_training_samples=steps * 256,
            train_batch_size_samples=256,
            lr=4e-3,
            lr_end=4e-3,
            device="cpu",
        )
        stock().training.sae_trainer.SAETrainer(settings, theirs, iter(((x - mean) * scale).split(256))).fit()
        with torch.no_grad():
            pre = theirs.encode_with_hidden_pre((fresh - mean) * scale)[1]
        found[f"{steps} steps"] = {
            "tinysql": float((trained.sae.encode(fresh) > 0).float().sum(1).mean()),
            "sae-lens": float((pre > theirs.topk_threshold.float()).float().sum(1).mean()),
        }
    return found


def show(name: str, row: dict[str, Any]) -> None:
    if "not run" in row:
        print(f"{name:<32} not run: {row['not run']}", flush=True)
        return
    print(
        f"{name:<32}{row['ms']:>8.4g}{row['x five products']:>10.2f}"
        f"{row['tokens per second']:>10,.0f}{row['peak']:>8.2f}",
        flush=True,
    )


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="a directory of packages to import peers from")
    parser.add_argument("--only", help="rows whose names hold this word")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="small", help="default: small")
    parser.add_argument(
        "--thresholds", action="store_true", help="also the L0 that short trainings are saved with"
    )
    parser.add_argument("--json", type=Path, help="write the table there")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(str(arguments.peers))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shape, device = SHAPES[arguments.shape], arguments.device
    batches = activations(shape, device)
    products, table = floor(batches[0], shape.d_sae), {}
    print(f"{'trainer step':<32}{'ms':>8}{'x floor':>10}{'tok/s':>10}{'memory':>8}")
    for name, make in cases(shape, device).items():
        if arguments.only and arguments.only not in name:
            continue
        table[name] = measure(make, batches, products, shape.d_sae)
        show(name, table[name])
    made: dict[str, Any] = {"shape": vars(shape), "steps": table}
    if arguments.thresholds:
        made["saved L0 at k 8"] = threshold_errors()
        print(json.dumps(made["saved L0 at k 8"], indent=1))
    made |= {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "sae-lens": stock().__version__,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
