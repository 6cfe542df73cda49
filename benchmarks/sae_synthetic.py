"""SynthSAEBench (Chanin & Garriga-Alonso 2026, arXiv 2602.14687): our six kinds of SAE on features that are known.

    python benchmarks/sae_synthetic.py --small --json synthetic.json
    python benchmarks/sae_synthetic.py --device cuda --stream DIR --minutes 9 --json synthetic.json

The model is SynthSAEBench-16k's by its published settings (16,384 features in 768 dimensions, Zipfian firing, a
hierarchy of 128 trees, correlations), made here and not loaded, so that its features are other draws; `--small` has a
sixteenth of the features and trees in an eighth of the dimensions. SAEs have a quarter as many latents as there are
features, k 25 (7 in small) and batches of 1,024; published are 200 million samples at a rate of 3e-4, which `--stream`
draws anew for every step and for all kinds at once; it is called again until it has come to its end. ReLU-L1, gated
and JumpReLU have a penalty at which as many latents are active, to a tenth; a stream's is found on a twentieth of it,
which after few steps is another L0 than at the end: of a stream of 20,000 dense kinds end at .5 to 9 in place of 25.
Scores are sae-lens' own (`eval_sae_on_synthetic_data`): MCC is the mean cosine of decoder rows and features matched one
to one, F1 that of a latent as a detector of the feature it lies closest to.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide packages of the same names

import torch

from benchmarks.sae_table import KINDS
from data_gen.files import read_json, write_atomic
from data_gen.seeding import stable_hash
from saes.activations import Activations
from saes.training.config import SAEConfig
from saes.training.fitting import Fit
from saes.training.loop import Loop
from saes.training.penalty import search
from saes.training.resume import save_state
from saes.training.sae import CHECK_ROWS, Maker, TrainedSAE, about, scaling, train_sae
from tinysql.runs import provenance

EVALUATED, AT_ONCE = 50_000, 8192
"""Samples scored, and samples made at once."""
BLOCK = 65_536
"""Samples of a stream that one seed draws, so that it can be gone on with anywhere."""
PUBLISHED, SEARCHED = 195_313, 20
"""Steps of a stream that make 200 million samples, and how much shorter trainings are that a penalty is found by."""
SEED = 42
"""Draws the features, as in the published settings."""


def synthetic_model(small: bool, device: str) -> Any:
    """SynthSAEBench-16k's settings, or a sixteenth of it."""
    lib = importlib.import_module("sae_lens.synthetic")
    settings = lib.SyntheticModelConfig(
        num_features=1024 if small else 16_384,
        hidden_dim=96 if small else 768,
        firing_probability=lib.ZipfianFiringProbabilityConfig(exponent=0.5, max_prob=0.4, min_prob=5e-4),
        hierarchy=lib.HierarchyConfig(
            total_root_nodes=8 if small else 128,
            branching_factor=4,
            max_depth=3,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        orthogonalization=lib.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=lib.LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
        mean_firing_magnitudes=lib.LinearMagnitudeConfig(start=5.0, end=4.0),
        std_firing_magnitudes=lib.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        seed=SEED,
    )
    return lib.SyntheticModel(settings, device=device)


@torch.no_grad()
def samples(model: Any, n: int, seed: int) -> Activations:
    """`n` activations, which have no roles."""
    torch.manual_seed(seed)
    values = torch.cat([model.sample(min(AT_ONCE, n - start)) for start in range(0, n, AT_ONCE)])
    zeros = torch.zeros(n, dtype=torch.long, device=values.device)
    return Activations(
        hook="synthetic", values=values, ids=zeros, roles=("",) * n, example=zeros, position=zeros
    )


def matched(activations: Activations, config: SAEConfig) -> tuple[SAEConfig, TrainedSAE]:
    """Trained, with the penalty at which k latents are active where no k says so, to a tenth if it is found."""
    if config.is_k_sparse:
        return config, train_sae(activations, config)
    made: dict[float, TrainedSAE] = {}

    def l0_of(penalty: float) -> float:
        made[penalty] = train_sae(activations, replace(config, sparsity=penalty))
        return made[penalty].record.l0

    best = search(l0_of, config.k)
    return replace(config, sparsity=best), made[best]


def penalties(activations: Activations, configs: Mapping[str, SAEConfig], file: Path) -> dict[str, SAEConfig]:
    """Those without a k get a penalty from shorter trainings, which is kept in `file`."""
    found = read_json(file) if file.exists() else {}
    for kind, config in configs.items():
        if not config.is_k_sparse and kind not in found:
            short = replace(config, steps=max(config.steps // SEARCHED, 1))
            nearest, trained = matched(activations, short)
            found[kind] = nearest.sparsity
            print(
                f"{kind}: of the penalties tried {nearest.sparsity:.4g} comes nearest to {config.k} active latents, "
                f"with {trained.record.l0:.1f} after {short.steps:,} steps",
                flush=True,
            )
            write_atomic(file, json.dumps(found))
    return {kind: replace(one, sparsity=found.get(kind, one.sparsity)) for kind, one in configs.items()}


def streamed(
    model: Any, configs: Mapping[str, SAEConfig], *, seed: int, directory: Path, seconds: float
) -> dict[str, TrainedSAE]:
    """All kinds over one stream in which no sample comes twice; nothing where the time is over before its end."""
    held = samples(model, 2 * CHECK_ROWS, stable_hash("held", seed) >> 1).values
    (mean, scale), end = scaling(held), time.monotonic() + seconds
    device, d_in = held.device, held.shape[1]
    runs = {
        kind: Fit(Loop.begin(config, d_in=d_in, device=device), directory / kind, lambda: f"stream {seed}")
        for kind, config in configs.items()
    }
    one = next(iter(configs.values()))
    block, drawn = -1, held
    for step in range(min(run.loop.step for run in runs.values()), one.steps):
        place, inside = divmod(step * one.batch_size, BLOCK)
        if place != block:
            block = place
            drawn = samples(model, BLOCK, stable_hash("stream", seed, block) >> 1).values
        batch = (drawn[inside : inside + one.batch_size] - mean) * scale
        for run in runs.values():
            if run.loop.step == step:
                run.advance((batch,))
        if time.monotonic() > end:
            for kind, run in runs.items():
                state = run.loop.state()
                save_state(directory / kind, run.loop.config, run.data, step=run.loop.step, tensors=state)
            print(f"{step + 1} of {one.steps} steps are done; call it again", flush=True)
            return {}
    rows = torch.arange(CHECK_ROWS, device=device)
    made = {}
    for kind, run in runs.items():
        maker = Maker(
            loop=run.loop,
            raw=lambda rows: held[rows],
            metadata=about("synthetic", "synthetic"),
            train=rows,
            held_back=rows + CHECK_ROWS,
            mean=mean,
            scale=scale,
        )
        made[kind] = maker.finished(run)
    return made


def scored(model: Any, trained: TrainedSAE, seed: int) -> dict[str, Any]:
    """sae-lens' scores on samples of their own."""
    evaluate = importlib.import_module("sae_lens.synthetic").eval_sae_on_synthetic_data
    torch.manual_seed(seed + 1)
    found = evaluate(
        trained.sae, model.feature_dict, model.activation_generator, num_samples=EVALUATED, batch_size=AT_ONCE
    )
    scores: dict[str, Any] = found.to_dict()
    return scores


def table(rows: list[dict[str, Any]]) -> str:
    """One line per kind."""
    lines = [
        "| kind | MCC | F1 | precision | recall | unique | explained | L0 | dead | shrinkage |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        s, c = row["scores"], row["scores"]["classification"]
        lines.append(
            f"| {row['kind']} | {s['mcc']:.3f} | {c['f1_score']:.3f} | {c['precision']:.3f} | {c['recall']:.3f} "
            f"| {s['uniqueness']:.3f} | {s['explained_variance']:.3f} | {s['sae_l0']:.1f} | {s['dead_latents']} "
            f"| {s['shrinkage']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a sixteenth of the benchmark, for a CPU")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="only these; repeat")
    parser.add_argument("--k", type=int, help="active latents (default: 25, small 7)")
    parser.add_argument("--samples", type=int, default=200_000, help="different samples (default: 200,000)")
    parser.add_argument(
        "--stream", type=Path, help="train on samples that are all different, and keep state here"
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="leave a stream after so many")
    parser.add_argument(
        "--steps", type=int, help="of 1,024 samples (default: 2000; of a stream as published)"
    )
    parser.add_argument("--lr", type=float, help="learning rate (default: 3e-4 as published, small 3e-3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows here, after every one of them")
    arguments = parser.parse_args()
    begun = time.monotonic()
    model = synthetic_model(arguments.small, arguments.device)
    activations = samples(model, arguments.samples, arguments.seed)
    configs = configurations(arguments)
    if arguments.stream is None:
        trained = (matched(activations, config) for config in configs.values())
    else:
        arguments.stream.mkdir(parents=True, exist_ok=True)
        configs = penalties(activations, configs, arguments.stream / "penalties.json")
        left = 60 * arguments.minutes - (time.monotonic() - begun)
        made = streamed(model, configs, seed=arguments.seed, directory=arguments.stream, seconds=left)
        trained = ((configs[kind], sae) for kind, sae in made.items())
    rows: list[dict[str, Any]] = []
    for config, one in trained:
        scores = scored(model, one, arguments.seed)
        about = {"kind": config.architecture, "sparsity": config.sparsity, "steps": config.steps}
        rows.append({**about, "scores": scores})
        print(config.architecture, json.dumps(scores), flush=True)
        if arguments.json is not None:
            made_by = {**provenance(), "command": " ".join(["python", *sys.argv])}
            write_atomic(arguments.json, json.dumps({"rows": rows, "made_by": made_by}, indent=1))
    if rows:
        print(table(rows))


def configurations(arguments: argparse.Namespace) -> dict[str, SAEConfig]:
    """What each kind is trained with, but for penalties."""
    small = arguments.small
    return {
        kind: SAEConfig(
            architecture=kind,
            d_sae=256 if small else 4096,
            k=arguments.k or (7 if small else 25),
            lr=arguments.lr or (3e-3 if small else 3e-4),
            batch_size=1024,
            steps=arguments.steps or (PUBLISHED if arguments.stream else 2000),
            seed=arguments.seed,
        )
        for kind in arguments.kind or KINDS
    }


if __name__ == "__main__":
    main()
