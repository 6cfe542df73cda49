"""Direct logit attribution: it sums to the logit difference, and each part is what the model itself writes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from circuits.looking.contributions import contributions
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, MoEConfig

MAMBA = MambaConfig(d_head=8, d_state=4, n_groups=2)
SHAPES = {
    "plain": {"pattern": "*-*-"},
    "biased": {
        "pattern": "*-*-",
        "norm": "layer",
        "biases": ("norm", "qkv", "attention_out", "mlp"),
        "positions": "learned",
        "gated": True,
    },
    "shared heads": {"pattern": "*-", "n_heads": 4, "n_kv_heads": 2},
    "hybrid": {"pattern": "M*E-", "n_heads": 4, "mamba": MAMBA, "moe": MoEConfig(n_experts=4)},
    "latent": {"pattern": "ME", "n_heads": 4, "mamba": MAMBA, "moe": MoEConfig(n_experts=4, d_latent=12)},
    "tied": {"pattern": "*-", "tied": True},
}


@pytest.fixture(params=SHAPES)
def case(request: pytest.FixtureRequest, random_case):
    made = random_case(**SHAPES[request.param])
    with torch.no_grad():
        for name, weight in made.model.named_parameters():
            if name.rsplit(".", 1)[-1].startswith("b"):
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return made


def test_contributions_sum_to_the_logit_difference(case) -> None:
    found = contributions(case.model, case.pairs, batch_size=2)
    logits = case.model(case.pairs.clean.ids)[torch.arange(5), case.pairs.position].detach()
    torch.testing.assert_close(found.total, logit_diff(logits, case.pairs))
    torch.testing.assert_close(found.values.sum(1), found.total, rtol=1e-9, atol=1e-9)
    assert (found.values.abs().mean(0) > 1e-6).all()


def test_a_blocks_parts_sum_to_what_the_block_writes(case) -> None:
    """Through the frozen norm written out the long way: (x - mean) / scale * w, then the unembedding."""
    found, model, pairs = contributions(case.model, case.pairs), case.model, case.pairs
    _, cache = model.run_with_cache(pairs.clean.ids)
    at = torch.arange(5), pairs.position
    scale, norm = cache["ln_final.hook_scale"][at], model.ln_final
    for index, kind in enumerate(model.cfg.pattern):
        mixer = {"*": "attn", "-": "mlp", "M": "mamba", "E": "moe"}[kind]
        out = cache[f"blocks.{index}.hook_{mixer}_out"][at]
        out = out - out.mean(-1, keepdim=True) if norm.centred else out
        expected = logit_diff(model.unembed(out / scale * norm.w), pairs)
        mine = [name for name in found.names if name.startswith(f"blocks.{index}.")]
        torch.testing.assert_close(sum(found[name] for name in mine), expected.detach())


def test_a_head_and_an_expert_are_what_the_model_loses_when_their_output_is_zero(random_case) -> None:
    """The final scale held fixed by a hook, a writer's own part is the drop when its output weights are set to 0."""
    case = random_case(**SHAPES["hybrid"])
    found, model, pairs = contributions(case.model, case.pairs), case.model, case.pairs
    at = torch.arange(5), pairs.position
    _, cache = model.run_with_cache(pairs.clean.ids)
    for name, hook, change in (
        ("blocks.3.mlp", "blocks.3.hook_mlp_out", lambda out: out * 0),
        ("blocks.2.moe.shared", "blocks.2.moe.hook_shared_out", lambda out: out * 0),
    ):
        stream = cache["blocks.3.hook_resid_post"][at] - cache[hook][at] + change(cache[hook][at])
        logits = model.unembed(stream / cache["ln_final.hook_scale"][at] * model.ln_final.w)
        torch.testing.assert_close(found[name], (found.total - logit_diff(logits, pairs)).detach())
    for block, weight, part in (
        (1, model.blocks[1].attn.W_O, "attn"),
        (0, model.blocks[0].mamba.W_out, "mamba"),
    ):
        hook = {"attn": "hook_z", "mamba": "hook_gated"}[part]
        for head in range(weight.shape[0]):
            out = cache[f"blocks.{block}.{part}.{hook}"][at][:, head] @ weight[head]
            expected = logit_diff(
                model.unembed(out / cache["ln_final.hook_scale"][at] * model.ln_final.w), pairs
            )
            torch.testing.assert_close(found[f"blocks.{block}.{part}.head.{head}"], expected.detach())


def test_an_expert_gives_nothing_where_it_is_not_chosen(random_case) -> None:
    case = random_case(**SHAPES["latent"])
    found = contributions(case.model, case.pairs)
    _, cache = case.model.run_with_cache(case.pairs.clean.ids)
    chosen = cache["blocks.1.moe.hook_chosen"][torch.arange(5), case.pairs.position]
    for expert in range(4):
        is_chosen = (chosen == expert).any(-1)
        assert torch.equal(found[f"blocks.1.moe.expert.{expert}"] != 0, is_chosen)


def test_of_rows_it_is_the_right_token_against_the_mean(random_case) -> None:
    case = random_case("*-")
    tokens = replace(case.pairs.clean, answer_start=torch.full((5,), 3))
    found = contributions(case.model, tokens)
    logits = case.model(tokens.ids)[found.targets.row, found.targets.position].detach()
    expected = logits.gather(1, found.targets.token[:, None])[:, 0] - logits.mean(1)
    torch.testing.assert_close(found.values.sum(1), expected)
    assert found.means().value.shape == (1, len(found.names))


def test_no_pairs_are_refused(random_case) -> None:
    case = random_case("*-")
    with pytest.raises(InputError, match="no pairs"):
        contributions(case.model, case.pairs[:0])


def test_what_is_written_is_the_mean_by_role(random_case) -> None:
    case = random_case("*-")
    found = contributions(case.model, case.pairs)
    written = found.to_json()
    assert written["targets"] == 5
    (total,) = written["logit_difference"]
    assert (total["role"], total["tokens"], total["at"]) == ("schema.table", 5, "total")
    assert total["value"] == pytest.approx(found.total.mean().item())
    values = {line["at"]: line["value"] for line in written["contributions"]}
    assert list(values) == list(found.names)
    assert values["blocks.1.mlp"] == pytest.approx(found["blocks.1.mlp"].mean().item())
