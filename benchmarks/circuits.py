"""What circuits cost: seconds and peak memory of every method, as multiples of a bare step on the same batches.

    python benchmarks/circuits.py --json circuits.json
    python benchmarks/circuits.py --device cuda --batch 32 --seq 256 --shapes bm1 bm2 bm3 t200
    python benchmarks/circuits.py --shapes 2x1024 --exact 64

`bare` is a forward pass with logits everywhere and the backward pass to all weights, in batches of the same size;
one process, methods in turns, medians. On the CPU seconds are those of the processor (`time.process_time`), which
other work on the machine disturbs least, on one thread unless `--threads` says otherwise; on CUDA they are events'.
Peak memory is over what the models, the pairs and a bare forward pass of one token hold: of a fresh process per
method on the CPU (its resident set), of the allocator on CUDA.
EAP-IG and auto-circuit run beside ours on the same weights and pairs where they can be imported, and the benchmark
fails if scores or circuits differ where the definitions agree.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import torch
from torch import Tensor

from benchmarks.circuits_peers import EAPIG, AutoCircuit, hooked_transformer
from circuits.engine.attribution import attribute
from circuits.engine.forward import metric_of
from circuits.graph import Graph
from circuits.methods.eap import eap
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.metrics import logit_diff
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import find_recipe
from tinysql.tokens import TokenPairs, Tokens

VOCABULARY = 5000
STEPS = 5
KEPT = 0.1
"""Share of the edges in the circuit that is run."""
TOLERANCE = 1e-5

Run = Callable[[], Any]


def plain(layers: int, d_model: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        pattern="*-" * layers, d_model=d_model, n_heads=n_heads, norm="layer", positions="learned"
    )


SHAPES = {
    "12x256": plain(12, 256, 8),
    "2x1024": plain(2, 1024, 16),
    "MEM*EME": ModelConfig(pattern="MEM*EME", d_model=256, n_heads=8),
}
RECIPES = ("bm1", "bm2", "bm3", "t200")


def random_tokens(ids: Tensor, position: Tensor) -> Tokens:
    roles = tuple(("prompt.markup",) * ids.shape[1] for _ in ids)
    mask = torch.ones_like(ids, dtype=torch.bool)
    return Tokens(ids=ids, mask=mask, roles=roles, answer_start=position + 1)


def random_pairs(n: int, seq: int, *, at_once: bool = False) -> TokenPairs:
    """Random prompts; four tokens in a row, anywhere but at the end, differ. The last position is asked about.

    `at_once` takes the first four of every pair, so that no positions in front of them can be spared.
    """
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(VOCABULARY, (n, seq), generator=generator)
    corrupt, start = clean.clone(), torch.randint(seq - 4, (n,), generator=generator)
    start = torch.zeros_like(start) if at_once else start
    changed = start[:, None] + torch.arange(4)
    corrupt.scatter_(1, changed, torch.randint(VOCABULARY, (n, 4), generator=generator))
    answers = torch.randint(VOCABULARY, (2, n), generator=generator)
    position = torch.full((n,), seq - 1)
    return TokenPairs(
        edit="random",
        clean=random_tokens(clean, position),
        corrupt=random_tokens(corrupt, position),
        position=position,
        clean_answer=answers[0],
        corrupt_answer=answers[1],
    )


class Case:
    """One shape: a random model, pairs, and everything that is measured on them."""

    def __init__(self, shape: str, arguments: argparse.Namespace) -> None:
        config = SHAPES[shape] if shape in SHAPES else find_recipe(shape).train.model
        config = replace(config, d_vocab=VOCABULARY, n_ctx=max(config.n_ctx, arguments.seq))
        self.model = HybridLM(config, seed=0).to(arguments.device).eval()
        self.size = arguments.batch
        self.pairs = random_pairs(arguments.pairs, arguments.seq, at_once=arguments.at_once)
        starts = range(0, len(self.pairs), self.size)
        self.batches = [self.pairs[start : start + self.size].to(arguments.device) for start in starts]
        self.device = arguments.device
        self.notes: list[str] = []
        self.scores: EdgeScores | None = None
        try:
            self.kept = int(KEPT * len(Graph.of(self.model).edges))
            self.scores = eap(self.model, self.pairs, batch_size=self.size)
        except InputError as error:
            self.notes.append(f"circuits do not read this shape: {error}")

    def bare(self, model: Callable[[Tensor], Tensor]) -> Run:
        """Forward and backward of a model on the clean prompts."""

        def run() -> None:
            for batch in self.batches:
                logits = model(batch.clean.ids)[torch.arange(len(batch)), batch.position]
                logit_diff(logits, batch).sum().backward()

        return run

    @torch.no_grad()
    def forward(self) -> None:
        for batch in self.batches:
            self.model(batch.clean.ids)

    def ours(self) -> dict[str, Run]:
        model, pairs, size = self.model, self.pairs, self.size
        made: dict[str, Run] = {"bare": self.bare(model), "bare forward": self.forward}
        if self.scores is None:
            return made
        circuit, *others = (top_edges(self.scores, self.kept - step) for step in range(10))
        return made | {
            "eap": lambda: eap(model, pairs, batch_size=size),
            "eap_ig(5)": lambda: eap_ig(model, pairs, steps=STEPS, batch_size=size),
            "one circuit": lambda: metric_of(model, [circuit], pairs, logit_diff, batch_size=size),
            "ten circuits": lambda: metric_of(model, [circuit, *others], pairs, logit_diff, batch_size=size),
        }

    def bare_of_peers(self) -> dict[str, Run]:
        return {"TransformerLens: bare": self.bare(hooked_transformer(self.model))}

    def eap_ig(self) -> dict[str, Run]:
        peer = EAPIG(self.model, self.pairs, self.size)
        return {
            "EAP-IG: EAP": lambda: peer.scores("EAP"),
            "EAP-IG: EAP-IG-inputs(5)": lambda: peer.scores("EAP-IG-inputs", STEPS),
            "EAP-IG: one circuit": peer.circuit(self.scores, self.kept),
            "EAP-IG: exact, one edge": peer.all_but_one(),
        }

    def auto_circuit(self) -> dict[str, Run]:
        peer = AutoCircuit(self.model, self.pairs, self.size)
        circuit = peer.circuit(self.scores, self.kept)
        return {
            "auto-circuit: mask gradient": lambda: peer.as_ours(peer.scores(), self.scores.values.shape),
            "auto-circuit: integrated(5)": lambda: peer.scores(STEPS),
            "auto-circuit: one circuit": lambda: logit_diff(circuit(), self.pairs.to(self.device)),
        }

    def rows(self, wanted: str = "") -> dict[str, Run]:
        """Every method, or those of one group (`wanted` is what stands before the colon of a peer's row)."""
        groups = {
            "": self.ours,
            "TransformerLens": self.bare_of_peers,
            "EAP-IG": self.eap_ig,
            "auto-circuit": self.auto_circuit,
        }
        made: dict[str, Run] = {}
        for group, make in groups.items():
            if group and (self.scores is None or wanted not in ("", group)):
                continue
            try:
                made |= make()
            except (ImportError, InputError) as error:
                self.notes.append(f"{group} could not be had: {error}")
        return made

    def check(self, made: dict[str, Run]) -> None:
        """Peers say what ours say, where the definitions agree; their integrated mask gradient is another thing.

        Rows that fail are taken out of `made`.
        """
        if self.scores is None or not any(": " in name for name in made):
            return
        left = tuple(step / STEPS for step in range(STEPS))
        options = {"method": "left", "mixes": left, "batch_size": self.size}
        same_rule = attribute(self.model, self.pairs, logit_diff, **options).values
        circuit = made["one circuit"]()[0]
        ours = {"EAP": self.scores.values, "EAP-IG-inputs(5)": same_rule, "one circuit": circuit}
        ours["mask gradient"] = ours["EAP"]
        for name, run in [row for row in made.items() if ": " in row[0]]:
            try:
                found = run()
            except RuntimeError as error:  # a peer that cannot run here must not cost the other rows
                self.notes.append(f"{name} failed: {str(error).splitlines()[0]}")
                del made[name]
                continue
            expected = ours.get(name.partition(": ")[2])
            if expected is not None:
                apart = (found.cpu() - expected).abs().max().item()
                size = expected.abs().max().item()
                self.notes.append(f"{name} and ours differ by at most {apart:.1e}, the largest is {size:.2g}")
                assert apart <= TOLERANCE, self.notes[-1]

    def clean_up(self) -> None:
        """Weights' gradients are the bare step's, and go with it."""
        self.model.zero_grad(set_to_none=True)


def seconds(run: Run, device: str) -> float:
    if device.startswith("cuda"):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        run()
        ended.record()
        torch.cuda.synchronize()
        return begun.elapsed_time(ended) / 1000
    start = time.process_time()
    run()
    return time.process_time() - start


def resident(key: str) -> int:
    """`VmRSS` or `VmHWM` of this process, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def peak_here(case: Case, name: str) -> int:
    """Bytes that one method takes over what was held before."""
    run = case.rows(wanted=name.partition(": ")[0] if ": " in name else "ours")[name]
    case.clean_up()
    with torch.no_grad():
        case.model(case.batches[0].clean.ids[:1, :1])
    if case.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        case.clean_up()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def peak_apart(shape: str, name: str) -> int:
    """The same, in a process of its own with the same arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--shapes", shape, "--peak", name]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(found.stdout.split()[-1])


def measure(shape: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    case = Case(shape, arguments)
    made = case.rows()
    if arguments.only:
        made = {name: run for name, run in made.items() if name.startswith("bare") or name in arguments.only}
    if not arguments.quick:
        case.check(made)
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(arguments.turns + 1):
        for name, run in made.items():
            # The first turn warms up; peers were warmed up by the check.
            if ": " in name and not 1 <= turn <= arguments.peer_turns:
                continue
            taken = seconds(run, arguments.device)
            case.clean_up()
            if turn:
                times[name].append(taken)
                print(f"{shape} {name} {taken:.3f}", file=sys.stderr, flush=True)
    medians = {name: median(taken) for name, taken in times.items()}
    # Peaks take as long again: what is known is said before.
    print(shape, {name: round(taken, 4) for name, taken in medians.items()}, file=sys.stderr, flush=True)
    rows = []
    for name, taken in medians.items():
        on_gpu = arguments.device.startswith("cuda")
        peak = 0 if arguments.quick else peak_here(case, name) if on_gpu else peak_apart(shape, name)
        row = {
            "shape": shape,
            "what": name,
            "seconds": taken,
            "bare": taken / medians["bare"],
            "bare_forward": taken / medians["bare forward"],
            "peak_bytes": peak,
            "all": [round(one, 4) for one in times[name]],
        }
        rows.append(row)
        print(
            f"{shape:9} {name:28} {taken:9.4f} s {row['bare']:8.2f} x bare {row['bare_forward']:8.2f} x forward"
            f" {peak / 2**20:8.0f} MB",
            flush=True,
        )
    for note in case.notes:
        print(f"{shape:9} {note}")
    return [*rows, {"shape": shape, "notes": case.notes}]


def measure_exact(shape: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every edge patched, once, on `--exact` pairs."""
    arguments.pairs = arguments.exact
    case = Case(shape, arguments)
    case.forward()
    forward = median(seconds(case.forward, arguments.device) for _ in range(3))
    begun = time.perf_counter()
    taken = seconds(lambda: exact(case.model, case.pairs, batch_size=case.size), arguments.device)
    wall = time.perf_counter() - begun
    edges = len(eap(case.model, case.batches[0][:1]).graph.edges)
    print(
        f"{shape:9} exact, {edges} edges, {arguments.exact} pairs: {taken:.1f} s, {wall:.1f} s on the clock,"
        f" {taken / edges / forward:.2f} bare forwards per edge"
    )
    found = {"edges": edges, "pairs": arguments.exact, "seconds": taken, "wall": wall}
    return {"shape": shape, "what": "exact", **found, "forwards_per_edge": taken / edges / forward}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", nargs="*", default=["12x256", "2x1024"], choices=[*SHAPES, *RECIPES])
    parser.add_argument("--batch", type=int, default=8, help="pairs per batch")
    parser.add_argument("--seq", type=int, default=64, help="tokens per prompt")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peer-turns", type=int, default=1, help="turns in which peers take part")
    parser.add_argument(
        "--at-once", action="store_true", help="let the first four tokens of every prompt differ"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--exact", type=int, default=0, help="patch every edge on so many pairs, and no more")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows and the bare ones alone")
    parser.add_argument("--quick", action="store_true", help="seconds alone: no check, and no peaks")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--json", help="write the table there")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak_here(Case(arguments.shapes[0], arguments), arguments.peak))
        return
    rows: list[dict[str, Any]] = []
    for shape in arguments.shapes:
        rows += [measure_exact(shape, arguments)] if arguments.exact else measure(shape, arguments)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    on_gpu = arguments.device.startswith("cuda")
    made_by = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip(),
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": 0,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"made_by": made_by, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
