"""On a model whose every token is known to follow from one direction, effects are what they must be."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import data_gen
from data_gen.errors import InputError
from data_gen.example import DataConfig, Example, make_example
from data_gen.pairs.counterfactual import CounterfactualPair
from saes.disk import SAE, stock
from saes.roles import family
from saes.truth import interchange as interchanges
from saes.truth.answers import At, changed_answers, text_of
from saes.truth.causal import (
    Effects,
    LatentEffect,
    causal_alignment,
    clause_of_role,
    effects,
    peak_activations,
    switch,
    tally,
)
from saes.truth.interchange import interchange, latents_for, outcome, swap
from saes.truth.recovered import answer_loss, fidelity
from saes.truth.scoring import Table
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

DATA = DataConfig(command_sets=("cs2",), lexicon="demo", split="test")
HOOK = "blocks.0.hook_resid_post"


@dataclass(frozen=True)
class Reciter:
    """A model that says one SQL statement token by token: each token's direction names the next, and none the end."""

    model: HybridLM
    tokenizer: Tokenizer
    example: Example
    sae: SAE
    said: list[int]
    """Ids of the SQL."""


@pytest.fixture(scope="module")
def reciter() -> Reciter:
    example = next(e for e in (make_example(DATA, i) for i in range(200)) if recitable(e))
    tokenizer = Tokenizer.train([example.text.string] * 3, vocab_size=500)
    said = tokenizer.encode_text(f" {example.sql.string}")
    assert len(set(said)) == len(said)
    width = tokenizer.vocab_size + 2
    shape = ModelConfig(
        pattern="-", d_model=width, n_heads=1, n_ctx=160, d_vocab=tokenizer.vocab_size, norm="rms"
    )
    model = HybridLM(shape).requires_grad_(False)
    for name, weight in model.named_parameters():
        if "mlp" in name:
            weight.zero_()
    model.embed.W_E.copy_(torch.eye(tokenizer.vocab_size, width))
    model.embed.W_E[:, -1] = 1.0  # what every token carries
    model.unembed.W_U.zero_()
    chain = [tokenizer.encode_text(example.prompt.string)[-1], *said, tokenizer.end_id]
    for now, following in pairwise(chain):
        model.unembed.W_U[now, following] = 10.0
    model.unembed.W_U[-1, tokenizer.end_id] = 1.0
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=width, d_sae=width)).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(width))
    sae.W_dec.copy_(torch.eye(width))
    return Reciter(model, tokenizer, example, sae, said)


def recitable(example: Example) -> bool:
    words = example.sql.string.replace(",", " ,").split()
    return (
        len(set(words)) == len(words)
        and example.sql.string.endswith("DESC")
        and len(example.query.select) == 1
    )


def run(reciter: Reciter, off: list[int], on: list[int] | None = None) -> dict[tuple[int, str], LatentEffect]:
    found = effects(
        reciter.sae, reciter.model, reciter.tokenizer, [reciter.example], hook=HOOK, off=off, on=on or []
    )
    return {(one.latent, one.way): one for one in found.latents}


def test_it_recites(reciter: Reciter) -> None:
    prompt = reciter.tokenizer.encode_text(reciter.example.prompt.string)
    guesses = [[0] * len(reciter.said)]
    assert changed_answers(reciter.model, reciter.tokenizer, [prompt], guesses, HOOK, None) == [
        [*reciter.said, reciter.tokenizer.end_id]
    ]


def test_without_its_last_word_the_statement_loses_its_order_alone(reciter: Reciter) -> None:
    # DESC follows from the column before it: without that the statement ends, and ascending is what it states.
    before_desc = reciter.said[-2]
    one = run(reciter, [before_desc])[before_desc, "off"]
    assert one.changed == {"select": 0.0, "from": 0.0, "order_by": 1.0}
    assert (one.clause, one.specificity, one.side_damage, one.valid) == ("order_by", 1.0, 0.0, 1.0)


