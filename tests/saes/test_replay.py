"""Steps replayed from recordings: the same bits as steps that run as they are, through dead latents and resumes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from saes.dictionaries.parameters import Gradients
from saes.training import loop as loops
from saes.training import replay
from saes.training.config import SAEConfig
from saes.training.loop import Loop

D, D_SAE, BATCH = 24, 200, 64
KINDS: dict[str, dict[str, Any]] = {
    "topk": {"dead_after": 2},
    "batchtopk": {"dead_after": 2},
    "matryoshka": {},
    "standard": {"sparsity": 0.3},
    "gated": {"sparsity": 0.3},
    "jumprelu": {"sparsity": 0.3},
    "transcoder": {"form": "transcoder", "architecture": "batchtopk", "dead_after": 2},
    "skip transcoder": {"form": "skip_transcoder", "architecture": "jumprelu"},
    "crosscoder": {"form": "crosscoder", "architecture": "topk", "dead_after": 2},
    "cross-layer": {"form": "cross_layer_transcoder", "architecture": "batchtopk", "dead_after": 2},
}


def begun(kind: str, device: str) -> Loop:
    settings = {"architecture": kind, **KINDS[kind]}
    if device == "cuda" and "dead_after" in settings:
        settings["dead_after"] = 20  # more than lie between two looks
    config = SAEConfig(d_sae=D_SAE, k=4, steps=80, batch_size=BATCH, lr=5e-3, **settings)
    at = torch.device(device)
    if config.form == "cross_layer_transcoder":
        return Loop.begin_layers(config, n_layers=2, d_in=D // 2, d_out=D // 2, device=at)
    writes, hooks = config.form.endswith("transcoder"), (D // 2, D // 2)
    return Loop.begin(
        config,
        d_in=D,
        d_out=D if writes else None,
        skip=config.form == "skip_transcoder",
        hooks=hooks if config.form == "crosscoder" else None,
        device=at,
    )


def batch(loop: Loop, step: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(BATCH, D, generator=generator).abs().to(loop.since_fired.device)
    return (x, x.flip(1)) if loop.config.form.endswith("transcoder") else (x,)


def trained(loop: Loop, steps: range) -> tuple[dict[str, Tensor], list[float], set[int]]:
    """The state behind the steps, the losses on the way, and which rooms there were for dead latents."""
    losses, rooms = [], set()
    for step in steps:
        found = loop.advance(*batch(loop, step))
        losses.append(loop.metrics(found)["loss"])
        rooms.add(loop.room)
    return {name: value.clone() for name, value in loop.state().items()}, losses, rooms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_of_the_state_is_changed_in_place(kind: str, device: str) -> None:
    """A recording would go on with what was replaced."""
    loop = begun(kind, device)
    trained(loop, range(2))
    before = {name: value.data_ptr() for name, value in loop.state().items() if name != "room"}
    old = {name: value.clone() for name, value in loop.state().items()}
    new, _, _ = trained(loop, range(2, 12))
    assert before == {name: value.data_ptr() for name, value in loop.state().items() if name != "room"}
    unchanged = {name for name in before if torch.equal(old[name], new[name])}
    assert unchanged <= {"since_fired"}, unchanged


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_recorded_at_its_second_call_once_for_each_room(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for a graph runs the step on its own copies, whose numbers each call replaces."""
    plain, loop = begun(kind, "cpu"), begun(kind, "cpu")
    recorded: list[int] = []

    def stand_in(step: Any, x: Tensor, y: Tensor | None, room: int, pool: Any) -> Callable[..., Gradients]:
        recorded.append(room)
        copies = [None if one is None else torch.zeros_like(one) for one in (x, y)]

        def run(*given: Tensor | None) -> Gradients:
            for copy, new in zip(copies, given, strict=True):
                if copy is not None and new is not None:
                    copy.copy_(new)
            return step(*copies, room)

        return run

    monkeypatch.setattr(replay, "_record", stand_in)
    monkeypatch.setattr(replay.Replay, "_pool", lambda replay: None)
    loop.replay = replay.Replay()
    loop.rates = {name: torch.zeros((), dtype=torch.float64) for name in ("lr", "sparsity")}
    expected, losses, _ = trained(plain, range(30))
    found, ours, _ = trained(loop, range(30))
    torch.testing.assert_close(ours, losses, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["since_fired"], expected["since_fired"], rtol=0, atol=0)
    assert len(set(recorded)) == len(recorded) >= 1
    assert (max(recorded) > 0) == ("dead_after" in KINDS[kind])


class Graph:
    """Stands in for CUDA's."""

    def pool(self) -> str:
        return "of the first graph"

    def replay(self) -> None:
        pass


