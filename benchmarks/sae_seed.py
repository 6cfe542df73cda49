"""TinySQL's SAE results for a run: FVU at every hook, the circuit its SAEs name, what it answers, EAP's heads beside.

    python benchmarks/sae_seed.py runs/bm1 --device cuda --pairs 100 --json seed_saes.json
    python benchmarks/sae_seed.py runs/bm1 --device cuda --set cs2 --json seed_saes_cs2.json
    python benchmarks/sae_seed.py runs/nano-0 --pairs 16 --prompts 32 --random 5 --json seed_saes.json

TopK SAEs of k 16 and four latents per dimension are trained at every attention, MLP and residual hook (arXiv
2503.12730, appendix; learning rate 8e-4, about six epochs). A layer's circuit is found as in its Algorithm 1: latents
are ranked by their mean activation at the prompt's last token; the smallest n of 1, 2, 4, .. 32 is taken with which,
alone decoded, the likeness of answers is at least .7 and rises by less than .02 after it; the lengths of their decoders
in blocks of the output are added up, and blocks are kept, from the largest down, until they hold 80 % of what all have
above the least.
Everything else is set to zero. Blocks are `d_head` dimensions of attention's output and single ones of the MLP's.

Those blocks are no heads: the output projection mixes heads. So the same is done with SAEs of `hook_z`, where a head's
dimensions are its own (`heads` beside `slices`). Random blocks, as many in each layer, give the chance; overlap with
the heads that TinySQL's EAP recipe names is given with what as many random heads would share. Runs of attention and
MLPs only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from benchmarks.seed_circuits import SHARES, Subject, found_heads, mean
from circuits.bench.seed_way import likeness
from circuits.looking.running import HookFunction, hooked
from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.files import read_json, write_atomic
from saes.activations import capture
from saes.artefacts import train_on_run
from saes.disk import SAE, load
from saes.training.config import SAEConfig
from tinysql.answering.generation import answer
from tinysql.models.hybrid import HybridLM
from tinysql.runs import Run, open_run, provenance

K, LR = 16, 8e-4
TRIED, ENOUGH, GAIN, AREA = (1, 2, 4, 8, 16, 32), 0.7, 0.02, 0.8
"""Latents tried, likeness and gain at which no more are taken, and the share of magnitude that is kept."""
Kept = Mapping[str, Tensor]
"""Hook -> which of its dimensions are left as they are."""


@dataclass(frozen=True)
class Asked:
    """A model and the prompts it answers."""

    subject: Subject
    examples: list[Example]

    def answers(self, hooks: Sequence[tuple[str, HookFunction]]) -> tuple[list[float], list[float]]:
        """Likeness and being right, letter for letter, of every answer while the functions stand on the hooks."""
        model, tokenizer = self.subject.model, self.subject.tokenizer
        prompts = [one.prompt.string for one in self.examples]
        wanted = [one.sql.string for one in self.examples]
        longest = 8 + max(len(tokenizer.encode_text(f" {sql}")) for sql in wanted)
        with hooked(model, hooks):
            given = answer(model, tokenizer, prompts, longest=longest, title="answering")
        both = list(zip(given, wanted, strict=True))
        return [likeness(*pair) for pair in both], [float(a == b) for a, b in both]

    def keeping(self, kept: Kept) -> tuple[list[float], list[float]]:
        """Answers when all other dimensions of these hooks are zero."""
        return self.answers([(hook, partial(_only, kept=mask)) for hook, mask in kept.items()])


def _only(value: Tensor, hook: Any, *, kept: Tensor) -> Tensor:
    return (value.flatten(2) * kept.to(value)).reshape(value.shape)


def mixers(model: HybridLM) -> tuple[list[int], list[int]]:
    """Attention blocks and MLP blocks; `InputError` for a hybrid."""
    pattern = model.cfg.pattern
    if set(pattern) - {"*", "-"}:
        raise InputError(
            f"the model's pattern is {pattern}, expected attention and MLPs only",
            hint="TinySQL's recipe knows no other blocks",
        )
    return [i for i, c in enumerate(pattern) if c == "*"], [i for i, c in enumerate(pattern) if c == "-"]


def hooks_of(model: HybridLM) -> list[str]:
    """Every attention, head, MLP and residual hook."""
    attention, mlp = mixers(model)
    return [
        *(f"blocks.{i}.hook_attn_out" for i in attention),
        *(f"blocks.{i}.attn.hook_z" for i in attention),
        *(f"blocks.{i}.hook_mlp_out" for i in mlp),
        *(f"blocks.{i}.hook_resid_post" for i in range(len(model.cfg.pattern))),
    ]


def trained(run: Run, hook: str, arguments: argparse.Namespace) -> tuple[SAE, dict[str, Any]]:
    """The SAE of a hook, trained unless it is there, and its FVU, L0 and dead latents."""
    name = f"seed-{hook}"
    path = run.path / "saes" / name
    if not (path / "cfg.json").exists():
        config = SAEConfig(k=K, lr=LR, steps=arguments.steps, batch_size=512, seed=arguments.seed)
        train_on_run(
            run, config, name=name, hooks=[hook], rows=arguments.rows, validation=0, device=arguments.device
        )
    record = read_json(path / "metrics.json")
    return load(path, arguments.device), {
        "hook": hook,
        **{name: record[name] for name in ("fvu", "l0", "dead")},
    }


@torch.no_grad()
def ranked_latents(asked: Asked, sae: SAE, hook: str) -> list[int]:
    """The 32 latents of the largest mean activation at the prompts' last tokens."""
    model, tokenizer = asked.subject.model, asked.subject.tokenizer
    total = torch.zeros(len(sae.W_dec))
    for example in asked.examples:
        ids = torch.tensor([tokenizer.encode_text(example.prompt.string)], device=model.device)
        total += sae.encode(capture(model, ids, hook)[:, -1].float())[0].cpu()
    return total.topk(min(TRIED[-1], len(total))).indices.tolist()


