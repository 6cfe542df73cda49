"""Laws of `HybridLM`: causality, cache, hooks, seeds."""

from dataclasses import replace

import pytest
import torch

from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig, RotaryScaling
from tinysql.models.hook_names import hook_names
from tinysql.models.hybrid import HybridLM
from tinysql.models.moe import Routing, sequence_balance_loss
from tinysql.models.packing import Packing

SHAPES = {
    "attention and MLP, RMSNorm, rotary": ModelConfig(
        pattern="*-*-", d_model=24, n_heads=3, d_vocab=31, n_ctx=20
    ),
    "attention only, LayerNorm, learned positions": ModelConfig(
        pattern="**",
        d_model=16,
        n_heads=2,
        d_head=6,
        d_vocab=31,
        n_ctx=20,
        norm="layer",
        positions="learned",
        attention_scale=0.7,
    ),
    "MLP first, no positions, squared ReLU": ModelConfig(
        pattern="-*-",
        d_model=16,
        n_heads=4,
        d_mlp=10,
        d_vocab=31,
        n_ctx=20,
        positions="none",
        activation="relu2",
    ),
    "shared key-value heads, biases, gated MLP, window, tied": ModelConfig(
        pattern="*-*-",
        d_model=24,
        n_heads=6,
        n_kv_heads=2,
        d_vocab=31,
        n_ctx=20,
        norm="layer",
        activation="silu",
        gated=True,
        biases=("norm", "qkv", "attention_out", "mlp"),
        tied=True,
        window=3,
        windowed_blocks=(2,),
    ),
    "Mamba-2 alone": ModelConfig(
        pattern="MM",
        d_model=16,
        d_vocab=31,
        n_ctx=20,
        mamba=MambaConfig(n_heads=4, d_head=6, d_state=5, n_groups=2, chunk=4, dt_min=0.01, dt_max=0.5),
    ),
    "hybrid with experts": ModelConfig(
        pattern="MEM*E-",
        d_model=16,
        n_heads=4,
        n_kv_heads=2,
        d_vocab=31,
        n_ctx=20,
        positions="none",
        mamba=MambaConfig(d_head=8, d_state=6, chunk=8),
        moe=MoEConfig(n_experts=3, n_active=2, d_expert=10, d_shared=12),
    ),
    "latent experts": ModelConfig(
        pattern="*EE",
        d_model=16,
        d_vocab=31,
        n_ctx=20,
        moe=MoEConfig(n_experts=4, n_active=3, d_expert=10, d_shared=12, d_latent=8),
    ),
}
OUT = {"*": "attn", "-": "mlp", "M": "mamba", "E": "moe"}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request: pytest.FixtureRequest) -> HybridLM:
    model = HybridLM(request.param, seed=3)
    # The fresh norms are all ones; other values make a forgotten weight visible.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".w", "norm_weight", ".D")):
                parameter.uniform_(0.5, 1.5)
            if name.rsplit(".", 1)[-1] in (
                "b",
                "b_Q",
                "b_K",
                "b_V",
                "b_O",
                "b_in",
                "b_gate",
                "b_out",
                "conv_bias",
            ):
                parameter.uniform_(-0.5, 0.5)
        for block in model.blocks:
            if block.kind == "E":
                block.moe.selection_bias.uniform_(-0.1, 0.1)
    return model.eval()


def ids(batch: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 31, (batch, length), generator=torch.Generator().manual_seed(1))


def test_logits_depend_on_no_later_token(model: HybridLM) -> None:
    changed = ids().clone()
    changed[:, 7] = (changed[:, 7] + 1) % 31
    model = model.double()
    before, after = model(ids()), model(changed)
    # An expert's tokens go through one product, whose last bits depend on how many there are: in
    # float64 those are fourteen digits away from what a leak would change.
    slack = 1e-12 if "E" in model.cfg.pattern else 0
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=slack, rtol=slack)
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 1e-3


@pytest.mark.parametrize("pieces", [(12,), (1,) * 12, (4, 3, 5)])
def test_cached_and_uncached_logits_agree(model: HybridLM, pieces: tuple[int, ...]) -> None:
    cache = model.start_cache()
    parts = [model(part, cache=cache) for part in ids().split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids()), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("room", [1, 3, 128])