def test_a_graph_reads_copies_of_the_batch_and_shares_the_memory_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pools: list[Any] = []
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: nullcontext(pools.append(pool)))
    stepped: list[Tensor] = []

    def step(x: Tensor, y: Tensor | None, room: int) -> Gradients:
        stepped.append(x)
        return Gradients(losses={}, of={}, fired=torch.zeros(3, dtype=torch.long))

    x, y, made = torch.ones(2, 3), torch.zeros(2, 3), replay.Replay()
    for room in (0, 16, 0, 16):
        made(step, x, y, room)
    assert len(stepped) == 4
    made(step, x * 2, y + 3, 0)
    assert len(stepped) == 4, "replayed"
    first = next(one for one in made.recorded.values() if one is not None)
    assert first.y is not None
    assert (first.x.unique().tolist(), x.unique().tolist()) == ([2.0], [1.0])
    assert (first.y.unique().tolist(), y.unique().tolist()) == ([3.0], [0.0])
    assert pools == [None, "of the first graph"]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.ones(3, 3), torch.ones(2, 3)),
        (torch.ones(2, 3).double(), torch.ones(2, 3)),
        (torch.ones(2, 3), torch.ones(2, 4)),
        (torch.ones(2, 3), None),
    ],
    ids=["shape of x", "dtype of x", "shape of y", "no y"],
)
def test_a_batch_of_another_kind_is_recorded_anew(
    x: Tensor, y: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy into what another graph reads would change its numbers, or fail."""
    nothing = Gradients(losses={}, of={}, fired=torch.zeros(3, dtype=torch.long))
    stepped: list[Any] = []
    recorded: list[Any] = []

    def step(*given: Any) -> Gradients:
        stepped.append(given)
        return nothing

    def stand_in(*given: Any) -> Callable[..., Gradients]:
        recorded.append(given)
        return lambda x, y: nothing

    monkeypatch.setattr(replay, "_record", stand_in)
    monkeypatch.setattr(replay.Replay, "_pool", lambda replay: None)
    made = replay.Replay()
    for one, other in ((torch.ones(2, 3), torch.ones(2, 3)), (x, y)):
        for _ in range(3):
            made(step, one, other, 0)
    assert (len(stepped), len(recorded)) == (2, 2), "each runs as it is once, and is recorded once"


def test_rooms_for_dead_latents_are_few_and_hold_them_all() -> None:
    """Each is a recording of its own."""
    loop = begun("topk", "cpu")
    loop.replay = replay.Replay()
    rooms = []
    for dead in range(D_SAE + 1):
        loop.since_fired.zero_()[:dead] = 9
        rooms.append(loop._look())
        assert dead <= rooms[-1] <= D_SAE
    assert rooms[0] == 0
    assert len(set(rooms)) <= loops.ROOMS + 1
    assert Loop(replace(loop.config, aux_loss=0.0), loop.parameters, loop.since_fired)._look() == 0


def test_what_is_put_back_is_recorded_anew() -> None:
    """The moments then lie elsewhere, and a recording would go on with those it has read."""
    loop = begun("topk", "cpu")
    kept, _, _ = trained(loop, range(3))
    loop.replay = replay.Replay()
    loop.replay.recorded["of before"] = None
    loop.restore(3, kept)
    assert loop.replay.recorded == {}


def test_between_two_looks_no_more_latents_die_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU, where a look makes the device wait: 21 silent steps end between the looks at 16 and at 32."""
    monkeypatch.setitem(loops.LOOK_EVERY, "cpu", 16)
    drawn = begun("topk", "cpu")
    loop = Loop(replace(drawn.config, dead_after=20), drawn.parameters, drawn.since_fired)
    dead = []
    for step in range(40):
        room = loop._look()
        dead.append(int((loop.since_fired > 20).sum()))
        assert dead[-1] <= room, step
        loop.advance(*batch(loop, step))
    assert dead[20] == 0 < dead[21]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_give_the_bits_of_steps_that_run_as_they_are(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, plain = begun(kind, "cuda"), begun(kind, "cuda")
    assert loop.replay is not None
    found, losses, rooms = trained(loop, range(70))
    monkeypatch.setattr(plain, "replay", lambda step, x, y, room: step(x, y, room))
    expected, theirs, _ = trained(plain, range(70))
    assert losses == theirs
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    graphs = [key[-1] for key, one in loop.replay.recorded.items() if one is not None]
    assert 0 in graphs
    assert (len(graphs) > 1) == (len(rooms) > 1) == ("dead_after" in KINDS[kind]), (graphs, rooms)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_training_goes_on_bit_for_bit(kind: str) -> None:
    whole, cut = begun(kind, "cuda"), begun(kind, "cuda")
    expected, _, _ = trained(whole, range(60))
    kept, _, _ = trained(cut, range(37))
    anew = begun(kind, "cuda")
    trained(anew, range(5))  # has recordings of its own, which must follow what is put back
    anew.restore(37, kept)
    found, _, _ = trained(anew, range(37, 60))
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.gpu
def test_graphs_that_python_has_yet_to_collect_do_not_spoil_a_recording() -> None:
    """As in a process that trains one dictionary after the other, each of them once part of a circle of references."""
    for _ in range(30):
        loop = begun("batchtopk", "cuda")
        circle: list[Any] = [loop]
        circle.append(circle)
        trained(loop, range(12))
    assert loop.replay is not None
    assert any(loop.replay.recorded.values())


@pytest.mark.gpu
def test_a_recorded_step_that_is_not_finite_changes_nothing() -> None:
    loop = begun("topk", "cuda")
    before, _, _ = trained(loop, range(10))
    (x,) = batch(loop, 10)
    loop.advance(x * torch.nan)
    loop.advance(x)
    assert loop.is_broken()
    assert loop.good_steps() == 10
    names = [name for name in before if name.startswith(("parameters/", "adam/")) or name == "since_fired"]
    assert [name for name in names if not torch.equal(before[name], loop.state()[name])] == []
