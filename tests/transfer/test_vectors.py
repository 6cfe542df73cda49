"""Where vectors come from, what is done with them, where, and how layer and scale are chosen."""

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.disk import stock
from tinysql.answering.generation import generate
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokens
from transfer.choosing import choose
from transfer.placing import AtTokens, Where, at_roles
from transfer.points import Contrast, Points
from transfer.steering import SteeringVector, steered
from transfer.vectors import (
    PromptVectors,
    difference_of_means,
    latent_direction,
    principal_component,
    prompt_contrast,
)

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(params=["*-*-", "M-*-"])
def model(request: pytest.FixtureRequest) -> HybridLM:
    shape = ModelConfig(
        pattern=request.param, d_model=16, n_heads=2, d_vocab=30, n_ctx=24, mamba=MambaConfig(d_head=8)
    )
    return HybridLM(shape, seed=1).eval()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 30, (3, 6), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def vector() -> SteeringVector:
    return SteeringVector(hook=HOOK, vector=torch.randn(16, generator=torch.Generator().manual_seed(3)))


def points(values: Tensor) -> Points:
    zeros = torch.zeros(len(values), dtype=torch.long)
    return Points(values=values, ids=zeros, positions=zeros)


def test_ablation_leaves_no_component_and_nothing_else_moves(vector: SteeringVector) -> None:
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    v, unit = vector.vector, vector.vector / vector.vector.norm()
    out = steered(x, v, 1.0, "ablate", keep_norm=False)
    torch.testing.assert_close(out @ unit, torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x - out, (x @ unit)[..., None] * unit)
    # Twice is once, and the vector's length makes no difference.
    torch.testing.assert_close(steered(out, v, 1.0, "ablate", keep_norm=False), out)
    torch.testing.assert_close(steered(x, 7 * v, 1.0, "ablate", keep_norm=False), out)
    half = steered(x, v, 0.5, "ablate", keep_norm=False)
    torch.testing.assert_close(half @ unit, 0.5 * (x @ unit))


def test_add_and_ablate_sets_the_component(vector: SteeringVector) -> None:
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    out = steered(x, vector.vector, 2.0, "add-and-ablate", keep_norm=False)
    unit = vector.vector / vector.vector.norm()
    torch.testing.assert_close(out @ unit, torch.full((2, 3), 2 * vector.norm))


@pytest.mark.parametrize("operator", ["add", "ablate", "add-and-ablate"])
def test_keep_norm_keeps_the_length_and_the_direction(vector: SteeringVector, operator: str) -> None:
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    kept, free = (steered(x, vector.vector, 3.0, operator, keep_norm=k) for k in (True, False))
    torch.testing.assert_close(kept.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(kept, free, dim=-1), torch.ones(2, 3))


def test_the_zero_vector_ablates_nothing() -> None:
    x = torch.ones(1, 1, 4)
    assert torch.equal(steered(x, torch.zeros(4), 1.0, "ablate", keep_norm=False), x)


def test_arithmetic_is_that_of_the_directions(vector: SteeringVector) -> None:
    other = SteeringVector(hook=HOOK, vector=torch.arange(16.0))
    torch.testing.assert_close(
        (2.0 * vector + other - vector * 0.5).vector, 1.5 * vector.vector + other.vector
    )
    assert torch.equal((-vector).vector, -vector.vector)
    assert vector.with_norm(5).norm == pytest.approx(5)
    assert vector.with_norm(5).cosine(vector) == pytest.approx(1)
    rest = vector.without(other)
    assert rest.cosine(other) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(
        rest.norm**2, vector.norm**2 * (1 - vector.cosine(other) ** 2), rtol=1e-4, atol=0
    )


def moved(model: HybridLM, ids: Tensor, vector: SteeringVector, where: Where) -> list[list[int]]:
    read = "blocks.2.hook_resid_pre"
    before = model.run_with_cache(ids)[1][read]
    with vector.apply(model, positions=where):
        after = model.run_with_cache(ids)[1][read]
    return [row.nonzero()[:, 0].tolist() for row in (after - before).abs().sum(-1) > 1e-6]


def test_tokens_and_masks_say_where(model: HybridLM, vector: SteeringVector) -> None:
    ids = torch.tensor([[5, 6, 7, 5], [7, 8, 9, 9]])
    assert moved(model, ids, vector, AtTokens.of([5, 8])) == [[0, 3], [1]]
    mask = torch.tensor([[True, False, False, True], [False, False, True, True]])
    assert moved(model, ids, vector, mask) == [[0, 3], [2, 3]]


def test_roles_make_a_mask(ids: Tensor) -> None:
    roles = (("english.table", "sql.where.0.value", "sql.wherever", "sql.where", "", ""),) * 3
    tokens = Tokens(ids=ids, mask=ids >= 0, roles=roles, answer_start=torch.zeros(3, dtype=torch.long))
    assert at_roles(tokens, "sql.where")[0].tolist() == [False, True, False, True, False, False]
    assert at_roles(tokens, "english", "sql")[0].tolist() == [True, True, True, True, False, False]
    with pytest.raises(InputError, match="no token has a role schema"):
        at_roles(tokens, "schema")


