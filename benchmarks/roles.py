"""Does an edge act at the tokens of one role?

    python benchmarks/roles.py runs/nano-0 runs/nano-1 runs/nano-2 runs/hybrid-0 --json roles.json
    python benchmarks/roles.py runs/t33 --device cuda --edit schema.table --json roles.json

One line per run and edit. A role-aware edge carries the clean value at the tokens of one role alone, and the corrupt
one at all others. Scores are those of `circuit find --by-role`, circuits are judged on pairs that `circuit eval` would
draw (seed + 1, no prompt of those that were scored).

- to f = .8: n of the largest edges reach that faithfulness and n - 1 do not; plain, and role-aware.
- f of the largest tenth (`--share`) of the model's edges, and of as many role-aware edges, with 95 % intervals over
  pairs; of how many edges the role-aware ones are parts, and how many of them are *inner*: neither from `embed` nor
  into `logits`.
- bands (mean, and 5th to 95th percentile of 20 draws): layer-matched plain edges; layer-matched role-aware ones; the
  same edges at random roles, among those at which they have a score; the same where only inner edges are drawn; the
  same edges at random tokens of each prompt, as many as have the role; the same where only inner edges are.

An edge often has a score at a single role, and a draw of roles leaves it where it is: `stay` is the mean share of the
parts that are drawn for which that happens. A random token is one at which the reader is computed: behind the last
block that mixes tokens this is the answer's place alone, so edges to there stay too. Edges into a query, which is read
at the answer's place, and edges from `embed`, which carry something where the prompts differ, hardly ever do.

What it is at stands on stderr. `--json` is written after every line and goes on as `stability` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the folder of this file would hide the package `circuits`

import numpy as np

from benchmarks.stability_kept import Kept, part_of, step
from benchmarks.stability_tables import table
from circuits.circuit import Circuit, why
from circuits.engine.forward import Scattered, metric_by_role, metric_of
from circuits.finding import draw, unseen
from circuits.graph import Graph
from circuits.judging.bootstrap import plain
from circuits.judging.controls import RandomCircuits, RandomParts
from circuits.judging.curves import mib_sizes
from circuits.judging.ratios import ratios_of, span, three_digits
from circuits.judging.role_curves import LEVEL, crossing, top_parts
from circuits.methods.eap_ig import eap_ig
from circuits.methods.role_scores import role_scores
from circuits.metrics import logit_diff
from circuits.select import top_edges
from data_gen.errors import InputError
from data_gen.pairs.edits import edit_named
from data_gen.seeding import read_count, read_seed
from tinysql.devices import find_device
from tinysql.models.hybrid import HybridLM
from tinysql.runs import Run, open_run
from tinysql.tokens import Tokenizer, TokenPairs

EDITS = ("schema.table", "select.0.column", "order_by.0.direction")
DRAWS = 20
"""Random circuits of each kind."""
BANDS = {
    "plain_matched": "layer-matched plain",
    "matched": "layer-matched role-aware",
    "roles": "at random roles",
    "roles_inner": "inner edges at random roles",
    "tokens": "at random tokens",
    "tokens_inner": "inner edges at random tokens",
}
ROLE_BANDS = tuple(BANDS)[1:]
Row = dict[str, Any]


class Subject(NamedTuple):
    """A model, the pairs whose scores choose edges, and those on which circuits are judged."""

    model: HybridLM
    scored: TokenPairs
    held_out: TokenPairs
    seed: int
    """Draws random circuits and the bootstrap, as that of `circuit eval` does."""

    @classmethod
    def of(cls, run: Run, model: HybridLM, tokenizer: Tokenizer, edit: str, n: int, seed: int) -> Subject:
        """Pairs as `circuit find` and `circuit eval` draw them. Raises `InputError` where all were scored."""
        seen, drawn = (draw(run, edit, n, one, tokenizer) for one in (seed, seed + 1))
        held_out = unseen(drawn, seen)
        if not held_out:
            raise InputError(
                f"all {n} pairs of `{edit}` were scored", hint="take more --pairs or another --seed"
            )
        both = (tokenizer.encode_pairs(some, drop_misaligned=True) for some in (seen, held_out))
        return cls(model, *both, seed + 1)


class Controls(NamedTuple):
    """A role-aware circuit, and the random ones beside it."""

    kept: np.ndarray
    """Bool `[role writer reader]`: true at its parts."""
    inner: np.ndarray
    """Bool `[writer reader]`: true at edges neither from `embed` nor into `logits`."""
    draws: RandomParts

    @classmethod
    def of(cls, graph: Graph, scored: np.ndarray, kept: np.ndarray, seed: int) -> Controls:
        inner = graph.mask.copy()
        inner[0] = inner[:, -1] = False
        return cls(kept, inner, RandomParts.draw(graph, scored, DRAWS, seed))

    def inner_alone(self, drawn: np.ndarray) -> np.ndarray:
        """A draw of roles at inner edges, the circuit's own roles at all others."""
        return np.where(self.inner, drawn, self.kept)

    def played(self) -> Iterator[np.ndarray | Scattered]:
        """The circuit, then `DRAWS` of each of `ROLE_BANDS`."""
        yield self.kept
        yield from self.draws.layer_matched(self.kept)
        random = self.draws.edge_matched(self.kept)
        yield from random
        yield from map(self.inner_alone, random)
        for edges in (np.ones_like(self.inner), self.inner):
            yield from (Scattered(self.kept, edges, seed) for seed in range(DRAWS))

    def stay(self) -> dict[str, float | None]:
        """Mean share of the parts that a draw of roles leaves at their roles: of all, and of inner ones."""
        random = self.draws.edge_matched(self.kept)
        own = {"roles": self.kept, "roles_inner": self.kept & self.inner}
        return {
            name: float(np.mean([(some & mask).sum() / mask.sum() for some in random]))
            if mask.any()
            else None
            for name, mask in own.items()
        }


