"""Probes find what is linear, sparse ones as much as their latents hold, and Newton's steps end at the minimum."""

import pytest
import torch
from torch import Tensor

from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.probes import dense_probe, newton, sparse_probe
from saes.truth.scoring import Halves, Table, by_half, score, tabulate

NAMES = ("a", "b", "c.0", "c.1")
N = 2000


def planted(seed: int = 0) -> tuple[Tensor, Roles, Halves]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (N,), generator=rng)
    values = torch.randn(N, 6, generator=rng)
    values[torch.arange(N), labels] += 4.0
    mixed = values @ torch.linalg.qr(torch.randn(6, 6, generator=rng))[0] + 3
    return mixed, Roles.of(tuple(NAMES[c] for c in labels.tolist())), Halves.of(torch.arange(N) // 10, seed=0)


def table_of(firings: Firings, roles: Roles, halves: Halves) -> Table:
    return tabulate(by_half(firings, halves), roles.at(halves.choose), roles.at(halves.measure))


def test_the_dense_probe_reads_a_linear_role_off_any_basis() -> None:
    values, roles, halves = planted()
    axes = table_of(Firings.from_dense(values.clamp_min(0)), roles, halves)
    probe = dense_probe(values, halves.choose, roles, axes)
    scores, _ = score(
        "probe",
        by_half(probe, halves),
        table_of(probe, roles, halves),
        roles.at(halves.measure),
        halves,
        fvu=None,
        seed=0,
    )
    for role in scores.roles:
        assert role.f1 > 0.95
        assert axes.names[role.latent] == role.role  # detector c is for column c
    assert float(axes.f1.max()) < 0.9
    # The bias is not held back, so that where it was fitted a probe is as often right as it says.
    said = probabilities(probe.among(halves.choose)).mean(0)
    wanted = torch.stack([roles.wanted(c)[halves.choose] for c in axes.column.tolist()]).double().mean(1)
    torch.testing.assert_close(said.double(), wanted, atol=2e-3, rtol=0)


def test_probes_are_fitted_without_the_tokens_they_are_judged_on() -> None:
    values, roles, halves = planted()
    other = values.clone()
    other[halves.measure] = other[halves.measure].flip(0) * 3 + 1
    names = [roles.slots.names[int(c)] for c in roles.slots.label]
    for i, j in zip(halves.measure.tolist(), halves.measure.flip(0).tolist(), strict=True):
        names[i] = roles.slots.names[int(roles.slots.label[j])]
    changed = Roles.of(tuple(names))
    axes = table_of(Firings.from_dense(values.clamp_min(0)), roles, halves)
    dense = [dense_probe(v, halves.choose, r, axes) for v, r in ((values, roles), (other, changed))]
    sparse = [
        sparse_probe(Firings.from_dense(v.clamp_min(0)), halves.choose, r, axes, 2)
        for v, r in ((values, roles), (other, changed))
    ]
    for pair in (dense, sparse):
        one, two = (probabilities(probe.among(halves.choose)) for probe in pair)
        # What is below 1e-3 is left out, which a last bit may decide.
        torch.testing.assert_close(one, two, atol=2e-3, rtol=0)


def probabilities(probe: Firings) -> Tensor:
    found = torch.zeros(probe.n_tokens, probe.n_latents)
    found[probe.token, probe.latent] = probe.value
    return found


def test_more_latents_tell_a_role_that_is_split_among_them() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = (torch.rand(N, generator=rng) < 0.1).long()
    codes = torch.zeros(N, 4)
    share = torch.randint(0, 4, (N,), generator=rng)
    codes[torch.arange(N), share] = labels.float()
    roles = Roles.of(tuple("ab"[c] for c in labels.tolist()))
    halves = Halves.of(torch.arange(N) // 10, seed=0)
    firings = Firings.from_dense(codes)
    table = table_of(firings, roles, halves)
    reached = []
    for k in (1, 2, 4):
        probe = sparse_probe(firings, halves.choose, roles, table, k)
        reached.append(float(table_of(probe, roles, halves).f1[1, 1]))
    # A quarter, a half and all of the role's tokens: F1 = 2 r / (1 + r).
    assert reached == pytest.approx([0.4, 2 / 3, 1.0], abs=0.04)


def test_newton_ends_where_the_gradient_is_zero() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(300, 3, generator=rng).double()
    y = (torch.rand(300, generator=rng) < (x[:, 0] - 1).sigmoid()).double()
    w = newton(x, y)
    p = (x @ w[:-1] + w[-1]).sigmoid()
    gradient = torch.cat([x.T @ (p - y) + w[:-1], (p - y).sum()[None] + 1e-6 * w[-1:]])
    assert float(gradient.abs().max()) < 1e-8


def test_separable_labels_do_not_run_away() -> None:
    x = torch.cat([torch.zeros(50, 1), torch.ones(50, 1)]).double()
    assert newton(x, x[:, 0]).isfinite().all()