def test_without_its_first_word_nothing_can_be_read(reciter: Reciter) -> None:
    first = reciter.said[0]
    one = run(reciter, [first])[first, "off"]
    assert set(one.changed.values()) == {1.0}
    assert one.valid == 0.0
    assert one.specificity == pytest.approx(1 / 3)


def test_a_latent_that_never_fires_is_not_switched(reciter: Reciter) -> None:
    silent = next(
        j
        for j in range(reciter.tokenizer.vocab_size)
        if j not in reciter.tokenizer.encode_text(reciter.example.text.string)
        and j not in (reciter.tokenizer.end_id, reciter.tokenizer.pad_id)
    )
    said = reciter.said[0]
    found = effects(
        reciter.sae,
        reciter.model,
        reciter.tokenizer,
        [reciter.example] * 2,
        hook=HOOK,
        off=[silent, said],
        on=[silent, said],
    )
    for one in found.latents:
        assert one.switched == (0 if one.latent == silent else 2)
        assert one.latent == said or (set(one.changed.values()), one.valid) == ({0.0}, 1.0)
    assert {j: list(ways) for j, ways in found.by_latent.items()} == {said: ["off", "on"]}


def test_switched_on_for_good_a_word_drowns_the_rest(reciter: Reciter) -> None:
    strong = torch.eye(len(reciter.sae.W_dec))
    word = reciter.said[0]
    strong[word] *= 3  # writes three times what the model reads
    plain = reciter.sae.W_dec.clone()
    reciter.sae.W_dec.copy_(strong)
    try:
        one = run(reciter, [], [word])[word, "on"]
    finally:
        reciter.sae.W_dec.copy_(plain)
    assert one.valid == 0.0


def test_a_latent_is_switched_on_to_its_largest_activation_in_any_row(reciter: Reciter) -> None:
    encode = reciter.tokenizer.encode_text
    other = next(
        e
        for e in (make_example(DATA, i) for i in range(200))
        if len(encode(e.prompt.string)) < 120 and e.index != reciter.example.index
    )
    there = set(encode(reciter.example.prompt.string)) - {*encode(other.prompt.string), *reciter.said}
    latent, plain = min(there), reciter.sae.W_dec.clone()
    # Enough to drown the rest at the activation 1 that it has in one row, and too little at half of it.
    reciter.sae.W_dec[latent] = 1.5 * plain[reciter.said[0]]
    try:
        found = effects(
            reciter.sae,
            reciter.model,
            reciter.tokenizer,
            [reciter.example, other],
            hook=HOOK,
            off=[],
            on=[latent],
        )
    finally:
        reciter.sae.W_dec.copy_(plain)
    assert found.latents[0].valid == 0.0


def test_latents_that_are_not_there_and_no_examples_are_refused(reciter: Reciter) -> None:
    with pytest.raises(InputError, match="the SAE has no latent 100000"):
        run(reciter, [100000])
    with pytest.raises(InputError, match="there are no examples"):
        effects(reciter.sae, reciter.model, reciter.tokenizer, [], hook=HOOK, off=[0])
    with pytest.raises(InputError, match="there are no examples"):
        fidelity(reciter.sae, reciter.model, reciter.tokenizer, [], hook=HOOK)


def test_a_dictionary_of_another_hook_or_form_is_refused(
    reciter: Reciter, pairs: list[CounterfactualPair]
) -> None:
    width = reciter.sae.W_dec.shape[1]
    shape = {"d_in": width, "d_sae": 4}
    narrow = stock().StandardSAE(stock().StandardSAEConfig(**{**shape, "d_in": 8}))
    transcoder = stock().Transcoder(
        stock().TranscoderConfig(**shape, d_out=width, apply_b_dec_to_input=False)
    )
    same = [replace(pairs[0], corrupt=pairs[0].clean)]
    scores = table(("sql.order_by.0.direction",), torch.rand(4, 1))
    for other, sentence in (
        (narrow, f"hook `{HOOK}` is {width} wide, the SAE reads 8"),
        (transcoder, f"what is to be changed at `{HOOK}` is a transcoder"),
    ):
        model, tokenizer, examples = reciter.model, reciter.tokenizer, [reciter.example]
        with pytest.raises(InputError, match=sentence):
            effects(other, model, tokenizer, examples, hook=HOOK, off=[0])
        with pytest.raises(InputError, match=sentence):
            fidelity(other, model, tokenizer, examples, hook=HOOK)
        with pytest.raises(InputError, match=sentence):
            interchange(other, model, tokenizer, same, hook=HOOK, table=scores)