def spoken(model: HybridLM, prompts: list[list[int]]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in prompts]
    for rows, tokens in generate(model, prompts, end_id=1, longest=8):
        for row, token in zip(rows, tokens, strict=True):
            found[row].append(token)
    return found


def without_cache(model: HybridLM, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) - len(prompt) < 8 and ids[-1] != 1:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("where", [None, 2, AtTokens.of([3, 11, 12]), "per row"])
def test_generation_with_a_cache_steers_where_a_whole_pass_would(
    model: HybridLM, vector: SteeringVector, where: Where | str
) -> None:
    prompts = [[4, 3, 9], [4, 8, 3, 11, 5], [2, 3, 4, 6]]
    per_row = torch.tensor([1, 2, 0])
    with vector.apply(model, 4.0, per_row if where == "per row" else where):
        found = spoken(model, prompts)
    for i, prompt in enumerate(prompts):
        one = per_row[i : i + 1] if where == "per row" else where
        with vector.apply(model, 4.0, one):
            assert found[i] == without_cache(model, prompt)
    assert found != spoken(model, prompts)


def test_what_generation_cannot_tell_is_refused(model: HybridLM, vector: SteeringVector) -> None:
    with pytest.raises(InputError, match="position -1 counts from an end"), vector.apply(model, positions=-1):
        spoken(model, [[3, 4], [5, 6, 7]])
    late = torch.tensor([1, 2])
    with (
        pytest.raises(InputError, match="position 2 lies behind the 2 tokens"),
        vector.apply(model, positions=late),
    ):
        spoken(model, [[3, 4], [5, 6, 7]])
    with (
        pytest.raises(InputError, match="2 rows of positions do not fit the 1"),
        vector.apply(model, positions=late),
    ):
        model(torch.tensor([[3, 4]]))
    with pytest.raises(InputError, match="no token to steer at"):
        AtTokens.of([])
    assert not model.hook_dict[HOOK].has_hooks()
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("place", [6, -7, 50, -50])
def test_a_position_that_is_not_there_is_refused(
    model: HybridLM, ids: Tensor, vector: SteeringVector, place: int
) -> None:
    said = rf"position {place} is not among the 6 tokens that the model reads\nhint: give 0 to 5, or -6 to -1"
    prompts = PromptVectors(hook=HOOK, vectors=vector.vector.expand(3, -1))
    for where in (place, torch.tensor([0, place, 1])):
        with pytest.raises(InputError, match=said), vector.apply(model, positions=where):
            model(ids)
        with pytest.raises(InputError, match=said), prompts.apply(model, positions=where):
            model(ids)
    for edge in (5, -6):
        assert moved(model, ids, vector, edge) == [[edge % 6]] * 3


def test_a_position_that_no_generation_reaches_is_refused(model: HybridLM, vector: SteeringVector) -> None:
    # Eight tokens are answered, of which the last is not read: 2 + 7.
    with vector.apply(model, positions=8):
        assert [len(answer) for answer in spoken(model, [[3, 4]])] == [8]
    with (
        pytest.raises(InputError, match="position 9 was never reached: .* has 9 tokens"),
        vector.apply(model, positions=9),
    ):
        spoken(model, [[3, 4]])
    # An error of the block's own is the one that is heard, and nothing was read by it.
    with pytest.raises(ZeroDivisionError), vector.apply(model, positions=9):
        raise ZeroDivisionError
    with vector.apply(model, positions=9):
        pass
    prompts = PromptVectors(hook=HOOK, vectors=vector.vector[None])
    with (
        pytest.raises(InputError, match="position 2 lies behind the 2 tokens"),
        prompts.apply(model, positions=2),
    ):
        spoken(model, [[3, 4]])


def test_it_acts_at_other_hooks_than_its_own(model: HybridLM, ids: Tensor, vector: SteeringVector) -> None:
    hooks = ["blocks.0.hook_resid_pre", "blocks.3.hook_resid_post"]
    with vector.apply(model, operator="ablate", hooks=hooks):
        cache = model.run_with_cache(ids)[1]
    for hook, empty in ((hooks[1], True), (HOOK, False)):
        along = (cache[hook] @ vector.vector).abs().max()
        assert (along < 1e-4) == empty


def test_the_principal_component_is_numpys(vector: SteeringVector) -> None:
    generator = torch.Generator().manual_seed(0)
    minus = torch.randn(40, 16, generator=generator)
    plus = minus + torch.randn(40, 1, generator=generator).abs() * vector.vector
    plus = plus + 0.1 * torch.randn(40, 16, generator=generator)
    found = principal_component(Contrast(plus=points(plus), minus=points(minus)), HOOK)
    assert found.cosine(vector) > 0.99
    second = (plus - minus).double().T @ (plus - minus).double()
    axis = torch.linalg.eigh(second)[1][:, -1].float()
    assert torch.cosine_similarity(found.vector, axis, dim=0).abs() > 0.9999
    assert found.norm == pytest.approx(abs(float((plus - minus).mean(0) @ axis)), rel=1e-3)
    swapped = principal_component(Contrast(plus=points(minus), minus=points(plus)), HOOK)
    torch.testing.assert_close(swapped.vector, -found.vector)


