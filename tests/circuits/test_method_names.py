"""Helps name the methods that there are."""

from __future__ import annotations

import pytest

from circuits.methods.names import METHOD_NAMES
from circuits.methods.table import METHODS
from tinysql.cli import main


def test_the_names_are_the_tables_in_its_order() -> None:
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize("command", [["circuit", "find"], ["bench", "circuits"]])
def test_a_help_names_every_method(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert ", ".join(METHOD_NAMES) in capsys.readouterr().out
