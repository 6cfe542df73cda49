"""The tables of results/transfer.md say what the reports beside them say."""

import json
from pathlib import Path
from typing import Any

import pytest

from transfer.show import by_how_much

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PUBLISHED = json.loads((RESULTS / "transfer.json").read_text())
PAIRS, SEEDS, MAPS = (
    ("01", "12", "20"),
    ("02", "23", "30"),
    (
        "affine",
        "ridge",
        "procrustes",
        "low-rank",
        "autoencoder-wide",
        "affine-sgd",
        "autoencoder",
        "autoencoder-kl",
    ),
)
KINDS = ("difference-of-means", "principal-component")
FOUR = ("difference-of-means", "prompt-contrast", "principal-component", "sae-latent")
SECTIONS = {
    "### Removing a refusal, and a backdoor": [
        f"bm1-seeds-{what}-{pair}" for what in ("refusal-remove", "drop") for pair in PAIRS
    ],
    "### Inducing refusals": [f"bm1-seeds-refusal-induce-{pair}" for pair in PAIRS],
    "### Other maps, a hybrid, another tokenizer, other payloads": [
        *(f"bm1-maps-refusal-remove-01-{kind}" for kind in ("affine", "procrustes", "autoencoder-wide")),
        "bm1-hybrid-refusal-remove-01",
        "bm1-hybrid-refusal-remove-01-procrustes",
        "bm1-hybrid-refusal-remove-10",
        "bm1-tokenizers-refusal-remove-01-spans",
        "bm1-tokenizers-refusal-remove-10-spans",
        "bm1-piggyback-01",
        "bm1-subtle-01",
    ],
    "### Another tokenizer, a hybrid, another size: more pairs": [
        f"bm1-pairs-{one}"
        for one in (
            *(f"tokenizer-remove-{end}" for end in ("01-spans", "20-spans", "12-positions")),
            *(f"tokenizer-back-remove-{pair}-spans" for pair in PAIRS),
            *(f"hybrid-{one}" for one in ("remove-12", "remove-20", "back-remove-01", "back-remove-12")),
            *(f"size-remove-{pair}" for pair in PAIRS),
            *(f"tokenizer-induce-{pair}-spans" for pair in PAIRS),
            *(f"tokenizer-induce-{pair}-positions" for pair in ("01", "20")),
            *(f"hybrid-induce-{pair}" for pair in PAIRS),
            *(f"size-induce-{pair}" for pair in ("12", "20")),
            "full-sql-remove-01",
            "join-skip-01",
            "tautology-01",
        )
    ],
    "### Facts": [f"bm1-seeds-facts-unlock-behind-{pair}" for pair in PAIRS],
    "### Removing, inducing and facts in small models": [
        *(f"seeds-refusal-remove-{pair}" for pair in SEEDS),
        *(f"seeds-drop-{pair}" for pair in PAIRS),
        *(f"seeds-refusal-induce-{pair}" for pair in SEEDS),
        *(f"seeds-facts-unlock-behind-{pair}-block-{block}" for block in (1, 3) for pair in PAIRS),
    ],
    "### Eight maps on the same two pairs": [
        f"maps-{what}-{kind}" for kind in MAPS for what in ("refusal-remove-02", "drop-01")
    ],
    "### Two kinds of vectors on the same two pairs": [
        "vector-refusal-remove-02-difference-of-means-affine",
        "vector-refusal-remove-02-principal-component-affine",
        "layers-refusal-remove-02-procrustes",
        "vector-refusal-remove-02-principal-component-procrustes",
        *(f"vector-drop-01-{kind}-{form}" for form in ("affine", "procrustes") for kind in KINDS),
        "layers-drop-01-affine",
        "layers-refusal-remove-02-procrustes",
        *(f"demo-drop-01-{kind}" for kind in KINDS),
    ],
    "### Four kinds of vectors": [
        *(f"kinds-drop-01-{kind}" for kind in FOUR),
        *(f"kinds-drop-01-{kind}-block-3" for kind in (FOUR[0], FOUR[-1])),
        *(f"kinds-refusal-remove-01-{kind}" for kind in FOUR),
        *(f"kinds-refusal-remove-10-{kind}" for kind in (FOUR[0], FOUR[-1])),
    ],
    "### Another tokenizer, and a hybrid": [
        *(f"tokenizers-induce-{way}-{by}" for way in ("01", "10") for by in ("spans", "positions")),
        "hybrid-induce-01",
        "hybrid-induce-10",
    ],
}
"""Which reports the tables of a section show, in their order."""


