"""Between a model and its twin of another width, the right map and the right vector are known."""

import pytest
import torch
from torch import Tensor

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer
from transfer.alignment import match_spans, read
from transfer.maps.fit import fit
from transfer.maps.quality import measure
from transfer.pairing import Side, points_at, record_pairs
from transfer.planted import Twin, wider_twin
from transfer.points import ActivationPairs, Contrast, shuffled
from transfer.replacement import replace_fully
from transfer.steering import SteeringVector
from transfer.vectors import difference_of_means, mapped

HOOK = "blocks.1.hook_resid_post"
TEXTS = [example.text for example in make_examples(DataConfig(command_sets=("cs1",), lexicon="demo"), 0, 60)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train((text.string for text in TEXTS), vocab_size=400)


@pytest.fixture(scope="module")
def source(tokenizer: Tokenizer) -> HybridLM:
    shape = ModelConfig(
        pattern="*-*-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=400, gated=True,
        biases=("qkv", "attention_out", "mlp"), positions="learned",
    )  # fmt: skip
    model = HybridLM(shape, seed=4).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.rsplit(".", 1)[-1] == "w" or name.rsplit(".", 1)[-1].startswith("b_"):
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def twin(source: HybridLM) -> Twin:
    return wider_twin(source, 24, seed=6)


@pytest.fixture(scope="module")
def sides(tokenizer: Tokenizer, source: HybridLM, twin: Twin) -> tuple[Side, Side]:
    reading = read(tokenizer, TEXTS)
    return Side(model=source, hook=HOOK, reading=reading), Side(model=twin.model, hook=HOOK, reading=reading)


@pytest.fixture(scope="module")
def pairs(sides: tuple[Side, Side]) -> ActivationPairs:
    return record_pairs(*sides, match_spans(sides[0].reading, sides[1].reading))


@pytest.fixture(scope="module")
def ids(sides: tuple[Side, Side]) -> Tensor:
    return sides[0].reading.tokens.ids[:6, :40]


def test_the_twin_is_the_same_function(source: HybridLM, twin: Twin, ids: Tensor) -> None:
    torch.testing.assert_close(twin.model(ids), source(ids), rtol=1e-3, atol=1e-4)
    for hook in ("hook_embed", "blocks.0.hook_resid_post", "blocks.3.hook_resid_post"):
        before, after = (model.run_with_cache(ids)[1][hook] for model in (source, twin.model))
        torch.testing.assert_close(after, before @ twin.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["affine", "ridge", "procrustes"])
def test_the_known_map_is_found_and_carries_the_right_vector(
    method: str, twin: Twin, pairs: ActivationPairs
) -> None:
    found = fit(method, pairs)
    assert measure(found, pairs).fvu < 1e-5
    torch.testing.assert_close(found.map_directions(torch.eye(16)), twin.weight, rtol=0.02, atol=0.02)


def test_a_low_rank_map_of_the_stream_needs_all_its_dimensions(pairs: ActivationPairs) -> None:
    errors = [measure(fit("low-rank", pairs, rank=rank), pairs).fvu for rank in (4, 12, 16)]
    assert errors[0] > errors[1] > 1e-3 > errors[2]


def test_the_mapped_vector_steers_the_twin_as_the_vector_steers_the_source(
    source: HybridLM, twin: Twin, sides: tuple[Side, Side], pairs: ActivationPairs, ids: Tensor
) -> None:
    rows = torch.arange(30)
    plus, minus = (points_at(sides[0], rows, torch.full_like(rows, at)) for at in (9, 4))
    contrast = Contrast(plus=plus, minus=minus)
    vector = difference_of_means(contrast, HOOK)
    carried = mapped(vector, fit("affine", pairs))
    torch.testing.assert_close(carried.vector, vector.vector @ twin.weight, rtol=0.01, atol=0.01)
    # It is the vector that the twin itself would have given.
    native = difference_of_means(
        Contrast(plus=points_at(sides[1], rows, torch.full_like(rows, 9)),
                 minus=points_at(sides[1], rows, torch.full_like(rows, 4))), HOOK)  # fmt: skip
    assert carried.cosine(native) > 0.9999
    for operator in ("add", "ablate", "add-and-ablate"):
        with vector.apply(source, 2.0, operator=operator):
            right = source(ids)
        with carried.apply(twin.model, 2.0, operator=operator):
            torch.testing.assert_close(twin.model(ids), right, rtol=0.02, atol=0.02)
        assert (right - source(ids)).abs().max() > 0.1


def test_maps_of_shuffled_pairs_carry_it_less_and_least_without_the_tokens(
    twin: Twin, pairs: ActivationPairs
) -> None:
    right = fit("affine", pairs)
    wrong = [fit("affine", shuffled(pairs, seed=0, within_ids=within)) for within in (True, False)]
    v = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    cosines = [
        torch.cosine_similarity(one.map_directions(v), v @ twin.weight).item() for one in (right, *wrong)
    ]
    assert cosines[0] > 0.9999
    assert cosines[0] > cosines[1] > cosines[2]
    assert cosines[2] < 0.5


def test_the_twin_runs_on_the_mapped_stream_as_on_its_own(
    sides: tuple[Side, Side], pairs: ActivationPairs
) -> None:
    matches = match_spans(sides[0].reading, sides[1].reading)
    found = replace_fully(fit("affine", pairs), *sides, matches)
    assert found.kl_recovered > 0.999
    assert found.loss_recovered > 0.99


def test_models_that_have_no_twin_are_refused(source: HybridLM) -> None:
    with pytest.raises(InputError, match="width 16 has no twin of width 8"):
        wider_twin(source, 8, seed=0)
    with pytest.raises(InputError, match="norm `layer`"):
        wider_twin(HybridLM(ModelConfig(pattern="*", d_model=8, n_heads=2, norm="layer")), 9, seed=0)


def test_steering_vectors_of_other_hooks_are_refused(pairs: ActivationPairs) -> None:
    with pytest.raises(InputError, match=r"stands at `blocks.0.hook_resid_post`, the map reads"):
        mapped(SteeringVector(hook="blocks.0.hook_resid_post", vector=torch.ones(16)), fit("affine", pairs))
