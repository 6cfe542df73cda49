"""What an artefact says of how it was made."""

import sys

import pytest
import torch

from tinysql.runs import provenance


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/usr/bin/tinysql", "demo", "--seed", "1"], "tinysql demo --seed 1"),
        (["/src/tinysql/cli.py", "demo"], "tinysql demo"),
        (["benchmarks/sae_table.py", "runs/bm1"], "python benchmarks/sae_table.py runs/bm1"),
        (["/src/benchmarks/sae_table.py"], "python benchmarks/sae_table.py"),
    ],
)
def test_the_command_is_what_anybody_would_type(
    arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert provenance()["command"] == command


def test_the_device_is_the_gpu_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert provenance()["device"] != "NVIDIA H100"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert provenance()["device"] == "NVIDIA H100"
