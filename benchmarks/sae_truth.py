"""What the role evaluation of one SAE costs: from sparse activations at a million tokens to scores and intervals.

    python benchmarks/sae_truth.py --json sae_truth.json
    python benchmarks/sae_truth.py --tokens 1000000 --latents 4096 --active 8 32

Activations are drawn: some latents follow a role with noise, the others fire at random, densities falling as a power of
their rank. Roles follow one another as in rows of 45 tokens. Timed are the parts one by one: sorting the activations,
dealing them into halves, thresholds, F1, AUROC and average precision of every latent for every role, and the scores of
the best ones with intervals over rows. Seconds are of the wall clock and, in brackets, of processor time.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.scoring import Halves, by_half, latent_scores, score, tabulate

ROW, SLOTS = 45, 41
"""Tokens per row, and slots, of the demo's test rows."""


def roles_of(tokens: int, generator: torch.Generator) -> tuple[str, ...]:
    """Slots as the demo has them: a third in families of four, drawn by row position."""
    names = [f"sql.select.{i % 4}.column{i // 4}" if i % 3 == 0 else f"english.role{i}" for i in range(SLOTS)]
    jitter = torch.randint(0, 4, (tokens,), generator=generator)
    return tuple(names[i] for i in ((torch.arange(tokens) % ROW + jitter) % SLOTS).tolist())


def activations(
    slots: Tensor, latents: int, active: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Token, latent and value of every activation: one latent in eight follows a slot four times in five."""
    tokens = len(slots)
    latent = (torch.rand(tokens, active, generator=generator) ** 2 * latents).long()
    follows = torch.rand(tokens, active, generator=generator) < 0.1
    latent = torch.where(follows, (slots[:, None] * 8 + latent % 3 * 8 * SLOTS) % latents, latent)
    flat = (torch.arange(tokens)[:, None] * latents + latent).flatten().unique()
    return flat // latents, flat % latents, torch.rand(len(flat), generator=generator) + 0.01


T = TypeVar("T")


class Clock:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, part: Callable[[], T]) -> T:
        wall, own = time.perf_counter(), time.process_time()
        found = part()
        self.parts[name] = (time.perf_counter() - wall, time.process_time() - own)
        return found


def evaluate(tokens: int, latents: int, active: int) -> dict[str, Any]:
    """Time the parts of one evaluation."""
    generator = torch.Generator().manual_seed(0)
    names = roles_of(tokens, generator)
    slots = Roles.of(names).slots.label
    token, latent, value = activations(slots, latents, active, generator)
    example, clock = torch.arange(tokens) // ROW, Clock()
    roles = clock("roles", lambda: Roles.of(names))
    halves = clock("halves", lambda: Halves.of(example, 0))
    firings = clock("sort", lambda: Firings.of(token, latent, value, n_tokens=tokens, n_latents=latents))
    choose, measure = clock("roles by half", lambda: (roles.at(halves.choose), roles.at(halves.measure)))
    parts = clock("by half", lambda: by_half(firings, halves))
    table = clock("every latent and role", lambda: tabulate(parts, choose, measure))
    scores, _ = clock(
        "best, intervals", lambda: score("SAE", parts, table, measure, halves, fvu=None, seed=0)
    )
    clock("latents", lambda: latent_scores(firings, table))
    total = [sum(part[i] for part in clock.parts.values()) for i in (0, 1)]
    return {
        "tokens": tokens,
        "latents": latents,
        "active": active,
        "activations": len(token),
        "roles": len(table.names),
        "coverage": scores.coverage,
        "wall": total[0],
        "processor": total[1],
        "parts": clock.parts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--active", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for active in arguments.active:
        row = evaluate(arguments.tokens, arguments.latents, active)
        rows.append(row)
        print(
            f"{row['activations']:,} activations, {row['roles']} roles: {row['wall']:.1f} s ({row['processor']:.1f})"
        )
        for name, (wall, own) in row["parts"].items():
            print(f"  {name:<24}{wall:7.2f} ({own:.2f})")
    if arguments.json:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        made = {
            "commit": commit,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
            "processor": platform.processor() or platform.machine(),
            "threads": arguments.threads,
        }
        arguments.json.write_text(json.dumps({"made_by": made, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
