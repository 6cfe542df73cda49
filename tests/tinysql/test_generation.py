"""Generation: the cache and the batch change nothing, sampling repeats, prompts that do not fit are refused."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from tinysql.answering.generation import Sampling, answer, batch_on, cache_bytes, choose, generate, stream
from tinysql.devices import precision_on
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

EXAMPLES = [make_example(DataConfig(lexicon="demo", max_columns=4), i) for i in range(12)]
PROMPTS = [example.prompt.string for example in EXAMPLES]
PATTERNS = ["*-*-", "MEM*E-"]
DRAWN = Sampling(temperature=1.0, top_p=0.9, seed=5)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(PROMPTS, vocab_size=400)


def model_of(pattern: str, tokenizer: Tokenizer, n_ctx: int = 120) -> HybridLM:
    shape = (
        {"mamba": MambaConfig(d_head=8), "moe": MoEConfig(n_experts=4, d_expert=16)} if "M" in pattern else {}
    )
    config = ModelConfig(
        pattern=pattern,
        d_model=32,
        n_heads=4,
        n_kv_heads=2,
        d_vocab=tokenizer.vocab_size,
        n_ctx=n_ctx,
        **shape,
    )
    return HybridLM(config, seed=2).eval()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridLM:
    return model_of("*-", tokenizer)


def tokens_of(model: HybridLM, prompts: Sequence[Sequence[int]], end_id: int = -1) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in prompts]
    for rows, tokens in generate(model, prompts, end_id=end_id):
        for row, token in zip(rows, tokens, strict=True):
            answers[row].append(token)
    return answers


@torch.no_grad()
@pytest.mark.parametrize("pattern", PATTERNS)
def test_unequal_prompts_together_give_the_uncached_arg_max_of_each(
    pattern: str, tokenizer: Tokenizer
) -> None:
    prompts = [tokenizer.encode_text(PROMPTS[0])[:length] for length in (9, 30, 17, 9)]
    prompts[3][4] = (prompts[3][4] + 1) % tokenizer.vocab_size
    model = model_of(pattern, tokenizer, n_ctx=40)
    for prompt, found in zip(prompts, tokens_of(model, prompts), strict=True):
        naive = list(prompt)
        while len(naive) <= model.cfg.n_ctx:
            naive.append(int(model(torch.tensor([naive]))[0, -1].argmax()))
        assert found == naive[len(prompt) :]


@torch.no_grad()
@pytest.mark.parametrize("pattern", PATTERNS)
def test_cached_logits_are_the_uncached_ones(pattern: str, tokenizer: Tokenizer) -> None:
    model, ids = model_of(pattern, tokenizer), torch.tensor([tokenizer.encode_text(PROMPTS[0])[:30]])
    cache = model.start_cache()
    cached = torch.cat(
        [model(ids[:, :10], cache=cache), *[model(ids[:, i : i + 1], cache=cache) for i in range(10, 30)]],
        dim=1,
    )
    torch.testing.assert_close(cached, model(ids), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_row_that_has_ended_leaves_the_others_as_they_are(pattern: str, tokenizer: Tokenizer) -> None:
    model = model_of(pattern, tokenizer, n_ctx=60)
    prompts = [tokenizer.encode_text(prompt)[: 20 + row] for row, prompt in enumerate(PROMPTS)]
    whole = tokens_of(model, prompts)
    end_id = Counter(token for row in whole for token in set(row)).most_common(1)[0][0]
    expected = [row[: row.index(end_id) + 1] if end_id in row else row for row in whole]
    assert len({len(prompt) + len(row) for prompt, row in zip(prompts, expected, strict=True)}) > 2
    assert tokens_of(model, prompts, end_id) == expected


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_answers_do_not_depend_on_who_shares_the_batch(
    pattern: str, sampling: Sampling, tokenizer: Tokenizer
) -> None:
    prompts = [prompt[: 30 + 7 * place] for place, prompt in enumerate(PROMPTS[:5])]
    longest = max(len(tokenizer.encode_text(prompt)) for prompt in prompts)
    model = model_of(pattern, tokenizer, n_ctx=longest + 10)
    together = answer(model, tokenizer, prompts, sampling=sampling)
    for size in (1, 3):
        assert answer(model, tokenizer, prompts, batch_size=size, sampling=sampling) == together


def test_constrained_answers_do_not_depend_on_who_shares_the_batch(
    model: HybridLM, tokenizer: Tokenizer
) -> None:
    schemas = [example.query.schema for example in EXAMPLES]
    together = answer(model, tokenizer, PROMPTS, schemas=schemas)
    assert together == [
        answer(model, tokenizer, [prompt], schemas=[schema])[0]
        for prompt, schema in zip(PROMPTS, schemas, strict=True)
    ]
    assert together != answer(model, tokenizer, PROMPTS)


def test_a_seed_repeats_its_answers_and_another_gives_others(model: HybridLM, tokenizer: Tokenizer) -> None:
    same = PROMPTS[:1] * 3
    first = answer(model, tokenizer, same, sampling=DRAWN)
    assert first == answer(model, tokenizer, same, sampling=DRAWN)
    assert first != answer(model, tokenizer, same, sampling=Sampling(temperature=1.0, top_p=0.9, seed=6))
    assert len(set(first)) == 3


def test_tokens_are_drawn_as_often_as_the_softmax_says() -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.3])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for temperature in (1.0, 0.5):
        expected = probabilities ** (1 / temperature) / (probabilities ** (1 / temperature)).sum()
        logits = probabilities.log().expand(1000, -1)
        drawn = choose(logits, Sampling(temperature=temperature), uniform)
        assert torch.allclose(drawn.bincount(minlength=3) / 1000, expected, atol=1e-3)


def test_top_p_draws_from_the_fewest_tokens_that_reach_it() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(1000, -1)
    uniform = torch.linspace(0, 1 - 1e-12, 1000, dtype=torch.float64)
    for top_p, expected in [(0.6 - 1e-3, {1}), (0.6 + 1e-3, {1, 2}), (0.95, {0, 1, 2}), (1e-9, {1})]:
        drawn = choose(logits, Sampling(temperature=1.0, top_p=top_p), uniform)
        assert set(drawn.tolist()) == expected


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 80.0]]).expand(2, -1)
    for temperature in (1e-9, 1.0, 1e9):
        drawn = choose(
            logits, Sampling(temperature=temperature), torch.tensor([0.0, 1 - 1e-16], dtype=torch.float64)
        )
        assert set(drawn.tolist()) <= {1, 3}


@pytest.mark.parametrize("temperature", [1e-6, 1e-300])
def test_a_small_temperature_takes_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    drawn = choose(logits, Sampling(temperature=temperature), torch.tensor([0.999], dtype=torch.float64))
    assert drawn.tolist() == [1]


@pytest.mark.parametrize(
    "settings",
    [
        *({"temperature": value} for value in (-1.0, float("nan"), float("inf"))),
        *({"top_p": value} for value in (0.0, 1.5, float("nan"))),
    ],
)
def test_numbers_that_name_no_distribution_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(settings))} is {next(iter(settings.values()))}"):
        Sampling(**settings)


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN, Sampling(temperature=3.0)])
def test_pieces_join_to_the_answer(sampling: Sampling, model: HybridLM, tokenizer: Tokenizer) -> None:
    most = 0
    for prompt in PROMPTS[:4]:
        pieces = list(stream(model, tokenizer, prompt, sampling=sampling))
        assert "".join(pieces) == answer(model, tokenizer, [prompt], sampling=sampling)[0]
        assert all(pieces)
        most = max(most, len(pieces))
    assert most > 3


def test_a_character_of_several_tokens_comes_whole(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode_text(" a\u20ac b"), tokenizer.end_id]
    assert len(tokenizer.encode_text("\u20ac")) == 3
    assert list(stream(saying(ids, tokenizer), tokenizer, PROMPTS[0])) == ["a", "\u20ac", " b"]


def test_bytes_that_stay_no_character_are_said_at_the_end(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode_text(" a\u20ac")[:-1], tokenizer.end_id]
    model = saying(ids, tokenizer)
    assert (
        "".join(stream(model, tokenizer, PROMPTS[0])) == answer(model, tokenizer, PROMPTS[:1])[0] == "a\ufffd"
    )


def saying(ids: Sequence[int], tokenizer: Tokenizer) -> HybridLM:
    """A model that answers `PROMPTS[0]` with these tokens: positions alone decide."""
    start = len(tokenizer.encode_text(PROMPTS[0]))
    config = ModelConfig(
        pattern="-", d_model=len(ids), n_heads=1, d_vocab=tokenizer.vocab_size, n_ctx=200, positions="learned"
    )
    model = HybridLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.ln_final.w.fill_(1.0)
        for place, token in enumerate(ids):
            model.pos_embed.W_pos[start - 1 + place, place] = 1.0
            model.unembed.W_U[place, token] = 1.0
    return model


def test_generation_stops_at_the_end_token(tokenizer: Tokenizer) -> None:
    model = HybridLM(ModelConfig(pattern="-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=200))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.ln_final.w.fill_(1.0)
        model.embed.W_E[:, 0] = 1.0
        model.unembed.W_U[0, tokenizer.end_id] = 1.0
    assert answer(model, tokenizer, PROMPTS) == [""] * len(PROMPTS)
    assert list(stream(model, tokenizer, PROMPTS[0])) == []


def test_no_prompt_has_no_answer(model: HybridLM, tokenizer: Tokenizer) -> None:
    assert answer(model, tokenizer, []) == []


def test_a_prompt_that_fills_the_context_is_refused(model: HybridLM, tokenizer: Tokenizer) -> None:
    for make in (
        lambda: answer(model, tokenizer, ["a " * 200]),
        lambda: list(stream(model, tokenizer, "a " * 200)),
    ):
        with pytest.raises(InputError, match="the prompt has .* tokens and the model's context is 120"):
            make()


def test_a_tokenizer_of_more_tokens_than_the_model_knows_is_refused(model: HybridLM) -> None:
    other = Tokenizer.train([f"word{number}" for number in range(900)], vocab_size=900)
    assert other.vocab_size > model.cfg.d_vocab
    for make in (lambda: answer(model, other, PROMPTS[:1]), lambda: list(stream(model, other, PROMPTS[0]))):
        with pytest.raises(
            InputError, match=f"{other.vocab_size} tokens and the model knows {model.cfg.d_vocab}"
        ):
            make()


def test_generation_without_attention_stops_where_the_context_is_full(tokenizer: Tokenizer) -> None:
    config = ModelConfig(pattern="-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=16)
    assert len(tokens_of(HybridLM(config), [[1, 2, 3]])[0]) == 16 - 3 + 1


def test_an_answer_is_cut_off_behind_the_longest(model: HybridLM, tokenizer: Tokenizer) -> None:
    prompts = [PROMPTS[0], PROMPTS[1][:30], PROMPTS[2][:60]]
    whole = tokens_of(model, [tokenizer.encode_text(prompt) for prompt in prompts])
    found = answer(model, tokenizer, prompts, longest=3)
    assert found == [tokenizer.decode(row[:3]).strip() for row in whole]
    assert min(len(row) for row in whole) > 3


def test_products_are_computed_in_the_precision_that_is_asked_for(
    model: HybridLM, tokenizer: Tokenizer
) -> None:
    for given, expected in ((None, torch.float32), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        seen: set[torch.dtype] = set()

        def see(value: torch.Tensor, hook: object, into: set[torch.dtype] = seen) -> None:
            into.add(value.dtype)

        with model.hooks(fwd_hooks=[("blocks.1.mlp.hook_pre", see)]):
            answer(model, tokenizer, PROMPTS[:2], precision=given, longest=2)
        assert seen == {expected}
    assert precision_on(torch.device("cuda")) == "bfloat16"
    assert precision_on(torch.device("cuda"), "float32") == "float32"


def test_a_gpu_answers_as_many_prompts_together_as_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    # Per token 2 blocks x (keys and values) x 2 heads of 8 in bfloat16; 2 states of 4 heads of 16 x 8 in float32.
    shape = ModelConfig(
        pattern="*M*M",
        d_model=32,
        n_heads=4,
        n_kv_heads=2,
        n_ctx=100,
        mamba=MambaConfig(d_head=16, d_state=8),
    )
    assert cache_bytes(shape) == 100 * 2 * 2 * 2 * 8 * 2 + 2 * 4 * 16 * 8 * 4
    monkeypatch.setattr(
        "tinysql.answering.generation.memory_of", lambda device: 2 * 1000 * cache_bytes(shape)
    )
    assert batch_on(shape, torch.device("cuda")) == 512
    assert batch_on(shape, torch.device("cpu")) == 128
    # Never fewer than on a CPU, never more than rows that still make a step faster.
    monkeypatch.setattr("tinysql.answering.generation.memory_of", lambda device: 2 * 100 * cache_bytes(shape))
    assert batch_on(shape, torch.device("cuda")) == 128
    monkeypatch.setattr(
        "tinysql.answering.generation.memory_of", lambda device: 2 * 20_000 * cache_bytes(shape)
    )
    assert batch_on(shape, torch.device("cuda")) == 8192
    assert batch_on(ModelConfig(pattern="-"), torch.device("cuda")) == 8192


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    model: HybridLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, tried = answer(model, tokenizer, PROMPTS[:7], sampling=DRAWN), []

    def small(model: HybridLM, prompts: Sequence[Sequence[int]], **options: object) -> object:
        tried.append(len(prompts))
        if len(prompts) > fits:
            raise torch.OutOfMemoryError
        return generate(model, prompts, **options)

    monkeypatch.setattr("tinysql.answering.generation.generate", small)
    fits = 2
    assert answer(model, tokenizer, PROMPTS[:7], sampling=DRAWN) == expected
    assert tried == [7, 3, 1, 2, 4, 2, 2]
    fits = 0
    with pytest.raises(InputError, match="not even one prompt fits into the GPU's memory"):
        answer(model, tokenizer, PROMPTS[:1])
