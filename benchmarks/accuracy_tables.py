"""Results of `accuracy.py` -> Markdown: mean, lowest and highest over the seeds, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.say.style import VARIANTS


def read_results(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of a directory by recipe, seeds in order.

    Raises:
        InputError: there is none with an answer in it, or two of one recipe were made with other settings.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(out.glob("*.json")):
        result = read_json(file)
        if result.get("cells"):
            found.setdefault(result["recipe"], []).append(result)
    if not found:
        raise InputError(f"`{out}` has no results", hint="make them first: leave out --report")
    for recipe, results in found.items():
        if len({_deciding(result["settings"]) for result in results}) > 1:
            raise InputError(
                f"`{out}` has results of {recipe} with several settings",
                hint="keep each setting in a directory of its own",
            )
        results.sort(key=lambda result: result["seed"])
    return found


def _deciding(settings: Sequence[str]) -> tuple[str, ...]:
    """The settings that can change a weight: where a training keeps checkpoints does not."""
    return tuple(one for one in settings if not one.startswith("train.checkpoint_every="))


def aggregate(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per cell: mean, lowest and highest share right over the seeds, and the interval of one seed's rows.

    All seeds are asked the same rows, so these count once: the Wilson 95 % interval is that of the mean share
    among the rows of the seed that was asked fewest.
    """
    from tinysql.answering.shares import Share

    found = {}
    for cell in results[0]["cells"]:
        here = [result["cells"][cell] for result in results if cell in result["cells"]]
        shares = [one["execution"] / one["total"] for one in here]
        mean, rows = sum(shares) / len(shares), min(one["total"] for one in here)
        found[cell] = {
            "seeds": len(here),
            "rows": rows,
            "mean": mean,
            "min": min(shares),
            "max": max(shares),
            "interval95": list(Share(right=round(mean * rows), total=rows).interval),
        }
    return found


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The tables of `docs/results/training.md`."""
    tables = {recipe: aggregate(results) for recipe, results in found.items()}
    names = list(dict.fromkeys(cell for table in tables.values() for cell in table))
    sets = list(dict.fromkeys(cell.split()[0] for cell in names if " " in cell))
    lines = [*_models(found), "", "Per cent right by execution, mean over the seeds:", ""]
    heads = [f"`{recipe}` {variant}" for recipe in tables for variant in VARIANTS]
    lines += _rows(
        ["set", *heads],
        [
            [name.upper(), *(_mean(table.get(f"{name} {v}")) for table in tables.values() for v in VARIANTS)]
            for name in sets
        ],
    )
    lines += [
        "",
        "Names and instructions that training does not have, first command sets, `base`:",
        "",
    ]
    others = [name for name in names if " " not in name]
    lines += _rows(
        ["split", *(f"`{recipe}`" for recipe in tables)],
        [[f"`{name}`", *(_mean(table.get(name)) for table in tables.values())] for name in others],
    )
    for recipe, table in tables.items():
        lines += [
            "",
            f"`{recipe}`, every cell (Wilson 95 % interval of the mean at the rows of one seed):",
            "",
        ]
        lines += _rows(
            ["cell", "seeds", "rows", "mean", "lowest", "highest", "95 % interval"],
            [[name, str(one["seeds"]), f"{one['rows']:,}", *_spread(one)] for name, one in table.items()],
        )
    return "\n".join(lines)


def _models(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    rows = []
    for recipe, results in found.items():
        trained = [result["trained"] for result in results if result["trained"]]
        first = results[0]
        rows.append(
            [
                f"`{recipe}`",
                " ".join(first["settings"]) or "none",
                ", ".join(str(result["seed"]) for result in results),
                f"{first['parameters'] / 1e6:.1f} M",
                f"{first['active'] / 1e6:.1f} M",
                " / ".join(f"{one['tokens'] / 1e6:.1f} M" for one in trained),
                " / ".join(f"{one['seconds']:.0f}" for one in trained),
                " / ".join(f"{result['answering_seconds']:.0f}" for result in results),
                f"{first['made_by']['gpu'] or 'CPU'}, {first['made_by']['precision']}",
                " / ".join(dict.fromkeys(_short(one) for result in results for one in result["commits"])),
            ]
        )
    heads = ["recipe", "settings", "seeds", "weights", "of which a token uses", "tokens", "s of training"]
    return _rows([*heads, "s of answering", "device, precision", "commit"], rows)


def _short(commit: str | None) -> str:
    """Seven digits of a commit, and whether the tree had changes beside it."""
    digits, *changes = (commit or "?").split("+")
    return "+".join([digits[:7], *changes])


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]


def _mean(one: Mapping[str, Any] | None) -> str:
    return f"{100 * one['mean']:.2f}" if one is not None else ""


def _spread(one: Mapping[str, Any]) -> list[str]:
    low, high = one["interval95"]
    numbers = [f"{100 * one[name]:.2f}" for name in ("mean", "min", "max")]
    return [*numbers, f"{100 * low:.2f} to {100 * high:.2f}"]
