"""A map finds what two sets of activations have in common, and says what a direction becomes."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from transfer.maps.activation_map import ActivationMap, Made
from transfer.maps.closed_form import affine_map, low_rank_map, ridge_map
from transfer.maps.disk import load_map, save_map
from transfer.maps.fit import STREAMED, fit, fit_stream
from transfer.maps.moments import Moments
from transfer.maps.quality import measure
from transfer.maps.trained import SGDConfig
from transfer.names import METHODS, SAE_LATENT, VECTORS
from transfer.points import ActivationPairs, Contrast, Points, shuffled
from transfer.vectors import OF_CONTRAST

MADE = Made(method="affine", source_hook="a", target_hook="b")
QUICK = SGDConfig(lr=1e-2, epochs=4, batch_tokens=64)


def points(values: Tensor, ids: Tensor | None = None) -> Points:
    n = len(values)
    return Points(
        values=values, ids=torch.arange(n) % 7 if ids is None else ids, positions=torch.arange(n) % 5
    )


def pairs_of(x: Tensor, y: Tensor, ids: Tensor | None = None) -> ActivationPairs:
    return ActivationPairs(
        source=points(x, ids),
        target=points(y, ids),
        example=torch.arange(len(x)) // 4,
        source_hook="a",
        target_hook="b",
    )


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def linear(draw: torch.Generator) -> tuple[ActivationPairs, Tensor, Tensor]:
    """400 pairs of 5 and 8 dimensions with large means, y = x W + b exactly."""
    x = torch.randn(400, 5, generator=draw) * torch.tensor([1.0, 10, 0.1, 3, 1]) + 100
    weight, bias = torch.randn(5, 8, generator=draw), torch.randn(8, generator=draw)
    return pairs_of(x, x @ weight + bias), weight, bias


@pytest.fixture
def noisy(draw: torch.Generator) -> ActivationPairs:
    x = torch.randn(300, 6, generator=draw)
    y = x @ torch.randn(6, 6, generator=draw) + 0.5 * torch.randn(300, 6, generator=draw) + 2
    return pairs_of(x, y)


def test_every_name_of_a_map_and_of_a_vector_has_what_computes_it() -> None:
    from transfer.maps.fit import CLOSED, LOOKUPS, RANKED, TRAINED

    assert (*CLOSED, "ridge", *RANKED, *LOOKUPS, *TRAINED) == METHODS
    assert (*OF_CONTRAST, SAE_LATENT) == VECTORS


def fitted(method: str, pairs: ActivationPairs) -> ActivationMap:
    from transfer.maps.fit import TRAINED

    guide = (lambda f, g: f(pairs.source.values).square().mean()) if method == "autoencoder-kl" else None
    return fit(method, pairs, rank=3, sgd=QUICK if method in TRAINED else None, guide=guide)


@pytest.mark.parametrize("method", ["affine", "ridge"])
def test_a_true_linear_map_is_found(method: str, linear: tuple[ActivationPairs, Tensor, Tensor]) -> None:
    pairs, weight, _ = linear
    found = fit(method, pairs)
    assert measure(found, pairs).fvu < 1e-6
    torch.testing.assert_close(found.map_directions(torch.eye(5)), weight, rtol=1e-2, atol=2e-3)


def test_affine_is_numpys_least_squares(noisy: ActivationPairs) -> None:
    x = torch.cat([noisy.source.values, torch.ones(300, 1)], 1).double()
    best = torch.linalg.lstsq(x, noisy.target.values.double()).solution
    found = affine_map(Moments.of(noisy), MADE)
    torch.testing.assert_close(found.weight, best[:-1].float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias, best[-1].float(), rtol=1e-4, atol=1e-5)


def test_ridge_solves_its_equation(noisy: ActivationPairs) -> None:
    x, y = noisy.source.values.double(), noisy.target.values.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    found = ridge_map(Moments.of(noisy), MADE, penalty=0.3)
    by_hand = torch.linalg.solve(z.T @ z / 300 + 0.3 * torch.eye(6), z.T @ (y - y.mean(0)) / 300)
    torch.testing.assert_close(
        found.weight.double(), by_hand / x.std(0, correction=0)[:, None], rtol=1e-4, atol=1e-5
    )


def test_ridge_chooses_its_penalty_on_texts_that_it_was_not_fitted_on(draw: torch.Generator) -> None:
    """Where there is nothing to learn the largest is best on other texts, and the smallest on its own."""
    pairs = pairs_of(torch.randn(120, 24, generator=draw), torch.randn(120, 3, generator=draw))
    train, _ = pairs.split(0.9, seed=0)
    largest = ridge_map(Moments.of(train), MADE, penalty=1.0)
    torch.testing.assert_close(fit("ridge", pairs).map_points(pairs.source), largest.map_points(pairs.source))


def test_a_split_has_no_text_on_both_sides_and_is_drawn(noisy: ActivationPairs) -> None:
    texts = []
    for seed in (0, 1):
        first, rest = noisy.split(0.8, seed=seed)
        assert not set(first.example.tolist()) & set(rest.example.tolist())
        assert len(first) + len(rest) == len(noisy)
        assert len(first.example.unique()) == round(0.8 * len(noisy.example.unique()))
        texts.append(set(rest.example.tolist()))
    assert texts[0] != texts[1]


def test_moments_do_not_depend_on_the_batches(linear: tuple[ActivationPairs, Tensor, Tensor]) -> None:
    pairs, _, _ = linear
    whole, parts = Moments.of(pairs), Moments.stream(pairs[i : i + 37] for i in range(0, 400, 37))
    assert parts.count == 400
    for name in ("source_mean", "target_mean", "source", "cross", "target"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("method", STREAMED)
def test_a_map_fitted_a_batch_at_a_time_is_the_map_and_keeps_no_batch(
    noisy: ActivationPairs, method: str
) -> None:
    given: list[weakref.ref[ActivationPairs]] = []

    def batches() -> Iterator[ActivationPairs]:
        for start in range(0, 300, 30):
            assert sum(one() is not None for one in given) <= 1  # the last, until the next is there
            part = noisy[start : start + 30]
            given.append(weakref.ref(part))
            yield part
            del part

    found, whole = fit_stream(method, batches(), rank=2), fit(method, noisy, rank=2)
    assert (len(given), found.made) == (10, whole.made)
    torch.testing.assert_close(found.map_points(noisy.source), whole.map_points(noisy.source))


def test_what_cannot_be_fitted_a_batch_at_a_time_is_refused(noisy: ActivationPairs) -> None:
    with pytest.raises(InputError, match="map `ridge` is not fitted a batch at a time"):
        fit_stream("ridge", [noisy])
    with pytest.raises(InputError, match="map `affin` is not known; did you mean `affine`"):
        fit_stream("affin", [noisy])
    with pytest.raises(InputError, match="no batch of pairs"):
        fit_stream("affine", [])


def test_unexplained_variance_from_moments_is_that_of_the_rows(noisy: ActivationPairs) -> None:
    for method in ("mean", "identity", "procrustes", "affine"):
        found = fit(method, noisy)
        assert measure(found, noisy).fvu == pytest.approx(
            Moments.of(noisy).unexplained(found.weight, found.bias), rel=1e-5
        )


def test_a_source_without_full_rank_gets_the_smallest_solution(draw: torch.Generator) -> None:
    x = torch.randn(200, 3, generator=draw)
    twice = torch.cat([x, x, torch.full((200, 1), 5.0)], 1)
    pairs = pairs_of(twice, x @ torch.ones(3, 2))
    found = affine_map(Moments.of(pairs), MADE)
    torch.testing.assert_close(found.weight[:3], torch.full((3, 2), 0.5), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.weight[3:6], torch.full((3, 2), 0.5), rtol=1e-3, atol=1e-3)
    assert torch.equal(found.weight[6], torch.zeros(2))


@pytest.mark.parametrize(("d_in", "d_out"), [(4, 4), (4, 7), (7, 4)])
def test_procrustes_finds_a_rotation_and_its_scale(d_in: int, d_out: int, draw: torch.Generator) -> None:
    x = torch.randn(500, d_in, generator=draw)
    rotation = torch.linalg.qr(torch.randn(max(d_in, d_out), min(d_in, d_out), generator=draw))[0]
    rotation = rotation if d_in >= d_out else rotation.T
    found = fit("procrustes", pairs_of(x, 2.5 * x @ rotation - 3))
    if d_in <= d_out:
        torch.testing.assert_close(
            found.map_directions(torch.eye(d_in)), 2.5 * rotation, rtol=1e-3, atol=1e-3
        )
    weight = found.map_directions(torch.eye(d_in))
    gram = weight @ weight.T if d_in <= d_out else weight.T @ weight
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(len(gram)), rtol=1e-4, atol=1e-4)


def test_a_low_rank_step_is_reduced_rank_regression_of_the_difference(noisy: ActivationPairs) -> None:
    width = min(noisy.source.values.shape[1], noisy.target.values.shape[1])
    x, y = noisy.source.values[:, :width], noisy.target.values[:, :width]
    pairs = replace(noisy, source=replace(noisy.source, values=x), target=replace(noisy.target, values=y))
    moments = Moments.of(pairs)
    direct = replace(pairs, target=replace(pairs.target, values=y - x))
    for name in ("target_mean", "cross", "target", "source"):
        torch.testing.assert_close(
            getattr(moments.to_difference(), name), getattr(Moments.of(direct), name), rtol=1e-4, atol=1e-4
        )
    step = fit("low-rank-step", pairs, rank=2)
    other = fit("low-rank", direct, rank=2)
    torch.testing.assert_close(
        step.map_points(pairs.source), x + other.map_points(pairs.source), rtol=1e-3, atol=1e-3
    )
    assert int(torch.linalg.matrix_rank(step.tensors()["weight"] - torch.eye(width), tol=1e-4)) == 2
    wider = replace(pairs, target=replace(pairs.target, values=torch.cat([y, y], dim=1)))
    with pytest.raises(InputError, match="needs equal widths"):
        fit("low-rank-step", wider, rank=2)


def test_low_rank_has_its_rank_and_no_map_of_that_rank_is_better(noisy: ActivationPairs) -> None:
    moments = Moments.of(noisy)
    full = affine_map(moments, MADE)
    before = 1.0
    for rank in range(1, 7):
        found = low_rank_map(moments, MADE, rank=rank, penalty=0.0)
        assert torch.linalg.matrix_rank(found.weight, rtol=1e-4) == rank
        error = moments.unexplained(found.weight, found.bias)
        # Cutting the singular values of the full map off gives the same rank and more error.
        left, sizes, right = torch.linalg.svd(full.weight)
        cut = (left[:, :rank] * sizes[:rank]) @ right[:rank]
        bias = (moments.target_mean - moments.source_mean @ cut.double()).float()
        assert error <= moments.unexplained(cut, bias) + 1e-7
        assert error <= before
        before = error
    assert before == pytest.approx(moments.unexplained(full.weight, full.bias), rel=1e-4)


def test_the_mean_explains_nothing_and_moves_nothing(noisy: ActivationPairs) -> None:
    found = fit("mean", noisy)
    quality = measure(found, noisy)
    assert quality.fvu == pytest.approx(1)
    assert quality.r2 == pytest.approx(0, abs=1e-6)
    assert torch.equal(found.map_directions(torch.ones(1, 6)), torch.zeros(1, 6))


def test_a_common_offset_earns_no_fvu(noisy: ActivationPairs) -> None:
    # The paper's one scalar mean over tokens and dimensions would make the constant map look good here.
    offset = torch.tensor([100.0, -100, 50, 0, 0, 0])
    shifted = pairs_of(noisy.source.values, noisy.target.values + offset)
    constant = measure(fit("mean", shifted), shifted)
    assert constant.fvu == pytest.approx(1)
    assert constant.cosine > 0.99
    assert abs(constant.centred_cosine) < 1e-3
    assert measure(fit("affine", shifted), shifted).fvu == pytest.approx(
        measure(fit("affine", noisy), noisy).fvu, rel=1e-3
    )


def test_look_ups_give_the_mean_of_their_token_and_position(draw: torch.Generator) -> None:
    y = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    ids = torch.tensor([4, 4, 9, 9])
    pairs = ActivationPairs(
        source=Points(
            values=torch.randn(4, 2, generator=draw), ids=ids, positions=torch.tensor([0, 1, 0, 0])
        ),
        target=Points(values=y, ids=ids, positions=torch.tensor([0, 1, 0, 0])),
        example=torch.arange(4),
        source_hook="a",
        target_hook="b",
    )
    asked = Points(
        values=torch.randn(5, 2, generator=draw),
        ids=torch.tensor([4, 4, 4, 9, 5]),
        positions=torch.tensor([0, 1, 2, 0, 0]),
    )
    assert fit("token", pairs).map_points(asked)[:, 0].tolist() == [2, 2, 2, 15, 8.5]
    # Token 4 was never seen at position 2, token 5 nowhere.
    assert fit("position-token", pairs).map_points(asked)[:, 0].tolist() == [1, 3, 2, 15, 8.5]


def test_a_look_up_carries_a_contrast_of_tokens_and_no_push(noisy: ActivationPairs) -> None:
    found = fit("token", noisy)
    plus, minus = noisy.source[noisy.source.ids == 1], noisy.source[noisy.source.ids == 2]
    contrast = Contrast(plus=plus, minus=minus)
    values, ids = noisy.target.values, noisy.target.ids
    torch.testing.assert_close(
        found.map_directions(contrast.direction[None], contrast=contrast)[0],
        values[ids == 1].mean(0) - values[ids == 2].mean(0),
    )
    pushed = found.map_directions(contrast.direction[None], "jacobian", contrast=contrast)
    assert torch.equal(pushed, torch.zeros(1, 6))


def test_under_an_affine_map_difference_and_jacobian_agree_and_direct_adds_the_offset(
    noisy: ActivationPairs,
) -> None:
    found = fit("affine", noisy)
    contrast = Contrast(plus=noisy.source[:20], minus=noisy.source[20:60])
    v = contrast.direction[None]
    by_points = found.map_points(contrast.plus).mean(0) - found.map_points(contrast.minus).mean(0)
    for mode in ("difference", "jacobian"):
        torch.testing.assert_close(found.map_directions(v, mode)[0], by_points, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.map_directions(v, "direct")[0], by_points + found.bias, rtol=1e-4, atol=1e-5
    )


def test_under_an_autoencoder_the_three_modes_are_what_they_say(noisy: ActivationPairs) -> None:
    found = fitted("autoencoder", noisy)
    contrast = Contrast(plus=noisy.source[:20], minus=noisy.source[20:60])
    v = contrast.direction[None]

    def f(x: Tensor) -> Tensor:
        return torch.relu(x @ found.W_enc + found.b_enc) @ found.W_dec + found.b_dec

    x = torch.cat([contrast.plus.values, contrast.minus.values])
    # ReLU is linear between two close points, away from its kinks.
    slope = ((x @ found.W_enc + found.b_enc) > 0).float() * (v @ found.W_enc) @ found.W_dec
    expected = {
        "difference": f(contrast.plus.values).mean(0) - f(contrast.minus.values).mean(0),
        "jacobian": slope.mean(0),
        "direct": f(v)[0],
    }
    for mode, right in expected.items():
        torch.testing.assert_close(
            found.map_directions(v, mode, contrast=contrast)[0], right, rtol=1e-4, atol=1e-5
        )
    assert not torch.allclose(expected["difference"], expected["jacobian"], rtol=0.05)


def test_trained_maps_come_near_the_closed_form(noisy: ActivationPairs) -> None:
    best = measure(fit("affine", noisy), noisy).fvu
    longer = SGDConfig(lr=1e-2, epochs=80, batch_tokens=64, standardise=True, decay=True)
    affine = measure(fit("affine-sgd", noisy, sgd=longer), noisy).fvu
    assert best <= affine < 1.02 * best
    wide = measure(fit("autoencoder-wide", noisy, sgd=longer), noisy).fvu
    assert wide < 1.2 * best


def test_standardising_is_folded_into_the_weights(linear: tuple[ActivationPairs, Tensor, Tensor]) -> None:
    pairs, _, _ = linear
    config = SGDConfig(lr=1e-2, epochs=60, batch_tokens=50, standardise=True, decay=True)
    assert measure(fit("affine-sgd", pairs, sgd=config), pairs).fvu < 1e-3


def test_a_guide_takes_part_in_the_training(noisy: ActivationPairs) -> None:
    pulled = fit(
        "autoencoder-kl",
        noisy,
        sgd=SGDConfig(lr=1e-2, epochs=40, batch_tokens=64, guide_weight=100.0),
        guide=lambda f, g: f(noisy.source.values).square().mean(),
    )
    free = fit("autoencoder", noisy, sgd=SGDConfig(lr=1e-2, epochs=40, batch_tokens=64))
    assert pulled.map_points(noisy.source).norm() < 0.2 * free.map_points(noisy.source).norm()


def test_shuffled_partners_leave_nothing_to_learn(noisy: ActivationPairs) -> None:
    mixed = shuffled(noisy, seed=1)
    assert measure(fit("affine", mixed), noisy).fvu > 0.9
    torch.testing.assert_close(mixed.target.values.sort(0).values, noisy.target.values.sort(0).values)
    within = shuffled(noisy, seed=1, within_ids=True)
    assert torch.equal(within.target.ids, noisy.source.ids)
    assert not torch.equal(within.target.values, noisy.target.values)
    # What the token alone tells is kept.
    torch.testing.assert_close(fit("token", within).table, fit("token", noisy).table)


@pytest.mark.parametrize("method", METHODS)
def test_every_map_comes_back_from_disk(method: str, noisy: ActivationPairs, tmp_path: Path) -> None:
    found = fitted(method, noisy)
    save_map(found, tmp_path / "map")
    again = load_map(tmp_path / "map")
    assert again.made == found.made
    assert torch.equal(again.map_points(noisy.source), found.map_points(noisy.source))
    assert found.map_points(noisy.source).shape == (300, 6)
    save_map(found, tmp_path / "map", overwrite=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"recipe": {}}')
    with pytest.raises(InputError, match="holds a training run, which an analysis does not overwrite"):
        save_map(found, tmp_path / "run", overwrite=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_is_a_function_of_its_seed(method: str, noisy: ActivationPairs) -> None:
    assert torch.equal(
        fitted(method, noisy).map_points(noisy.source), fitted(method, noisy).map_points(noisy.source)
    )


def test_what_does_not_fit_is_answered_with_a_sentence(
    noisy: ActivationPairs, linear: tuple[ActivationPairs, Tensor, Tensor], tmp_path: Path
) -> None:
    found = fitted("autoencoder", noisy)
    with pytest.raises(InputError, match=r"no map `afine`; did you mean `affine`"):
        fit("afine", noisy)
    with pytest.raises(InputError, match="equal widths; the source is 5 wide and the target 8"):
        fit("identity", linear[0])
    with pytest.raises(InputError, match="rank is 9, expected 1 to 6"):
        fit("low-rank", noisy, rank=9)
    with pytest.raises(InputError, match="needs a? ?guide"):
        fit("autoencoder-kl", noisy)
    with pytest.raises(InputError, match=r"6 wide \(`a`\), these are 5 wide"):
        found.map_points(linear[0].source)
    with pytest.raises(InputError, match="not affine, so `jacobian` depends"):
        found.map_directions(torch.ones(1, 6), "jacobian")
    save_map(found, tmp_path / "map")
    with pytest.raises(InputError, match="not empty"):
        save_map(found, tmp_path / "map")
    save_map(fit("affine", noisy), tmp_path / "other")
    (tmp_path / "other" / "map.safetensors").replace(tmp_path / "map" / "map.safetensors")
    with pytest.raises(InputError, match="holds bias, weight, a `autoencoder` map W_dec"):
        load_map(tmp_path / "map")
    (tmp_path / "map" / "map.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="not a whole"):
        load_map(tmp_path / "map")
