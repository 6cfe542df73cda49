"""What does not fit into memory or onto the disk is refused before rows are drawn, by a count of bytes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_gen.errors import InputError
from saes import asked, room
from saes.training.config import SAEConfig
from saes.training.loop import Loop
from tinysql.cli import main
from tinysql.runs import open_run

CPU = torch.device("cpu")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Say how many bytes of memory there are."""
    return lambda size: monkeypatch.setattr(room, "memory_of", lambda _: size)


def weights_of(loop: Loop) -> int:
    return sum(value.numel() for name, value in loop.parameters.items() if value.ndim == 2 and name != "skip")


@pytest.mark.parametrize(
    "begin",
    [
        lambda: Loop.begin(SAEConfig(d_sae=40), d_in=16, device=CPU),
        lambda: Loop.begin(
            SAEConfig(d_sae=40, form="transcoder", architecture="batchtopk"), d_in=16, d_out=8, device=CPU
        ),
        lambda: Loop.begin(SAEConfig(d_sae=40, form="crosscoder"), d_in=24, hooks=(16, 8), device=CPU),
        lambda: Loop.begin_layers(
            SAEConfig(d_sae=40, form="cross_layer_transcoder"), n_layers=3, d_in=16, d_out=8, device=CPU
        ),
    ],
)
def test_latents_are_refused_where_weights_gradients_and_moments_are_more_than_the_memory(
    begin: Callable[[], Loop], memory: Callable[[int | None], None]
) -> None:
    memory(None)  # where it is not known, nothing is
    needed = 16 * weights_of(begin())
    memory(needed)
    begin()
    memory(needed - 1)
    with pytest.raises(
        InputError, match=r"(40|120) latents of activations (16|24) wide do not fit into memory: "
    ):
        begin()


def test_latents_that_the_system_would_promise_room_for_are_refused(
    run: Path,
    memory: Callable[[int | None], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asked, "tokens_of", None)  # nothing is drawn
    memory(2**34)
    for more in (
        [],
        ["--recipe", "transcoder"],
        ["--recipe", "crosscoder"],
        ["--recipe", "cross_layer_transcoder"],
    ):
        assert main(["sae", "train", str(run), "--name", "big", "--set", "d_sae=100000000", *more]) == 2
        said = capsys.readouterr().err
        assert "00000000 latents of activations" in said
        assert "do not fit into memory: their training takes" in said
        assert "GiB, and `cpu` has 16.0 GiB\nhint: lower d_sae\n" in said
    assert not (run / "saes").exists()


def test_more_latents_at_once_than_there_are_is_refused_before_rows_are_drawn(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "tokens_of", None)  # nothing is drawn
    for more in ([], ["--recipe", "transcoder"], ["--recipe", "crosscoder"]):
        assert main(["sae", "train", str(run), "--name", "big", "--set", "k=100000", *more]) == 2
        assert "SAE k is 100000, but there are " in capsys.readouterr().err
    assert not (run / "saes").exists()


ROWS, WATCHED = ["--rows", "10000000"], ["--validation", "10000000"]


@pytest.mark.parametrize(
    ("options", "size", "said"),
    [
        (ROWS, 2**36, ["--rows 10000000 is some ", "whose activations take", "or pass --on-disk\n"]),
        (ROWS, 2**33, ["--rows 10000000 is some ", " beside their activations", "hint: ask for fewer\n"]),
        (WATCHED, 2**36, ["--validation 10000000 is some ", "hint: ask for fewer\n"]),
        ([*WATCHED, "--on-disk"], 2**36, ["--validation 10000000 is some ", "hint: ask for fewer\n"]),
        ([*ROWS, "--on-disk"], 2**36, ["--rows 10000000 is some ", "has 1.0 GiB left\n", "make room\n"]),
    ],
)
def test_rows_are_refused_before_any_is_drawn(
    run: Path,
    options: list[str],
    size: int,
    said: list[str],
    memory: Callable[[int | None], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory(size)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    monkeypatch.setattr(asked, "tokens_of", None)
    assert main(["sae", "train", str(run), "--name", "long", *options]) == 2
    told = capsys.readouterr().err
    for part in said:
        assert part in told
    assert not (run / "saes").exists()


def test_tokens_of_a_row_are_those_that_are_recorded(run: Path) -> None:
    opened = open_run(run)
    model, tokenizer = opened.load("cpu")
    found = asked.tokens_of(opened, tokenizer, "train", room.SAMPLED)
    assert room.tokens_per_row(opened, tokenizer) == pytest.approx(int(found.mask.sum()) / room.SAMPLED)
    assert room.widths_of(model, ["blocks.1.hook_resid_post", "blocks.0.attn.hook_z.1"]) == (32, 16)
