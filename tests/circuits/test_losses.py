"""What a circuit loses, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from circuits.losses import loss_of
from circuits.metrics import logit_diff

WHOLE = torch.tensor([[log(3.0), 0.0], [0.0, 0.0]]).double()
OWN = torch.tensor([[0.0, 0.0], [0.0, log(3.0)]]).double()
KL = [0.75 * log(1.5) + 0.25 * log(0.5), 0.5 * log(2.0) + 0.5 * log(2 / 3)]
"""Of (3/4, 1/4) from (1/2, 1/2), and of (1/2, 1/2) from (1/4, 3/4)."""


@pytest.fixture
def pairs(random_case):
    found = random_case("*").pairs[:2]
    return replace(found, clean_answer=torch.tensor([0, 0]), corrupt_answer=torch.tensor([1, 1]))


def test_kl_is_from_the_model_to_the_circuit(pairs) -> None:
    assert loss_of("kl", OWN, WHOLE, pairs).tolist() == pytest.approx(KL)
    assert loss_of("kl", WHOLE, WHOLE, pairs).tolist() == [0, 0]


def test_of_a_metric_its_fall_is_lost(pairs) -> None:
    assert loss_of(logit_diff, OWN, WHOLE, pairs).tolist() == pytest.approx([log(3), log(3)])
    assert loss_of(logit_diff, WHOLE, OWN, pairs).tolist() == pytest.approx([-log(3), -log(3)])


def test_whole_answers_count_each_differing_token_once(pairs) -> None:
    """The second pair has one differing token, and repeats its position."""
    answers = replace(
        pairs, clean_answer=torch.tensor([[0, 0], [0, 0]]), corrupt_answer=torch.tensor([[1, 1], [1, 0]])
    )
    own, whole = (torch.stack([logits, logits]) for logits in (OWN, WHOLE))
    own[1], whole[1] = OWN[1], WHOLE[1]
    assert loss_of("kl", own, whole, answers).tolist() == pytest.approx([sum(KL), KL[1]])
