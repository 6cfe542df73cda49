"""Every kernel against the recurrence or formula it stands for, in float64: outputs and all gradients.

On a GPU the kernels run as compiled; elsewhere in Triton's interpreter, one element of the configuration table after
the other at small sizes.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from tinysql.kernels import ops, reference, tiles
from tinysql.kernels.tiles import TABLE, Tiles
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.models.states import scan_with_states

pytest.importorskip("triton", reason="the kernels need Triton, on a GPU or for its interpreter")

from tinysql.kernels import decays, gradients, launch, norm, operators, scan
from tinysql.kernels.conv import conv_backward, conv_forward
from tinysql.kernels.gradients import scan_backward
from tinysql.kernels.norm import norm_backward, norm_forward
from tinysql.kernels.pairs import carried, carried_gradients, mixing
from tinysql.kernels.scan import scan_forward

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("x", "dt", "log_decay", "B", "C", "D", "initial")
LOOSE = ("seq", "chunks", "span", "spans")
"""Numbers that no kernel is compiled for."""
EXACT, NARROW = TABLE[True], TABLE[False]


def inputs(
    seq: int, heads: int = 2, width: int = 16, state: int = 16, groups: int = 1, batch: int = 1, seed: int = 0
) -> list[Tensor]:
    """x, dt, log_decay, B, C, D and an initial state; decays from hardly any to most of it."""
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (batch, seq, heads, width),
        "B": (batch, seq, groups, state),
        "C": (batch, seq, groups, state),
        "D": (heads,),
        "initial": (batch, heads, width, state),
    }
    found = {name: torch.randn(*shape, generator=g) for name, shape in shapes.items()}
    found["dt"] = torch.rand(batch, seq, heads, generator=g)
    found["log_decay"] = -found["dt"] * torch.logspace(-1, 1, heads)
    return [found[name].to(DEVICE) for name in NAMES]


def differences(
    given: list[Tensor], segments: Tensor | None, config: Tiles, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Greatest error of the outputs and of each gradient, over the greatest value of each."""
    narrow = [t.to(dtype) if name in ("x", "B", "C") else t for name, t in zip(NAMES, given, strict=True)]
    wide = [t.double().requires_grad_() for t in narrow]
    expected = reference.ssd_recurrent(*wide[:5], D=wide[5], initial_state=wide[6], segments=segments)
    torch.manual_seed(1)
    dy, dfinal = torch.randn_like(narrow[0]), torch.randn_like(given[6])
    slopes = torch.autograd.grad(expected, wide, (dy.double(), dfinal.double()))
    got = scan_forward(*narrow, segments, config)
    found = scan_backward(dy, dfinal, *narrow, segments, got.states, got.decays, config)
    pairs = [
        ("y", got.y, expected[0]),
        ("final", got.final, expected[1]),
        *zip(NAMES, found, slopes, strict=True),
    ]
    return {
        name: ((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-6)).item()
        for name, a, b in pairs
        for b in [b.detach()]
    }


@pytest.mark.parametrize(
    ("seq", "heads", "width", "state", "groups"),
    [
        (1, 16, 32, 16, 1),
        (63, 2, 48, 16, 2),
        (65, 2, 64, 64, 1),
        (130, 2, 16, 16, 2),
        (40, 6, 24, 20, 2),
        (33, 1, 64, 128, 1),
        (33, 1, 128, 16, 1),
        (20, 1, 16, 256, 1),
    ],
)
@pytest.mark.parametrize("single", TABLE)
def test_the_scan_and_all_its_gradients_are_those_of_the_recurrence(
    single: bool, seq: int, heads: int, width: int, state: int, groups: int
) -> None:
    given = inputs(seq, heads, width, state, groups)
    # The other entry is for two-byte floats, which here shows that what is rounded is rounded once.
    dtype, bound = (torch.float32, 2e-6) if single else (torch.float16, 2e-3)
    found = differences(given, None, TABLE[single], dtype)
    assert max(found.values()) < bound, found


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("config", TABLE.values())
def test_tiles_of_the_table_are_exact_in_float32(config: Tiles, together: int) -> None:
    config = dataclasses.replace(config, stages=1, mix_stages=1, heads=together, backward_heads=together)
    found = differences(inputs(70, 2, groups=1, batch=together), None, config)
    assert max(found.values()) < 2e-6, found


