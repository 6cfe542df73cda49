"""Matching finds a permutation, and cosines are those of any scale."""

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.disk import SAE, stock
from saes.truth.stability import stability

WIDTH = 16


def sae(rows: Tensor) -> SAE:
    made: SAE = (
        stock()
        .StandardSAE(stock().StandardSAEConfig(d_in=rows.shape[1], d_sae=len(rows)))
        .requires_grad_(False)
    )
    made.W_dec.copy_(rows)
    return made


def rows(seed: int, n: int = 12) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_the_same_latents_in_another_order_and_scale_are_the_same() -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    found = stability([sae(rows(0)), sae(3 * rows(0)[order])])
    assert (found.mcc, found.mmcs, found.same) == pytest.approx((1.0, 1.0, 1.0))
    assert found.stable == tuple(range(12))


def test_shared_latents_count_and_others_do_not() -> None:
    shared = torch.linalg.qr(rows(0, WIDTH))[0]
    one, other = shared[:8], torch.cat([shared[:4], shared[8:12]])
    found = stability([sae(one), sae(other)])
    assert found.stable == (0, 1, 2, 3)
    assert found.same == 0.5
    assert found.mcc == pytest.approx(0.5, abs=1e-6)
    third = torch.cat([shared[2:4], shared[10:16]])
    assert stability([sae(one), sae(other), sae(third)]).stable == (2, 3)
    assert stability([sae(one), sae(third), sae(other)]).stable == (2, 3)


def test_latents_are_the_same_from_a_cosine_of_nine_tenths_on() -> None:
    one, cosines = torch.eye(WIDTH)[:3], torch.tensor([0.89, 0.91, 1.0])
    beside = torch.eye(WIDTH)[3:6] * (1 - cosines**2).sqrt()[:, None]
    found = stability([sae(one), sae(one * cosines[:, None] + beside)])
    assert found.stable == (1, 2)
    assert found.mcc == pytest.approx(float(cosines.mean()))


def test_two_latents_may_not_share_a_match_but_may_share_a_neighbour() -> None:
    one = torch.eye(WIDTH)[[0, 1]]
    other = torch.eye(WIDTH)[[0, 5]]
    doubled = torch.eye(WIDTH)[[0, 0]]
    assert stability([sae(one), sae(other)]).mmcs == pytest.approx(0.5)
    found = stability([sae(doubled), sae(other)])
    assert found.mcc == pytest.approx(0.5)
    assert found.mmcs == pytest.approx((1.0 + 0.5) / 2)


def test_one_sae_and_other_widths_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 SAEs, there is 1"):
        stability([sae(rows(0))])
    with pytest.raises(InputError, match=r"the SAEs are \[8, 16\] wide"):
        stability([sae(rows(0)), sae(rows(0)[:, :8])])
