"""Transcoders, crosscoders and cross-layer transcoders are scored as SAEs are, by what they read and write."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.disk import SAE, stock
from saes.training.cross_layer import CrossLayerConfig, CrossLayerTranscoder
from saes.training.crosscoders import side_by_side
from saes.truth.alignment import align
from saes.truth.forms import Coder, check_sides, random_coder

ROLES = ("sql.keyword", "sql.select.0.column", "sql.select.1.column", "schema.table", "english.template")
WIDTH, EXAMPLES, LENGTH, K = 24, 40, 20, 3


def turned(seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed)))[0]


def strengths(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Role r switches feature r on, and every token has two features that mean nothing."""
    rng = torch.Generator().manual_seed(seed)
    n = EXAMPLES * LENGTH
    role = torch.randint(0, len(ROLES), (n,), generator=rng)
    noise = torch.rand(n, WIDTH - 8, generator=rng).topk(K - 1).indices + 8
    values = torch.zeros(n, WIDTH).scatter_(1, noise, 1.5)
    values[torch.arange(n), role] = 2 + torch.rand(n, generator=rng)
    return values, role


def recording(values: Tensor, role: Tensor, hook: str) -> Activations:
    n = len(values)
    return Activations(
        hook=hook,
        values=values,
        ids=torch.zeros(n, dtype=torch.long),
        roles=tuple(ROLES[r] for r in role.tolist()),
        example=torch.arange(n) // LENGTH,
        position=torch.arange(n) % LENGTH,
    )


def planted_transcoder(name: str = "Transcoder", skip: Tensor | None = None) -> Any:
    """Reads feature i along row i of one rotation, and writes it along row i of another."""
    classes = stock().saes.transcoder
    shape = {"d_in": WIDTH, "d_out": WIDTH, "d_sae": WIDTH, "apply_b_dec_to_input": False}
    made = getattr(classes, name)(getattr(classes, f"{name}Config")(**shape)).requires_grad_(False)
    made.W_enc.copy_(turned(0).T)
    made.W_dec.copy_(turned(1))
    made.b_dec.fill_(3)
    made.b_enc.fill_(-0.5)  # half of a feature is left over; rounding alone is not above it
    if skip is not None:
        made.W_skip.copy_(skip)
    return made


def test_a_transcoder_is_judged_by_what_it_reads_and_what_it_predicts() -> None:
    features, role = strengths()
    x = recording(features @ turned(0), role, "in")
    y = recording((features - 0.5).relu() @ turned(1) + 3, role, "out")
    found = align(planted_transcoder(), x, outputs=y)
    assert found.form == found.sae.name == "transcoder"
    assert found.hook == "in"
    assert {one.role: one.latent for one in found.sae.roles if one.slot} == {
        name: i for i, name in enumerate(ROLES)
    }
    assert found.sae.slot_coverage > 0.99
    assert found.sae.fvu == pytest.approx(0, abs=1e-6)
    assert found.sae.l0 == pytest.approx(K)
    random = found.controls[0]
    assert (random.name, random.fvu) == ("random transcoder", None)
    assert random.l0 == pytest.approx(K, rel=0.05)
    assert random.slot_coverage < 0.8


def test_a_skip_connection_counts_in_the_prediction_and_not_in_the_latents() -> None:
    features, role = strengths()
    skip = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5))
    x = recording(features @ turned(0), role, "in")
    y = recording((features - 0.5).relu() @ turned(1) + 3 + x.values @ skip.T, role, "out")
    found = align(planted_transcoder("SkipTranscoder", skip), x, outputs=y)
    assert found.form == "skip transcoder"
    assert found.sae.fvu == pytest.approx(0, abs=1e-5)
    without = align(planted_transcoder("SkipTranscoder"), x, outputs=y)
    assert without.sae.fvu is not None
    assert without.sae.fvu > 0.3
    assert without.sae.roles == found.sae.roles


def test_outputs_may_have_another_width_and_give_the_directions_of_absorption() -> None:
    features, role = strengths()
    x = recording(features @ turned(0), role, "in")
    classes = stock().saes.transcoder
    shape = {"d_in": WIDTH, "d_out": WIDTH + 3, "d_sae": WIDTH, "apply_b_dec_to_input": False}
    made: Any = classes.Transcoder(classes.TranscoderConfig(**shape)).requires_grad_(False)
    made.W_enc.copy_(turned(0).T)
    made.b_enc.fill_(-0.5)
    made.W_dec.zero_()
    made.W_dec[:, :WIDTH].copy_(turned(1))
    y = torch.nn.functional.pad((features - 0.5).relu() @ turned(1), (0, 3))
    narrow = align(planted_transcoder(), x, outputs=recording(y[:, :WIDTH] + 3, role, "out"))
    found = align(made, x, outputs=recording(y, role, "out"))
    assert found.sae.fvu == pytest.approx(0, abs=1e-6)
    assert found.hierarchy == narrow.hierarchy


def test_a_transcoder_of_a_hook_to_itself_is_the_sae(planted_sae: SAE, planted: Activations) -> None:
    classes = stock().saes.transcoder
    shape = {"d_in": WIDTH, "d_out": WIDTH, "d_sae": WIDTH, "apply_b_dec_to_input": False}
    same: Any = classes.JumpReLUTranscoder(classes.JumpReLUTranscoderConfig(**shape)).requires_grad_(False)
    for name, value in planted_sae.state_dict().items():
        getattr(same, name).copy_(value)
    one, other = align(planted_sae, planted), align(same, planted, outputs=planted)
    assert replace(other.sae, name="SAE") == one.sae
    assert (other.published, other.fidelity, other.latents) == (one.published, one.fidelity, one.latents)
    assert (other.hierarchy, other.ceilings, other.controls[1:]) == (
        one.hierarchy,
        one.ceilings,
        one.controls[1:],
    )


