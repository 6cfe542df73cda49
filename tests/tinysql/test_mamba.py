"""Hooks inside Mamba blocks: states that are patched go on through the recurrence, and gradients are right."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.kernels.reference import ssd_step
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.models.packing import Packing

SEQ = 11
STATE = "blocks.0.mamba.hook_state"


@pytest.fixture
def model() -> HybridLM:
    shape = MambaConfig(n_heads=4, d_head=3, d_state=5, n_groups=2, chunk=4)
    model = HybridLM(
        ModelConfig(pattern="M-", d_model=8, n_heads=2, d_vocab=13, n_ctx=16, mamba=shape), seed=1
    )
    return model.double().eval()


def ids() -> Tensor:
    return torch.randint(0, 13, (2, SEQ), generator=torch.Generator().manual_seed(0))


def walked(model: HybridLM, intervene: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs and states of block 0 when `intervene(t, state)` replaces each state as it is reached."""
    _, cache = model.run_with_cache(ids())
    mixer = model.blocks[0].mamba
    parts = [cache[f"blocks.0.mamba.hook_{name}"] for name in ("x", "dt", "B", "C")]
    x, dt, B, C = parts
    state, outputs, states = torch.zeros(2, 4, 3, 5, dtype=torch.float64), [], []
    for t in range(SEQ):
        log_decay = -dt[:, t] * mixer.A_log.exp()
        _, state = ssd_step(x[:, t], dt[:, t], log_decay, B[:, t], C[:, t], state)
        state = intervene(t, state)
        c = C[:, t].repeat_interleave(2, dim=1)
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, c) + mixer.D[:, None] * x[:, t])
        states.append(state)
    return torch.stack(outputs, 1), torch.stack(states, 1)


@pytest.mark.parametrize("few", [False, True], ids=["all states at hand", "two positions at hand"])
def test_a_patched_state_changes_everything_after_it(model: HybridLM, few: bool) -> None:
    new = torch.randn(2, 3, 5, dtype=torch.float64)

    def set_state(t: int, state: Tensor) -> Tensor:
        if t not in (3, 7):
            return state
        state = state.clone()
        state[:, 1 if t == 3 else 2] = new
        return state

    def hook(states: Tensor, hook: object) -> Tensor:
        states = states.clone()
        states[:, 0 if few else 3, 1] = new
        states[:, 1 if few else 7, 2] = new
        return states

    expected, _ = walked(model, set_state)
    kept: dict[str, Tensor] = {}
    with model.states_at([3, 7]) if few else nullcontext():
        model.run_with_hooks(
            ids(), fwd_hooks=[(STATE, hook), ("blocks.0.mamba.hook_y", lambda y, hook: kept.update(y=y))]
        )
    torch.testing.assert_close(kept["y"], expected)
    clean, _ = walked(model, lambda t, state: state)
    moved = (kept["y"] - clean).abs().amax((0, 3)) > 1e-9  # [seq head]
    assert moved[:, 1].tolist() == [False] * 3 + [True] * 8
    assert moved[:, 2].tolist() == [False] * 7 + [True] * 4


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("positions", [[3, 4, 5], [3, 7], [0, SEQ - 1]])
def test_a_state_that_is_set_twice_is_what_was_said_last(
    model: HybridLM, positions: list[int], few: bool
) -> None:
    def ones(states: Tensor, hook: object) -> Tensor:
        states = states.clone()
        states[:, range(len(positions)) if few else positions] = 1.0
        return states

    expected, _ = walked(model, lambda t, state: torch.ones_like(state) if t in positions else state)
    kept: dict[str, Tensor] = {}
    with model.states_at(positions) if few else nullcontext():
        model.run_with_hooks(
            ids(), fwd_hooks=[(STATE, ones), ("blocks.0.mamba.hook_y", lambda y, hook: kept.update(y=y))]
        )
    torch.testing.assert_close(kept["y"], expected)


def test_states_are_those_of_the_recurrence(model: HybridLM) -> None:
    _, states = walked(model, lambda t, state: state)
    _, cache = model.run_with_cache(ids(), names_filter=STATE)
    torch.testing.assert_close(cache[STATE], states)
    with model.states_at([0, 4, SEQ - 1]):
        _, cache = model.run_with_cache(ids(), names_filter=STATE)
    torch.testing.assert_close(cache[STATE], states[:, [0, 4, SEQ - 1]])
    assert STATE not in model.run_with_cache(ids())[1]