def enough_latents(asked: Asked, sae: SAE, hook: str) -> tuple[list[int], list[float]]:
    """The fewest best latents that answer alike when they alone are decoded at the hook, and likeness by number."""
    order, found = ranked_latents(asked, sae, hook), list[float]()
    for number, n in enumerate(TRIED):
        alone = torch.zeros(len(sae.W_dec), device=sae.W_dec.device)
        alone[order[:n]] = 1

        def decoded(value: Tensor, hook: Any, alone: Tensor = alone) -> Tensor:
            flat = value.flatten(2).float()
            return sae.decode(sae.encode(flat) * alone).reshape(value.shape).to(value)

        found.append(float(np.mean(asked.answers([(hook, decoded)])[0])))
        if number and found[-2] >= ENOUGH and found[-1] - found[-2] < GAIN:
            return order[: TRIED[number - 1]], found
    return order, found


def kept_blocks(decoder: Tensor, latents: Sequence[int], width: int) -> list[int]:
    """The blocks of `width` dimensions that hold `AREA` of what the latents' decoders have above the least block.

    Example: lengths 5, 1, 3 are 4, 0, 2 above the least; the first and third hold all of it, the first two thirds.
    """
    length = decoder[list(latents)].unflatten(1, (-1, width)).norm(dim=2).sum(0)
    above = length - length.min()
    order = above.argsort(descending=True, stable=True)
    share = above[order].cumsum(0) / above.sum().clamp_min(1e-30)
    return sorted(order[: int((share < AREA - 1e-6).sum()) + 1].tolist())


def mask(blocks: Sequence[int], n_blocks: int, width: int) -> Tensor:
    """True at the dimensions of these blocks."""
    return torch.isin(torch.arange(n_blocks), torch.tensor(blocks, dtype=torch.long)).repeat_interleave(width)


