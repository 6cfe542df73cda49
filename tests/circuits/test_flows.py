"""Flows between roles: over all roles they sum to the gradient at what heads read, and they find what is planted."""

from __future__ import annotations

import pytest
import torch

from circuits.engine.recording import Machine
from circuits.methods.flows import flows
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig


def test_flows_sum_to_the_gradient_at_what_a_head_reads(random_case, shape, with_roles) -> None:
    """`Σ_s Δ[s] · ∂metric/∂read[s]` for values (v, x) and keys (rotated k, B), by autograd on the model itself."""
    if not set(shape["pattern"]) & set("*M"):
        with pytest.raises(InputError, match="has no heads"):
            flows(random_case(**shape).model, random_case(**shape).pairs)
        return
    case = random_case(**shape)
    model, pairs = case.model, with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    found = flows(model, pairs, steps=1)
    machine = Machine(model)
    ends = [machine.embedding(side.ids).detach() for side in (pairs.clean, pairs.corrupt)]
    kept = []
    for stream in (*ends, (ends[0] + ends[1]) / 2):
        seen = {}

        def keep(x, hook, seen=seen):
            seen[hook.name] = x
            return x

        ports = ("attn.hook_v", "attn.hook_rot_k", "mamba.hook_x", "mamba.hook_B")
        names = [name for name in model.hook_dict if name.endswith(ports)]
        with model.hooks(
            fwd_hooks=[
                ("blocks.0.hook_resid_pre", lambda x, hook, stream=stream: stream),
                *((name, keep) for name in names),
            ]
        ):
            logits = model(pairs.clean.ids)
        kept.append((seen, logit_diff(logits[torch.arange(len(pairs)), pairs.position], pairs).sum()))
    (clean, _), (corrupt, _), (middle, value) = kept
    grads = dict(zip(middle, torch.autograd.grad(value, list(middle.values())), strict=True))
    checked = 0
    for path, ports in enumerate((("v", "x"), ("rot_k", "B"))):
        for block in range(len(model.cfg.pattern)):
            for name in (f"blocks.{block}.attn.hook_{ports[0]}", f"blocks.{block}.mamba.hook_{ports[1]}"):
                if name not in grads:
                    continue
                heads = [i for i, head in enumerate(found.heads) if head.startswith(f"blocks.{block}.")]
                expected = ((corrupt[name] - clean[name]) * grads[name]).sum((1, 3)).mean(0)
                mine = found.values[heads, path].sum((-2, -1)).unflatten(0, (len(expected), -1)).sum(1)
                torch.testing.assert_close(mine, expected.float().detach(), rtol=1e-4, atol=1e-5)
                checked += expected.abs().max() > 1e-3
    assert checked


def test_nothing_flows_back_in_time(random_case, with_roles) -> None:
    case = random_case("M*", mamba=MambaConfig(n_heads=2, d_head=6, d_state=5, chunk=4))
    pairs = with_roles(case.pairs, lambda row, column: "early" if column < 5 else "late")
    found = flows(case.model, pairs)
    early, late = found.roles.index("early"), found.roles.index("late")
    assert found.values[..., late, early].abs().max() == 0
    assert found.values[..., early, late].abs().max() > 1e-3


@pytest.mark.parametrize("name", ["copy-attention-name", "copy-mamba-name"])
def test_a_planted_copy_flows_from_the_name_to_the_question(name: str, copied_name) -> None:
    """What is carried furthest is carried from where the name stands to the last token."""
    case, pairs = copied_name(name)
    (row,) = flows(case.model, pairs).table(1)
    assert (row["path"], row["from"], row["to"]) == ("values", "name", "question")


def test_errors_are_those_of_a_mean_over_pairs(random_case, with_roles) -> None:
    case = random_case("*-*")
    pairs = with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    found = flows(case.model, pairs, steps=1, batch_size=2)
    each = torch.stack([flows(case.model, pairs[i : i + 1], steps=1).values for i in range(len(pairs))])
    torch.testing.assert_close(found.values, each.mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.errors, each.std(0) / len(pairs) ** 0.5, rtol=1e-3, atol=1e-5)