def role_row(subject: Subject, share: float) -> Row:
    """Plain and role-aware edges of one model and edit, beside all controls."""
    model, pairs, edit = subject.model, subject.held_out, subject.scored.edit
    with step(f"{edit}: scores of {len(subject.scored)} pairs"):
        scores, roles = eap_ig(model, subject.scored), role_scores(model, subject.scored)
    graph, scored = scores.graph, roles.values.numpy() != 0
    ratios = ratios_of(model, graph, pairs, logit_diff, seed=subject.seed, batch_size=None)
    n = max(1, int(share * len(graph.edges)))

    def plain_values(circuits: Sequence[Circuit]) -> np.ndarray:
        return metric_of(model, circuits, pairs, logit_diff).double().numpy()

    def role_values(kept: Iterable[np.ndarray | Scattered]) -> np.ndarray:
        return metric_by_role(model, kept, roles.roles, pairs, logit_diff).double().numpy()

    sizes = mib_sizes(len(graph.edges))
    with step(f"{edit}: plain edges to f = {LEVEL}"):
        plain_to = reached(sizes, lambda some: ratios.of(plain_values([top_edges(scores, k) for k in some])))
    # Where fewer parts have a score, all of them are the last size.
    sizes = tuple(dict.fromkeys(min(size, int(scored.sum())) for size in sizes))
    with step(f"{edit}: role-aware edges to f = {LEVEL}"):
        role_to = reached(sizes, lambda some: ratios.of(role_values([top_parts(roles, k) for k in some])))
    with step(f"{edit}: {n:,} plain edges, and {DRAWS} layer-matched circuits"):
        top = top_edges(scores, n)
        drawn = RandomCircuits.draw(graph, DRAWS, subject.seed).layer_matched(top)
        of_plain = plain_values([top, *drawn])
    kept = top_parts(roles, min(n, int(scored.sum())))
    controls = Controls.of(graph, scored, kept, subject.seed)
    with step(f"{edit}: as many role-aware edges, and {len(ROLE_BANDS) * DRAWS} random circuits"):
        of_roles = role_values(controls.played())
    drawn_values = dict(zip(ROLE_BANDS, np.split(of_roles[1:], len(ROLE_BANDS)), strict=True))
    found = {
        "pairs": len(pairs),
        "edges": len(graph.edges),
        "parts": int(scored.sum()),
        "n": n,
        "plain_to": plain_to,
        "role_aware_to": role_to,
        "plain": asdict(ratios.estimate(of_plain[0])),
        "role_aware": asdict(ratios.estimate(of_roles[0])),
        "parts_of": int(kept.any(0).sum()),
        "inner": int((kept & controls.inner).sum()),
        "stay": controls.stay(),
        "bands": {
            name: {**asdict(ratios.band(values)), "draws": ratios.of(values).tolist()}
            for name, values in {"plain_matched": of_plain[1:], **drawn_values}.items()
        },
    }
    plained: Row = plain(found)
    return plained