@pytest.mark.parametrize("few", [False, True])
def test_the_gradient_at_a_state_is_the_effect_of_moving_it(model: HybridLM, few: bool) -> None:
    direction = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    place = 0 if few else 4

    def value(step: float) -> Tensor:
        def hook(states: Tensor, hook: object) -> Tensor:
            states = states.clone()
            states[:, place] += step * direction
            return states

        with model.states_at([4]) if few else nullcontext():
            return model.run_with_hooks(ids(), fwd_hooks=[(STATE, hook)])[:, -1, 0].sum()

    kept: list[Tensor] = []

    def keep(states: Tensor, hook: object) -> None:
        states.retain_grad()
        kept.append(states)

    with model.states_at([4]) if few else nullcontext():
        model.run_with_hooks(ids(), fwd_hooks=[(STATE, keep)])[:, -1, 0].sum().backward()
    slope = (kept[0].grad[:, place] * direction).sum()
    torch.testing.assert_close(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("few", [False, True])
def test_a_patched_state_goes_on_in_a_cache(model: HybridLM, few: bool) -> None:
    def hook(states: Tensor, hook: object) -> Tensor:
        states = states.clone()
        states[:, 0 if few else 3] += 1.0
        return states

    def watch(states: Tensor, hook: object) -> None:
        pass

    with model.states_at([3]) if few else nullcontext():
        expected = model.run_with_hooks(ids(), fwd_hooks=[(STATE, hook)])
        cache = model.start_cache()
        head = model.run_with_hooks(ids()[:, :5], cache=cache, fwd_hooks=[(STATE, hook)])
        watched = model.run_with_hooks(ids()[:, 5:9], cache=cache, fwd_hooks=[(STATE, watch)])
    tail = model(ids()[:, 9:], cache=cache)
    torch.testing.assert_close(torch.cat([head, watched, tail], dim=1), expected)
    assert (expected - model(ids()))[:, 9:].abs().max() > 1e-6


def test_watching_states_changes_no_gradient_of_the_weights(model: HybridLM) -> None:
    found = []
    for names in ([], [STATE, "blocks.0.mamba.hook_decay"]):
        model.zero_grad()
        hooks = [(name, lambda value, hook: None) for name in names]
        model.run_with_hooks(ids(), fwd_hooks=hooks).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for bare, watched in zip(*found, strict=True):
        torch.testing.assert_close(bare, watched)


def test_a_patched_state_stays_in_its_document(model: HybridLM) -> None:
    packing = Packing.of(torch.tensor([[0] * 6 + [1] * 5] * 2))

    def hook(states: Tensor, hook: object) -> Tensor:
        states = states.clone()
        states[:, 3] += 1
        return states

    moved = model.run_with_hooks(ids(), packing=packing, fwd_hooks=[(STATE, hook)]) - model(
        ids(), packing=packing
    )
    assert moved[:, 3:6].abs().amax(-1).min() > 1e-9
    assert moved[:, :3].abs().max() < 1e-12
    assert moved[:, 6:].abs().max() < 1e-12


def test_a_decay_set_to_zero_forgets(model: HybridLM) -> None:
    def forget(decay: Tensor, hook: object) -> Tensor:
        decay = decay.clone()
        decay[:, 6] = 0
        return decay

    def erase(t: int, state: Tensor) -> Tensor:
        return state

    kept: dict[str, Tensor] = {}
    model.run_with_hooks(
        ids(),
        fwd_hooks=[
            ("blocks.0.mamba.hook_decay", forget),
            ("blocks.0.mamba.hook_y", lambda y, hook: kept.update(y=y)),
        ],
    )
    _, cache = model.run_with_cache(ids())
    x, dt, B, C = (cache[f"blocks.0.mamba.hook_{name}"][:, 6] for name in ("x", "dt", "B", "C"))
    mixer = model.blocks[0].mamba
    alone, _ = ssd_step(
        x, dt, torch.zeros_like(dt), B, C, torch.zeros(2, 4, 3, 5, dtype=torch.float64), D=mixer.D
    )
    torch.testing.assert_close(kept["y"][:, 6], alone)


@pytest.mark.parametrize(
    ("hook", "value", "expected"),
    [("decay", 1.5, "0 to 1"), ("decay", -0.25, "0 to 1"), ("dt", -0.5, "0 or more")],
)
def test_a_hook_that_makes_a_state_grow_is_refused(
    model: HybridLM, hook: str, value: float, expected: str
) -> None:
    def put(value: float) -> Callable[..., Tensor]:
        return lambda values, hook: torch.full_like(values, value)

    name = f"blocks.0.mamba.hook_{hook}"
    with pytest.raises(InputError, match=f"a hook gives `{name}` the value {value}, expected {expected}"):
        model.run_with_hooks(ids(), fwd_hooks=[(name, put(value))])
    for kept in (0.0, 1.0):
        assert model.run_with_hooks(ids(), fwd_hooks=[(name, put(kept))]).isfinite().all()


def test_step_sizes_are_computed_in_float32_of_narrow_weights_too(model: HybridLM) -> None:
    mixer = model.bfloat16().blocks[0].mamba
    raw = torch.randn(2, SEQ, 4).bfloat16()
    expected = torch.nn.functional.softplus(raw.float() + mixer.dt_bias.float())
    assert torch.equal(mixer.step_sizes(raw), expected)


@pytest.mark.parametrize("positions", [[], [4, 2], [3, 3], [SEQ], [-1]])
def test_positions_that_make_no_sense_are_refused(model: HybridLM, positions: list[int]) -> None:
    with model.states_at(positions), pytest.raises(InputError, match="cannot be hooked"):
        model.run_with_hooks(ids(), fwd_hooks=[(STATE, lambda states, hook: None)])
    assert model.blocks[0].mamba.positions is None
