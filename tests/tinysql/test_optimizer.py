"""Muon: what it makes of a matrix, which weights it moves and how far."""

import numpy as np
import pytest
import torch

from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.optimizer import MUON_MOMENTUM, Muon, make_optimizer, moments_of, orthogonal

SHAPE = ModelConfig(
    pattern="M*E-",
    d_model=32,
    n_heads=4,
    n_kv_heads=2,
    d_vocab=40,
    n_ctx=16,
    biases=("qkv", "mlp"),
    mamba=MambaConfig(d_head=16, d_state=8),
    moe=MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16, d_latent=8),
)


def test_singular_values_come_near_one_and_vectors_stay() -> None:
    matrices = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    # From 1 to a hundredth: two or three steps would leave the small ones small.
    found = orthogonal(u * torch.logspace(0, -2, 20) @ v)
    along = torch.einsum("mrk,mrc,mkc->mk", u, found, v)
    assert 0.6 < float(along.min()) <= float(along.max()) < 1.3
    torch.testing.assert_close(u * along[:, None] @ v, found, rtol=1e-3, atol=1e-4)


def moved(muon: bool, steps: int = 1, weight_decay: float = 0.0) -> dict[str, tuple[torch.Tensor, ...]]:
    """Weights before and behind some steps, and the last gradient."""
    model = HybridLM(SHAPE, seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, lr=1e-2, betas=(0.9, 0.95), weight_decay=weight_decay, muon=muon)
    ids = torch.arange(12).reshape(2, 6)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return {
        name: (before[name], p.detach(), gradients[name])
        for name, p in model.named_parameters()
        if name in gradients
    }


MATRICES = {
    *(f"blocks.0.mamba.{name}" for name in ("W_z", "W_x", "W_B", "W_C", "W_out")),
    *(f"blocks.1.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")),
    *(f"blocks.2.moe.{name}" for name in ("W_in", "W_out", "W_in_shared", "W_out_shared", "W_down", "W_up")),
    *(f"blocks.3.mlp.{name}" for name in ("W_in", "W_out")),
}


def test_matrices_move_by_orthogonal_updates_and_the_rest_as_adamw_moves_them() -> None:
    by_muon, by_adamw = moved(muon=True), moved(muon=False)
    for name, (before, after, gradient) in by_muon.items():
        if name not in MATRICES:
            torch.testing.assert_close(after, by_adamw[name][1], msg=name)
            continue
        step = (before - after).numpy().astype(np.float64)
        flat = step.reshape(-1, *step.shape[-2:])
        for one, slope in zip(flat, gradient.numpy().reshape(flat.shape), strict=True):
            if not slope.any():
                continue  # an expert that no token chose
            large = np.linalg.svd(one, compute_uv=False) / (1e-2 * 0.2 * max(one.shape) ** 0.5)
            assert large.max() == pytest.approx(1, abs=0.35), name
            assert np.sum(one * slope) > 0, name  # downhill


@pytest.mark.parametrize("shape", [(3, 12, 5), (3, 5, 12), (6, 6)])
def test_momentum_and_weight_decay_are_those_of_the_definition(shape: tuple[int, ...]) -> None:
    """Two steps, computed here as the definition says, one matrix at a time."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    tall, larger = shape[-2] > shape[-1], max(shape[-2:])
    expected, momentum = weight.detach().clone(), torch.zeros_like(weight)
    group = {"params": [weight], "weight_decay": 0.1, "matrices": True}
    optimizer = Muon([group], lr=1e-2, betas=(0.9, 0.95), fused=True)
    for _ in range(2):
        gradient = torch.randn(weight.shape, generator=generator)
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = MUON_MOMENTUM * momentum + (1 - MUON_MOMENTUM) * gradient
        ahead = MUON_MOMENTUM * momentum + (1 - MUON_MOMENTUM) * gradient
        matrices = ahead.reshape(-1, *shape[-2:])
        turned = [orthogonal(one.mT[None])[0].mT if tall else orthogonal(one[None])[0] for one in matrices]
        update = 0.2 * larger**0.5 * torch.stack(turned).reshape(shape)
        expected = expected * (1 - 1e-2 * 0.1) - 1e-2 * update
    torch.testing.assert_close(weight.detach(), expected)


def test_matrices_without_a_gradient_stay_where_they_are() -> None:
    matrix, other, vector = (torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 6), (4, 6), (3,)))
    groups = [
        {"params": [vector], "weight_decay": 0.0},
        {"params": [matrix, other], "weight_decay": 0.1, "matrices": True},
    ]
    optimizer = Muon(groups, lr=1e-2, betas=(0.9, 0.95), fused=True)
    vector.grad = torch.ones(3)
    optimizer.step()
    assert (matrix == 1).all()
    assert (vector < 1).all()
    matrix.grad = torch.ones(4, 6)
    optimizer.step()
    assert (matrix < 1).all()
    assert (other == 1).all()
    assert matrix.grad is None
    assert not optimizer.state[other]


@pytest.mark.parametrize("muon", [False, True])
def test_matrices_alone_decay(muon: bool) -> None:
    model = HybridLM(SHAPE)
    optimizer = make_optimizer(model, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.5, muon=muon)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        rate = 0.995 if name in MATRICES | BY_ADAM else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * rate, msg=name)


BY_ADAM = {
    *(f"blocks.0.mamba.{name}" for name in ("W_dt", "conv_weight")),
    "blocks.2.moe.W_R",
    "unembed.W_U",
}
"""Matrices that AdamW moves also beside Muon."""


def test_a_checkpoint_knows_which_moments_a_weight_has() -> None:
    model = HybridLM(SHAPE)
    optimizer = make_optimizer(model, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0, muon=True)
    model(torch.arange(6)[None]).sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert set(optimizer.state[parameter]) == moments_of(optimizer, parameter), name
        assert moments_of(optimizer, parameter) == ({"momentum"} if name in MATRICES else ADAMS), name


ADAMS = {"step", "exp_avg", "exp_avg_sq"}
