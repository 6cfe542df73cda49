"""Splitting, absorption and several meanings are found where they were planted, and only there."""

import math

import pytest
import torch
from torch import Tensor

from saes.disk import stock
from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.hierarchy import Absorption, Hierarchy, hierarchy
from saes.truth.scoring import Halves, tabulate

SLOTS = ("sql.from", "sql.select.0.column", "sql.select.1.column", "sql.select.2.column")
N, WIDTH = 1200, 8
LABELS = torch.arange(N) % 4


def told(
    codes: Tensor, decoder: Tensor | None = None, labels: Tensor = LABELS, beside: float | Tensor = 0.0
) -> Hierarchy:
    """The hierarchy of latents with these codes `[token latent]`; activations are what is decoded, and `beside` it."""
    sae = (
        stock().StandardSAE(stock().StandardSAEConfig(d_in=WIDTH, d_sae=codes.shape[1])).requires_grad_(False)
    )
    sae.W_dec.copy_(torch.eye(codes.shape[1], WIDTH) if decoder is None else decoder)
    halves = Halves.of(torch.arange(N) // 40, seed=0)
    roles = Roles.of(tuple(SLOTS[c] for c in labels.tolist()))
    sides = roles.at(halves.choose), roles.at(halves.measure)
    firings = Firings.from_dense(codes)
    parts = firings.among(halves.choose), firings.among(halves.measure)
    values = (codes @ sae.W_dec + beside)[halves.measure]
    return hierarchy(sae.W_dec, values, parts, sides, tabulate(parts, *sides))


def found(of: Hierarchy, child: str) -> Absorption:
    return next(one for one in of.absorption if one.child == child)


def test_a_role_shared_by_three_latents_is_split_over_three() -> None:
    codes = torch.zeros(N, 5)
    for slot in (1, 2, 3):
        codes[slot == LABELS, slot] = 1.0
    codes[LABELS == 0, 0] = 1.0
    by_role = {one.role: one for one in told(codes).splitting}
    column = by_role["sql.select.column"]
    assert sorted(column.latents) == [1, 2, 3]
    assert column.f1 == 1.0
    assert column.effective == pytest.approx(3.0)
    assert by_role["sql.from"].latents == (0,)
    assert by_role["sql.from"].effective == pytest.approx(1.0)


def test_the_effective_number_weighs_what_is_written() -> None:
    codes = torch.zeros(N, 2)
    codes[LABELS == 0] = torch.tensor([1.0, 1.0])
    decoder = torch.zeros(2, WIDTH)
    decoder[0, 0], decoder[1, 1] = 3.0, 1.0
    one = next(one for one in told(codes, decoder).splitting if one.role == "sql.from")
    assert one.effective == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_a_latent_that_raises_f1_is_a_split_and_absorbs_nothing() -> None:
    family, other = torch.zeros(WIDTH), torch.zeros(WIDTH)
    family[0], other[0], other[1] = 1.0, 1.0, 1.0
    codes = torch.zeros(N, 2)
    codes[(LABELS == 1) | (LABELS == 2), 0] = 1.0
    codes[LABELS == 3, 1] = 1.0
    of = told(codes, torch.stack([family, other]))
    assert next(one for one in of.splitting if one.role == "sql.select.column").latents == (0, 1)
    assert found(of, "sql.select.2.column").rate == 0.0


def test_absorption_is_of_silence_share_and_direction() -> None:
    # A rare slot: 4 % of the family, too little for its latent to count as a split.
    labels = torch.ones(N, dtype=torch.long)
    labels[::3] = 0
    labels[torch.arange(4, N, 40)] = 3
    rare = labels == 3
    family, absorber = torch.zeros(WIDTH), torch.zeros(WIDTH)
    family[0], absorber[0], absorber[1] = 1.0, 1.0, 0.5
    codes = torch.zeros(N, 2)
    codes[labels == 1, 0] = 1.0
    codes[rare, 1] = 1.0
    of = told(codes, torch.stack([family, absorber]), labels)
    one = found(of, "sql.select.2.column")
    column = next(one for one in of.splitting if one.role == "sql.select.column")
    assert column.latents == (0,)
    assert (one.rate, one.missed, one.tokens) == (1.0, 1.0, int(rare.sum()) // 2)
    assert found(of, "sql.select.0.column").rate == 0.0
    # Nor where the token carries much more of the family than that latent gives.
    more = told(codes, torch.stack([family, absorber]), labels, 9 * rare[:, None] * family)
    assert found(more, "sql.select.2.column").rate == 0.0
    # A latent that is silent there without another that carries the family is missed, not absorbed.
    sideways = torch.zeros(WIDTH)
    sideways[1] = 1.0
    codes_beside = codes.clone()
    other = told(codes_beside, torch.stack([family, sideways]), labels)
    assert found(other, "sql.select.2.column").rate == 0.0
    assert found(other, "sql.select.2.column").missed == 1.0
    # Where the family's latent fires too there is nothing to absorb.
    codes_beside[rare, 0] = 1.0
    both = told(codes_beside, torch.stack([family, absorber]), labels)
    assert (found(both, "sql.select.2.column").rate, found(both, "sql.select.2.column").missed) == (0.0, 0.0)


def test_a_latent_of_two_roles_has_two_meanings_but_a_family_is_no_second_one() -> None:
    codes = torch.zeros(N, 3)
    codes[(LABELS == 0) | (LABELS == 1), 0] = 1.0  # two roles
    codes[LABELS == 2, 1] = 1.0  # a slot
    codes[LABELS != 0, 2] = 1.0  # the family, whose slots it detects with F1 of a half
    of = told(codes)
    assert of.detecting == 3
    assert of.polysemantic == pytest.approx(2 / 3)


def rare_slot() -> tuple[Tensor, Tensor, Tensor]:
    """Labels, codes and decoder of a family whose latent is silent at a rare slot, where another carries it."""
    labels = torch.ones(N, dtype=torch.long)
    labels[::3] = 0
    labels[torch.arange(4, N, 40)] = 3
    codes = torch.zeros(N, 2)
    codes[labels == 1, 0] = 1.0
    codes[labels == 3, 1] = 1.0
    decoder = torch.zeros(2, WIDTH)
    decoder[0, 0], decoder[1, 0], decoder[1, 1] = 1.0, 1.0, 0.5
    return labels, codes, decoder


def test_absorption_does_not_depend_on_what_all_tokens_have_in_common() -> None:
    labels, codes, decoder = rare_slot()
    for offset in (-9.0, 0.0, 9.0):
        of = told(codes, decoder, labels, offset * decoder[0])
        assert found(of, "sql.select.2.column").rate == 1.0


def test_the_share_is_of_what_tokens_outside_the_family_lack() -> None:
    labels, codes, decoder = rare_slot()
    decoder[1, 0] = 0.3
    rest = 0.7 * (labels == 3)[:, None] * decoder[0]
    assert found(told(codes, decoder, labels, rest), "sql.select.2.column").rate == 0.0
    decoder[1, 0] = 0.5
    assert found(told(codes, decoder, labels, rest), "sql.select.2.column").rate == 1.0


def test_a_latent_that_hardly_lies_along_the_family_absorbs_nothing() -> None:
    labels, codes, decoder = rare_slot()
    for sideways, rate in ((10.0, 1.0), (100.0, 0.0)):  # a cosine of .05, and of .005
        decoder[1, 0], decoder[1, 1] = 0.5, sideways
        assert found(told(codes, decoder, labels), "sql.select.2.column").rate == rate


def test_a_slot_that_is_found_more_often_than_its_family_is_not_missed() -> None:
    labels, codes, _ = rare_slot()
    codes = codes[:, :1]
    codes[labels == 3, 0] = 1.0
    codes[::4] = 0.0
    codes[labels == 3, 0] = 1.0
    of = told(codes, torch.eye(1, WIDTH), labels)
    assert found(of, "sql.select.2.column").missed == 0.0
    assert found(of, "sql.select.0.column").missed > 0.0


def test_a_split_is_found_on_the_choosing_half() -> None:
    codes = torch.zeros(N, 2)
    codes[(LABELS == 1) | (LABELS == 2), 0] = 1.0
    codes[LABELS == 3, 1] = 1.0
    codes[Halves.of(torch.arange(N) // 40, seed=0).measure, 1] = 0.0
    column = next(one for one in told(codes).splitting if one.role == "sql.select.column")
    assert column.latents == (0, 1)
    assert column.f1 == pytest.approx(0.8, abs=0.01)  # two of three slots, none of them wrongly


def test_only_detectors_of_the_slot_absorb_and_they_are_chosen_on_the_other_half() -> None:
    labels, codes, decoder = rare_slot()
    measure = torch.zeros(N, dtype=torch.bool)
    measure[Halves.of(torch.arange(N) // 40, seed=0).measure] = True
    everywhere, in_one = codes.clone(), codes.clone()
    everywhere[labels == 0, 1] = 1.0
    in_one[(labels == 0) & measure, 1] = 1.0
    for fires, rate in ((everywhere, 0.0), (in_one, 1.0)):
        # Where it fires wrongly the activation is 0 all the same, so that the family's direction stays.
        of = told(fires, decoder, labels, -(fires @ decoder) * (labels == 0)[:, None])
        assert (found(of, "sql.select.2.column").rate, found(of, "sql.select.2.column").missed) == (rate, 1.0)
