"""Router logits and SSM states are activations like any other: recorded, encoded, scored and switched."""

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from saes.activations import record, record_many
from saes.disk import SAE, stock
from saes.truth.alignment import align, truth
from saes.truth.answers import At, changed_answers, changed_logits
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

DATA = DataConfig(command_sets=("cs1",), lexicon="demo", split="test", max_columns=3)
EXAMPLES = [make_example(DATA, index) for index in range(16)]
STATE, ROUTER = "blocks.0.mamba.hook_state", "blocks.2.moe.hook_router"
HEAD = f"{STATE}.1"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([example.text.string for example in EXAMPLES], vocab_size=400)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> HybridLM:
    mamba = MambaConfig(n_heads=2, d_head=4, d_state=4)
    shape = ModelConfig(
        pattern="M*E", d_model=16, n_heads=2, n_ctx=200, d_vocab=tokenizer.vocab_size, mamba=mamba
    )
    return HybridLM(shape, seed=0)


def sae(width: int) -> SAE:
    made: SAE = stock().TopKSAE(stock().TopKSAEConfig(d_in=width, d_sae=2 * width, k=3)).requires_grad_(False)
    rows = torch.randn(2 * width, width, generator=torch.Generator().manual_seed(0))
    made.W_dec.copy_(torch.nn.functional.normalize(rows, dim=1))
    made.W_enc.copy_(made.W_dec.T)
    return made


@pytest.mark.parametrize(("hook", "width"), [(ROUTER, 8), (STATE, 32), (HEAD, 16)])
def test_latents_of_routers_and_states_are_scored(
    model: HybridLM, tokenizer: Tokenizer, hook: str, width: int
) -> None:
    tokens = tokenizer.encode(EXAMPLES)
    activations = record(model, tokens, hook)
    assert activations.values.shape == (int(tokens.mask.sum()), width)
    found = truth(sae(width), model, tokens, hook=hook)
    assert found == align(sae(width), activations)
    assert found.sae.l0 == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(("hook", "width"), [(ROUTER, 8), (STATE, 32), (HEAD, 16)])
def test_they_can_be_changed_while_the_model_answers(
    model: HybridLM, tokenizer: Tokenizer, hook: str, width: int
) -> None:
    ids = [tokenizer.encode_text(example.prompt.string) for example in EXAMPLES[:3]]
    guesses = [[tokenizer.end_id]] * 3
    seen = []

    def turned(values: torch.Tensor, at: At) -> torch.Tensor:
        seen.append(values.shape[-1])
        return -5 * values

    plain = changed_answers(model, tokenizer, ids, guesses, hook, None)
    assert changed_answers(model, tokenizer, ids, guesses, hook, turned) != plain
    assert set(seen) == {width}


def test_a_head_of_a_hook_is_its_part_of_what_stands_side_by_side(
    model: HybridLM, tokenizer: Tokenizer
) -> None:
    tokens = tokenizer.encode(EXAMPLES)
    whole, first, second = record_many(model, tokens, [STATE, f"{STATE}.0", HEAD])
    assert torch.equal(torch.cat([first.values, second.values], dim=1), whole.values)
    assert second.hook == HEAD


def test_a_change_of_one_head_leaves_the_others_alone(model: HybridLM, tokenizer: Tokenizer) -> None:
    ids = torch.tensor([tokenizer.encode_text(EXAMPLES[0].prompt.string)])
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    at = At(row=torch.zeros(1, dtype=torch.long), prompt=nowhere, answering=nowhere)
    head_by_head = torch.arange(32) >= 16
    of_head = changed_logits(model, ids, HEAD, lambda values, _: -values, at)
    of_part = changed_logits(
        model, ids, STATE, lambda values, _: torch.where(head_by_head, -values, values), at
    )
    assert torch.equal(of_head, of_part)
    wider = changed_logits(model, ids, HEAD, lambda values, _: -values.double(), at)
    assert torch.equal(wider, of_head)
    assert not torch.equal(of_head, model(ids))


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (f"{STATE}.2", "names head 2, but `blocks.0.mamba.hook_state` has heads 0 to 1"),
        (f"{ROUTER}.0", "has no heads side by side"),
        ("blocks.0.mamba.hook_stat.1", "the model has no hook `blocks.0.mamba.hook_stat.1`"),
    ],
)
def test_heads_that_are_not_there_are_refused(
    model: HybridLM, tokenizer: Tokenizer, hook: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        record(model, tokenizer.encode(EXAMPLES[:1]), hook)


def test_activations_that_are_not_finite_are_refused(model: HybridLM, tokenizer: Tokenizer) -> None:
    activations = record(model, tokenizer.encode(EXAMPLES), ROUTER)
    activations.values[5, 2] = float("nan")
    with pytest.raises(InputError, match="carries NaN or infinity at 1 of"):
        align(sae(8), activations)
