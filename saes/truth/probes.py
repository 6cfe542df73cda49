"""Activations or latents + roles -> logistic probes: what a role could be told by, where latents are judged by one.

A dense probe reads every dimension of the activation and is the ceiling of any latent. A k-sparse probe reads the k
latents that detect the role best (Gurnee et al. 2023, arXiv 2305.01610) and says what splitting costs. Both are
fitted on the choosing half and give one detector per role, which is then scored as a latent is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saes.roles import Roles
from saes.truth.firing import Firings
from saes.truth.scoring import Table

FITTED = 20_000
"""Most tokens that probes are fitted on."""
LOWEST = 1e-3
"""A probability below this is no firing, so that probes stay as sparse as roles are."""
STEPS, NEWTON_STEPS = 60, 15
CHUNK = 65_536


def dense_probe(
    values: Float[Tensor, "token d_in"], choose: Int[Tensor, " chosen"], roles: Roles, table: Table
) -> Firings:
    """One logistic regression per column of `table` on whitened activations, with L2 of weight 1 / (2 n).

    `roles` are those of all tokens; `choose` says which tokens to fit on. Detector c is for column c.
    """
    fit = _some(choose)
    x, y = values[fit].double(), _labels(roles, table, fit)
    mean = x.mean(0)
    whiten = _whitening(x - mean)
    x = ((x - mean) @ whiten).float()
    weight = torch.zeros(x.shape[1], y.shape[1], device=x.device, requires_grad=True)
    bias = torch.logit(y.mean(0).clamp(1e-6, 1 - 1e-6)).requires_grad_()
    search = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        logits = torch.addmm(bias, x, weight)
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="sum")
        whole = (total + weight.square().sum() / 2) / len(x)
        whole.backward()
        return whole

    with torch.enable_grad():
        search.step(loss)
    turned = whiten.float() @ weight.detach()
    offset = bias.detach() - mean.float() @ turned
    return _firings(values, turned, offset)


@torch.no_grad()
def sparse_probe(
    firings: Firings, choose: Int[Tensor, " chosen"], roles: Roles, table: Table, k: int
) -> Firings:
    """One logistic regression per column of `table` on its `k` latents of the best F1 on the choosing half."""
    k = min(k, len(table.chosen_f1))
    best = table.chosen_f1.topk(k, dim=0).indices.to(firings.token.device)
    used, place = best.unique(return_inverse=True)
    dense = _columns(firings, used)
    scale = dense[choose].std(0).clamp_min(1e-6)
    dense = dense / scale
    fit = _some(choose)
    y = _labels(roles, table, fit)
    weight = dense.new_zeros(len(used), y.shape[1])
    offset = dense.new_zeros(y.shape[1])
    for c in range(y.shape[1]):
        found = newton(dense[fit][:, place[:, c]].double(), y[:, c].double())
        weight[place[:, c], c], offset[c] = found[:-1].float(), found[-1].float()
    return _firings(dense, weight, offset)


def newton(x: Float[Tensor, "token k"], y: Float[Tensor, " token"]) -> Float[Tensor, " k_and_bias"]:
    """Logistic regression with L2 of 1/2 per weight, by Newton's steps, halved where the loss would rise."""
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    ridge = torch.ones_like(x[0])
    ridge[-1] = 1e-6

    def loss(w: Tensor) -> Tensor:
        total = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y, reduction="sum")
        return total + (ridge * w.square()).sum() / 2

    w = torch.zeros_like(ridge)
    before = loss(w)
    for _ in range(NEWTON_STEPS):
        p = (x @ w).sigmoid()
        gradient = x.T @ (p - y) + ridge * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + torch.diag(ridge)
        step = torch.linalg.solve(hessian, gradient)
        for _ in range(20):
            after = loss(w - step)
            if after <= before:
                w, before = w - step, after
                break
            step = step / 2
    return w


def _whitening(x: Float[Tensor, "token d_in"]) -> Float[Tensor, "d_in d_in"]:
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    return axes / (values.clamp_min(0) + 1e-6 * values.max()).sqrt()


def _some(choose: Int[Tensor, " chosen"]) -> Int[Tensor, " fitted"]:
    """Every n-th token where there are too many."""
    return choose[:: -(-len(choose) // FITTED)]


def _labels(roles: Roles, table: Table, tokens: Int[Tensor, " fitted"]) -> Float[Tensor, "fitted column"]:
    return torch.stack([roles.wanted(c)[tokens] for c in table.column.tolist()], dim=1).float()


def _columns(firings: Firings, used: Int[Tensor, " used"]) -> Float[Tensor, "token used"]:
    """The activations of some latents as a dense matrix."""
    place = torch.full((firings.n_latents,), -1, device=used.device)
    place[used] = torch.arange(len(used), device=used.device)
    kept = place[firings.latent] >= 0
    dense = firings.value.new_zeros(firings.n_tokens, len(used))
    dense[firings.token[kept], place[firings.latent[kept]]] = firings.value[kept]
    return dense


def _firings(
    x: Float[Tensor, "token d_in"], weight: Float[Tensor, "d_in column"], offset: Float[Tensor, " column"]
) -> Firings:
    """Probabilities of at least `LOWEST`."""
    token, column, value = [], [], []
    for start in range(0, len(x), CHUNK):
        p = torch.addmm(offset, x[start : start + CHUNK], weight).sigmoid()
        rows, columns = (p >= LOWEST).nonzero(as_tuple=True)
        token.append(rows + start)
        column.append(columns)
        value.append(p[rows, columns])
    return Firings.of(
        torch.cat(token), torch.cat(column), torch.cat(value), n_tokens=len(x), n_latents=weight.shape[1]
    )
