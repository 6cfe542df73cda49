"""Generation: the cache and the batch change nothing, prompts that do not fit are refused."""

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from tinysql.generation import answer, greedy
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

PROMPTS = [make_example(DataConfig(lexicon="demo", max_columns=4), i).prompt.string for i in range(12)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(PROMPTS, vocab_size=400)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridLM:
    config = ModelConfig(pattern="*-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=120)
    return HybridLM(config, seed=2).eval()


@torch.no_grad()
def test_greedy_equals_the_uncached_arg_max_one_token_at_a_time(
    model: HybridLM, tokenizer: Tokenizer
) -> None:
    ids = torch.tensor([tokenizer.encode_text(PROMPTS[0])] * 2)
    ids[1, 5] = (ids[1, 5] + 1) % tokenizer.vocab_size
    found = torch.stack(list(greedy(model, ids, end_id=-1)), dim=1)
    naive = ids
    while naive.shape[1] <= model.cfg.n_ctx:
        naive = torch.cat([naive, model(naive[:, -model.cfg.n_ctx :])[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert found.tolist() == naive[:, ids.shape[1] :].tolist()


def test_answers_do_not_depend_on_who_shares_the_batch(model: HybridLM, tokenizer: Tokenizer) -> None:
    assert answer(model, tokenizer, PROMPTS) == [answer(model, tokenizer, [prompt])[0] for prompt in PROMPTS]


def test_generation_stops_at_the_end_token(tokenizer: Tokenizer) -> None:
    model = HybridLM(ModelConfig(pattern="-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=200))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.ln_final.w.fill_(1.0)
        model.embed.W_E[:, 0] = 1.0
        model.unembed.W_U[0, tokenizer.end_id] = 1.0
    assert answer(model, tokenizer, PROMPTS) == [""] * len(PROMPTS)


def test_a_prompt_that_fills_the_context_is_refused(model: HybridLM, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="the prompt has .* tokens and the model's context is 120"):
        answer(model, tokenizer, ["a " * 200])


def test_generation_without_attention_stops_where_the_context_is_full(tokenizer: Tokenizer) -> None:
    config = ModelConfig(pattern="-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=16)
    steps = list(greedy(HybridLM(config), torch.tensor([[1, 2, 3]]), end_id=-1))
    assert len(steps) == 16 - 3 + 1