def test_effects_come_back_from_json(reciter: Reciter) -> None:
    found = effects(
        reciter.sae, reciter.model, reciter.tokenizer, [reciter.example], hook=HOOK, off=[reciter.said[0]]
    )
    assert Effects.from_json(found.to_json()) == found
    with pytest.raises(InputError, match=r"effects\.json does not hold effects"):
        Effects.from_json({"hook": HOOK})


def table(names: tuple[str, ...], f1: Tensor) -> Table:
    same = dict.fromkeys(
        ("threshold", "chosen_f1", "precision", "recall", "f1", "auroc", "average_precision"), f1
    )
    return Table(names=names, column=torch.arange(len(names)), **same)


def test_causal_alignment_is_the_rank_correlation_by_clause() -> None:
    names = ("sql.select.column", "english.order_by.phrase", "schema.table", "sql.table")
    f1 = torch.tensor(
        [[0.9, 0.1, 0.0, 0.2], [0.5, 0.2, 1.0, 0.1], [0.2, 0.9, 0.0, 0.3], [0.1, 0.3, 0.0, 0.9]]
    )
    shares = {"select": [0.4, 0.3, 0.2, 0.1], "order_by": [0.4, 0.3, 0.2, 0.1], "from": [0.0, 0.0, 0.0, 0.0]}
    found = [
        LatentEffect(latent=j, way="off", switched=4, changed={c: s[j] for c, s in shares.items()}, valid=1.0)
        for j in range(4)
    ]
    ranks = causal_alignment(found, table(names, f1), list(shares))
    assert ranks == pytest.approx({"select": 1.0, "order_by": -0.8})
    # Of several roles of a clause the best one counts, not their mean, by which the last would be third.
    other = torch.tensor([[0.0], [0.2], [0.0], [0.0]])
    several = table((*names, "sql.order_by.0.column"), torch.cat([f1, other], dim=1))
    assert causal_alignment(found, several, list(shares))["order_by"] == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("role", "clause"),
    [
        ("sql.select.0.column", "select"),
        ("english.order_by.phrase", "order_by"),
        ("sql.from.keyword", "from"),
        ("english.table", "from"),
        ("schema.table", None),
        ("prompt.markup", None),
        ("sql.end", None),
    ],
)
def test_roles_belong_to_clauses(role: str, clause: str | None) -> None:
    assert clause_of_role(role) == clause


def test_a_perfect_sae_recovers_everything_and_one_that_says_nothing_nothing(reciter: Reciter) -> None:
    examples = [reciter.example]
    whole = fidelity(reciter.sae, reciter.model, reciter.tokenizer, examples, hook=HOOK)
    assert (whole.loss.share, whole.accuracy.share, whole.accuracy.sae) == pytest.approx((1.0, 1.0, 1.0))
    assert all(one.share == pytest.approx(1.0) for one in whole.loss_by_role.values())
    plain = reciter.sae.W_dec.clone()
    reciter.sae.W_dec.zero_()
    try:
        nothing = fidelity(reciter.sae, reciter.model, reciter.tokenizer, examples, hook=HOOK)
    finally:
        reciter.sae.W_dec.copy_(plain)
    assert (nothing.loss.share, nothing.accuracy.share) == (0.0, 0.0)
    # Wilson's interval of one right answer of one, and of none.
    assert whole.interval == pytest.approx((0.207, 1.0), abs=1e-3)
    assert nothing.interval == pytest.approx((0.0, 0.793), abs=1e-3)
    # Zeros have a uniform distribution behind them.
    assert nothing.loss.zero == pytest.approx(np.log(reciter.tokenizer.vocab_size), rel=1e-4)
    assert {"sql.select.keyword", "sql.end"} <= set(whole.loss_by_role)