def test_a_cache_that_is_full_grows_and_forgets_nothing(
    model: HybridLM, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.models.attention.ROOM", room)
    cache = model.start_cache()
    parts = [model(part, cache=cache) for part in ids().split((2, *[1] * 7, 3), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids()), atol=1e-5, rtol=1e-5)
    rows = torch.tensor([True, False, True])
    cache.keep(rows)
    behind = torch.cat([ids(), ids()[:, :4]], dim=1)
    parts = [model(part, cache=cache) for part in behind[rows, 12:].split(1, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(behind[rows])[:, 12:], atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_the_cache(model: HybridLM) -> None:
    found = []
    for pieces in ((12,), (4, 1, 7)):
        model.zero_grad()
        cache = model.start_cache()
        parts = [model(part, cache=cache) for part in ids().split(pieces, dim=1)]
        torch.cat(parts, dim=1).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for whole, pieced in zip(*found, strict=True):
        torch.testing.assert_close(pieced, whole, atol=1e-5, rtol=1e-4)


def test_hooking_the_pattern_changes_no_logit(model: HybridLM) -> None:
    logits, cache = model.run_with_cache(ids())
    torch.testing.assert_close(logits, model(ids()), atol=1e-5, rtol=1e-5)
    patterns = [value for name, value in cache.items() if name.endswith("hook_pattern")]
    for pattern in patterns:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))


def test_the_residual_stream_is_the_sum_of_what_was_written(model: HybridLM) -> None:
    _, cache = model.run_with_cache(ids())
    written = cache["hook_embed"]
    if "hook_pos_embed" in cache:
        written = written + cache["hook_pos_embed"]
    for i, kind in enumerate(model.cfg.pattern):
        torch.testing.assert_close(cache[f"blocks.{i}.hook_resid_pre"], written)
        written = written + cache[f"blocks.{i}.hook_{OUT[kind]}_out"]
    torch.testing.assert_close(cache[f"blocks.{i}.hook_resid_post"], written)


def test_what_attention_writes_is_the_sum_of_its_heads(model: HybridLM) -> None:
    _, cache = model.run_with_cache(ids())
    for i, block in enumerate(model.blocks):
        if block.kind == "*":
            heads = torch.einsum("bshd,hdm->bshm", cache[f"blocks.{i}.attn.hook_z"], block.attn.W_O)
            bias = block.attn.b_O if block.attn.b_O is not None else 0
            torch.testing.assert_close(
                heads.sum(2) + bias, cache[f"blocks.{i}.hook_attn_out"], atol=1e-5, rtol=1e-5
            )


def test_norms_divide_by_the_root_mean_square(model: HybridLM) -> None:
    _, cache = model.run_with_cache(ids())
    x = cache["blocks.1.hook_resid_pre"]
    if model.cfg.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() * model.blocks[1].ln1.w
    if model.blocks[1].ln1.b is not None:
        expected = expected + model.blocks[1].ln1.b
    torch.testing.assert_close(cache["blocks.1.ln1.hook_normalized"], expected)


def test_narrow_streams_are_normed_in_float32(model: HybridLM) -> None:
    x = torch.randn(3, 5, model.cfg.d_model).bfloat16() * 10
    assert torch.equal(model.ln_final(x), model.ln_final(x.float()).bfloat16())


def test_gradients_reach_every_weight(model: HybridLM) -> None:
    model(ids()).square().mean().backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ] == []


def test_tokens_are_looked_up_by_the_operation_whose_gradient_has_a_fixed_order() -> None:
    # Plain indexing adds up the gradients of a repeated token in an order that varies between threads. That race
    # shows only now and then, so the operation is asserted and not its outcome.
    embed = HybridLM(SHAPES["attention and MLP, RMSNorm, rotary"]).embed
    assert embed(ids()).grad_fn.name() == "EmbeddingBackward0"


