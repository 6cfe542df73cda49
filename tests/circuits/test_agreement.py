"""Agreement of two scorings: one on itself, nothing on noise, hand-computed ranks."""

from dataclasses import replace

import pytest
import torch

from circuits.graph import Graph
from circuits.judging.agreement import agreement
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.scores import EdgeScores
from data_gen.errors import InputError


@pytest.fixture
def scored(random_case) -> EdgeScores:
    case = random_case()
    return exact(case.model, case.pairs)


def noisy(scores: EdgeScores, change) -> EdgeScores:
    edges = torch.from_numpy(scores.graph.mask)
    values = scores.per_example.clone()
    values[:, edges] = change(values[:, edges])
    return replace(scores, per_example=values)


def test_scores_agree_with_themselves(scored: EdgeScores) -> None:
    found = agreement(scored, scored)
    assert (found.pearson.value, found.pearson.low, found.pearson.high) == pytest.approx((1, 1, 1))
    assert (found.spearman, found.top_shared) == (pytest.approx(1), 1.0)


def test_flipped_signs_keep_ranks_and_turn_the_correlation_round(scored: EdgeScores) -> None:
    found = agreement(noisy(scored, lambda values: -3 * values), scored)
    assert found.pearson.value == pytest.approx(-1)
    assert found.spearman == pytest.approx(1)


def test_noise_does_not_agree(scored: EdgeScores) -> None:
    generator = torch.Generator().manual_seed(0)
    found = agreement(
        noisy(scored, lambda v: torch.randn(v.shape, generator=generator).to(v)), scored, top=10
    )
    assert abs(found.pearson.value) < 0.4
    assert abs(found.spearman) < 0.4
    assert found.top_shared < 0.6


def test_three_edges_by_hand(scored: EdgeScores) -> None:
    def only(first: float, second: float, third: float):
        def change(values: torch.Tensor) -> torch.Tensor:
            values = torch.zeros_like(values)
            values[:, 0], values[:, 1], values[:, 2] = first, second, third
            return values

        return change

    # Sizes 3 > 2 > 1 against 2 > 3 > 1: of the oracle's two largest edges both are among the method's two.
    found = agreement(noisy(scored, only(3, -2, 1)), noisy(scored, only(2, -3, 1)), top=1)
    assert found.top_shared == 0.0
    assert agreement(noisy(scored, only(3, -2, 1)), noisy(scored, only(2, -3, 1)), top=2).top_shared == 1.0


FIVE = Graph(pattern="*", n_heads=1)


def five(method: str, *rows: list[float]) -> EdgeScores:
    """Scores of the five edges of one head, one row per pair."""
    per_example = torch.zeros(len(rows), *FIVE.mask.shape)
    per_example[:, torch.from_numpy(FIVE.mask)] = torch.tensor(rows, dtype=torch.float32)
    return EdgeScores(graph=FIVE, per_example=per_example, method=method, metric="m", edit="e")


def test_five_edges_by_hand() -> None:
    """Sizes 1 1 2 0 0 and 3 1 2 0 0 have ranks 2.5 2.5 4 .5 .5 and 4 2 3 .5 .5, from their mean of 2 counted."""
    found = agreement(five("a", [1, -1, 2, 0, 0]), five("b", [3, -1, 2, 0, 0]), top=2)
    assert found.spearman == pytest.approx((0.5 * 2 + 2 * 1 + 2 * 1.5**2) / (9 * 9.5) ** 0.5)
    # Scores from their means of .4 and .8.
    over = 0.6 * 2.2 + 1.4 * 1.8 + 1.6 * 1.2 + 2 * 0.4 * 0.8
    under = (0.6**2 + 1.4**2 + 1.6**2 + 2 * 0.4**2) * (2.2**2 + 1.8**2 + 1.2**2 + 2 * 0.8**2)
    assert found.pearson.value == pytest.approx(over / under**0.5)
    assert (found.method, found.oracle, found.n_pairs, found.n_edges) == ("a", "b", 1, 5)


def test_top_shared_is_a_share_of_the_oracles_top_edges() -> None:
    assert agreement(five("a", [5, 4, 1, 0, 0]), five("b", [5, 1, 4, 0, 0]), top=2).top_shared == 1 / 2


def test_an_oracle_that_is_the_same_on_all_edges_says_nothing() -> None:
    found = agreement(five("a", [1, -1, 2, 0, 0]), five("b", [1, 1, 1, 1, 1]))
    assert (found.pearson.value, found.spearman) == (0, 0)


def test_an_interval_depends_on_the_seed_of_its_draws() -> None:
    rows = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0)).tolist()
    first, again, other = (agreement(five("a", *rows[0]), five("b", *rows[1]), seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.pearson.value == other.pearson.value
    assert first.pearson != other.pearson


def test_another_models_scores_and_no_top_edges_are_refused(scored: EdgeScores) -> None:
    with pytest.raises(InputError, match="not scored on the same pairs of the same model"):
        agreement(five("a", *[[1.0] * 5] * len(scored.per_example)), scored)
    for top in (0, -3):
        with pytest.raises(InputError, match=f"top is {top}, expected at least 1"):
            agreement(scored, scored, top=top)


def test_scorings_of_different_pairs_are_refused(scored: EdgeScores, random_case) -> None:
    case = random_case()
    with pytest.raises(
        InputError, match="exact on 5 pairs and eap-ig on 3 were not scored on the same pairs"
    ):
        agreement(scored, eap_ig(case.model, case.pairs[:3]))


def test_one_row_of_scores_stands_for_all_pairs(random_case) -> None:
    case = random_case("*-")
    oracle = exact(case.model, case.pairs)
    row = replace(oracle, per_example=oracle.per_example.mean(0, keepdim=True))
    found = agreement(row, oracle)
    assert found.n_pairs == len(case.pairs)
    assert (found.pearson.value, found.spearman, found.top_shared) == (pytest.approx(1), pytest.approx(1), 1)


def test_a_method_that_scores_all_edges_alike_tells_nothing(scored: EdgeScores) -> None:
    found = agreement(noisy(scored, torch.ones_like), scored)
    assert (found.pearson.value, found.spearman) == (0, 0)
