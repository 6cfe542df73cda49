"""How many rows are done -> a bar on stderr, or now and then a line in a log."""

import pytest

from data_gen.progress import progress


class Clock:
    """What the clock says, in seconds."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    here = Clock()
    monkeypatch.setattr("time.monotonic", lambda: here.now)
    return here


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_hears_of_long_work_every_twenty_seconds(clock, capsys):
    with progress("rows") as report:
        for clock.now in (0, 20, 21, 41, 42):
            report(int(clock.now), 100)
    assert said(capsys) == ["21 of 100 rows, 1 rows/s", "42 of 100 rows, 1 rows/s"]


def test_rows_that_were_there_before_are_not_counted_into_the_speed(clock, capsys):
    with progress("rows") as report:
        report(10, 30)
        clock.now = 2
        report(30, 30)
    assert said(capsys) == ["30 of 30 rows, 10 rows/s"]


def test_a_number_of_rows_that_nobody_knows_is_left_out(clock, capsys):
    with progress("pairs", begins="checking pairs") as report:
        report(0, None)
        clock.now = 30
        report(60, None)
    assert said(capsys) == ["checking pairs", "60 pairs, 2 pairs/s"]


def test_a_terminal_has_the_bar_and_no_lines(monkeypatch, capsys):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    with progress("rows", begins="checking it") as report:
        report(2, 2)
    err = capsys.readouterr().err
    assert "2/2" in err
    assert "checking it" not in err
    assert "2 of 2" not in err