def test_a_product_rounds_one_factor_and_once() -> None:
    x, dt, log_decay, B, C, *_ = inputs(50, heads=3)
    x, B, C = x.half(), B.half(), C.half()
    got = scan_forward(x, dt, log_decay, B, C, None, None, None, NARROW)
    sums = log_decay.double().cumsum(1)[0].T
    weighted = x[0].double() * (dt[0].double() * (sums[:, -1:] - sums).exp().T)[:, :, None]
    state = torch.einsum("thp,tn->hpn", weighted.half().double(), B[0, :, 0].double())
    decay = (sums[:, :, None] - sums[:, None, :]).exp().tril()
    mix = (C[0, :, 0].double() @ B[0, :, 0].double().T) * decay * dt[0].double().T[:, None]
    y = torch.einsum("hij,jhp->ihp", mix.half().double(), x[0].double()).half()
    for found, expected in ((got.final[0], state), (got.y[0], y)):
        error = (found.double() - expected).abs().mean() / expected.double().abs().mean()
        assert error < 2e-5  # a second rounding adds 2e-4


def test_gradients_round_one_factor_of_a_product_and_once() -> None:
    """Of one chunk and head: what is rounded to the dtype of `x` holds dt, the decay and what it is multiplied with."""
    x, dt, log_decay, B, C, *_, dfinal = inputs(50, heads=1)
    x, B, C, dy = x.half(), B.half(), C.half(), inputs(50, heads=1, seed=1)[0].half()
    given = (x, dt, log_decay, B, C)
    got = scan_forward(*given, None, None, None, NARROW)
    of_scan = scan_backward(dy, dfinal, *given, None, None, None, got.states, got.decays, NARROW)
    every = torch.ones(1, 1, 50, 50, dtype=torch.bool, device=DEVICE)
    of_pairs = carried_gradients(dy, *given, every, None, NARROW)

    wide, slope, step = x[0, :, 0].double(), dy[0, :, 0].double(), dt[0, :, 0].double()
    keys, queries, sums = B[0, :, 0].double(), C[0, :, 0].double(), log_decay[0, :, 0].double().cumsum(0)
    decay = (sums[:, None] - sums).exp().tril()
    pair = (slope @ wide.T * step * decay).half().double()
    written = (wide * (step * (sums[-1] - sums).exp())[:, None]).half().double()
    mix = ((queries @ keys.T) * decay * step).half().double()
    y = carried(*given, every, None, NARROW)
    for found, expected in (
        (y, mix @ wide),
        (of_pairs.C, (pair @ keys).half()),
        (of_pairs.B, (pair.T @ queries).half()),
        (of_scan.C, (pair @ keys).half()),
        (of_scan.B, (pair.T @ queries + written @ dfinal[0, 0].half().double()).half()),
    ):
        error = (found[0, :, 0].double() - expected).abs().mean() / expected.double().abs().mean()
        assert error < 2e-5  # a second rounding adds 2e-4


@pytest.mark.parametrize("span", [1, 2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_spans_walked_side_by_side_are_exact(span: int, packed: bool) -> None:
    config = dataclasses.replace(EXACT, chunk=16, span=span)
    assert config.spans(7, 2) > 1
    segments = torch.tensor([[0] * 34 + [1] * 10 + [2] * 66], device=DEVICE) if packed else None
    found = differences(inputs(110), segments, config)
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("config", [EXACT])
@pytest.mark.parametrize(
    "lengths",
    [(5, 3, 60, 2), (32, 32, 6), (1, 69), (31, 1, 1, 37), (70,)],
    ids=lambda v: "-".join(map(str, v)),
)
def test_packed_documents_do_not_see_each_other(lengths: tuple[int, ...], config: Tiles) -> None:
    segments = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])[None].to(DEVICE)
    found = differences(inputs(70), segments, config)
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("config", [EXACT])
def test_nothing_at_all_leaks_between_documents(config: Tiles) -> None:
    given = inputs(70)
    segments = torch.tensor([[3] * 41 + [4] * 29], device=DEVICE)
    y, _, *kept = scan_forward(*given, segments, config)
    dy = torch.zeros_like(y)
    dy[:, 41:] = 1.0
    found = scan_backward(dy, None, *given, segments, *kept, config)
    for gradient in found[:5]:
        assert not gradient[:, :41].any()
    assert not found.initial.any()


def lengths(*rows: tuple[int, ...]) -> Tensor:
    """The document numbers of rows that hold documents of these lengths."""
    numbers = [torch.cat([torch.full((n,), i) for i, n in enumerate(row)]) for row in rows]
    return torch.stack(numbers).to(DEVICE)


