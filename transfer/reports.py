"""`report.json`, or `quality.json` of a map -> what it holds, without what computes, so that it is shown at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import find_json
from tinysql.written import read_measured, read_written

REPORT = "report.json"
CONFIG, QUALITY = "config.json", "quality.json"
"""What was asked for, and what `fit` measured of a map: the two are its report."""
KIND = "analysis"
"""What a directory with a report is; nothing of another kind, such as a trained model, is overwritten by one."""
KINDS = {
    "transfer": {"outcomes", "transfer", "plan", "source", "target"},
    "curves": {"points", "plan", "source", "target"},
    "switch": {"arms", "requirements", "plan", "base", "tuned"},
    "map": {"quality", "replacement", "plan", "source", "target"},
}
"""What a report can be, and what each has to have."""

INSIDE = {"a map": {"kind", "widths", "made"}, "a steering vector": {"hook", "metadata"}}
"""What lies in the directory of a report without one of its own, and the keys of its config."""


def kind_of(report: Mapping[str, Any]) -> str | None:
    """`transfer`, `curves`, `switch`, `map`, or None for none of them."""
    return next((kind for kind, names in KINDS.items() if names <= set(report)), None)


def bar_line(bar: Mapping[str, Any]) -> str:
    """One bar of a gate, as JSON has it: its share, of how many answers, Wilson's interval, and what it has to be."""
    share = bar["share"]
    low, high = share["interval95"]
    needed = ", no bar"
    if bar["least"] is not None:
        needed = f", needs {bar['least']:.1%}"
    elif bar["most"] is not None:
        needed = f", at most {bar['most']:.1%}"
    # Older reports do not say.
    elif (expected := bar.get("expected")) is not None:
        is_short = share["share"] < expected
        needed = f", warning: {expected:.1%} expected" if is_short else f", {expected:.1%} expected"
    return f"{share['share']:.1%} {bar['name']} ({low:.1%} to {high:.1%} of {share['total']:,}){needed}"


def _no_report(directory: Path) -> InputError:
    """The refusal of a directory without a report: of a map or a vector alone, which lies in that of its report."""
    config = set(find_json(directory / CONFIG) or {})
    of = next((name for name, keys in INSIDE.items() if keys <= config), None)
    if of is None:
        return InputError(
            f"{directory} is no transfer: it has no {REPORT}, and no {QUALITY} of a map",
            hint="make one with `tinysql transfer eval`, `curve`, `switch` or `fit`",
        )
    around = directory.parent
    has_report = (around / REPORT).is_file() or (around / QUALITY).is_file()
    return InputError(
        f"{directory} holds {of} and no report, expected a directory with {REPORT} or {QUALITY}",
        hint=f"show what it was measured in: `tinysql transfer show {around}`"
        if has_report
        else "measure it with `tinysql transfer eval` or `fit`, and show what these write",
    )


def read_report(directory: Path) -> dict[str, Any]:
    """What `evaluate_to`, `curves_to`, `switch_to` or `fit_to` wrote; `InputError` for a directory of none of them."""
    name = REPORT
    if not (directory / REPORT).is_file():
        name = QUALITY
        if not (directory / QUALITY).is_file():
            raise _no_report(directory)
    again = again_hint(directory)
    read = read_measured if name == REPORT else read_written
    values = read(directory / name, again)
    if name == QUALITY:
        values = {**read_written(directory / CONFIG, again), **values}
    if kind_of(values) is None:
        raise InputError(f"{directory / name} is the report of nothing that is known here", hint=again)
    return values


def again_hint(directory: Path) -> str:
    """How a damaged report is made again: by the command that `config.json` names, where it can be read."""
    try:
        command = (find_json(directory / CONFIG) or {}).get("made_by", {}).get("command")
    except (AttributeError, InputError):
        command = None
    if not isinstance(command, str) or not command.startswith("tinysql transfer "):
        command = f"tinysql transfer eval|curve|switch|fit ... --out {directory}"
    overwrite = "" if "--overwrite" in command.split() else " --overwrite"
    return f"restore the file, or write it again: {command.replace(' --resume', '')}{overwrite}"