@pytest.fixture(scope="module")
def pairs() -> list[CounterfactualPair]:
    return data_gen.counterfactuals(DATA, edit="order_by.0.direction", n=4)


def test_cause_and_isolation_of_known_answers(pairs: list[CounterfactualPair]) -> None:
    assert outcome(pairs, [pair.corrupt.sql.string for pair in pairs]) == (1.0, 1.0)
    assert outcome(pairs, [pair.clean.sql.string for pair in pairs]) == (0.0, 1.0)
    assert outcome(pairs, ["no query"] * len(pairs)) == (0.0, 0.0)
    # Half of the pairs set, and every clause of the others wrong.
    mixed = [pair.corrupt.sql.string if i % 2 else "nothing" for i, pair in enumerate(pairs)]
    assert outcome(pairs, mixed) == (0.5, 0.5)


def test_swapped_embeddings_of_the_prompt_are_the_corrupt_prompt() -> None:
    pairs = data_gen.counterfactuals(DATA, edit="order_by.0.direction", n=4)
    texts = [side.text.string for pair in pairs for side in (pair.clean, pair.corrupt)]
    texts += [make_example(DATA, index).text.string for index in range(200)]
    tokenizer = Tokenizer.train(texts, vocab_size=800)
    pairs = data_gen.counterfactuals(DATA, edit="order_by.0.direction", n=4, encode=tokenizer.encode_text)
    shape = ModelConfig(pattern="*-", d_model=32, n_heads=2, n_ctx=200, d_vocab=tokenizer.vocab_size)
    model = HybridLM(shape, seed=2)
    clean, corrupt = (
        [tokenizer.encode_text(getattr(pair, side).prompt.string) for pair in pairs]
        for side in ("clean", "corrupt")
    )
    guesses = [[tokenizer.end_id]] * len(pairs)
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=32, d_sae=8))
    change = swap(sae, model, corrupt, "hook_embed", None)
    swapped = changed_answers(model, tokenizer, clean, guesses, "hook_embed", change, batch_size=3)
    assert swapped == changed_answers(model, tokenizer, corrupt, guesses, "hook_embed", None)
    assert swapped != changed_answers(model, tokenizer, clean, guesses, "hook_embed", None)


def test_a_swap_of_no_latents_changes_nothing() -> None:
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=4, d_sae=4)).requires_grad_(False)
    model = HybridLM(ModelConfig(pattern="*", d_model=4, n_heads=1, n_ctx=16, d_vocab=20), seed=0)
    change = swap(sae, model, [[3, 4, 5]], "hook_embed", [])
    values = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    at = At(row=torch.tensor([0]), prompt=torch.arange(5)[None] < 3, answering=torch.arange(5)[None] >= 2)
    assert torch.equal(change(values, at), values)


def test_a_swap_moves_the_chosen_latents_at_the_prompt_and_nothing_else() -> None:
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=4, d_sae=4)).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(4))
    sae.W_dec.copy_(torch.eye(4))
    model = HybridLM(ModelConfig(pattern="*", d_model=4, n_heads=1, n_ctx=16, d_vocab=20), seed=0)
    change = swap(sae, model, [[3, 4, 5]], "hook_embed", [1, 2])
    other = model.embed(torch.tensor([[3, 4, 5]]))[0]
    values = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    place = torch.arange(5)[None]
    found = change(values, At(row=torch.tensor([0]), prompt=place < 3, answering=place >= 2))[0]
    assert torch.equal(found[3:], values[0, 3:])
    assert torch.equal(found[:3, [0, 3]], values[0, :3][:, [0, 3]])
    moved = found[:3, 1:3] - values[0, :3, 1:3]
    torch.testing.assert_close(moved, other[:, 1:3].relu() - values[0, :3, 1:3].relu())


