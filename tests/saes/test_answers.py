"""Guess and check writes what cached decoding writes, and a change acts where it is asked to."""

import pytest
import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from saes.truth.answers import LONGER, At, changed_answers, finished, text_of
from tinysql.answering.generation import answer
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

DATA = DataConfig(command_sets=("cs1",), lexicon="demo", split="test", max_columns=3)
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return [make_example(DATA, index).prompt.string for index in range(6)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([make_example(DATA, index).text.string for index in range(40)], vocab_size=400)


@pytest.fixture(scope="module", params=["*-", "M*E"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> HybridLM:
    shape = ModelConfig(pattern=request.param, d_model=32, n_heads=2, n_ctx=160, d_vocab=tokenizer.vocab_size)
    return HybridLM(shape, seed=1)


def shift(value: Tensor, hook: HookPoint | None = None) -> Tensor:
    return value + torch.linspace(-2, 2, value.shape[-1])


def shifted(values: Tensor, at: At) -> Tensor:
    return shift(values)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("guess", ["", "SELECT name FROM cities WHERE nonsense"])
def test_it_writes_what_cached_decoding_writes(
    model: HybridLM, tokenizer: Tokenizer, prompts: list[str], changed: bool, guess: str
) -> None:
    guesses = [[*tokenizer.encode_text(guess), tokenizer.end_id]] * len(prompts)
    longest = len(guesses[0]) + LONGER
    with model.hooks(fwd_hooks=[(HOOK, shift)] if changed else []):
        cached = answer(model, tokenizer, prompts, longest=longest)
    ids = [tokenizer.encode_text(prompt) for prompt in prompts]
    found = changed_answers(model, tokenizer, ids, guesses, HOOK, shifted if changed else None, batch_size=4)
    assert [text_of(tokenizer, one) for one in found] == cached
    assert all(len(one) == longest or finished(tokenizer, one) for one in found)


def test_a_right_guess_takes_one_run(
    model: HybridLM, tokenizer: Tokenizer, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [tokenizer.encode_text(prompt) for prompt in prompts]
    first = changed_answers(model, tokenizer, ids, [[tokenizer.end_id]] * len(ids), HOOK, None)
    runs = []
    forward = HybridLM.forward
    monkeypatch.setattr(HybridLM, "forward", lambda *a, **k: (runs.append(1), forward(*a, **k))[1])
    # The last token of a cut-off answer is no end, so the whole of it has to be guessed to be cut off there again.
    again = changed_answers(model, tokenizer, ids, [[*one, *one] for one in first], HOOK, None)
    assert [b[: len(a)] for a, b in zip(first, again, strict=True)] == first
    runs.clear()
    changed_answers(model, tokenizer, ids, again, HOOK, None)
    assert len(runs) <= LONGER + 1


def test_each_row_is_told_by_its_number_and_its_places(
    model: HybridLM, tokenizer: Tokenizer, prompts: list[str]
) -> None:
    ids = [tokenizer.encode_text(prompt) for prompt in prompts]
    seen: dict[int, tuple[int, int]] = {}

    def look(values: Tensor, at: At) -> Tensor:
        for row, prompt, answering in zip(at.row.tolist(), at.prompt, at.answering, strict=True):
            seen.setdefault(row, (int(prompt.sum()), int(answering.nonzero()[0])))
        return values

    changed_answers(model, tokenizer, ids, [[tokenizer.end_id]] * len(ids), HOOK, look, batch_size=2)
    assert seen == {row: (len(one), len(one) - 1) for row, one in enumerate(ids)}


def test_only_the_asked_row_changes(model: HybridLM, tokenizer: Tokenizer, prompts: list[str]) -> None:
    ids = [tokenizer.encode_text(prompt) for prompt in prompts]
    guesses = [[tokenizer.end_id]] * len(ids)

    def second(values: Tensor, at: At) -> Tensor:
        return torch.where((at.row == 2)[:, None, None], shifted(values, at), values)

    plain, all_changed, one_changed = (
        changed_answers(model, tokenizer, ids, guesses, HOOK, change) for change in (None, shifted, second)
    )
    assert one_changed == [all_changed[i] if i == 2 else plain[i] for i in range(len(ids))]


def test_unknown_hooks_and_full_contexts_are_refused(model: HybridLM, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"no hook `blocks\.0\.hook_resid_pots`; did you mean"):
        changed_answers(model, tokenizer, [[1]], [[1]], "blocks.0.hook_resid_pots", None)
    with pytest.raises(InputError, match="the prompt has 160 tokens and the model's context is 160"):
        changed_answers(model, tokenizer, [[1] * 160], [[1]], HOOK, None)