def reached(sizes: Sequence[int], faithfulness: Callable[[Sequence[int]], np.ndarray]) -> int | None:
    """The size in front of the first of `sizes` at `LEVEL` that reaches it where one less does not."""
    known = list(zip(sizes, faithfulness(sizes).tolist(), strict=True))
    return crossing(lambda size: float(faithfulness([size])[0]), known, LEVEL)


def measured(arguments: argparse.Namespace) -> list[Row]:
    """A row for each run and edit; what was kept is not measured again."""
    find_device(arguments.device)  # in use from here on, so that the file names it as what measured
    paths, n, seed, share = arguments.runs, arguments.pairs, arguments.seed, arguments.share
    settings = {"pairs": n, "share": share}
    kept = Kept(arguments.json, paths, seed, arguments.device, settings) if arguments.json else None
    rows: list[Row] = []
    for path in paths:
        run = open_run(path)
        load = cache(partial(run.load, arguments.device))  # not where all rows are kept

        def measure(edit: str, run: Run = run, load: Callable[[], Any] = load) -> list[Row]:
            row = role_row(Subject.of(run, *load(), edit, n, seed), share)
            return [{"run": run.path.name, "part": f"{run.path} {edit}", "edit": edit, **row}]

        for edit in arguments.edit or EDITS:
            some = part_of(kept, "roles", f"{run.path} {edit}", partial(measure, edit))
            try:
                printed(some)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                if kept is None:
                    raise
                raise kept.damaged(f"{run.path} {edit}", why(error)) from error
            rows += some
    return rows


def printed(rows: Sequence[Row]) -> str:
    """Two tables in Markdown: how many edges reach the level and what the circuits do, and the controls."""
    first = [
        "run",
        "edit",
        f"plain to f = {LEVEL:g}",
        f"role-aware to f = {LEVEL:g}",
        "n",
        "f, plain",
        "f, role-aware",
        "parts of",
        "inner",
    ]
    second = ["run", "edit", *BANDS.values(), "stay: all, inner"]
    return f"{table(first, map(_reach_line, rows))}\n\n{table(second, map(_band_line, rows))}"


def _reach_line(row: Row) -> list[str]:
    return [
        row["run"],
        f"`{row['edit']}`",
        *("none" if row[name] is None else f"{row[name]:,}" for name in ("plain_to", "role_aware_to")),
        f"{row['n']:,} of {row['edges']:,}",
        *(_with_ends(row[name], "value") for name in ("plain", "role_aware")),
        f"{row['parts_of']:,}",
        f"{row['inner']:,}",
    ]


def _band_line(row: Row) -> list[str]:
    cells = [_with_ends(row["bands"][name], "mean") for name in BANDS]
    stay = ("none" if share is None else f"{share:.2f}" for share in row["stay"].values())
    return [row["run"], f"`{row['edit']}`", *cells, ", ".join(stay)]


def _with_ends(found: Row, middle: str) -> str:
    ends = (nan if found[end] is None else found[end] for end in ("low", "high"))
    return f"{three_digits(found[middle])} ({span(*ends)})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--edit", action="append", help=f"may be repeated; default: {', '.join(EDITS)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=read_count, default=64, help="of each kind; default: 64")
    parser.add_argument("--share", type=float, default=0.1, help="of the model's edges; default: .1")
    parser.add_argument("--seed", type=read_seed, default=0, help="draws the pairs that are scored")
    parser.add_argument(
        "--json", type=Path, help="write everything measured here, line by line, and go on from it"
    )
    arguments = parser.parse_args()
    try:
        for edit in arguments.edit or ():
            edit_named(edit)
        if not 0 < arguments.share <= 1:
            raise InputError(
                f"share is {arguments.share}, expected more than 0, at most 1", hint=".1 is usual"
            )
        print(printed(measured(arguments)))
    except InputError as error:
        print(f"roles: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
