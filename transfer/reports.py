"""`report.json` -> what it holds, without anything that computes: a command that shows it starts at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json

REPORT = "report.json"
KIND = "analysis"
"""What a directory with a report is; nothing of another kind, such as a trained model, is overwritten by one."""
KINDS = {
    "transfer": {"outcomes", "transfer", "plan", "source", "target"},
    "curves": {"points", "plan", "source", "target"},
    "switch": {"arms", "requirements", "plan", "base", "tuned"},
}
"""What a report can be, and what each has to have."""


def kind_of(report: Mapping[str, Any]) -> str | None:
    """`transfer`, `curves`, `switch`, or None for neither."""
    return next((kind for kind, names in KINDS.items() if names <= set(report)), None)


def read_report(directory: Path) -> dict[str, Any]:
    """What `evaluate_to`, `curves_to` or `switch_to` wrote; `InputError` when the directory is none of theirs."""
    if not (directory / REPORT).is_file():
        raise InputError(
            f"{directory} is no transfer: it has no {REPORT}",
            hint="make one with `tinysql transfer eval`, `curve` or `switch`",
        )
    values = read_json(directory / REPORT)
    if kind_of(values) is None:
        raise InputError(
            f"{directory / REPORT} is the report of nothing that is known here",
            hint="restore the file, or run it again",
        )
    return values
