"""Recording keeps one row per real token, stops at the hook and leaves no trace in the model."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from saes.activations import capture, check_hook, record, record_many
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer, Tokens

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=4)
HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    examples = [make_example(DATA, index) for index in range(12)]
    return Tokenizer.train([example.text.string for example in examples], vocab_size=400).encode(examples)


@pytest.fixture(scope="module")
def model() -> HybridLM:
    return HybridLM(ModelConfig(pattern="*-*-", d_model=16, n_heads=2, d_vocab=400, n_ctx=192)).eval()


def test_rows_are_the_cached_activations_of_real_tokens_in_order(model: HybridLM, tokens: Tokens) -> None:
    _, cache = model.run_with_cache(tokens.ids)
    found = record(model, tokens, HOOK, batch_size=5)
    torch.testing.assert_close(found.values, cache[HOOK][tokens.mask].detach())
    assert found.ids.tolist() == tokens.ids[tokens.mask].tolist()
    assert all(
        tokens.roles[i][j] == role
        for i, j, role in zip(found.example.tolist(), found.position.tolist(), found.roles, strict=True)
    )
    assert "" not in found.roles


def test_padding_is_never_recorded(model: HybridLM, tokens: Tokens) -> None:
    assert not bool(tokens.mask.all())
    garbage = replace(tokens, ids=torch.where(tokens.mask, tokens.ids, 7))
    one, other = record(model, tokens, HOOK), record(model, garbage, HOOK)
    assert torch.equal(one.values, other.values)
    assert len(one) == int(tokens.mask.sum())


def test_heads_are_laid_side_by_side(model: HybridLM, tokens: Tokens) -> None:
    _, cache = model.run_with_cache(tokens.ids[:3])
    z = cache["blocks.2.attn.hook_z"]
    found = capture(model, tokens.ids[:3], "blocks.2.attn.hook_z")
    torch.testing.assert_close(found[..., :8], z[:, :, 0].detach())
    torch.testing.assert_close(found[..., 8:], z[:, :, 1].detach())


@pytest.mark.parametrize("hook", ["blocks.0.attn.hook_pattern", "blocks.0.attn.hook_pattern.1"])
def test_what_lies_across_tokens_is_no_row_per_token_however_many_heads(model: HybridLM, hook: str) -> None:
    as_many_tokens_as_heads = torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(InputError, match=r"shape \[3, 2, 2, 2\], not one row per token"):
        capture(model, as_many_tokens_as_heads, hook)


@pytest.mark.parametrize("head", ["01", "+1", "-1", "1_0", "\u0661", ""])
def test_a_head_has_one_name(model: HybridLM, tokens: Tokens, head: str) -> None:
    with pytest.raises(InputError, match="the model has no hook"):
        capture(model, tokens.ids[:1], f"blocks.0.attn.hook_z.{head}")


def test_nothing_behind_the_hook_is_computed_and_no_hook_is_left(model: HybridLM, tokens: Tokens) -> None:
    behind: list[str] = []
    handle = model.blocks[2].register_forward_hook(lambda *_: behind.append("block 2 ran"))
    record(model, tokens, HOOK)
    handle.remove()
    assert behind == []
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    assert model.context_level == 0


def test_an_unknown_hook_is_answered_with_the_nearest(model: HybridLM) -> None:
    with pytest.raises(
        InputError, match=r"no hook `blocks\.1\.hook_resid_pots`; did you mean `blocks\.1\.hook_resid_"
    ):
        check_hook(model, "blocks.1.hook_resid_pots")


@pytest.mark.parametrize("hook", ["blocks.0.attn.hook_pattern", "blocks.0.attn.hook_attn_scores"])
def test_a_hook_over_pairs_of_tokens_is_refused(model: HybridLM, tokens: Tokens, hook: str) -> None:
    with pytest.raises(InputError, match="not one row per token"):
        record(model, tokens, hook)


def test_nothing_to_record_is_refused(model: HybridLM, tokens: Tokens) -> None:
    with pytest.raises(InputError, match="no token to record"):
        record(model, replace(tokens, mask=torch.zeros_like(tokens.mask)), HOOK)
    with pytest.raises(InputError, match="no token to record"):
        record(model, tokens[:0], HOOK)
    with pytest.raises(InputError, match="no hook to record"):
        record_many(model, tokens, [])


UNRECORDED = """
import torch
import saes
from data_gen.errors import InputError
from saes.training.crosscoders import side_by_side

rows, layers = torch.zeros(9, 4), [torch.zeros(9, 4)] * 2
forms = {"crosscoder": "topk", "transcoder": "standard", "cross_layer_transcoder": "topk"}
of = {form: saes.SAEConfig(form=form, architecture=kind) for form, kind in forms.items()}
config = saes.SAEConfig()
for call in (
    lambda: saes.train_sae(rows, config),
    lambda: saes.train_grid(rows, {"one": config}),
    lambda: saes.train_transcoder(rows, rows, of["transcoder"]),
    lambda: saes.train_crosscoder(layers, of["crosscoder"]),
    lambda: saes.train_crosscoder(rows, of["crosscoder"]),
    lambda: side_by_side(layers),
    lambda: saes.train_cross_layer(layers, layers, of["cross_layer_transcoder"]),
    lambda: saes.train_sae(rows.numpy(), config),
):
    try:
        call()
    except InputError as error:
        print(error)
"""


def test_a_bare_tensor_is_no_recording_and_is_told_how_one_is_made() -> None:
    # Without the type checks of the tests, which users do not have.
    ran = subprocess.run([sys.executable, "-c", UNRECORDED], capture_output=True, text=True, check=True)
    said = [
        f"activations are {what}, expected saes.Activations\n"
        "hint: record them with `saes.record(model, tokens, hook)`\n"
        for what in ["a Tensor of shape [9, 4]"] * 7 + ["of type ndarray"]
    ]
    assert ran.stdout == "".join(said)


ONE_RECORDING = """
import torch
import saes
from data_gen.errors import InputError
from saes.activations import Activations

at = torch.zeros(9, dtype=torch.long)
one = Activations(hook="in.0", values=torch.zeros(9, 4), ids=at, roles=("r",) * 9, example=at, position=at)
crosscoder, layers = (saes.SAEConfig(form=form) for form in ("crosscoder", "cross_layer_transcoder"))
for call in (
    lambda: saes.train_crosscoder(one, crosscoder),
    lambda: saes.train_cross_layer(one, [one, one], layers),
    lambda: saes.train_cross_layer([one, one], one, layers),
):
    try:
        call()
    except InputError as error:
        print(error)
"""


def test_one_recording_is_no_list_of_them() -> None:
    # Without the type checks of the tests, as above.
    ran = subprocess.run([sys.executable, "-c", ONE_RECORDING], capture_output=True, text=True, check=True)
    said = (
        "activations are one recording, of `in.0`, expected a list with one for each hook\n"
        "hint: record every hook with `saes.record(model, tokens, hook)` and give all of them: [one, other]\n"
    )
    assert ran.stdout == said * 3
