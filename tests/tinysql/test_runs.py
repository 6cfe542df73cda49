"""What an artefact says of how it was made."""

import sys
from pathlib import Path

import pytest
import torch

from tinysql.runs import Run, provenance


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


@pytest.mark.parametrize("length", [1, 5_000, 3_000_000, 20_000_000])
def test_weights_are_told_apart_by_their_length_and_from_first_to_last(length: int, tmp_path: Path) -> None:
    run, file = Run(tmp_path, {}), tmp_path / "model.safetensors"
    whole = bytearray(length)
    # All of it is read where it is small; of more, pieces.
    places = [0, length // 2, length - 1] if length < 4_000_000 else [0, length - 1]
    names = set()
    for place in (None, *places):
        changed = whole.copy()
        if place is not None:
            changed[place] = 1
        file.write_bytes(changed)
        assert run.fingerprint() == run.fingerprint()
        names.add(run.fingerprint())
    assert len(names) == 1 + len(set(places))
    file.write_bytes(bytes(length + 1))
    assert run.fingerprint() not in names
