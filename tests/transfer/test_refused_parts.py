"""The parts of a run that was refused for what it asked are in no other run's way, those of a killed one are kept."""

from pathlib import Path

import msgspec
import pytest

from data_gen.errors import InputError
from transfer.parts import keeping, place_of


def run(
    out: Path, method: str, ends: BaseException | None = None, *, first: int = 1, resume: bool = False
) -> list[str]:
    """Find a first part and end so; what was said."""
    said: list[str] = []
    with keeping(out, {"method": method}, resume=resume, overwrite=False, say=said.append) as parts:
        assert parts.find("gates", int, lambda: first) == first
        if ends is not None:
            raise ends
    return said


@pytest.mark.parametrize("resume", [False, True])
def test_what_was_refused_is_not_in_the_way_of_the_corrected(tmp_path: Path, resume: bool) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="unequal widths"):
        run(out, "identity", InputError("unequal widths"))
    assert run(out, "affine", first=2, resume=resume) == [
        "beginning again: what was refused was begun with method 'identity', not 'affine'"
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_is_killed_behind_a_refusal_is_kept_as_ever(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for ends in (InputError("refused"), KeyboardInterrupt()):
        with pytest.raises(type(ends)):
            run(out, "affine", ends)
    for method in ("affine", "ridge"):
        with pytest.raises(InputError, match="out was cut off with 1 part done, in "):
            run(out, method)
    with pytest.raises(InputError, match="was begun with method 'affine', not 'ridge'"):
        run(out, "ridge", resume=True)
    assert run(out, "affine", resume=True) == [f"going on with 1 part done, in {place_of(out)}"]


def test_what_was_refused_goes_on_where_the_same_is_asked_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="refused"):
        run(out, "affine", InputError("refused"))
    assert run(out, "affine") == [f"going on with 1 part done, in {place_of(out)}"]


@pytest.mark.parametrize("cause", [OSError("no space"), msgspec.MsgspecError("cut")], ids=["disk", "part"])
def test_a_full_disk_and_a_damaged_part_refuse_nothing_that_was_asked(
    tmp_path: Path, cause: Exception
) -> None:
    out, failed = tmp_path / "out", InputError("it failed")
    failed.__cause__ = cause
    with pytest.raises(InputError, match="it failed"):
        run(out, "affine", failed)
    with pytest.raises(InputError, match="was cut off with 1 part done"):
        run(out, "ridge")