def test_difference_of_means_needs_no_pairs() -> None:
    contrast = Contrast(plus=points(torch.full((3, 4), 2.0)), minus=points(torch.full((5, 4), 0.5)))
    assert difference_of_means(contrast, HOOK).vector.tolist() == [1.5] * 4
    with pytest.raises(InputError, match="3 and 5 points cannot be paired"):
        principal_component(contrast, HOOK)
    with pytest.raises(InputError, match="3 and 0 points has an empty side"):
        Contrast(plus=contrast.plus, minus=contrast.minus[:0])


def test_a_latents_direction_is_its_decoder_row() -> None:
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=16, d_sae=5)).requires_grad_(False)
    sae.cfg.metadata.hook_name = HOOK
    sae.W_dec.copy_(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    found = latent_direction(sae, 3)
    assert found.hook == HOOK
    assert torch.equal(found.vector, sae.W_dec[3])
    with pytest.raises(InputError, match="latent 5 is not one of the SAE's 5"):
        latent_direction(sae, 5)


def test_every_prompt_counts_the_same_in_a_prompt_contrast() -> None:
    """One prompt of many tokens differs far along one axis, one of one a little along the other; a third is alone."""
    plus = torch.tensor([[9.0, 0.0]] * 3 + [[0.0, 2.0], [50.0, 50.0]])
    minus = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]])
    prompts = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 1])
    contrast = Contrast(plus=points(plus), minus=points(minus), prompts=prompts)
    found = prompt_contrast(contrast, HOOK)
    # The own contrasts are (8, 0) and (0, 1): their mean is (4, .5), along the diagonal 4.5 / sqrt(2).
    torch.testing.assert_close(found.vector, torch.tensor([2.25, 2.25]))
    assert found.metadata == {"method": "prompt contrast", "prompts": 2}
    with pytest.raises(InputError, match="the contrast does not say which prompt each point is of"):
        prompt_contrast(Contrast(plus=points(plus), minus=points(minus)), HOOK)
    apart = Contrast(
        plus=points(plus[:1]), minus=points(minus[:1]), prompts=(prompts[0][:1], prompts[0][3:4])
    )
    with pytest.raises(InputError, match="no prompt has points on both sides"):
        prompt_contrast(apart, HOOK)


def test_each_prompt_gets_its_own_vector(model: HybridLM, ids: Tensor) -> None:
    other = (ids + 1) % 30
    at = torch.arange(3), torch.tensor([4, 4, 4])
    activations = [model.run_with_cache(side)[1][HOOK].detach()[at] for side in (other, ids)]
    vectors = PromptVectors.of(Contrast(plus=points(activations[0]), minus=points(activations[1])), HOOK)
    with vectors.apply(model, 1.0, 4):
        steered_run = model.run_with_cache(ids)[1]["blocks.2.hook_resid_pre"]
    # Scale 1 is an exact patch from the other prompt.
    torch.testing.assert_close(steered_run[at], activations[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="reads 2 prompts, there are vectors for 3"), vectors.apply(model):
        model(ids[:2])


def test_layer_and_scale_are_chosen_under_the_guard(model: HybridLM) -> None:
    effects = {(0, 1.0): 0.5, (0, 2.0): 0.9, (1, 1.0): 0.9, (1, 2.0): 1.0}
    damages = {(0, 1.0): 0.0, (0, 2.0): 0.01, (1, 1.0): 0.02, (1, 2.0): 0.5}
    vectors = [
        SteeringVector(hook=f"blocks.{i}.hook_resid_post", vector=torch.full((16,), float(i + 1)))
        for i in (0, 1)
    ]
    ids = torch.zeros(1, 1, dtype=torch.long)
    base = {i: model.run_with_cache(ids)[1][v.hook].sum().item() for i, v in enumerate(vectors)}

    def setting() -> tuple[int, float] | None:
        """Read off the model itself which vector acts and how strongly."""
        cache = model.run_with_cache(ids)[1]
        for i, v in enumerate(vectors):
            step = (cache[v.hook].sum().item() - base[i]) / (16 * (i + 1))
            if abs(step) > 0.1:
                return i, round(step, 3)
        return None

    def effect() -> float:
        now = setting()
        return 0.1 if now is None else effects[now]

    found = choose(
        model, vectors, [1.0, 2.0], effect=effect, damage=lambda: damages[setting()], most_damage=0.02
    )
    # Of two settings with the same effect the smaller scale; the strongest does too much damage.
    assert found.best is not None
    assert (found.best.setting.hook, found.best.setting.scale) == (vectors[1].hook, 1.0)
    assert [trial.effect for trial in found.trials] == [0.5, 0.9, 0.9, 1.0]
    none = choose(
        model, vectors[1:], [2.0], effect=effect, damage=lambda: damages[setting()], most_damage=0.02
    )
    assert none.best is None
    with pytest.raises(InputError, match="no vector or no scale"):
        choose(model, [], [1.0], effect=effect, damage=effect, most_damage=0.1)