@pytest.mark.parametrize(("width", "state"), [(16, 20), (72, 72)])
@pytest.mark.parametrize("span", [1, 32])
def test_sequences_of_a_batch_do_not_see_each_other(span: int, width: int, state: int) -> None:
    config = dataclasses.replace(EXACT, chunk=16, span=span, walks=16)
    given = inputs(50, 4, width, state, groups=2, batch=2)
    found = differences(given, lengths((16, 3, 31), (40, 10)), config)
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("span", [1, 32])
def test_a_step_that_keeps_nothing_at_all_is_exact(span: int) -> None:
    given = inputs(40)
    given[2][:, ::7] = -torch.inf
    found = differences(given, None, dataclasses.replace(EXACT, chunk=16, span=span))
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("config", [EXACT])
@pytest.mark.parametrize("strength", [0.0, 1e-3, 30.0, 1e3, 1e5])
def test_strong_decays_and_large_steps_stay_finite_and_exact(strength: float, config: Tiles) -> None:
    given = inputs(70)
    given[1] = given[1] * 100
    given[2] = given[2] * strength
    assert max(differences(given, None, config).values()) < 2e-5


@pytest.mark.parametrize("config", [EXACT])
def test_a_step_that_forgets_everything_costs_its_neighbours_no_digit(config: Tiles) -> None:
    given = inputs(70)
    given[2][:, ::7] = -1e4
    given[2][:, 1::7] *= 1e-3
    assert max(differences(given, None, config).values()) < 2e-6


def test_a_nan_is_not_hidden() -> None:
    given = inputs(5)
    given[2][0, 2] = torch.nan
    y = scan_forward(*given, None, EXACT).y
    assert y[:, 2:].isnan().all()


@pytest.mark.parametrize("config", [EXACT])
def test_a_scan_goes_on_where_another_ended(config: Tiles) -> None:
    given = inputs(70)
    whole = scan_forward(*given, None, config)
    sequences, (D, initial) = given[:5], given[5:]
    head = scan_forward(*(t[:, :37] for t in sequences), D, initial, None, config)
    tail = scan_forward(*(t[:, 37:] for t in sequences), D, head.final, None, config)
    torch.testing.assert_close(torch.cat([head.y, tail.y], 1), whole.y)
    torch.testing.assert_close(tail.final, whole.final)


