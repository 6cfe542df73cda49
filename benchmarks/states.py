"""What looking into a Mamba block costs: milliseconds of one forward pass, with and without patched states.

    python benchmarks/states.py --device cuda --json states.json

One `M` block at the shape of a toy model, (batch 8, 512 positions, 16 heads of 64, 128 numbers of state each), in
float32. `loop` walks the positions one by one, as a hooked scan does elsewhere. Medians over several runs, in turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tinysql.kernels.reference import ssd_step
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.runs import provenance

REPEATS = 7
STATE = "blocks.0.mamba.hook_state"


def double(states: Tensor, hook: object) -> Tensor:
    """A patch that changes every state it sees."""
    return states * 2


def cases(device: str, batch: int, seq: int) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    shape = MambaConfig(n_heads=16, d_head=64, d_state=128)
    model = (
        HybridLM(ModelConfig(pattern="M", d_model=512, d_vocab=64, n_ctx=seq, mamba=shape)).to(device).eval()
    )
    ids = torch.randint(0, 64, (batch, seq), device=device)
    _, cache = model.run_with_cache(ids)
    x, dt, B, C = (cache[f"blocks.0.mamba.hook_{name}"] for name in ("x", "dt", "B", "C"))
    log_decay = -dt * model.blocks[0].mamba.A_log.exp()

    def at(positions: list[int]) -> Tensor:
        with model.states_at(positions):
            return model.run_with_hooks(ids, fwd_hooks=[(STATE, double)])

    def loop() -> Tensor:
        state = torch.zeros(batch, 16, 64, 128, device=device)
        for t in range(seq):
            y, state = ssd_step(x[:, t], dt[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        return y

    return {
        "no hook": lambda: model(ids),
        "1 state patched": lambda: at([seq // 2]),
        "4 states patched": lambda: at([seq // 8, seq // 4, seq // 2, seq - 8]),
        "every state patched": lambda: model.run_with_hooks(ids, fwd_hooks=[(STATE, double)]),
        "loop": loop,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--json", help="write the table there")
    arguments = parser.parse_args()
    wait = torch.cuda.synchronize if arguments.device.startswith("cuda") else lambda: None
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        made = cases(arguments.device, arguments.batch, arguments.seq)
        for turn in range(REPEATS + 1):
            for name, run in made.items():
                wait()
                begun = time.perf_counter()
                run()
                wait()
                if turn:  # the first turn warms up
                    found.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    rows = {name: round(median(times), 3) for name, times in found.items()}
    for name, value in rows.items():
        print(f"{name:22} {value:10.3f} ms")
    made_by = {
        **{name: provenance()[name] for name in ("commit", "python")},
        "command": " ".join(["python", *sys.argv]),
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.machine(),
        "torch": torch.__version__,
        "shape": [arguments.batch, arguments.seq, 16, 64, 128],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"made_by": made_by, "ms": rows}, file, indent=1)


if __name__ == "__main__":
    main()