@pytest.fixture(scope="module")
def planted() -> Activations:
    features, role = strengths()
    return recording(features @ turned(0), role, "blocks.0.hook_resid_post")


@pytest.fixture(scope="module")
def planted_sae() -> SAE:
    sae: Any = stock().JumpReLUSAE(stock().JumpReLUSAEConfig(d_in=WIDTH, d_sae=WIDTH)).requires_grad_(False)
    sae.W_enc.copy_(turned(0).T)
    sae.W_dec.copy_(turned(0))
    sae.threshold.fill_(0.5)
    return sae


def test_a_crosscoder_is_the_sae_of_its_hooks_side_by_side(planted_sae: SAE, planted: Activations) -> None:
    half = WIDTH // 2
    hooks = [
        replace(planted, hook=f"h{i}", values=v) for i, v in enumerate(planted.values.split(half, dim=1))
    ]
    plain = align(planted_sae, planted)
    about: Any = planted_sae.cfg.metadata
    about.hook_widths = [half, half]
    try:
        found = align(planted_sae, side_by_side(hooks))
    finally:
        about.hook_widths = None
    assert (found.form, found.hook) == ("crosscoder", "h0 + h1")
    assert found.controls[0].name == "random crosscoder"
    assert replace(found.sae, name="SAE") == plain.sae
    assert found.latents == plain.latents


def cross_layer() -> CrossLayerTranscoder:
    """Layer 0 reads two features that mean nothing; layer 1 reads the roles; both write to the last output."""
    config = CrossLayerConfig(
        d_in=WIDTH, d_out=WIDTH, d_sae=WIDTH, reads=("in.0", "in.1"), writes=("out.0", "out.1")
    )
    zeros, half = torch.zeros(WIDTH), torch.full((WIDTH,), 0.5)
    return CrossLayerTranscoder(
        cfg=config,
        W_enc=(turned(0), turned(1)),
        b_enc=(-half, -half),
        W_dec=(torch.stack([turned(2), turned(3)], dim=1), turned(4)[:, None]),
        b_dec=(zeros, zeros + 1),
        threshold=(zeros, zeros),
    )


def test_latents_of_a_cross_layer_transcoder_are_numbered_layer_by_layer() -> None:
    features, role = strengths()
    noise = strengths(seed=1)[0].flip(0)
    noise[:, : len(ROLES)] = 0
    reads = [recording(noise @ turned(0), role, "in.0"), recording(features @ turned(1), role, "in.1")]
    a, b = (noise - 0.5).relu(), (features - 0.5).relu()
    writes = [
        recording(a @ turned(2), role, "out.0"),
        recording(a @ turned(3) + b @ turned(4) + 1, role, "out.1"),
    ]
    made = cross_layer()
    found = align(made, side_by_side(reads), outputs=side_by_side(writes))
    assert (found.form, found.n_latents) == ("cross-layer transcoder", 2 * WIDTH)
    assert {one.role: one.latent for one in found.sae.roles if one.slot} == {
        name: WIDTH + i for i, name in enumerate(ROLES)
    }
    assert found.sae.fvu == pytest.approx(0, abs=1e-6)
    # What the table says a latent writes is what it adds to what is decoded.
    coder = Coder.of(made)
    latents = torch.rand(3, 2 * WIDTH, generator=torch.Generator().manual_seed(2))
    bias = torch.cat(made.b_dec)
    torch.testing.assert_close(coder.predict(latents[:, :0], latents), latents @ coder.decoder + bias)


def test_random_directions_are_as_active_as_the_latents_of_each_layer() -> None:
    features = strengths()[0]
    coder = Coder.of(cross_layer())
    x = torch.cat([features @ turned(0), 50 * features @ turned(1)], dim=1)
    fired = torch.cat([torch.full((WIDTH,), 10), torch.full((WIDTH,), 60)])
    made = random_coder(coder, x, torch.arange(len(x)), fired, seed=0)
    active = (made.encode(x) > 0).sum(0).reshape(2, WIDTH).sum(1)
    assert active.tolist() == [10 * WIDTH, 60 * WIDTH]


def test_sides_that_do_not_fit_are_refused(planted_sae: SAE, planted: Activations) -> None:
    transcoder = planted_transcoder()
    with pytest.raises(InputError, match="writes another hook, of which nothing is given"):
        align(transcoder, planted)
    with pytest.raises(InputError, match="writes what it reads"):
        align(planted_sae, planted, outputs=planted)
    with pytest.raises(InputError, match="is 5 wide, the transcoder writes 24"):
        align(transcoder, planted, outputs=replace(planted, values=planted.values[:, :5]))
    with pytest.raises(InputError, match="were recorded at different tokens"):
        align(transcoder, planted, outputs=replace(planted, position=planted.position + 1))
    broken = planted.values.clone()
    broken[7, 1] = torch.nan
    with pytest.raises(InputError, match="carries NaN or infinity at 1 of 800"):
        check_sides(Coder.of(transcoder), planted, replace(planted, values=broken))
