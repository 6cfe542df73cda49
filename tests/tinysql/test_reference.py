"""The chunked scan against the recurrence it stands for, position by position."""

from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.kernels import ops
from tinysql.kernels.reference import (
    carried,
    causal_conv,
    effective_attention,
    gated_norm,
    linear_recurrence,
    ssd_scan,
    ssd_step,
)

BATCH, HEADS, WIDTH, GROUPS, STATE = 2, 4, 3, 2, 5


def inputs(seq: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    dt = torch.rand(BATCH, seq, HEADS, generator=g, dtype=torch.float64).to(dtype)
    return {
        "x": draw(BATCH, seq, HEADS, WIDTH),
        "dt": dt,
        "log_decay": -dt * torch.tensor([0.1, 1.0, 4.0, 16.0], dtype=dtype),
        "B": draw(BATCH, seq, GROUPS, STATE),
        "C": draw(BATCH, seq, GROUPS, STATE),
    }


def recurrent(
    found: dict[str, Tensor],
    D: Tensor | None = None,
    state: Tensor | None = None,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All outputs and all states; the state is forgotten where `starts` `[batch seq]` is true."""
    state = state if state is not None else torch.zeros(BATCH, HEADS, WIDTH, STATE, dtype=found["x"].dtype)
    outputs, states = [], []
    for t in range(found["x"].shape[1]):
        if starts is not None:
            state = state * ~starts[:, t, None, None, None]
        y, state = ssd_step(*(found[name][:, t] for name in ("x", "dt", "log_decay", "B", "C")), state, D=D)
        outputs.append(y)
        states.append(state)
    return torch.stack(outputs, 1), torch.stack(states, 1)


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
@pytest.mark.parametrize("seq", [1, 5, 8, 21])
def test_chunked_equals_recurrent(seq: int, chunk: int) -> None:
    found, D = inputs(seq), torch.randn(HEADS, dtype=torch.float64)
    first = torch.randn(BATCH, HEADS, WIDTH, STATE, dtype=torch.float64)
    y, states = recurrent(found, D, first)
    scanned = ssd_scan(**found, D=D, initial_state=first, chunk=chunk)
    torch.testing.assert_close(scanned.y, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scanned.state, states[:, -1], rtol=1e-12, atol=1e-12)


def test_gradients_of_the_scan_are_those_of_finite_differences() -> None:
    found = {name: value.requires_grad_() for name, value in inputs(6).items()}
    first = torch.randn(BATCH, HEADS, WIDTH, STATE, dtype=torch.float64, requires_grad=True)

    def run(
        x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(ssd_scan(x, dt, log_decay, B, C, initial_state=state, chunk=4))

    assert torch.autograd.gradcheck(run, (*found.values(), first))


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_packed_documents_do_not_see_each_other(chunk: int) -> None:
    found = inputs(17)
    segments = torch.tensor([[0] * 5 + [1] * 3 + [2] * 9, [0] * 16 + [1]])
    starts = torch.cat([torch.zeros(BATCH, 1, dtype=torch.bool), segments.diff(dim=1) > 0], dim=1)
    first = torch.randn(BATCH, HEADS, WIDTH, STATE, dtype=torch.float64)
    y, states = recurrent(found, None, first, starts)
    scanned = ssd_scan(**found, initial_state=first, segments=segments, chunk=chunk)
    torch.testing.assert_close(scanned.y, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scanned.state, states[:, -1], rtol=1e-12, atol=1e-12)


def test_no_gradient_leaks_between_documents() -> None:
    found = inputs(12)
    found["x"].requires_grad_()
    segments = torch.tensor([[0] * 6 + [1] * 6] * BATCH)
    ssd_scan(**found, segments=segments, chunk=4).y[:, 6:].sum().backward()
    assert found["x"].grad is not None
    assert not found["x"].grad[:, :6].any()
    assert found["x"].grad[:, 6:].any()


def test_a_scan_goes_on_where_another_ended() -> None:
    found = inputs(20)
    whole = ssd_scan(**found, chunk=8)
    head = ssd_scan(**{name: value[:, :11] for name, value in found.items()}, chunk=8)
    tail = ssd_scan(
        **{name: value[:, 11:] for name, value in found.items()}, initial_state=head.state, chunk=8
    )
    torch.testing.assert_close(torch.cat([head.y, tail.y], 1), whole.y)
    torch.testing.assert_close(tail.state, whole.state)


def test_float32_is_as_exact_as_float32_can_be() -> None:
    found = inputs(200)
    y, _ = recurrent(found)
    got = ssd_scan(**{name: value.float() for name, value in found.items()}).y
    assert ((got - y).abs().max() / y.abs().max()).item() < 1e-6


def test_a_narrow_scan_keeps_its_state_in_float32() -> None:
    # 2,000 times 1: a bfloat16 sum would stay at 256 or a few times that.
    ones = torch.ones(1, 2000, 1, 1, dtype=torch.bfloat16)
    still = torch.zeros(1, 2000, 1)
    scanned = ssd_scan(ones, still + 1, still, ones, ones, chunk=4)
    assert scanned.y.dtype == torch.bfloat16
    assert scanned.state.dtype == torch.float32
    assert scanned.state.item() == 2000


def test_a_narrow_step_is_rounded_once() -> None:
    found = {name: value[:, 0].bfloat16() for name, value in inputs(1).items()}
    state, D = torch.randn(BATCH, HEADS, WIDTH, STATE), torch.randn(HEADS)
    y, after = ssd_step(**found, state=state, D=D)
    wide, expected = ssd_step(**{name: value.float() for name, value in found.items()}, state=state, D=D)
    assert torch.equal(y, wide.bfloat16())
    assert torch.equal(after, expected)


@pytest.mark.parametrize("strength", [1.0, 1e3, 1e5])
def test_strong_decay_gives_neither_infinities_nor_missing_gradients(strength: float) -> None:
    found = inputs(64, torch.float32)
    found["log_decay"] = (found["log_decay"] * strength).requires_grad_()
    found["x"].requires_grad_()
    scanned = ssd_scan(**found)
    scanned.y.square().sum().backward()
    for value in (scanned.y, scanned.state, found["x"].grad, found["log_decay"].grad):
        assert value is not None
        assert value.isfinite().all()


def test_every_state_of_the_recurrence() -> None:
    found = inputs(19)
    b = found["B"].repeat_interleave(HEADS // GROUPS, dim=2)
    update = (found["x"] * found["dt"][..., None])[..., None] * b[..., None, :]
    first = torch.randn(BATCH, HEADS, WIDTH, STATE, dtype=torch.float64)
    _, states = recurrent(found, None, first)
    got = linear_recurrence(update, found["log_decay"], initial_state=first, chunk=8)
    torch.testing.assert_close(got, states, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("packed", [False, True])
def test_the_scan_is_its_effective_attention_times_its_inputs(packed: bool) -> None:
    found, D = inputs(21), torch.randn(HEADS, dtype=torch.float64)
    segments = torch.tensor([[0] * 5 + [1] * 16, [0] * 20 + [1]]) if packed else None
    M = effective_attention(found["log_decay"], found["B"], found["C"], segments=segments)
    update = found["x"] * found["dt"][..., None]
    y = torch.einsum("bhij,bjhp->bihp", M, update) + D[:, None] * found["x"]
    expected = ssd_scan(**found, D=D, segments=segments, chunk=4).y
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


def test_an_entry_of_the_effective_attention_by_hand() -> None:
    log = torch.tensor([0.5, 0.25, 0.125]).log()[None, :, None]
    B = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])[None, :, None]
    C = torch.tensor([[1.0, 1.0], [1.0, 0.0], [4.0, 5.0]])[None, :, None]
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.25, 2.0, 0.0], [4 * 0.25 * 0.125, 13 * 0.125, 15.0]])
    torch.testing.assert_close(effective_attention(log, B, C)[0, 0], expected)


def test_a_slice_of_the_effective_attention_is_that_part_of_it() -> None:
    found = inputs(21)
    given = (found["log_decay"], found["B"], found["C"])
    part = effective_attention(*given, queries=range(6, 17), keys=range(2, 9))
    torch.testing.assert_close(part, effective_attention(*given)[:, :, 6:17, 2:9], rtol=1e-13, atol=1e-13)
    for wrong in (range(3, 22), range(4, 8, 2), range(-1, 3)):
        with pytest.raises(InputError, match="neighbouring positions of a sequence of 21"):
            effective_attention(*given, queries=wrong)


def test_a_pair_that_is_knocked_out_takes_its_own_term_and_nothing_else() -> None:
    found, D = inputs(12), torch.randn(HEADS, dtype=torch.float64)
    entries = torch.zeros(1, HEADS, 12, 12, dtype=torch.bool)
    entries[0, 2, 7, 3] = True
    y = ssd_scan(**found, D=D, chunk=4).y
    less = y - carried(**found, entries=entries.expand(BATCH, -1, -1, -1))
    kept = found["log_decay"][:, 4:8, 2].sum(1).exp() * found["dt"][:, 3, 2]
    term = (found["C"][:, 7, 1] * found["B"][:, 3, 1]).sum(-1) * kept
    expected = y.clone()
    expected[:, 7, 2] -= term[:, None] * found["x"][:, 3, 2]
    torch.testing.assert_close(less, expected, rtol=1e-12, atol=1e-12)


def test_pairs_of_which_the_key_comes_later_carry_nothing() -> None:
    found = inputs(9)
    later = torch.ones(9, 9, dtype=torch.bool).triu(1).expand(BATCH, HEADS, 9, 9)
    assert not carried(**found, entries=later).any()


@pytest.mark.parametrize("strength", [1.0, 1e3, 1e5])
def test_the_effective_attention_of_strong_decays_is_finite_and_exact(strength: float) -> None:
    found = inputs(64)
    log = found["log_decay"] * strength
    M = effective_attention(log.float(), found["B"].float(), found["C"].float())
    exact = effective_attention(log.float().double(), found["B"], found["C"])
    torch.testing.assert_close(M.double(), exact, rtol=1e-5, atol=1e-6)


def test_the_convolution_is_torchs_and_keeps_documents_apart() -> None:
    x, weight, bias = torch.randn(2, 9, 6), torch.randn(6, 4), torch.randn(6)
    expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=3, groups=6)[
        ..., :9
    ].transpose(1, 2)
    y, _ = causal_conv(x, weight, bias)
    torch.testing.assert_close(y, expected)
    segments = torch.tensor([[0] * 4 + [1] * 5] * 2)
    apart, _ = causal_conv(x, weight, bias, segments=segments)
    torch.testing.assert_close(apart[:, :4], expected[:, :4])
    torch.testing.assert_close(apart[:, 4:], causal_conv(x[:, 4:], weight, bias)[0])


def test_what_stands_before_belongs_to_the_first_document() -> None:
    x, weight = torch.randn(2, 9, 6), torch.randn(6, 4)
    _, before = causal_conv(x[:, :4], weight)
    segments = torch.tensor([[3] * 2 + [4] * 3] * 2)
    y, _ = causal_conv(x[:, 4:], weight, before=before, segments=segments)
    torch.testing.assert_close(y[:, :2], causal_conv(x[:, :6], weight)[0][:, 4:])
    torch.testing.assert_close(y[:, 2:], causal_conv(x[:, 6:], weight)[0])


@pytest.mark.parametrize("cut", [1, 2, 6])
def test_the_convolution_goes_on_where_it_stopped(cut: int) -> None:
    x, weight = torch.randn(2, 9, 6), torch.randn(6, 4)
    whole, _ = causal_conv(x, weight)
    head, before = causal_conv(x[:, :cut], weight)
    tail, _ = causal_conv(x[:, cut:], weight, before=before)
    torch.testing.assert_close(torch.cat([head, tail], 1), whole)


def test_the_gated_norm_normalises_each_group_by_itself() -> None:
    y, z, weight = torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3), torch.rand(4, 3)
    got = gated_norm(y, z, weight, groups=2, eps=1e-5)
    half = (y * torch.nn.functional.silu(z))[:, :, :2]
    expected = half / (half.square().mean((2, 3), keepdim=True) + 1e-5).sqrt() * weight[:2]
    torch.testing.assert_close(got[:, :, :2], expected)


def test_a_narrow_gated_norm_is_rounded_once() -> None:
    y, z = torch.randn(2, 5, 4, 3).bfloat16(), torch.randn(2, 5, 4, 3).bfloat16()
    weight = torch.rand(4, 3)
    wide = gated_norm(y.float(), z.float(), weight, groups=2, eps=1e-5)
    assert torch.equal(gated_norm(y, z, weight, groups=2, eps=1e-5), wide.bfloat16())


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "scan": (
        ops.ssd_scan,
        inputs(6) | {"D": torch.ones(4), "initial_state": torch.ones(2, 4, 3, 5), "segments": torch.zeros(2, 6)},
    ),
    "step": (ops.ssd_step, {n: t[:, 0] for n, t in inputs(1).items()} | {"state": torch.ones(2, 4, 3, 5)}),
    "attention": (ops.effective_attention, {n: inputs(6)[n] for n in ("log_decay", "B", "C")}),
    "carried": (ops.carried, inputs(6) | {"entries": torch.ones(2, 4, 6, 6, dtype=torch.bool)}),
    "conv": (
        ops.conv_silu,
        {"x": torch.ones(2, 6, 5), "weight": torch.ones(5, 4), "bias": torch.ones(5), "before": torch.ones(2, 3, 5)},
    ),
    "norm": (
        ops.gated_norm,
        {n: torch.ones(2, 6, 4, 3) for n in "yz"} | {"weight": torch.ones(4, 3), "groups": 2, "eps": 1e-5},
    ),
}  # fmt: skip
BAD = {
    "transposed": lambda t: t.transpose(0, -1),
    "shorter": lambda t: t[..., :-1],
    "an axis less": lambda t: t[0],
    "an axis more": lambda t: t[None],
    "elsewhere": lambda t: t.to("meta"),
}


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        (name, argument, bad)
        for name, (_, given) in CALLS.items()
        for argument, value in given.items()
        for bad in BAD
        if isinstance(value, Tensor)
        and (value.ndim > 1 or bad != "transposed")
        # Fewer channels of a head are as good.
        and (name, argument, bad) != ("carried", "x", "shorter")
    ],
)
def test_what_does_not_fit_is_named(
    name: str, argument: str, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    function, given = CALLS[name]
    function(**given)
    with pytest.raises(InputError, match="expected") as caught:
        function(**given | {argument: BAD[bad](given[argument])})
    # Where an array is wrong that others are held to, one of those is named, or the number of heads.
    assert argument in ("x", "y", "B", "weight", "log_decay") or f"`{argument}`" in caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scan", {n: t[:, :0] for n, t in inputs(1).items()}, "`x` is [2, 0, 4, 3]"),
        ("scan", {"x": torch.ones(2, 6, 4, 3, dtype=torch.long)}, "expected floats"),
        ("scan", {n: torch.ones(2, 6, 3, 5) for n in "BC"}, "4 heads in 3 groups"),
        ("step", {n: torch.ones(2, 3, 5) for n in "BC"}, "4 heads in 3 groups"),
        ("attention", {n: torch.ones(2, 6, 3, 5) for n in "BC"}, "4 heads in 3 groups"),
        ("carried", {"entries": torch.ones(2, 4, 6, 6)}, "`entries` are torch.float32"),
        ("scan", {"chunk": 0}, "chunk is 0, expected at least 1"),
        ("norm", {"groups": 3}, "4 heads in 3 groups"),
        ("norm", {"groups": 0}, "4 heads in 0 groups"),
    ],
)
def test_what_cannot_be_computed_is_said_in_a_sentence(
    name: str, change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    function, given = CALLS[name]
    with pytest.raises(InputError) as caught:
        function(**given | change)
    assert words in caught.value.message


def test_a_batch_of_nothing_has_a_result_of_nothing() -> None:
    found = {name: value[:0] for name, value in inputs(6).items()}
    assert ops.ssd_scan(**found).y.shape == (0, 6, HEADS, WIDTH)


@pytest.mark.parametrize("argument", ["B", "C"])
@pytest.mark.parametrize("name", ["scan", "carried", "attention"])
def test_b_and_c_may_have_another_dtype(name: str, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken in that of x (of B in the attention), as the kernels take them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    function, given = CALLS[name]
    given = {n: t.float() if n in ("x", "B", "C") else t for n, t in given.items()}
    found, expected = (
        function(**given | {argument: value}) for value in (given[argument].double(), given[argument])
    )
    if name == "attention" and argument == "B":
        assert found.dtype == torch.float64
        return
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