def test_weights_follow_the_seed_alone() -> None:
    config = SHAPES["attention and MLP, RMSNorm, rotary"]
    torch.manual_seed(0)
    first = HybridLM(config, seed=5).state_dict()
    torch.manual_seed(1)
    again, other = HybridLM(config, seed=5).state_dict(), HybridLM(config, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.W_E"], other["embed.W_E"])


def test_weights_begin_as_large_as_what_they_read_asks_for() -> None:
    config = ModelConfig(
        pattern="M*E-",
        d_model=64,
        n_heads=4,
        d_head=24,
        d_mlp=160,
        d_vocab=200,
        mamba=MambaConfig(n_heads=8, d_head=20, d_state=16),
        moe=MoEConfig(n_experts=8, n_active=2, d_expert=40, d_shared=96, d_latent=32),
    )
    # What a weight reads, times the number of blocks where it writes into the stream.
    fan_in = {
        "blocks.0.mamba": {**dict.fromkeys(("W_z", "W_x", "W_B", "W_C", "W_dt"), 64), "W_out": 8 * 20 * 4},
        "blocks.1.attn": {"W_Q": 64, "W_K": 64, "W_V": 64, "W_O": 4 * 24 * 4},
        "blocks.2.moe": {
            **{"W_R": 64, "W_in": 32, "W_out": 40, "W_in_shared": 64, "W_out_shared": 96 * 4},
            **{"W_down": 64, "W_up": 32 * 4},
        },
        "blocks.3.mlp": {"W_in": 64, "W_out": 160 * 4},
        "unembed": {"W_U": 64},
    }
    model = HybridLM(config)
    for part, weights in fan_in.items():
        for name, fan in weights.items():
            weight = model.get_parameter(f"{part}.{name}")
            assert weight.std().item() == pytest.approx(fan**-0.5, rel=0.15), f"{part}.{name}"
    plain = HybridLM(replace(config, moe=replace(config.moe, d_latent=None))).blocks[2].moe
    assert plain.W_in.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert plain.W_out.std().item() == pytest.approx((40 * 4) ** -0.5, rel=0.05)
    assert model.embed.W_E.std().item() == pytest.approx(0.6, rel=0.05)
    tied = HybridLM(replace(config, tied=True)).embed
    assert tied.W_E.std().item() == pytest.approx(64**-0.5, rel=0.05)


def test_mamba_begins_with_the_decays_of_mamba_ssm() -> None:
    shape = MambaConfig(n_heads=400, d_head=1, d_state=1)
    mixer = HybridLM(ModelConfig(pattern="M", d_model=8, d_vocab=9, mamba=shape)).blocks[0].mamba
    dt = torch.nn.functional.softplus(mixer.dt_bias)
    assert (dt.min() > 0.99e-3) & (dt.min() < 1.2e-3) & (dt.max() > 0.97e-1) & (dt.max() < 1.01e-1)
    assert dt.log().mean().exp().item() == pytest.approx(1e-2, rel=0.15)
    decay = mixer.A_log.exp()
    assert (decay.min() >= 1) & (decay.min() < 1.3) & (decay.max() > 15.7) & (decay.max() <= 16.0001)
    assert decay.mean().item() == pytest.approx(8.5, rel=0.1)
    assert mixer.D.eq(1).all()


def test_rotary_scores_depend_on_distance_alone() -> None:
    model = HybridLM(ModelConfig(pattern="*", d_model=16, n_heads=2, d_vocab=31, n_ctx=64))
    # The same token everywhere: without an absolute position, every query sees the same scores behind it.
    _, cache = model.run_with_cache(torch.full((1, 40), 7))
    scores = cache["blocks.0.attn.hook_attn_scores"][0, 0]
    torch.testing.assert_close(scores[39, 30:40], scores[19, 10:20], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores[39, 30:39], scores[39, 29:38], atol=1e-4)


def test_packed_documents_give_the_logits_they_give_alone(model: HybridLM) -> None:
    first, second, third = ids(2, 5), ids(2, 9)[:, 1:], ids(2, 3)
    packed = torch.cat([first, second, third], dim=1)
    packing = Packing.of(torch.tensor([[0] * 5 + [1] * 8 + [2] * 3] * 2))
    apart = torch.cat([model(part) for part in (first, second, third)], dim=1)
    torch.testing.assert_close(model(packed, packing=packing), apart, atol=1e-5, rtol=1e-5)


def test_packed_documents_may_differ_between_rows(model: HybridLM) -> None:
    packed = ids(2, 12)
    packing = Packing.of(torch.tensor([[0] * 5 + [1] * 7, [0] * 12]))
    got = model(packed, packing=packing)
    torch.testing.assert_close(got[:1, 5:], model(packed[:1, 5:]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[1:], model(packed[1:]), atol=1e-5, rtol=1e-5)


def test_the_formula_counts_the_weights(model: HybridLM) -> None:
    assert model.cfg.num_parameters() == model.num_parameters()
    idle = sum(
        2 * (model.cfg.moe.n_experts - model.cfg.moe.n_active) * block.moe.W_in[0].numel()
        for block in model.blocks
        if block.kind == "E"
    )
    assert model.cfg.num_active_parameters() == model.num_parameters() - idle


def test_recomputed_blocks_run_twice_and_give_the_same_gradients(model: HybridLM) -> None:
    found, runs = [], []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda block, given: runs.append(block))
    for recompute in (False, True):
        model.zero_grad()
        runs.clear()
        routing: list[Routing] = []
        loss = model(ids(), recompute=recompute, routing=routing).square().mean()
        for decided in tuple(routing):
            loss = loss + sequence_balance_loss(decided, torch.ones(3, 12, dtype=torch.bool))
        loss.backward()
        assert len(runs) == len(model.blocks) * (2 if recompute else 1)
        found.append([p.grad.clone() for p in model.parameters()])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(kept, again)


def test_logits_at_chosen_places_are_those_of_all(model: HybridLM) -> None:
    places = torch.tensor([0, 5, 12, 35])
    torch.testing.assert_close(model(ids(), places=places), model(ids()).flatten(0, 1)[places])


def test_a_window_hides_what_lies_behind_it() -> None:
    config = ModelConfig(pattern="*", d_model=16, d_vocab=31, n_ctx=20, window=3, windowed_blocks=(0,))
    model, changed = HybridLM(config), ids().clone()
    changed[:, 4] = (changed[:, 4] + 1) % 31
    moved = (model(ids()) - model(changed)).abs().amax((0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [4, 5, 6]


def test_a_tied_head_reads_the_embedding() -> None:
    model = HybridLM(ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=31, tied=True))
    assert not [name for name in model.state_dict() if name.startswith("unembed")]
    before = model(ids())
    with torch.no_grad():
        model.embed.W_E[30] += 1
    assert not torch.equal(model(ids())[..., 30], before[..., 30])


def test_a_sequence_beyond_the_context_is_refused(model: HybridLM) -> None:
    with pytest.raises(InputError, match="21 tokens is longer than the model's context of 20"):
        model(ids(length=21))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"pattern": "*X"}, "pattern '\\*X' has \\['X'\\]"),
        ({"pattern": ""}, "no blocks"),
        ({"d_model": 30, "n_heads": 4}, "30 is not a multiple of n_heads 4"),
        ({"d_model": 12, "n_heads": 4}, "d_head 3 is odd"),
        ({"n_heads": 4, "n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"pattern": "M", "d_model": 20}, "2 \\* d_model 40 is not a multiple of mamba.d_head 64"),
        ({"pattern": "-*", "window": 4, "windowed_blocks": (0,)}, "windowed_blocks is \\(0,\\) and window 4"),
        ({"window": 4}, "windowed_blocks is \\(\\) and window 4"),
        ({"eps": float("nan")}, "eps is nan"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ModelConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"factor": 0.0}, "rotary_scaling.factor is 0.0"),
        ({"low": 4.0, "high": 4.0}, "low is 4.0 and rotary_scaling.high 4.0, expected low < high"),
    ],
)
def test_impossible_rotary_scalings_are_refused(fields: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RotaryScaling(**fields)


@pytest.mark.parametrize("name", SHAPES)
def test_the_names_of_hooks_are_known_from_the_shape_alone(name: str) -> None:
    assert sorted(hook_names(SHAPES[name])) == sorted(HybridLM(SHAPES[name]).hook_dict)


def test_hooks_that_the_model_has_not_are_refused_with_the_nearest() -> None:
    model, ids = (
        HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=9)),
        torch.zeros(1, 3).long(),
    )
    wrong = "blocks.0.attn.hook_paterns"
    nearest = "no hook `blocks.0.attn.hook_paterns`; did you mean `blocks.0.attn.hook_pattern`"
    with pytest.raises(InputError, match=nearest):
        model.run_with_hooks(ids, fwd_hooks=[(wrong, lambda x, hook: x)])
    for names in (wrong, ["hook_embed", wrong]):
        with pytest.raises(InputError, match=nearest):
            model.run_with_cache(ids, names_filter=names)
    _, cache = model.run_with_cache(ids, names_filter="hook_embed")
    assert list(cache) == ["hook_embed"]


def test_more_chosen_experts_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="moe.n_active is 4, more than the 3 of moe.n_experts"):
        MoEConfig(n_experts=3, n_active=4)


def test_impossible_step_limits_are_refused() -> None:
    with pytest.raises(InputError, match=r"mamba.dt_min is 0.5 and mamba.dt_max 0.1"):
        MambaConfig(dt_min=0.5, dt_max=0.1)