def circuit_row(
    asked: Asked,
    attention: str,
    blocks: Mapping[str, tuple[int, list[int]]],
    eap: frozenset[str],
    whole: Any,
    none: Any,
    n_random: int,
) -> dict[str, Any]:
    """What the blocks answer, beside as many random ones; `blocks` holds hook -> (width, kept ones)."""
    model = asked.subject.model
    sizes = {hook: _width(model, hook) for hook in blocks}
    rng = np.random.default_rng(asked.subject.seed)

    def masks(draw: Callable[[int, list[int]], Sequence[int]]) -> Kept:
        return {
            hook: mask(draw(sizes[hook] // width, kept), sizes[hook] // width, width)
            for hook, (width, kept) in blocks.items()
        }

    own = asked.keeping(masks(lambda n, kept: kept))
    random = [
        asked.keeping(masks(lambda n, kept: rng.choice(n, len(kept), replace=False).tolist()))
        for _ in range(n_random)
    ]
    floor, top = float(np.mean(none[0])), float(np.mean(whole[0]))
    heads = [hook for hook in blocks if hook.endswith(attention)]
    named = {f"{_block(hook)}.{head}" for hook in heads for head in blocks[hook][1]}
    return {
        "way": "heads" if attention == "hook_z" else "slices",
        "heads": {_block(hook): blocks[hook][1] for hook in heads},
        "mlp": {_block(hook): len(kept) for hook, (_, kept) in blocks.items() if hook not in heads},
        "share": sum(width * len(kept) for width, kept in blocks.values()) / sum(sizes.values()),
        "likeness": mean(own[0]),
        "likeness_random": [float(np.mean(one[0])) for one in random],
        "likeness_whole": top,
        "likeness_none": floor,
        "rescaled": (float(np.mean(own[0])) - floor) / (top - floor) if top > floor else None,
        "right": mean(own[1]),
        "right_random": [float(np.mean(one[1])) for one in random],
        "right_whole": float(np.mean(whole[1])),
        "overlap": overlap(named, eap, len(heads) * model.cfg.n_heads),
    }


def overlap(named: set[str], eap: frozenset[str], heads: int) -> dict[str, Any]:
    """How many of the SAEs' heads EAP names too, and what as many random heads would share with EAP's.

    `chance` is the mean share and `p` the probability of sharing at least as many (hypergeometric).
    """
    theirs = {name.removeprefix("blocks.").replace(".attn.head.", ".") for name in eap}
    shared = len(named & theirs)
    return {
        "named": sorted(named),
        "eap": sorted(theirs),
        "shared": shared,
        "share": shared / max(len(named), 1),
        "chance": len(theirs) / heads,
        "p": float(hypergeom.sf(shared - 1, heads, len(theirs), len(named))),
    }


def _block(hook: str) -> str:
    return hook.split(".")[1]


def _width(model: HybridLM, hook: str) -> int:
    return model.cfg.n_heads * model.cfg.head_width if hook.endswith("hook_z") else model.cfg.d_model


def set_rows(
    run: Run, subject: Subject, saes: Mapping[str, SAE], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Both ways of one command set."""
    asked = Asked(subject, subject.examples(arguments.prompts))
    model = subject.model
    attention, mlp = mixers(model)
    eap, counts = found_heads(subject, arguments.pairs)
    whole = asked.answers([])
    outs = [*(f"blocks.{i}.hook_attn_out" for i in attention), *(f"blocks.{i}.hook_mlp_out" for i in mlp)]
    none = asked.keeping({hook: torch.zeros(model.cfg.d_model) for hook in outs})
    searched, chosen = {}, dict[str, tuple[int, list[int]]]()
    for hook in [*outs, *(f"blocks.{i}.attn.hook_z" for i in attention)]:
        latents, curve = enough_latents(asked, saes[hook], hook)
        searched[hook] = {"latents": latents, "likeness": curve}
        width = 1 if hook.endswith("mlp_out") else _width(model, hook) // model.cfg.n_heads
        chosen[hook] = (width, kept_blocks(saes[hook].W_dec, latents, width))
    rows = []
    for way in ("hook_attn_out", "hook_z"):
        blocks = {hook: some for hook, some in chosen.items() if hook.endswith((way, "mlp_out"))}
        row = circuit_row(asked, way, blocks, eap, whole, none, arguments.random)
        about = {"run": run.path.name, "set": subject.set, "prompts": len(asked.examples)}
        rows.append({**about, **row, "searched": searched, "edges_by_edit": counts})
    return rows


def tables(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """FVU by hook, and the circuits."""
    lines = ["| run | hook | FVU | L0 | dead |", "|---|---|--:|--:|--:|"]
    for row in found["saes"]:
        lines.append(
            f"| {row['run']} | `{row['hook']}` | {row['fvu']:.3f} | {row['l0']:.1f} | {row['dead']} |"
        )
    lines += [
        "",
        "| run | set | blocks | heads | share of model | likeness | random | rescaled | right | random | whole "
        "| also EAP's | by chance |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found["circuits"]:
        heads, both = sum(map(len, row["heads"].values())), row["overlap"]
        rescaled = "-" if row["rescaled"] is None else f"{row['rescaled']:.2f}"
        lines.append(
            f"| {row['run']} | {row['set'].upper()} | {row['way']} | {heads} | {row['share']:.2f} "
            f"| {row['likeness']['value']:.3f} | {_spread(row['likeness_random'])} | {rescaled} "
            f"| {row['right']['value']:.3f} | {_spread(row['right_random'])} | {row['right_whole']:.3f} "
            f"| {both['shared']} ({both['share']:.2f}) | {both['chance']:.2f} (p {both['p']:.2f}) |"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--set", action="append", default=[], choices=SHARES, help="only these; repeat")
    parser.add_argument("--steps", type=int, default=1200, help="steps of 512 tokens (default: 1200)")
    parser.add_argument("--rows", type=int, default=2000, help="training rows (default: 2000)")
    parser.add_argument("--prompts", type=int, default=100, help="rows answered (default: 100)")
    parser.add_argument("--random", type=int, default=10, help="random circuits (default: 10)")
    parser.add_argument("--pairs", type=int, default=100, help="pairs per batch of EAP (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write everything measured here, after every command set")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"saes": [], "circuits": []}
    for path in arguments.runs:
        run = open_run(path)
        model, tokenizer = run.load(arguments.device)
        saes = {}
        for hook in hooks_of(model):
            saes[hook], row = trained(run, hook, arguments)
            found["saes"].append({"run": path.name, **row})
        for command_set in arguments.set or [one for one in SHARES if one in run.data.command_sets]:
            data = replace(run.split("test"), command_sets=(command_set,))
            subject = Subject(path.name, model, tokenizer, data, arguments.seed)
            found["circuits"] += set_rows(run, subject, saes, arguments)
            if arguments.json is not None:
                made_by = {**provenance(), "command": " ".join(["python", *sys.argv])}
                write_atomic(arguments.json, json.dumps({**found, "made_by": made_by}, indent=1))
    print(tables(found))


if __name__ == "__main__":
    main()