def test_a_switch_moves_one_latent_where_it_may() -> None:
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=4, d_sae=4)).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(4))
    sae.W_dec.copy_(torch.eye(4))
    values = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0))
    place = torch.arange(5)[None]
    change = switch(sae, [(2, "off", 0), (1, "on", 0)], torch.tensor([5.0, 6.0, 7.0, 8.0]))
    at = At(row=torch.tensor([0, 1]), prompt=place.repeat(2, 1) < 3, answering=place.repeat(2, 1) >= 2)
    off, on = change(values, at)
    expected = values.clone()
    expected[0, :, 2] -= values[0, :, 2].relu()
    expected[1, 2:, 1] += 6.0 - values[1, 2:, 1].relu()
    torch.testing.assert_close(torch.stack([off, on]), expected)


def test_peaks_are_those_of_real_tokens(reciter: Reciter) -> None:
    prompts, answers = [[5, 6, 7], [8]], [[9], [9]]
    peaks = peak_activations(reciter.sae, reciter.model, prompts, answers, HOOK, 2)
    vocabulary = reciter.tokenizer.vocab_size
    # Latent i is token i; what fills the shorter row up, 0, is no token of it.
    assert [row[:vocabulary].nonzero()[:, 0].tolist() for row in peaks] == [[5, 6, 7, 9], [8, 9]]
    assert torch.equal(peaks, peak_activations(reciter.sae, reciter.model, prompts, answers, HOOK, 1))


def test_changes_are_shares_of_all_answers() -> None:
    one, other = {"select": 1, "from": 2}, {"select": 1, "from": 3}
    before = [one, one, None, one]
    found = tally(7, "off", 3, {0: other, 1: None, 2: None}, before, ["select", "from"])
    assert found.changed == {"select": 0.25, "from": 0.5}
    # The third answer could not be read before either.
    assert (found.latent, found.switched, found.valid) == (7, 3, 0.75)
    assert (found.clause, found.specificity, found.side_damage) == ("from", pytest.approx(2 / 3), 0.25)


def test_an_answer_without_an_end_is_not_right(reciter: Reciter) -> None:
    weight, end = reciter.model.unembed.W_U, reciter.tokenizer.end_id
    plain = weight.clone()
    weight[:, end] = 0.0
    try:
        found = fidelity(reciter.sae, reciter.model, reciter.tokenizer, [reciter.example], hook=HOOK)
        said = changed_answers(
            reciter.model,
            reciter.tokenizer,
            [reciter.tokenizer.encode_text(reciter.example.prompt.string)],
            [[*reciter.said, end]],
            HOOK,
            None,
        )
    finally:
        weight.copy_(plain)
    assert text_of(reciter.tokenizer, said[0]) == reciter.example.sql.string
    assert found.accuracy.untouched == 0.0


def test_a_change_is_told_where_the_loss_is_measured(reciter: Reciter) -> None:
    tokens = reciter.tokenizer.encode([reciter.example])
    seen: list[At] = []

    def look(values: Tensor, at: At) -> Tensor:
        seen.append(at)
        return values

    losses = answer_loss(reciter.model, tokens, HOOK, look, 4)
    begin, n = int(tokens.answer_start[0]), int(tokens.mask[0].sum())
    assert seen[0].prompt[0].nonzero()[:, 0].tolist() == list(range(begin))
    assert seen[0].answering[0].nonzero()[:, 0].tolist() == list(range(begin - 1, n))
    # One loss for each token of the answer, under its own role.
    counted = Counter(family(role) for role in tokens.roles[0][begin:n])
    assert {role: len(values) for role, values in losses.items()} == counted


