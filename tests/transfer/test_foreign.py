"""Anybody's models in TransformerLens' bridge: paired, mapped between and steered, also while they generate."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, PretrainedConfig, Qwen2Config

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from tinysql.models.huggingface.tokenizer import tokenizer_from_hf, write_tokenizer
from tinysql.tokens import Tokenizer
from transfer.alignment import match_spans, read
from transfer.maps.fit import fit
from transfer.maps.quality import measure
from transfer.pairing import Side, record_pairs
from transfer.placing import AtTokens, Reading, Where
from transfer.points import ActivationPairs, Contrast, shuffled
from transfer.replacement import replace_fully
from transfer.steering import SteeringVector
from transfer.vectors import difference_of_means, mapped

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens.model_bridge import TransformerBridge

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=4)
TEXTS = [make_example(DATA, index).text for index in range(48)]
FIRST, LAST = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"


def shape(width: int, vocabulary: int) -> dict[str, int | None]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 200,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
    }


CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**shape(24, 380)),
    "qwen2": Qwen2Config(**shape(32, 420)),
    "gemma": GemmaConfig(**shape(40, 400), head_dim=10),
}
"""Three families, three widths, three vocabularies."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of random weights, each with a tokenizer of its own."""
    made = {}
    for name, config in CONFIGS.items():
        model, generator = AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0.7 if weight.ndim == 1 else 0.0, 0.3, generator=generator)
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
        texts = [text.string for text in TEXTS]
        write_tokenizer(made[name], Tokenizer.train(texts, vocab_size=config.vocab_size), 200)
    return made


@pytest.fixture(scope="module")
def bridges(folders: dict[str, Path]) -> dict[str, TransformerBridge]:
    return {
        name: TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)
        for name, folder in folders.items()
    }


@pytest.fixture(params=CONFIGS)
def bridge(request: pytest.FixtureRequest, bridges: dict[str, TransformerBridge]) -> TransformerBridge:
    return bridges[request.param]


@pytest.fixture(scope="module")
def sides(folders: dict[str, Path], bridges: dict[str, TransformerBridge]) -> dict[str, Side]:
    """Each model at its first layer, with the texts as its own tokenizer cuts them."""
    return {
        name: Side(model=bridge, hook=FIRST, reading=read(tokenizer_from_hf(folders[name]), TEXTS))
        for name, bridge in bridges.items()
    }


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 380, (2, 5), generator=torch.Generator().manual_seed(2))


def vector_of(bridge: TransformerBridge, hook: str, seed: int = 3) -> SteeringVector:
    width = bridge.cfg.d_model
    return SteeringVector(hook=hook, vector=torch.randn(width, generator=torch.Generator().manual_seed(seed)))


def spoken(bridge: TransformerBridge, ids: Tensor, *, cached: bool = True) -> Tensor:
    return bridge.generate(
        ids,
        max_new_tokens=6,
        do_sample=False,
        stop_at_eos=False,
        use_past_kv_cache=cached,
        return_type="tokens",
        verbose=False,
    )


def spoken_by_transformers(bridge: TransformerBridge, ids: Tensor) -> Tensor:
    return bridge.hf_generate(ids, max_new_tokens=6, do_sample=False, return_type="tokens")


@pytest.mark.parametrize("speak", [spoken, spoken_by_transformers])
def test_behind_the_last_block_the_first_position_says_nothing_to_what_is_generated(
    bridge: TransformerBridge, ids: Tensor, speak
) -> None:
    vector, before = vector_of(bridge, LAST), speak(bridge, ids)
    with vector.apply(bridge, 40.0, 0):
        assert torch.equal(speak(bridge, ids), before)
    # The last position of the prompt says the next token and no more: it is read again by no later one.
    with vector.apply(bridge, 40.0, 4):
        after = speak(bridge, ids)
        assert torch.equal(after[:, 5], bridge(ids)[:, 4].argmax(-1))
    assert (after[:, 5] != before[:, 5]).all()