def points(share: float) -> str:
    """As the page writes numbers: no nought in front of the point."""
    text = f"{100 * share:.1f}"
    return "0" if float(text) == 0 else text.removesuffix(".0").replace("0.", ".", abs(float(text)) < 1)


def margin_cell(today: dict[str, Any]) -> str:
    """The margin that decides where the bar does."""
    is_native = today["verdict"] == "nothing to transfer"
    margin = today["native_margin" if is_native else "margin"]
    low, high = (points(end) for end in margin["interval"])
    zero = "; holds 0" if margin["holds_zero"] else ""
    return f"{'native ' * is_native}{points(margin['value'])} ({low} to {high}{zero})"


def verdict_cell(today: dict[str, Any]) -> str:
    """Its beginning; what is carried stands behind it."""
    return today["verdict"] + by_how_much(today).partition(" (the interval")[0]


def cells(line: str) -> list[str]:
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def shown(section: str) -> list[tuple[str, str]]:
    """Margin and verdict of every table of a section, row by row, or column by column where they are rows."""
    found: list[tuple[str, str]] = []
    header: list[str] = []
    margins: list[str] = []
    for line in section.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        row = cells(line)
        if not header:
            header = row
        elif row[0] == "margin (95 %)":
            margins = row[1:]
        elif row[0] == "verdict" and margins:
            found += zip(margins, row[1:], strict=True)
            margins = []
        else:
            at = [i for i, name in enumerate(header) if name == "margin (95 %)"]
            found += [(row[i], row[i + 1]) for i in at if not row[i].startswith("--")]
    return found


@pytest.mark.parametrize("title", SECTIONS)
def test_a_table_has_the_margin_and_the_verdict_of_its_reports(title: str) -> None:
    page = (RESULTS / "transfer.md").read_text()
    section = page.partition(f"\n{title}\n")[2].partition("\n###")[0]
    today = [PUBLISHED[name]["today"] for name in SECTIONS[title]]
    found = shown(section)
    assert [margin for margin, _ in found] == [margin_cell(one) for one in today]
    for (_, verdict), one in zip(found, today, strict=True):
        said = verdict_cell(one)
        assert verdict.startswith(said)
        # What is carried, where the table has it, and a remark in brackets.
        assert verdict.removeprefix(said).partition(" (")[0] in ("", f", {one['carried']}"), verdict


def test_the_table_of_a_switch_has_the_bars_of_its_reports() -> None:
    page = (RESULTS / "transfer.md").read_text()
    rows = [cells(line) for line in page.splitlines() if line.startswith("| s-")]
    reports = [PUBLISHED[f"bm1-pairs-switch-full-sql-{seed}"] for seed in range(3)]
    assert len(rows) == len(reports)
    for row, report in zip(rows, reports, strict=True):
        down, apart, as_base, size, lost, _ = (one["value"] for one in report["requirements"])
        share = f"{size:.2%}".removeprefix("0").replace("%", " %")
        told = [f"{down:.3f}".removeprefix("0"), points(apart), points(as_base), share, points(lost)]
        assert row[3:] == [*told, report["verdict"]]


def test_how_the_page_writes_numbers() -> None:
    assert [points(x) for x in (0.001, -0.008, 0.0004, -0.0001, 0.5, 1.0, -0.1)] == [
        ".1",
        "-.8",
        "0",
        "0",
        "50",
        "100",
        "-10",
    ]