def test_whole_embeddings_swapped_say_what_the_corrupt_prompt_says(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [make_example(DATA, index).text.string for index in range(200)]
    tokenizer = Tokenizer.train(texts, vocab_size=500)
    pairs = data_gen.counterfactuals(DATA, edit="order_by.0.direction", n=3, encode=tokenizer.encode_text)
    shape = ModelConfig(pattern="*-", d_model=32, n_heads=2, n_ctx=200, d_vocab=tokenizer.vocab_size)
    model = HybridLM(shape, seed=2)
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=32, d_sae=8))
    said: list[list[list[int]]] = []

    def kept(*arguments: Any, **settings: Any) -> list[list[int]]:
        said.append(changed_answers(*arguments, **settings))
        return said[-1]

    monkeypatch.setattr(interchanges, "changed_answers", kept)
    f1 = torch.linspace(0.1, 0.8, 8)[:, None]
    swaps = interchange(
        sae,
        model,
        tokenizer,
        pairs,
        hook="hook_embed",
        table=table(("sql.order_by.0.direction",), f1),
        sizes=(2,),
    )
    assert [(one.name, one.size) for one in swaps] == [
        ("latents", 2),
        ("random", 2),
        ("all latents", 8),
        ("activations", 32),
    ]
    sides = [
        [tokenizer.encode_text(getattr(pair, side).prompt.string) for pair in pairs]
        for side in ("clean", "corrupt")
    ]
    gold = [[*tokenizer.encode_text(f" {pair.clean.sql.string}"), tokenizer.end_id] for pair in pairs]
    clean, corrupt = (
        changed_answers(model, tokenizer, prompts, gold, "hook_embed", None) for prompts in sides
    )
    assert said[-1] == corrupt != clean


def test_random_latents_are_none_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped: list[list[int] | None] = []

    def kept(*arguments: Any) -> Any:
        swapped.append(arguments[-1])
        return swap(*arguments)

    monkeypatch.setattr(interchanges, "swap", kept)
    tokenizer = Tokenizer.train(
        [make_example(DATA, index).text.string for index in range(200)], vocab_size=500
    )
    pairs = data_gen.counterfactuals(DATA, edit="order_by.0.direction", n=1, encode=tokenizer.encode_text)
    model = HybridLM(
        ModelConfig(pattern="-", d_model=8, n_heads=1, n_ctx=200, d_vocab=tokenizer.vocab_size), seed=2
    )
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=8, d_sae=12))
    f1 = torch.linspace(0.1, 0.9, 12)[:, None]
    scores = table(("sql.order_by.0.direction",), f1)
    interchange(sae, model, tokenizer, pairs, hook="hook_embed", table=scores, sizes=(2, 4))
    best, two, four, every = swapped[0], swapped[1], swapped[3], swapped[4]
    assert (best, swapped[2]) == ([11, 10], [11, 10, 9, 8])
    assert (two, len(four)) == (four[:2], 4)
    assert set(four) <= set(range(8))
    assert every == list(range(12))


def test_latents_are_ranked_by_the_half_that_is_not_measured() -> None:
    f1 = torch.tensor([[0.1], [0.8], [0.5]])
    scores = replace(table(("sql.order_by.0.direction",), f1), f1=f1.flip(0), auroc=f1.flip(0))
    assert latents_for(scores, "order_by.0.direction") == [1, 2, 0]
    scores = replace(scores, f1=torch.tensor([[0.9], [0.0], [0.0]]))
    assert latents_for(scores, "order_by.0.direction") == [1, 2, 0]


def test_latents_are_ranked_by_the_roles_an_edit_names() -> None:
    names = (
        "english.order_by.direction",
        "sql.order_by.0.direction",
        "schema.table",
        "sql.order_by.1.direction",
    )
    f1 = torch.tensor(
        [[0.1, 0.2, 0.9, 0.9], [0.8, 0.0, 0.0, 0.0], [0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    )
    assert latents_for(table(names, f1), "order_by.0.direction") == [2, 1, 0]
    with pytest.raises(InputError, match=r"no scored role belongs to edit `limit\.count`"):
        latents_for(table(names, f1), "limit.count")
