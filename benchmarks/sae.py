"""What a training step of an SAE costs: multiples of its five bare matrix products, and transient memory.

    python benchmarks/sae.py --json sae.json
    python benchmarks/sae.py --peers DIR --json sae.json      # DIR holds dictionary_learning and sparsify

One CPU thread, d_in 512, d_sae 4096, k 32, batch 2048, float32, activations with 2,048 true features in memory. The
five products (encode, decode, and three of the backward pass) are timed beside every step in the same process, in
processor seconds, and a row's multiple is the median over its rounds. Memory is the most that one step allocates beyond
what stands before it, in units of batch x d_sae floats, as PyTorch's profiler counts allocations.
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
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from saes.disk import stock
from saes.training.config import SAEConfig
from saes.training.loop import Loop

D_IN, D_SAE, K, BATCH, FEATURES = 512, 4096, 32, 2048, 2048
WIDTHS = (256, 1024, 4096)
ROUNDS, BATCHES = 7, 4
Step = Callable[[Tensor], Any]


def activations() -> list[Tensor]:
    """Batches of sparse sums of random directions, scaled to a mean squared norm of d_in."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(FEATURES, D_IN, generator=generator), dim=1)
    found = []
    for _ in range(BATCHES):
        active = torch.rand(BATCH, FEATURES, generator=generator) < K / FEATURES
        strength = active * torch.rand(BATCH, FEATURES, generator=generator)
        x = strength @ directions
        found.append(x * (D_IN / x.square().sum(1).mean()).sqrt())
    return found


def floor(x: Tensor) -> Step:
    """The five products on matrices of these shapes."""
    weights, dense = torch.randn(D_SAE, D_IN), torch.randn(BATCH, D_SAE)

    def products(_: Tensor) -> tuple[Tensor, ...]:
        return x @ weights.T, dense @ weights, x @ weights.T, dense.T @ x, dense.T @ x

    return products


def ours(architecture: Any, *, n_dead: int = 0, form: Any = "sae") -> Step:
    """A step of ours, in which `n_dead` latents are held to be dead.

    A crosscoder reads the same numbers as four hooks side by side; a transcoder reads x and writes x.
    """
    config = SAEConfig(
        architecture=architecture,
        form=form,
        d_sae=D_SAE,
        k=K,
        widths=WIDTHS if architecture == "matryoshka" else None,
        batch_size=BATCH,
        dead_after=1000,
    )
    writes = form.endswith("transcoder")
    loop = Loop.begin(
        config,
        d_in=D_IN,
        d_out=D_IN if writes else None,
        skip=form == "skip_transcoder",
        hooks=(D_IN // 4,) * 4 if form == "crosscoder" else None,
        device=torch.device("cpu"),
    )

    def step(x: Tensor) -> None:
        loop.step = config.steps // 2
        if n_dead:
            loop.since_fired[:n_dead] = 2000
        loop.advance(x, x if writes else None)

    return step


def sae_lens(name: str, *, n_dead: int = 0, **settings: Any) -> Step:
    """A step of sae-lens' own trainer, with its defaults."""
    config = getattr(stock(), f"{name}TrainingSAEConfig")(d_in=D_IN, d_sae=D_SAE, **settings)
    sae = getattr(stock(), f"{name}TrainingSAE")(config)
    trainer_config = stock().config.SAETrainerConfig(
        total_training_samples=10**9,
        train_batch_size_samples=BATCH,
        lr=4e-3,
        lr_end=4e-3,
        device="cpu",
        dead_feature_window=1000,
    )
    trainer = stock().training.sae_trainer.SAETrainer(trainer_config, sae, iter([]))

    def step(x: Tensor) -> None:
        if n_dead:
            trainer.n_forward_passes_since_fired[:n_dead] = 2000
        trainer.step(x)

    return step


def dictionary_learning(module: str, name: str, **settings: Any) -> Step:
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
        activation_dim=D_IN,
        dict_size=D_SAE,
        k=K,
        layer=0,
        lm_name="m",
        device="cpu",
        **settings,
    )
    number = iter(range(1, 10**6))
    return lambda x: trainer.update(next(number), x)


