"""Short trainings -> how many latents their saved SAEs have active on fresh rows: ours beside sae-lens' running mean.

    python benchmarks/sae_thresholds.py --json thresholds.json

BatchTopK SAEs of 1,024 latents and k 8 after 20, 100 and 400 steps of 256 rows, which are sums of 8 of 512 directions
of 128 dimensions. One CPU thread, seed 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

import torch
from torch import Tensor

from data_gen.files import write_atomic
from saes.activations import Activations
from saes.disk import stock
from saes.training.config import SAEConfig
from saes.training.sae import train_sae
from tinysql.runs import provenance


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
    """By number of steps, the L0 of both saved SAEs."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = threshold_errors()
    print(json.dumps(found, indent=1))
    if arguments.json:
        write_atomic(
            arguments.json, json.dumps({"saved L0 at k 8": found, "made_by": provenance()}, indent=1)
        )


if __name__ == "__main__":
    main()
