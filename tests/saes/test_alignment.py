"""Known directions tied to roles are found, controls find less, and nothing is judged by what it was chosen on."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data_gen.errors import InputError
from saes.activations import Activations
from saes.disk import SAE, stock
from saes.roles import Roles, family
from saes.truth.alignment import Alignment, align, truth
from saes.truth.controls import neurons, principal, random_sae
from saes.truth.scoring import Halves, scored
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokens

ROLES = (
    "sql.keyword",
    "sql.select.0.column",
    "sql.select.1.column",
    "schema.table",
    "english.template",
    "prompt.markup",
)
WIDTH, EXAMPLES, LENGTH = 64, 60, 24


@pytest.fixture(scope="module")
def activations() -> Activations:
    """Role r adds direction r to a token, and every token has four directions that mean nothing."""
    rng = torch.Generator().manual_seed(0)
    n = EXAMPLES * LENGTH
    role = torch.randint(0, len(ROLES), (n,), generator=rng)
    noise = torch.rand(n, WIDTH - 10, generator=rng).topk(4).indices + 10
    values = torch.zeros(n, WIDTH).scatter_(1, noise, 1.5)
    values[torch.arange(n), role] = 2 + torch.rand(n, generator=rng)
    return Activations(
        hook="blocks.0.hook_resid_post",
        values=values @ rotation(),
        ids=torch.zeros(n, dtype=torch.long),
        roles=tuple(ROLES[r] for r in role.tolist()),
        example=torch.arange(n) // LENGTH,
        position=torch.arange(n) % LENGTH,
    )


def rotation() -> torch.Tensor:
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(8)))[0]


@pytest.fixture(scope="module")
def sae() -> SAE:
    """Latent i reads and writes planted direction i."""
    sae = stock().TopKSAE(stock().TopKSAEConfig(d_in=WIDTH, d_sae=WIDTH, k=5)).requires_grad_(False)
    sae.W_dec.copy_(rotation())
    sae.W_enc.copy_(rotation().T)
    return sae


@pytest.fixture(scope="module")
def alignment(sae: SAE, activations: Activations) -> Alignment:
    return align(sae, activations)


def test_each_planted_latent_is_found_at_its_role(alignment: Alignment) -> None:
    found = {role.role: role for role in alignment.sae.roles}
    for latent, role in enumerate(ROLES):
        assert found[role].latent == latent
        assert found[role].f1 > 0.99
        assert found[role].auroc > 0.99
    assert {latent.role for latent in alignment.latents[:6]} == set(ROLES)
    assert alignment.sae.slot_coverage > 0.99
    assert alignment.sae.fvu == pytest.approx(0, abs=1e-6)
    assert alignment.sae.l0 == pytest.approx(5)


def test_a_family_needs_more_than_one_of_its_slots(alignment: Alignment) -> None:
    columns = next(role for role in alignment.sae.roles if role.role == "sql.select.column")
    assert columns.family
    assert not columns.slot
    assert columns.precision > 0.99
    assert 0.3 < columns.recall < 0.7


def test_controls_find_less(alignment: Alignment) -> None:
    controls = {scores.name: scores for scores in alignment.controls}
    assert set(controls) == {"random SAE", "label permutation", "neurons", "principal components"}
    assert controls["random SAE"].slot_coverage < 0.75
    assert controls["neurons"].slot_coverage < 0.75
    assert controls["label permutation"].slot_coverage < 0.4
    assert controls["random SAE"].l0 <= 5
    assert controls["random SAE"].fvu > 0.3


def test_the_random_sae_has_the_shape_and_nothing_else(sae: SAE) -> None:
    control, mean = random_sae(sae, torch.full((WIDTH,), 3.0), seed=0), torch.full((WIDTH,), 3.0)
    torch.testing.assert_close(control.W_dec.norm(dim=1), torch.ones(WIDTH))
    assert torch.equal(control.W_enc, control.W_dec.T)
    assert torch.equal(control.b_dec, mean)
    assert float((control.W_dec * sae.W_dec).sum(1).abs().max()) < 0.7
    assert control.cfg.k == sae.cfg.k
    assert torch.equal(sae.W_dec, rotation())


def test_choices_do_not_look_at_the_half_they_are_judged_on(
    alignment: Alignment, sae: SAE, activations: Activations
) -> None:
    measure = Halves.of(activations.example, seed=0).measure.tolist()
    roles = list(activations.roles)
    shuffled = np.random.default_rng(0).permutation([roles[i] for i in measure])
    for i, role in zip(measure, shuffled.tolist(), strict=True):
        roles[i] = role
    other = align(sae, replace(activations, roles=tuple(roles)))
    for one, two in zip(alignment.sae.roles, other.sae.roles, strict=True):
        assert (one.role, one.latent, one.threshold) == (two.role, two.latent, two.threshold)
    assert other.sae.slot_coverage < 0.3
    roles_of = [{latent.latent: latent.role for latent in a.latents} for a in (alignment, other)]
    assert roles_of[0] == roles_of[1]


def test_choices_are_made_on_the_other_half(sae: SAE, activations: Activations) -> None:
    choose = Halves.of(activations.example, seed=0).choose.tolist()
    roles = list(activations.roles)
    shuffled = np.random.default_rng(0).permutation([roles[i] for i in choose])
    for i, role in zip(choose, shuffled.tolist(), strict=True):
        roles[i] = role
    assert align(sae, replace(activations, roles=tuple(roles))).sae.slot_coverage < 0.6


def test_halves_share_no_example(activations: Activations) -> None:
    halves = Halves.of(activations.example, seed=0)
    one, other = (set(activations.example[part].tolist()) for part in (halves.choose, halves.measure))
    assert not one & other
    assert one | other == set(range(EXAMPLES))
    assert len(one) == EXAMPLES // 2


def test_intervals_hold_the_estimate_and_come_from_examples(alignment: Alignment) -> None:
    for role in alignment.sae.roles:
        assert role.interval[0] - 1e-9 <= role.f1 <= role.interval[1] + 1e-9
        assert role.auroc_interval[0] - 1e-6 <= role.auroc <= role.auroc_interval[1] + 1e-6
        low, high = role.average_precision_interval
        assert low - 1e-6 <= role.average_precision <= high + 1e-6
    for scores in (alignment.sae, *alignment.controls, *alignment.ceilings):
        for value, (low, high) in (
            (scores.coverage, scores.coverage_interval),
            (scores.slot_coverage, scores.slot_coverage_interval),
        ):
            assert low - 1e-9 <= value <= high + 1e-9
            assert high - low < 0.2


def test_rare_roles_are_left_out_and_named(sae: SAE, activations: Activations) -> None:
    roles = ("sql.rare", *activations.roles[1:])
    assert align(sae, replace(activations, roles=roles)).skipped == ("sql.rare",)


def test_a_role_is_scored_where_each_half_has_ten_tokens_with_it_and_ten_without() -> None:
    def side(**counts: int) -> Roles:
        return Roles.of(tuple(role for role, n in counts.items() for _ in range(n)))

    plenty = side(a=30, b=20, c=10)
    assert scored(plenty, plenty).tolist() == [True, True, True]
    for few in (side(a=30, b=20, c=9), side(a=51, b=1, c=8)):
        missing = [few.counts[i] >= 10 and len(few.slots.label) - few.counts[i] >= 10 for i in range(3)]
        assert scored(plenty, few).tolist() == scored(few, plenty).tolist() == missing
    assert scored(side(a=51, b=1, c=8), plenty).tolist() == [False, False, False]


def test_components_are_found_without_the_tokens_they_are_judged_on(activations: Activations) -> None:
    halves = Halves.of(activations.example, seed=0)
    other = activations.values.clone()
    other[halves.measure] = 100 * other[halves.measure].flip(1) + 7
    one, two = (
        principal(values, halves.choose).among(halves.choose) for values in (activations.values, other)
    )
    assert torch.equal(one.token, two.token)
    assert torch.equal(one.latent, two.latent)
    assert torch.equal(one.value, two.value)
    # The first has the most variance, and both signs of it are latents.
    spread = torch.zeros(2 * WIDTH).index_add_(0, one.latent, one.value.square())
    assert (spread[:WIDTH] + spread[WIDTH:]).argsort(descending=True)[:5].tolist() == list(range(5))


def test_what_is_kept_at_a_role_is_measured_at_its_tokens(sae: SAE, activations: Activations) -> None:
    partial = _scaled_weights(sae, "W_dec", 0.7)
    found = {one.role: one for one in align(partial, activations).fidelity}
    values, mean = activations.values, activations.values.mean(0)
    latents = partial.encode(values)
    for role in ("sql.keyword", "sql.select.1.column", "sql.select.column"):
        here = torch.tensor([role in (one, family(one)) for one in activations.roles])
        error = (values - partial.decode(latents))[here].square().sum()
        spread = (values - mean)[here].square().sum()
        assert found[role].explained == pytest.approx(float(1 - error / spread), rel=1e-4)
        assert found[role].l0 == pytest.approx(float((latents > 0)[here].sum(1).double().mean()))


def test_neurons_are_what_each_dimension_has_above_and_below_its_mean() -> None:
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    found, mean = neurons(values, torch.full((4,), 0.25)), 0.25
    dense = torch.zeros(30, 8)
    dense[found.token, found.latent] = found.value
    torch.testing.assert_close(dense, torch.cat([(values - mean).relu(), (mean - values).relu()], dim=1))


def test_labels_are_permuted_within_an_example(sae: SAE, activations: Activations) -> None:
    # Where all tokens of an example have the same role, nothing changes.
    roles = tuple(("sql.a", "sql.b")[int(example) % 2] for example in activations.example)
    found = align(sae, replace(activations, roles=roles))
    permuted = next(scores for scores in found.controls if scores.name == "label permutation")
    assert permuted.roles == found.sae.roles


def test_coverage_is_also_told_on_a_scale_from_neurons_to_the_dense_probe(alignment: Alignment) -> None:
    own = alignment.sae.coverage
    low = next(scores for scores in alignment.controls if scores.name == "neurons").coverage
    high = next(scores for scores in alignment.ceilings if scores.name == "dense probe").coverage
    assert low < high
    assert alignment.normalised == pytest.approx((own - low) / (high - low))
    flat = replace(
        alignment, ceilings=(*alignment.ceilings[:-1], replace(alignment.ceilings[-1], coverage=low))
    )
    assert np.isnan(flat.normalised)


def test_json_gives_the_same_alignment_back(alignment: Alignment) -> None:
    text = json.dumps(alignment.to_json(), allow_nan=False)
    assert Alignment.from_json(json.loads(text)) == alignment


def test_the_strongest_tokens_are_each_from_another_example(
    alignment: Alignment, activations: Activations
) -> None:
    for best in alignment.latents[:20]:
        planted = (activations.values @ rotation().T)[:, best.latent].reshape(EXAMPLES, LENGTH)
        strengths = [top.activation for top in best.top]
        assert strengths == pytest.approx(planted.max(1).values.topk(len(best.top)).values.tolist(), abs=1e-5)
        assert len({top.example for top in best.top}) == len(best.top)
        for top in best.top:
            assert float(planted[top.example, top.position]) == pytest.approx(top.activation, abs=1e-5)
            assert top.role == activations.roles[top.example * LENGTH + top.position]


def test_the_same_seed_gives_the_same_alignment(
    alignment: Alignment, sae: SAE, activations: Activations
) -> None:
    before = torch.get_rng_state()
    assert align(sae, activations) == alignment
    assert torch.equal(torch.get_rng_state(), before)


def test_an_sae_of_another_width_and_too_few_examples_are_refused(sae: SAE, activations: Activations) -> None:
    with pytest.raises(InputError, match="is 10 wide, the SAE reads 64"):
        align(sae, replace(activations, values=activations.values[:, :10]))
    few = replace(activations, example=torch.zeros_like(activations.example))
    with pytest.raises(InputError, match="1 examples are too few"):
        align(sae, few)


def _scaled_weights(sae: SAE, name: str, factor: float) -> SAE:
    changed: Any = copy.deepcopy(sae)
    getattr(changed, name).mul_(factor)
    return changed


def test_what_cannot_be_scored_is_a_sentence(sae: SAE, activations: Activations) -> None:
    nan, n = float("nan"), EXAMPLES * LENGTH
    with pytest.raises(
        InputError, match=f"none of the {WIDTH} latents of the SAE of `blocks.0.hook_resid_post`"
    ):
        align(_scaled_weights(sae, "W_enc", 0.0), activations)
    for name, factor in (("W_enc", nan), ("W_dec", nan), ("W_dec", 1e39)):
        with pytest.raises(InputError, match=f"makes NaN or infinity of {n} of {n} tokens"):
            align(_scaled_weights(sae, name, factor), activations)
    same = replace(activations, values=activations.values[:1].expand(n, -1) * 0 + 1)
    with pytest.raises(InputError, match=f"carries the same at all {n} tokens"):
        align(sae, same)


def test_an_sae_without_a_hook_must_be_told_one(sae: SAE) -> None:
    model = HybridLM(ModelConfig(pattern="*", d_model=WIDTH, d_vocab=10))
    ids = torch.zeros(1, 3, dtype=torch.long)
    tokens = Tokens(ids=ids, mask=ids == 0, roles=(("a", "b", "c"),), answer_start=torch.tensor([1]))
    with pytest.raises(InputError, match="does not say which hook"):
        truth(sae, model, tokens)
    with pytest.raises(InputError, match=r"no hook `blocks\.9\.hook_resid_post`"):
        truth(sae, model, tokens, hook="blocks.9.hook_resid_post")
