"""Progress where there is no terminal: items pass, stderr hears now and then, stdout stays for data."""

import pytest

import tinysql.progress as shown
from tinysql.progress import Bar, progress


def test_items_pass_and_a_log_hears_how_many(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 0)
    assert list(progress(iter("abc"), total=3, title="spelling")) == ["a", "b", "c"]
    printed = capsys.readouterr()
    assert printed.err.split("\n") == [f"      spelling: {done} of 3" for done in range(4)] + [""]
    assert printed.out == ""


def test_a_log_hears_nothing_between(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(1000), total=1000, title="counting")) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_a_bar_shows_numbers_and_stays_silent_where_it_is_not_active(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 0)
    for active in (True, False):
        with Bar("training", active=active) as bar:
            bar.show(3, 9, {"loss": 0.25})
    assert capsys.readouterr().err == "      training: 3 of 9  loss 0.25\n"