@pytest.mark.parametrize(
    "where",
    [None, 0, 3, 6, AtTokens.of(range(0, 400, 3)), torch.tensor([4, 1]), torch.eye(2, 5, dtype=torch.bool)],
    ids=["everywhere", "first", "in the prompt", "behind it", "tokens", "per row", "mask"],
)
def test_a_cached_generation_is_steered_where_whole_passes_would_be(
    bridge: TransformerBridge, ids: Tensor, where: Where
) -> None:
    vector = vector_of(bridge, FIRST)
    with vector.apply(bridge, 80.0, where):
        found = spoken(bridge, ids)
    expected = ids
    for _ in range(6):
        whole = where
        if isinstance(where, Tensor) and where.dtype == torch.bool:
            whole = torch.nn.functional.pad(where, (0, expected.shape[1] - 5))
        # A position that is not there yet is nowhere.
        if isinstance(where, int) and where >= expected.shape[1]:
            logits = bridge(expected)
        else:
            with vector.apply(bridge, 80.0, whole):
                logits = bridge(expected)
        expected = torch.cat([expected, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found, expected)
    assert not torch.equal(found, spoken(bridge, ids))


def test_what_a_generation_of_a_bridge_cannot_tell_is_refused(
    bridges: dict[str, TransformerBridge], ids: Tensor
) -> None:
    bridge = bridges["llama"]
    vector = vector_of(bridge, FIRST)
    with pytest.raises(InputError, match="position -1 counts from an end"), vector.apply(bridge, 1.0, -1):
        spoken(bridge, ids)
    padded = torch.ones_like(ids)
    padded[0, :2] = 0
    for where in (0, torch.tensor([0, 1])):
        with pytest.raises(InputError, match="padded on the left"), vector.apply(bridge, 1.0, where):
            bridge(ids, attention_mask=padded)
    embedded = torch.zeros(1, 3, bridge.cfg.d_model)
    tokens = AtTokens.of([3])
    with pytest.raises(InputError, match="given embeddings"), vector.apply(bridge, 1.0, tokens):
        bridge(embedded)


def test_a_cache_that_does_not_say_what_it_has_seen_places_nothing(ids: Tensor) -> None:
    now = Reading.of((ids,), {"cache_params": object()})
    assert now.mask(None).all()
    assert torch.equal(now.mask(AtTokens.of([int(ids[0, 1])])), ids == ids[0, 1])
    for where in (0, torch.tensor([0, 1])):
        with pytest.raises(InputError, match="does not say how many tokens it has seen"):
            now.mask(where)
    placed = Reading.of(
        (), {"input_ids": ids, "cache_params": object(), "cache_position": torch.arange(7, 12)}
    )
    assert placed.places.tolist() == [7, 8, 9, 10, 11]


def pairs_of(source: Side, target: Side) -> ActivationPairs:
    return record_pairs(source, target, match_spans(source.reading, target.reading), batch_size=20)


def contrast_of(pairs: ActivationPairs) -> Contrast:
    """Tokens of two sorts, of which it matters only that they differ."""
    odd = pairs.source.ids % 2 == 1
    return Contrast(plus=pairs.source[odd], minus=pairs.source[~odd])


@pytest.mark.parametrize("name", CONFIGS)
def test_between_a_model_and_itself_a_fitted_map_gives_the_direction_back(
    name: str, sides: dict[str, Side]
) -> None:
    pairs = pairs_of(sides[name], sides[name])
    vector = difference_of_means(contrast_of(pairs), FIRST)
    fitted = fit("affine", pairs)
    found = mapped(vector, fitted)
    torch.testing.assert_close(found.vector, vector.vector, rtol=0, atol=1e-4 * vector.norm)
    side = sides[name]
    replaced = replace_fully(fitted, side, side, match_spans(side.reading, side.reading))
    assert replaced.kl < 1e-4 * replaced.kl_ablated


PAIRS = [("llama", "qwen2"), ("qwen2", "gemma"), ("gemma", "llama")]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_recorded_pairs_are_what_both_models_carry_where_their_tokens_end_together(
    source: str, target: str, sides: dict[str, Side]
) -> None:
    matches = match_spans(sides[source].reading, sides[target].reading)
    pairs = record_pairs(sides[source], sides[target], matches, batch_size=20)
    for side, points, places in (
        (sides[source], pairs.source, matches.source),
        (sides[target], pairs.target, matches.target),
    ):
        carried = side.model.run_with_cache(side.reading.tokens.ids)[1][FIRST].detach()
        torch.testing.assert_close(points.values, carried[matches.example, places], rtol=1e-4, atol=1e-4)
    ends = [
        sides[name].reading.ends[matches.example, places]
        for name, places in ((source, matches.source), (target, matches.target))
    ]
    assert torch.equal(*ends)
    assert len(sides[source].reading.tokens.ids[0]) != len(sides[target].reading.tokens.ids[0])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_map_between_two_families_predicts_texts_it_has_not_seen(
    source: str, target: str, sides: dict[str, Side]
) -> None:
    train, rest = pairs_of(sides[source], sides[target]).split(0.8, seed=0)
    true, false, mean = (
        measure(fit(method, pairs), rest).fvu
        for method, pairs in (("affine", train), ("affine", shuffled(train, seed=0)), ("mean", train))
    )
    # Random models share the texts alone, so that little can be explained, but none of it by chance pairs.
    assert true < min(false, mean)


def test_between_two_families_a_known_matrix_is_found(
    sides: dict[str, Side], folders: dict[str, Path]
) -> None:
    """The Qwen2's embeddings, 32 wide, are made the Llama's 24 wide ones times a matrix."""
    source = replace(sides["llama"], hook="hook_embed")
    twin = TransformerBridge.boot_transformers(str(folders["qwen2"]), device="cpu", dtype=torch.float32)
    matrix = torch.randn(24, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        rows = source.model.original_model.get_input_embeddings().weight @ matrix
        twin.original_model.get_input_embeddings().weight[:380] = rows
    pairs = pairs_of(source, replace(source, model=twin))
    vector = difference_of_means(contrast_of(pairs), "hook_embed")
    found, wanted = mapped(vector, fit("affine", pairs)).vector, vector.vector @ matrix
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.norm()))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_mapped_vector_steers_the_target_where_it_is_put_and_nowhere_else(
    source: str, target: str, sides: dict[str, Side], bridges: dict[str, TransformerBridge], ids: Tensor
) -> None:
    pairs, bridge = pairs_of(sides[source], sides[target]), bridges[target]
    fitted, contrast = fit("affine", pairs), contrast_of(pairs)
    vector = mapped(difference_of_means(contrast, FIRST), fitted)
    plus, minus = (fitted.map_points(side).mean(0) for side in (contrast.plus, contrast.minus))
    torch.testing.assert_close(vector.vector, plus - minus, rtol=1e-3, atol=1e-3)
    assert len(vector.vector) == bridge.cfg.d_model != bridges[source].cfg.d_model

    vector, before, unsteered = vector.with_norm(200), bridge(ids), spoken(bridge, ids)
    with vector.apply(bridge, positions=torch.tensor([[False] * 2 + [True] + [False] * 2, [False] * 5])):
        after = bridge(ids)
    assert torch.equal(after[0, :2], before[0, :2])
    assert torch.equal(after[1], before[1])
    assert ((after - before)[0, 2:].abs().amax(-1) > 1e-3).all()

    with vector.apply(bridge, positions=4):
        steered, first = spoken(bridge, ids), bridge(ids)[:, 4].argmax(-1)
    assert torch.equal(steered[:, 5], first)
    assert not torch.equal(steered, unsteered)
    absent = AtTokens.of(set(range(380)) - set(unsteered.flatten().tolist()))
    with vector.apply(bridge, positions=absent):
        assert torch.equal(spoken(bridge, ids), unsteered)
    assert torch.equal(bridge(ids), before)