@pytest.mark.parametrize("config", [NARROW])
def test_the_same_bits_twice(config: Tiles) -> None:
    given = inputs(70, 4, batch=2)
    (y, final, *kept), again = scan_forward(*given, None, config), scan_forward(*given, None, config)
    assert y.equal(again.y)
    assert final.equal(again.final)
    dy = torch.ones_like(y)
    twice = [scan_backward(dy, final, *given, None, *kept, config) for _ in range(2)]
    for a, b in zip(*twice, strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("wide", range(7))
def test_gradients_have_the_shape_and_the_dtype_of_their_inputs(wide: int) -> None:
    given = [t if i == wide else t.half() for i, t in enumerate(inputs(5, groups=2, batch=2))]
    given[3:5] = [t.to(given[0].dtype) for t in given[3:5]]
    got = scan_forward(*given, None, EXACT)
    pairs = [*zip(scan_backward(got.y, got.final, *given, None, *got[2:], EXACT), given, strict=True)]
    every = torch.ones(2, 2, 5, 5, dtype=torch.bool, device=DEVICE)
    pairs += zip(carried_gradients(got.y, *given[:5], every, None, EXACT), given[:5], strict=True)
    signal, weight, bias = got.y.flatten(2), torch.ones(32, 4, device=DEVICE).half(), given[0][0, 0].flatten()
    slopes = conv_backward(signal, signal, weight, bias, None, None)[:3]
    pairs += zip(slopes, (signal, weight, bias), strict=True)
    gate, scale = got.y.half(), given[0][0, 0]
    pairs += zip(norm_backward(got.y, got.y, gate, scale, 1, 1e-5), (got.y, gate, scale), strict=True)
    for slope, t in pairs:
        assert (slope.shape, slope.dtype) == (t.shape, t.dtype)


def apart(t: Tensor, axis: int | None = None) -> Tensor:
    """`t` with its numbers twice as far apart along this axis, or along each."""
    steps = [1 + (axis in (None, i)) for i in range(t.ndim)]
    room = t.new_zeros([step * n for step, n in zip(steps, t.shape, strict=True)])
    return room[tuple(slice(None, None, step) for step in steps)].copy_(t)


@pytest.mark.parametrize(
    ("spread", "axis"),
    [
        *((name, None) for name in (*NAMES, "segments", "dy", "dfinal")),
        ("x", 0),
        ("x", 2),
        ("x", 3),
        ("dy", 0),
    ],
)
def test_arrays_may_lie_in_memory_as_they_like(spread: str, axis: int | None) -> None:
    given = dict(zip(NAMES, inputs(9, groups=2, batch=2), strict=True))
    given["segments"] = torch.arange(9, device=DEVICE) // torch.tensor([[6], [4]], device=DEVICE)
    y, final, *_ = scan_forward(*given.values(), EXACT)
    given |= {"dy": torch.ones_like(y).cumsum(1), "dfinal": final + 1}
    found = []
    for named in (given, given | {spread: apart(given[spread], axis)}):
        *args, dy, dfinal = named.values()
        got = scan_forward(*args, EXACT)
        found.append([*got[:2], *scan_backward(dy, dfinal, *args, *got[2:], EXACT)])
    for a, b in zip(*found, strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(("spread", "axis"), [*((i, None) for i in range(6)), (0, 0), (0, 2), (5, 0), (5, 2)])
def test_arrays_of_a_convolution_and_a_norm_may_lie_so_too(spread: int, axis: int | None) -> None:
    torch.manual_seed(0)
    shapes = ((2, 9, 5), (5, 4), (5,), (2, 3, 5), (2, 9, 5))
    x, weight, bias, before, dy = (torch.randn(shape, device=DEVICE) for shape in shapes)
    segments = (torch.rand(2, 9, device=DEVICE) < 0.2).long().cumsum(1)
    given = [x, weight, bias, before, segments, dy]
    y, z, w = x.unflatten(2, (1, 5)), dy.unflatten(2, (1, 5)), bias[None]
    found = []
    for change in (lambda t: t, lambda t: apart(t, axis)):
        *args, slope = [change(t) if i == spread else t for i, t in enumerate(given)]
        one = [change(t) if i == spread % 4 else t for i, t in enumerate((y, z, w, z * 2))]
        found.append([conv_forward(*args), *conv_backward(slope, *args)])
        found[-1] += [norm_forward(*one[:3], 1, 1e-5), *norm_backward(one[3], *one[:3], 1, 1e-5)]
    for a, b in zip(*found, strict=True):
        assert a.equal(b)


def test_arrays_with_gaps_between_positions_are_read_in_place() -> None:
    x, dt, log, B, C, D, initial = inputs(40)
    joined = torch.cat([x.flatten(2), B.flatten(2), C.flatten(2)], -1)
    apart = joined.split([x[0, 0].numel(), B[0, 0].numel(), C[0, 0].numel()], -1)
    views = [part.unflatten(-1, t.shape[2:]) for part, t in zip(apart, (x, B, C), strict=True)]
    got = scan_forward(views[0], dt, log, views[1], views[2], D, initial, None, EXACT)
    assert got.y.equal(scan_forward(x, dt, log, B, C, D, initial, None, EXACT).y)
    one = x[..., :1].expand_as(x)
    got = scan_forward(one, dt, log, B, C, D, initial, None, EXACT)
    assert got.y.equal(scan_forward(one.contiguous(), dt, log, B, C, D, initial, None, EXACT).y)


PAIRS = [
    (1, 2, 16, 16, 1, False),
    (70, 2, 24, 20, 2, False),
    (70, 1, 16, 16, 1, True),
    (33, 1, 128, 16, 1, True),
    (40, 2, 16, 256, 1, False),
]


@pytest.mark.parametrize(("seq", "heads", "width", "state", "groups", "packed"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_pairs_carry_and_its_gradients_are_the_references(
    seq: int, heads: int, width: int, state: int, groups: int, packed: bool, dtype: torch.dtype
) -> None:
    x, dt, log, B, C, _, _ = inputs(seq, heads, width, state, groups)
    narrow, config = [x.to(dtype), dt, log, B.to(dtype), C.to(dtype)], TABLE[dtype == torch.float32]
    segments = torch.tensor([[0] * (seq - 9) + [1] * 9], device=DEVICE) if packed else None
    entries = torch.rand(1, heads, seq, seq, generator=torch.Generator().manual_seed(2)).to(DEVICE) < 0.3
    # Half of the queries have none at all: tiles that are left out.
    entries[:, :, : seq // 2] = False
    wide = [t.double().requires_grad_() for t in narrow]
    expected = reference.carried(*wide, entries, segments=segments)
    got = carried(*narrow, entries, segments, config)
    dout = torch.randn(got.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE).to(dtype)
    slopes = torch.autograd.grad(expected, wide, dout.double())
    found = carried_gradients(dout, *narrow, entries, segments, config)
    for a, b in zip((got, *found), (expected.detach(), *slopes), strict=True):
        off = (a.double() - b).abs().max() / b.abs().max().clamp_min(1e-6)
        assert off < (2e-6 if dtype == torch.float32 else 2e-3)


@pytest.mark.parametrize("config", [EXACT, dataclasses.replace(EXACT, chunk=16)])
@pytest.mark.parametrize("packed", [False, True])
def test_the_effective_attention_and_the_same_bits_in_slices_of_it(packed: bool, config: Tiles) -> None:
    _, _, log, B, C, _, _ = inputs(70, 4, groups=2)
    segments = torch.tensor([[0] * 21 + [1] * 49], device=DEVICE) if packed else None
    whole = mixing(log, B, C, range(70), range(70), segments, config)
    expected = reference.effective_attention(log.double(), B.double(), C.double(), segments=segments)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-5, atol=1e-5)
    for queries, keys in (
        (range(37, 65), range(3, 41)),
        (range(69, 70), range(70)),
        (range(5), range(40, 50)),
    ):
        part = mixing(log, B, C, queries, keys, segments, config)
        assert part.equal(whole[:, :, queries.start : queries.stop, keys.start : keys.stop])


def test_pairs_of_one_sequence_and_head_are_not_those_of_another() -> None:
    x, dt, log, B, C, _, _ = inputs(50, 4, 16, 20, groups=2, batch=2)
    log[:, ::9] = -torch.inf
    config, segments = dataclasses.replace(EXACT, chunk=16), lengths((16, 3, 31), (40, 10))
    entries = torch.rand(2, 4, 50, 50, generator=torch.Generator().manual_seed(2)).to(DEVICE) < 0.3
    wide = [t.double().requires_grad_() for t in (x, dt, log, B, C)]
    expected = reference.carried(*wide, entries, segments=segments)
    dout = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    slopes = torch.autograd.grad(expected, wide, dout.double())
    # Keys lie apart, as in a transposed mask, and what comes from behind too.
    spread = (apart(dout), x, dt, log, B, C, entries.mT.contiguous().mT, segments, config)
    found = (carried(x, dt, log, B, C, entries, segments, config), *carried_gradients(*spread))
    for a, b in zip(found, (expected.detach(), *slopes), strict=True):
        assert ((a.double() - b).abs().max() / b.abs().max()).item() < 2e-6
    whole = mixing(log, B, C, range(50), range(50), segments, config)
    expected = reference.effective_attention(log.double(), B.double(), C.double(), segments=segments)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-5, atol=1e-5)


def test_all_pairs_together_are_the_scan() -> None:
    x, dt, log, B, C, _, _ = inputs(70, 4, groups=2)
    every = torch.ones(1, 1, 70, 70, dtype=torch.bool, device=DEVICE).expand(1, 4, -1, -1)
    y = scan_forward(x, dt, log, B, C, None, None, None, EXACT).y
    torch.testing.assert_close(carried(x, dt, log, B, C, every, None, EXACT), y, rtol=1e-5, atol=1e-5)


def test_strong_decays_carry_what_is_left_of_them() -> None:
    x, dt, log, B, C, _, _ = inputs(70)
    every = torch.ones(1, 2, 70, 70, dtype=torch.bool, device=DEVICE)
    for strength in (0.0, 1e3, 1e5):
        given = (x, dt, log * strength, B, C)
        got = carried(*given, every, None, EXACT)
        expected = reference.carried(*(t.double() for t in given), every)
        assert (got - expected).abs().max() / expected.abs().max() < 2e-6
        for slope in carried_gradients(got, *given, every, None, EXACT):
            assert slope.isfinite().all()


@pytest.mark.parametrize(("seq", "channels", "taps", "packed", "before"), [
    (1, 5, 4, False, True), (2, 200, 4, True, True), (33, 130, 4, True, False), (66, 20, 4, True, True),
    (33, 7, 4, False, False), (34, 9, 2, True, True), (67, 70, 3, True, True),
])  # fmt: skip
def test_the_convolution_and_its_gradients(
    seq: int, channels: int, taps: int, packed: bool, before: bool
) -> None:
    torch.manual_seed(0)
    batch = 2 if seq < 10 or seq > 66 else 1
    given = [
        torch.randn(s, device=DEVICE)
        for s in ((batch, seq, channels), (channels, taps), (channels,), (batch, taps - 1, channels))
    ]
    if not before:
        given[3] = torch.zeros_like(given[3])
    wide = [t.double().requires_grad_() for t in given]
    narrow = [t.clone().requires_grad_() for t in given]
    begins = torch.rand(batch, seq, device=DEVICE) < 0.2
    # A first document of one position, which what comes before still belongs to.
    begins[0, 1:2] = True
    segments = begins.long().cumsum(1) if packed else None
    expected = F.silu(reference.causal_conv(*wide[:3], before=wide[3], segments=segments)[0])
    got = operators.conv(*narrow[:3], narrow[3] if before else None, segments)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
    dy = torch.randn_like(got)
    count = 4 if before else 3
    slopes = torch.autograd.grad(expected, wide[:count], dy.double())
    for a, b in zip(torch.autograd.grad(got, narrow[:count], dy), slopes, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("seq", "heads", "width", "groups"), [(3, 4, 8, 2), (30, 3, 5, 1)])
def test_the_gated_norm_and_its_gradients(
    seq: int, heads: int, width: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each program does several positions.
    monkeypatch.setattr(norm, "PROGRAMS", 8)
    torch.manual_seed(0)
    shapes = ((1, seq, heads, width), (1, seq, heads, width), (heads, width))
    narrow = [torch.randn(s, device=DEVICE).requires_grad_() for s in shapes]
    wide = [t.detach().double().requires_grad_() for t in narrow]
    expected = reference.gated_norm(*wide, groups=groups, eps=1e-5)
    got = operators.norm(*narrow, groups, 1e-5)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
    dout = torch.randn_like(got)
    slopes = torch.autograd.grad(expected, wide, dout.double())
    for a, b in zip(torch.autograd.grad(got, narrow, dout), slopes, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("width", "state", "groups"), [(24, 20, 2), (64, 128, 1)])
def test_one_step(width: int, state: int, groups: int, kernels: None) -> None:
    x, dt, log, B, C, D, h = inputs(1, 4, width, state, groups, batch=2)
    log[1] = torch.tensor([-torch.inf, -1e5, -1.0, 0.0])
    given = (x[:, 0], dt[:, 0], log[:, 0], B[:, 0], C[:, 0], h)
    with torch.no_grad():
        y, after = ops.ssd_step(*given, D=D)
        for spread in range(7):
            a = [apart(t) if i == spread else t for i, t in enumerate((*given, D))]
            assert ops.ssd_step(*a[:6], D=a[6])[0].equal(y)
    expected = reference.ssd_step(*(t.double() for t in given), D=D.double())
    torch.testing.assert_close(y.double(), expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.double(), expected[1], rtol=1e-5, atol=1e-5)


def odd_kinds() -> list[list[Tensor | None]]:
    """Inputs of a scan that Triton would compile for apart: dtypes, addresses, gaps, absent ones."""
    found: list[list[Tensor | None]] = []
    for dtype, seq, extra in (
        (torch.float32, 20, 0), (torch.float16, 33, 0), (torch.float16, 34, 3), (torch.bfloat16, 33, 16)
    ):  # fmt: skip
        x, dt, log, _, C, D, initial = inputs(seq, batch=2)
        room = torch.zeros(2 * seq, 16 + extra, device=DEVICE, dtype=dtype).view(2, seq, 1, -1)
        given = [x.to(dtype), dt, log, room[..., :16], C.to(dtype), D, initial]
        # Four bytes behind a multiple of 16.
        off = torch.zeros(x.numel() + 8, device=DEVICE, dtype=dtype)[4 // dtype.itemsize :][: x.numel()]
        found += [given, [off.view(x.shape), *given[1:]], [*given[:5], None, None]]
        found += [[given[0], dt.to(dtype), *given[2:]], [*given[:6], initial.to(dtype)]]
    return found


def test_arguments_of_one_kind_are_compiled_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import JITFunction, create_function_from_signature

    backend, known, shared = make_backend(GPUTarget("cuda", 90, 32)), {}, 0

    def record(kernel, grid, alike, arrays, numbers, **options) -> None:
        nonlocal shared
        seen = JITFunction(kernel.fn, do_not_specialize=[p for p in LOOSE if p in kernel.arg_names])
        bind = create_function_from_signature(seen.signature, seen.params, backend)
        wanted = bind(*arrays, *numbers)[1]
        key = (kernel.fn, alike, numbers, *options.values())
        shared += key in known
        assert known.setdefault(key, wanted) == wanted

    for module in (decays, scan, gradients):
        monkeypatch.setattr(module, "launch", record)
    for config, given in itertools.product(
        (EXACT, dataclasses.replace(EXACT, chunk=16, span=1)), odd_kinds()
    ):
        got = scan_forward(*given, None, config)
        scan_backward(got.y, None, *given, None, *got[2:], config)
        scan_backward(got.y[:, :, :1].expand_as(got.y), got.final, *given, None, *got[2:], config)
    assert shared > 70
    assert len(known) > 70


def test_a_kind_that_was_launched_before_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[object, ...]]] = []

    class Kernel:
        """What Triton's compiled and uncompiled kernels have in common."""

        def __init__(self, name: str, gives: "Kernel | None") -> None:
            self.fn, self.gives = name, gives

        def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., "Kernel | None"]:
            def run(*arguments: object, **options: int) -> "Kernel | None":
                calls.append((self.fn, arguments))
                return self.gives

            return run

    monkeypatch.setattr(launch, "_KNOWN", {})
    kernel, x = Kernel("compiles", Kernel("compiled", None)), torch.zeros(3)
    for alike, numbers in (((1,), (2, 3)), ((1,), (2, 3)), ((2,), (2, 3)), ((1,), (2, 4)), ((2,), (2, 3))):
        launch.launch(kernel, (1, 1, 1), alike, (x, None), numbers, num_warps=4)
    assert [name for name, _ in calls] == ["compiles", "compiled", "compiles", "compiles", "compiled"]
    assert all(given[:2] == (x, None) and len(given) == 4 for _, given in calls)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels in place of the reference, whatever the device."""
    monkeypatch.setattr(ops, "on_kernels", lambda x: x.dtype in ops.DTYPES)


def model_and_ids() -> tuple[HybridLM, Tensor]:
    torch.manual_seed(0)
    shape = MambaConfig(n_heads=4, d_head=8, d_state=16, n_groups=2)
    config = ModelConfig(pattern="MM", d_model=16, d_vocab=11, n_ctx=48, mamba=shape)
    return HybridLM(config).to(DEVICE), torch.randint(0, 11, (1, 24), device=DEVICE)


def test_a_model_has_the_same_logits_and_gradients_with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = model_and_ids()
    found = []
    for which in (lambda x: False, lambda x: True):
        monkeypatch.setattr(ops, "on_kernels", which)
        model.zero_grad()
        logits = model(ids)
        logits.logsumexp(-1).sum().backward()
        found.append((logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    for a, b in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_looking_changes_no_bit(kernels: None) -> None:
    model, ids = model_and_ids()
    names = ("x", "B", "C", "dt", "decay", "y", "gated")
    with torch.no_grad():
        plain = model(ids)
        hooks = [(f"blocks.{i}.mamba.hook_{name}", lambda t, hook: None) for i in (0, 1) for name in names]
        assert model.run_with_hooks(ids, fwd_hooks=hooks).equal(plain)


@pytest.mark.parametrize("which", [lambda x: False, lambda x: True], ids=["reference", "kernels"])
def test_looking_at_the_states_between_chunks_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, which: Callable[[Tensor], bool]
) -> None:
    monkeypatch.setattr(ops, "on_kernels", which)
    monkeypatch.setitem(tiles.TABLE, True, dataclasses.replace(EXACT, chunk=16))
    x, dt, log, B, C, D, initial = inputs(45, 4, groups=2)
    seen: list[Tensor] = []
    hook = HookPoint()
    hook.add_hook(lambda states, hook: seen.append(states.clone()))
    with torch.no_grad():
        plain = ops.ssd_scan(x, dt, log, B, C, D=D, initial_state=initial, chunk=16)
        y, state = scan_with_states(x, dt, log, B, C, D, hook, (15, 31), initial, None, 16)
    assert y.equal(plain.y)
    assert state.equal(plain.state)
    begun = (t[:, :16].double() for t in (x, dt, log, B, C))
    exact = reference.ssd_recurrent(*begun, D=D.double(), initial_state=initial.double())
    torch.testing.assert_close(seen[0][:, 0].double(), exact.state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", [lambda x: False, lambda x: True], ids=["reference", "kernels"])
def test_knocking_nothing_out_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, which: Callable[[Tensor], bool]
) -> None:
    monkeypatch.setattr(ops, "on_kernels", which)
    x, dt, log, B, C, D, initial = inputs(40)
    none = torch.zeros(1, 2, 40, 40, dtype=torch.bool, device=DEVICE)
    with torch.no_grad():
        y = ops.ssd_scan(x, dt, log, B, C, D=D, initial_state=initial).y
        assert (y - ops.carried(x, dt, log, B, C, none)).equal(y)


def test_the_final_state_alone_has_gradients() -> None:
    given = [t.requires_grad_() for t in inputs(20)]
    slopes = torch.autograd.grad(
        operators.scan(*given, None)[1].square().sum(), given, materialize_grads=True
    )
    wide = [t.detach().double().requires_grad_() for t in given]
    state = reference.ssd_recurrent(*wide[:5], D=wide[5], initial_state=wide[6]).state
    for a, b in zip(
        slopes, torch.autograd.grad(state.square().sum(), wide, materialize_grads=True), strict=True
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_B_and_C_are_taken_in_the_dtype_of_x(kernels: None) -> None:
    x, dt, log, B, C, D, _ = inputs(20)
    with torch.no_grad():
        y = ops.ssd_scan(x.half(), dt, log, B, C, D=D).y
        assert y.equal(ops.ssd_scan(x.half(), dt, log, B.half(), C.half(), D=D).y)
        every = torch.ones(1, 2, 20, 20, dtype=torch.bool, device=DEVICE)
        carried = ops.carried(x.half(), dt, log, B, C, every)
        assert carried.equal(ops.carried(x.half(), dt, log, B.half(), C.half(), every))


@pytest.mark.parametrize("seq", [1, 2, 3, 5])
@pytest.mark.parametrize("begun", [False, True])
def test_a_convolution_goes_on_where_another_ended(seq: int, begun: bool, kernels: None) -> None:
    x, weight, bias, before = (torch.randn(s, device=DEVICE) for s in ((2, seq, 5), (5, 4), (5,), (2, 3, 5)))
    given = {"before": before if begun else None}
    expected = reference.causal_conv(x, weight, bias, **given)
    mixed, tail = ops.conv_silu(x, weight, bias, **given)
    assert tail.equal(expected[1])
    torch.testing.assert_close(mixed, F.silu(expected[0]))


def test_a_patched_state_goes_on_through_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = model_and_ids()
    found = []
    for which in (lambda x: False, lambda x: True):
        monkeypatch.setattr(ops, "on_kernels", which)
        with torch.no_grad(), model.states_at([17]):
            hook = ("blocks.0.mamba.hook_state", lambda t, hook: t * 2)
            found.append(model.run_with_hooks(ids, fwd_hooks=[hook]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("full", [True, False])
def test_the_scan_is_a_sound_operator(monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    given = [t.requires_grad_() for t in inputs(20)]
    segments = torch.tensor([[0] * 8 + [1] * 12], device=DEVICE)
    rest = (*given[5:], segments) if full else (None, None, None)
    torch.library.opcheck(operators._scan, (*given[:5], *rest))


def test_what_pairs_carry_is_a_sound_operator(kernels: None) -> None:
    given = [t.requires_grad_() for t in inputs(20)[:5]]
    entries = torch.ones(1, 1, 20, 20, dtype=torch.bool, device=DEVICE).tril(-3).expand(1, 2, -1, -1)
    torch.library.opcheck(operators._carried, (*given, entries, None))
    slopes = torch.autograd.grad(ops.carried(*given, entries).square().sum(), given)
    expected = torch.autograd.grad(reference.carried(*given, entries).square().sum(), given)
    for a, b in zip(slopes, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_convolution_and_the_norm_are_sound_operators() -> None:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=DEVICE).requires_grad_()

    segments = torch.tensor([[0] * 4 + [1] * 5], device=DEVICE)
    torch.library.opcheck(operators._conv, (draw(1, 9, 5), draw(5, 4), draw(5), draw(1, 3, 5), segments))
    torch.library.opcheck(operators._conv, (draw(1, 9, 5), draw(5, 4), None, None, None))
    torch.library.opcheck(operators._norm, (draw(1, 3, 4, 5), draw(1, 3, 4, 5), draw(4, 5), 2, 1e-5))


@pytest.mark.parametrize("which", ["scan", "carried", "conv", "norm"])
def test_gradients_of_gradients_are_refused(which: str) -> None:
    x, dt, log, B, C, D, _ = (t.requires_grad_() for t in inputs(5))
    every = torch.ones(1, 2, 5, 5, dtype=torch.bool, device=DEVICE)
    found = {
        "scan": lambda: operators.scan(x, dt, log, B, C, D, None, None)[0],
        "carried": lambda: operators.carried(x, dt, log, B, C, every, None),
        "conv": lambda: operators.conv(x.flatten(2), x[0, :4].flatten(1).t(), None, None, None),
        "norm": lambda: operators.norm(x, x, x[0, 0], 1, 1e-5),
    }[which]()
    (slope,) = torch.autograd.grad(found.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (slope.square().sum() + x.sum()).backward()


def test_a_compiled_scan_has_no_graph_break(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    given = [t.requires_grad_() for t in inputs(20)]

    def run(*found: Tensor) -> Tensor:
        scanned = ops.ssd_scan(*found[:5], D=found[5], initial_state=found[6])
        return scanned.y.square().sum() + scanned.state.sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    slopes = torch.autograd.grad(compiled(*given), given)
    for a, b in zip(slopes, torch.autograd.grad(run(*given), given), strict=True):
        torch.testing.assert_close(a, b)