def sparsify() -> Step:
    """The inner loop of sparsify's trainer with its Adam: forward, backward, projection, step, unit rows."""
    package = importlib.import_module("sparsify")
    config = package.SparseCoderConfig(num_latents=D_SAE, k=K)
    coder = package.SparseCoder(D_IN, config)
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


def cases() -> dict[str, Callable[[], Step]]:
    """Every row of the table."""
    quarter = D_SAE // 4
    return {
        "tinysql topk": lambda: ours("topk"),
        "tinysql batchtopk": lambda: ours("batchtopk"),
        "tinysql matryoshka": lambda: ours("matryoshka"),
        "tinysql topk, a quarter dead": lambda: ours("topk", n_dead=quarter),
        "tinysql standard": lambda: ours("standard"),
        "tinysql gated": lambda: ours("gated"),
        "tinysql jumprelu": lambda: ours("jumprelu"),
        "tinysql transcoder": lambda: ours("batchtopk", form="transcoder"),
        "tinysql skip transcoder": lambda: ours("batchtopk", form="skip_transcoder"),
        "tinysql crosscoder": lambda: ours("batchtopk", form="crosscoder"),
        "tinysql crosscoder standard": lambda: ours("standard", form="crosscoder"),
        "sae-lens topk": lambda: sae_lens("TopK", k=K),
        "sae-lens batchtopk": lambda: sae_lens("BatchTopK", k=K),
        "sae-lens matryoshka": lambda: sae_lens("MatryoshkaBatchTopK", k=K, matryoshka_widths=list(WIDTHS)),
        "sae-lens topk, a quarter dead": lambda: sae_lens("TopK", k=K, n_dead=quarter),
        "sae-lens standard": lambda: sae_lens("Standard"),
        "sae-lens gated": lambda: sae_lens("Gated"),
        "sae-lens jumprelu": lambda: sae_lens("JumpReLU"),
        "dictionary_learning topk": lambda: dictionary_learning("top_k", "TopKTrainer"),
        "dictionary_learning batchtopk": lambda: dictionary_learning("batch_top_k", "BatchTopKTrainer"),
        "sparsify topk": sparsify,
    }


def peak(step: Step, x: Tensor) -> float:
    """The most that one step allocates beyond what stood before it, in batch x d_sae floats."""
    settings = {"activities": [torch.profiler.ProfilerActivity.CPU], "profile_memory": True}
    with torch.profiler.profile(**settings) as profiler:
        step(x)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most / (4 * BATCH * D_SAE)


def measure(make: Callable[[], Step], batches: list[Tensor], products: Step) -> dict[str, Any]:
    """Median milliseconds of processor time, multiple of the five products, tokens per second and memory."""
    try:
        torch.manual_seed(0)
        step = make()
        step(batches[0])
    except (ImportError, AttributeError, TypeError) as error:
        return {"not run": f"{type(error).__name__}: {error}"}
    own, floors = [], []
    for turn in range(ROUNDS):
        for run, into in ((products, floors), (step, own)):
            begun = time.process_time()
            run(batches[turn % BATCHES])
            into.append(time.process_time() - begun)
    multiples = [a / b for a, b in zip(own, floors, strict=True)]
    return {
        "ms": 1e3 * median(own),
        "x five products": median(multiples),
        "range": [min(multiples), max(multiples)],
        "five products ms": 1e3 * median(floors),
        "tokens per second": BATCH / median(own),
        "peak": peak(step, batches[0]),
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
        f"{name:<32}{row['ms']:>8.0f}{row['x five products']:>10.2f}"
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
    parser.add_argument(
        "--thresholds", action="store_true", help="also the L0 that short trainings are saved with"
    )
    parser.add_argument("--json", type=Path, help="write the table there")
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(str(arguments.peers))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    batches = activations()
    products, table = floor(batches[0]), {}
    print(f"{'trainer step':<32}{'ms':>8}{'x floor':>10}{'tok/s':>10}{'memory':>8}")
    for name, make in cases().items():
        if arguments.only and arguments.only not in name:
            continue
        table[name] = measure(make, batches, products)
        show(name, table[name])
    made: dict[str, Any] = {"steps": table}
    if arguments.thresholds:
        made["saved L0 at k 8"] = threshold_errors()
        print(json.dumps(made["saved L0 at k 8"], indent=1))
    made |= {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "sae-lens": stock().__version__,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
