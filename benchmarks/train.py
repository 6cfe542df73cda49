"""Tokens per second of training: our trainer, hooks in place, beside a bare GPT step of the same shape.

    python benchmarks/train.py --json train.json
    python benchmarks/train.py --shapes 33m hybrids --seconds 8
    python benchmarks/train.py --shapes scans-t33 scans-t200

Needs a GPU. The bare step is written here: linear layers, F.scaled_dot_product_attention, a tied head,
torch.compile, bfloat16 autocast, fused AdamW. `ours` is the product's own `Trainer.step` on batches of the same
size, every token scored, with AdamW too; `response only` is what training does: documents packed, next tokens scored in
the answer alone; `with Muon` is that with the optimizer of the recipes for a GPU. All rows of one shape are measured in
turns in one run; a row is the median over its turns. `ours, four pieces a step` is `ours` on eight times the rows in
four pieces (`train.accumulate=4`; 256 rows at 1.2B), by itself, with all the memory. `scans-t33` and `scans-t200` train
a hybrid at 256 tokens, every one scored, with our kernels, with the scan and the gated norm of mamba-ssm (which must be
importable; its convolution is a package to build, so ours stands in) and with the reference in their place, all
compiled but for mamba-ssm's own functions.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.errors import InputError
from data_gen.files import write_atomic
from tinysql.kernels import reference
from tinysql.kernels.reference import Scanned
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.models.mamba import Mamba
from tinysql.recipes import find_recipe
from tinysql.training.batches import Batch, TrainingRows, packed_batches
from tinysql.training.config import TrainConfig
from tinysql.training.distributed import World
from tinysql.training.flops import step_flops, utilisation
from tinysql.training.loop import Trainer

VOCABULARY = 4096
TURNS = 3


class Shape(NamedTuple):
    """One GPT."""

    layers: int
    d_model: int
    heads: int
    d_mlp: int
    rows: int
    """Sequences per step, of 256 tokens."""


SHAPES = {
    "33m": Shape(2, 1024, 16, 4096, 128),
    "124m": Shape(12, 768, 12, 3072, 128),
    "0.5b": Shape(24, 896, 14, 4864, 64),
    "1.2b": Shape(22, 2048, 32, 8192, 32),
}
SEQUENCE = 256
HYBRIDS = ("bm1", "t33", "t33-plain", "t33-dense")
SCANS = {"scans-t33": "t33", "scans-t200": "t200"}
MORE = ("hybrids", *SCANS)
IN_PIECES = "ours, four pieces a step"
TOO_LARGE = (torch.cuda.OutOfMemoryError, InputError)
"""What the bare step and the trainer raise when a batch does not fit into memory."""


class BareGPT(nn.Module):
    """Nothing but the arithmetic."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.d_model
        self.heads = shape.heads
        self.embed = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(SEQUENCE, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "n1": nn.RMSNorm(width),
                    "qkv": nn.Linear(width, 3 * width, bias=False),
                    "out": nn.Linear(width, width, bias=False),
                    "n2": nn.RMSNorm(width),
                    "up": nn.Linear(width, shape.d_mlp, bias=False),
                    "down": nn.Linear(shape.d_mlp, width, bias=False),
                }
            )
            for _ in range(shape.layers)
        )
        self.norm = nn.RMSNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.places.weight
        for layer in self.layers:
            q, k, v = layer["qkv"](layer["n1"](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + layer["out"](z.transpose(1, 2).flatten(2))
            x = x + layer["down"](F.gelu(layer["up"](layer["n2"](x))))
        return self.norm(x) @ self.embed.weight.T


def bare_step(shape: Shape) -> Callable[[], int]:
    """A step of the bare model on random tokens, which returns its tokens."""
    model = BareGPT(shape).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, VOCABULARY, (shape.rows, SEQUENCE + 1), device="cuda")

    def loss(ids: Tensor) -> Tensor:
        logits = model(ids[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    compiled = torch.compile(loss)

    def step() -> int:
        with torch.autocast("cuda", torch.bfloat16):
            value = compiled(ids)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return shape.rows * SEQUENCE

    return step


def full_batch(rows: int) -> Batch:
    """Random tokens, one document per row, every next token scored."""
    ids = torch.randint(0, VOCABULARY, (rows, SEQUENCE))
    scored = rows * SEQUENCE
    return Batch(
        ids=ids,
        real=torch.ones_like(ids, dtype=torch.bool),
        packing=None,
        places=torch.arange(scored),
        targets=torch.randint(0, VOCABULARY, (scored,)),
        weights=torch.full((scored,), 1 / scored),
        tokens=scored,
    )


def response_batches(rows: int, width: int) -> list[Batch]:
    """Random tokens in documents of 40 to 250, packed, the last 30 of each scored."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, 250, 10 * rows * width // 145)
    documents = TrainingRows(
        rng.integers(0, VOCABULARY, lengths.sum()).astype(np.int32),
        np.concatenate([[0], lengths.cumsum()]),
        lengths - 30,
        0,
    )
    return list(packed_batches(documents, width=width, batch_size=rows, seed=[0], prompt_loss=0.0))[:8]


class MambaSSM(Mamba):
    """Between the projections as mamba-ssm computes it. Its functions cannot be compiled into a graph."""

    def mix(self, z: Tensor, x: Tensor, B: Tensor, C: Tensor, raw_dt: Tensor, *_: Any) -> Tensor:
        x, B, C = self.convolved(x, B, C)
        return self.scan_and_norm(z, x, B, C, self.step_sizes(raw_dt))

    @torch.compiler.disable
    def scan_and_norm(self, z: Tensor, x: Tensor, B: Tensor, C: Tensor, dt: Tensor) -> Tensor:
        from mamba_ssm.ops.triton.layernorm_gated import rmsnorm_fn
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        y = mamba_chunk_scan_combined(x, dt, -self.A_log.exp(), B, C, chunk_size=128, D=self.D)
        y, z, weight = y.flatten(2), z.flatten(2), self.norm_weight.flatten()
        size = y.shape[-1] // self.shape.n_groups
        gated = rmsnorm_fn(y, weight, None, z=z, eps=self.eps, group_size=size, norm_before_gate=False)
        return gated.unflatten(-1, x.shape[2:])


class Reference(Mamba):
    """The scan in plain PyTorch, compiled with the rest."""

    def scan(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, *_: Any) -> Scanned:
        log_decay = -dt * self.A_log.exp()
        return reference.ssd_scan(x, dt, log_decay, B, C, D=self.D, chunk=self.shape.chunk)


def check_scans(model: ModelConfig) -> None:
    """Refuse to time what does not compute the same: each kind of block on the same inputs, in bfloat16."""
    torch.manual_seed(0)
    block = next(m for m in HybridLM(model).cuda().modules() if isinstance(m, Mamba))
    u = torch.randn(2, SEQUENCE, model.d_model, device="cuda")
    found = {}
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        for mamba in (Mamba, MambaSSM, Reference):
            block.__class__ = mamba
            found[mamba] = block(u).float()
    for mamba, y in found.items():
        apart = float((y - found[Reference]).norm() / found[Reference].norm())
        print(f"{mamba.__name__:10} is {apart:.1e} from the reference", flush=True)
        if not apart < 2e-2:
            sys.exit(f"{mamba.__name__} computes something else")


def our_step(
    model: ModelConfig,
    batches: list[Batch],
    optimizer: Literal["adamw", "muon"] = "adamw",
    mamba: type[Mamba] = Mamba,
    accumulate: int = 1,
) -> tuple[Callable[[], int], float]:
    """A step of the product, and the operations of one; `mamba` is what its `M` blocks compute with."""
    config = TrainConfig(
        model=model, lr=1e-4, batch_size=len(batches[0].ids), optimizer=optimizer, accumulate=accumulate
    )
    built = HybridLM(model).cuda()
    for block in built.modules():
        if isinstance(block, Mamba):
            block.__class__ = mamba
    trainer = Trainer(built, config, World())
    turn = iter(range(10**9))

    def step() -> int:
        batch = batches[next(turn) % len(batches)]
        trainer.step(batch)
        trainer._unchecked.clear()
        return batch.tokens

    return step, sum(step_flops(model, batch) for batch in batches) / len(batches)


def measure(step: Callable[[], int], seconds: float) -> float:
    """Tokens per second."""
    torch.cuda.synchronize()
    begun, tokens = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in range(5):
            tokens += step()
        torch.cuda.synchronize()
    return tokens / (time.perf_counter() - begun)


def gpt_config(shape: Shape) -> ModelConfig:
    return ModelConfig(
        pattern="*-" * shape.layers,
        d_model=shape.d_model,
        n_heads=shape.heads,
        d_mlp=shape.d_mlp,
        d_vocab=VOCABULARY,
        n_ctx=SEQUENCE,
        positions="learned",
        tied=True,
    )


Case = tuple[str, Callable[[], tuple[Callable[[], int], float]]]
"""A label, and what makes its step and says how many operations one takes."""


def cases(name: str) -> Iterator[Case]:
    """What is measured for a shape: label, and how to make its step."""
    if name == "hybrids":
        for recipe in HYBRIDS:
            model = replace(find_recipe(recipe).train.model, d_vocab=VOCABULARY)
            yield recipe, lambda model=model: our_step(model, response_batches(64, 512), "muon")
        return
    if name in SCANS:
        model = replace(find_recipe(SCANS[name]).train.model, d_vocab=VOCABULARY)
        check_scans(model)
        # mamba-ssm's graph breaks make a graph of each block; past the limit blocks would not be compiled at all.
        torch._dynamo.config.recompile_limit = 64
        for kind, mamba in (("kernels", Mamba), ("mamba-ssm", MambaSSM), ("reference", Reference)):
            batch = full_batch(SHAPES["33m"].rows)
            yield kind, lambda m=model, k=mamba, b=batch: our_step(m, [b], mamba=k)
        return
    shape = SHAPES[name]
    config = gpt_config(shape)
    dense = step_flops(config, full_batch(1)) * shape.rows
    yield "bare", lambda: (bare_step(shape), dense)
    yield "ours", lambda: our_step(config, [full_batch(shape.rows)])
    yield IN_PIECES, lambda: our_step(config, [full_batch(8 * shape.rows)], accumulate=4)
    wide = replace(config, n_ctx=512)
    yield "ours, response only, packed", lambda: our_step(wide, response_batches(shape.rows // 2, 512))
    yield "the same, twice the rows", lambda: our_step(wide, response_batches(shape.rows, 512))
    yield "the same, with Muon", lambda: our_step(wide, response_batches(shape.rows, 512), "muon")


def groups(name: str) -> list[list[Case]]:
    """The cases of a shape that are measured in turns; those of scans one by one, each compiled by itself.

    mamba-ssm's functions break the graph, and what is then compiled of a block serves every model of the process.
    Many rows in pieces come last and alone: beside the other models of 1.2B there is no memory for them.
    """
    every = list(cases(name))
    if name in SCANS:
        return [[case] for case in every]
    alone = [case for case in every if case[0] == IN_PIECES]
    return [[case for case in every if case not in alone], *([case] for case in alone)]


def warmed(make: Callable[[], tuple[Callable[[], int], float]]) -> tuple[Callable[[], int], float]:
    """A case's step behind its first six, and its FLOPs per token."""
    step, flops = make()
    for _ in range(6):
        tokens = step()
    torch.cuda.synchronize()
    return step, flops / tokens


def in_turns(name: str, group: Sequence[Case], seconds: float) -> list[dict[str, Any]]:
    """Rows of the table, one a case that fits: tokens per second and MFU over `TURNS` turns of so many seconds."""
    made = {}
    for label, make in group:
        begun = time.perf_counter()
        try:
            step, flops = warmed(make)
        except TOO_LARGE as error:
            print(f"{name:8} {label:32} left out: {error}", flush=True)
        else:
            made[label] = (step, flops, time.perf_counter() - begun)
            continue
        # Behind the `except`, which keeps what the failed step held; modules and their hooks refer to each other.
        gc.collect()
        torch.cuda.empty_cache()
    speeds: dict[str, list[float]] = {label: [] for label in made}
    for _ in range(TURNS):
        for label, (step, _, _) in made.items():
            speeds[label].append(measure(step, seconds))
    rows = []
    for label, (_, flops, warm) in made.items():
        speed = median(speeds[label])
        rows.append(
            {
                "shape": name,
                "what": label,
                "tokens_per_second": round(speed),
                "mfu": utilisation(speed * flops),
                "all": [round(s) for s in speeds[label]],
                "first_steps_s": round(warm, 1),
            }
        )
        mfu = rows[-1]["mfu"]
        shown = f"MFU {mfu:.3f}" if mfu is not None else "MFU unknown"
        print(f"{name:8} {label:32} {speed:12,.0f} tokens/s  {shown}  start {warm:.0f} s", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=[*SHAPES, "hybrids"], choices=[*SHAPES, *MORE])
    parser.add_argument("--seconds", type=float, default=4.0, help="per turn")
    parser.add_argument("--json", help="write the table there")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/train.py needs a GPU")
    made_by = {
        "command": " ".join(["python", *sys.argv]),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows = []
    for name in arguments.shapes:
        for group in groups(name):
            try:
                rows += in_turns(name, group, arguments.seconds)
            except TOO_LARGE as error:
                print(f"{name}: {' and '.join(label for label, _ in group)}: {error}")
            torch.compiler.reset()
            torch.cuda.empty_cache()
            if arguments.json:  # after every group, so that a run that is cut off leaves what it measured
                write_atomic(Path(arguments.json), json.dumps({"made_by": made_by, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
