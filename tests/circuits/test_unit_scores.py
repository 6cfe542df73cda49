"""Scores of single units: they sum to the scores of what they make up, and SAE latents are units of their hook."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from circuits.methods.eap_ig import eap_ig
from circuits.methods.unit_scores import unit_scores
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from saes.disk import stock

LATENT = {"*": "attn.hook_z", "-": "mlp.hook_post", "M": "mamba.hook_gated"}


def test_the_units_of_a_writer_sum_to_the_edges_that_leave_it(random_case, shape) -> None:
    """A head, a Mamba head and an MLP write a linear map of their units."""
    case = random_case(**shape)
    edges = eap_ig(case.model, case.pairs, steps=3)
    kinds = [(block, kind) for block, kind in enumerate(case.model.cfg.pattern) if kind in LATENT]
    assert kinds
    for block, kind in kinds:
        found = unit_scores(case.model, case.pairs, f"blocks.{block}.{LATENT[kind]}", steps=3)
        mine = [i for i, writer in enumerate(edges.graph.writers) if writer.block == block]
        expected = edges.per_example[:, mine].sum(-1)
        by_writer = found.per_example.unflatten(1, (len(mine), -1)).sum(-1)
        torch.testing.assert_close(by_writer, expected, rtol=1e-4, atol=1e-5)


def test_the_units_of_the_embedding_stream_sum_to_the_metrics_change(random_case) -> None:
    case = random_case()
    found = unit_scores(case.model, case.pairs, "blocks.0.hook_resid_pre", steps=60)
    with torch.no_grad():
        rows = torch.arange(len(case.pairs))
        ends = [
            logit_diff(case.model(side.ids)[rows, case.pairs.position], case.pairs)
            for side in (case.pairs.clean, case.pairs.corrupt)
        ]
    torch.testing.assert_close(found.per_example.sum(1), (ends[1] - ends[0]).float(), rtol=1e-2, atol=1e-2)


def both_signs(d_in: int, hook: str, kept: int) -> Any:
    """An SAE whose latents are the positive and the negative part of the first `kept` coordinates."""
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=d_in, d_sae=2 * kept, dtype="float64"))
    axes = torch.eye(d_in, dtype=torch.float64)[:kept]
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([axes, -axes]))
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    sae.cfg.metadata.hook_name = hook
    return sae


def test_latents_and_the_error_share_out_what_the_hook_carries(random_case) -> None:
    case = random_case()
    hook = "blocks.2.hook_resid_pre"
    units = unit_scores(case.model, case.pairs, hook, steps=2)
    found = unit_scores(case.model, case.pairs, hook, steps=2, sae=both_signs(24, hook, kept=20))
    positive, negative = found.per_example.chunk(2, dim=1)
    torch.testing.assert_close(positive + negative, units.per_example[:, :20], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.error, units.per_example[:, 20:].sum(1), rtol=1e-4, atol=1e-6)
    assert units.error is None


def test_units_are_named_by_their_place_and_ranked_by_size(random_case) -> None:
    case = random_case()
    found = unit_scores(case.model, case.pairs, "blocks.0.attn.hook_z", steps=2)
    assert found.shape == (3, 8)
    assert found.name(17) == "blocks.0.attn.hook_z[2, 1]"
    rows = found.table(4)
    assert [abs(row["score"]) for row in rows] == sorted((abs(row["score"]) for row in rows), reverse=True)
    assert rows[0]["low"] <= rows[0]["score"] <= rows[0]["high"]


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("blocks.0.attn.hook_zz", "has no hook `blocks.0.attn.hook_zz`; did you mean"),
        ("blocks.0.attn.hook_pattern", "not a row of numbers per token"),
    ],
)
def test_a_hook_without_rows_is_refused(random_case, hook: str, reason: str) -> None:
    case = random_case()
    with pytest.raises(InputError, match=reason):
        unit_scores(case.model, case.pairs, hook)


def test_an_sae_of_another_width_is_refused_and_the_model_left_as_it_was(random_case) -> None:
    case = random_case()
    with pytest.raises(
        InputError, match="the SAE reads 10 numbers, hook `blocks.2.hook_resid_pre` carries 24"
    ):
        unit_scores(
            case.model, case.pairs, "blocks.2.hook_resid_pre", sae=both_signs(10, "elsewhere", kept=4)
        )
    assert all(weight.requires_grad for weight in case.model.parameters())
    assert not any(point.has_hooks() for point in case.model.hook_dict.values())
