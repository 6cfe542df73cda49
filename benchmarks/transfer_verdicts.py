"""Published reports of transfers -> today's verdict and margin beside each, in the same file.

    python benchmarks/transfer_verdicts.py docs/results/transfer.json

`transfer` stays as the command wrote it on its day; `today` is by the rule of the code that runs. Prints each verdict.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_gen.files import read_json, write_atomic
from transfer.evaluation.today import todays_transfer
from transfer.reports import kind_of
from transfer.show import verdict_line


def with_today(report: dict[str, Any]) -> dict[str, Any]:
    """A report with `today` behind its own verdict; one of another kind as it is."""
    if kind_of(report) != "transfer":
        return report
    return {**report, "today": json.loads(json.dumps(asdict(todays_transfer(report))))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="JSON with a report under each name")
    path: Path = parser.parse_args().file
    reports = {name: with_today(report) for name, report in read_json(path).items()}
    write_atomic(path, json.dumps(reports, indent=1))
    for name, report in reports.items():
        if "today" in report:
            print(f"{name}: {verdict_line(report['today'])}")


if __name__ == "__main__":
    main()
