"""A recording on disk holds the rows of a recording in memory, trains to the same bits, and is never read whole."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from data_gen.errors import InputError
from data_gen.example import make_example
from saes.activations import Activations, has_role, record, record_many
from saes.roles import family
from saes.stored import open_recording, record_to
from saes.training import sae as training
from saes.training.config import SAEConfig
from saes.training.crosscoders import train_crosscoder
from saes.training.fitting import batches
from saes.training.sae import train_sae
from saes.training.transcoders import train_transcoder
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.tokens import Tokenizer, Tokens

HOOKS = ["blocks.0.hook_resid_post", "blocks.1.mlp.hook_post"]
CONFIG = SAEConfig(d_sae=40, k=3, steps=12, batch_size=64)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    examples = [make_example(tiny().data, index) for index in range(16)]
    return Tokenizer.train([example.text.string for example in examples], vocab_size=300).encode(examples)


@pytest.fixture(scope="module")
def model() -> HybridLM:
    return HybridLM(ModelConfig(pattern="*-", d_model=16, n_heads=2, d_vocab=300, n_ctx=256)).eval()


def with_bos(tokens: Tokens) -> Tokens:
    """The same texts with a token in front that stands for no characters."""
    one = torch.ones(len(tokens), 1)
    return replace(
        tokens,
        ids=torch.cat([3 * one.long(), tokens.ids], dim=1),
        mask=torch.cat([one.bool(), tokens.mask], dim=1),
        roles=tuple(("", *row) for row in tokens.roles),
        answer_start=tokens.answer_start + 1,
    )


def test_rows_and_labels_are_those_in_memory(model: HybridLM, tokens: Tokens, tmp_path: Path) -> None:
    stored = record_to(tmp_path / "acts", model, tokens, HOOKS, dtype="float32", batch_size=5)
    for found, expected in zip(stored, record_many(model, tokens, HOOKS, batch_size=5), strict=True):
        assert torch.equal(found.values, expected.values)
        assert (found.hook, found.roles) == (expected.hook, expected.roles)
        for name in ("ids", "example", "position"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_half_the_bytes_are_the_nearest_numbers(model: HybridLM, tokens: Tokens, tmp_path: Path) -> None:
    (found,) = record_to(tmp_path / "acts", model, tokens, HOOKS[:1])
    expected = record(model, tokens, HOOKS[0]).values
    assert torch.equal(found.values, expected.bfloat16())
    assert (tmp_path / "acts" / "values-0.bin").stat().st_size == 2 * expected.numel()


def test_what_has_no_role_is_read_by_the_model_and_not_recorded(model: HybridLM, tokens: Tokens) -> None:
    longer = with_bos(tokens)
    found = record(model, longer, HOOKS[0])
    assert not bool(has_role(longer)[:, 0].any())
    assert len(found) == int(tokens.mask.sum())
    assert 0 not in found.position.tolist()
    assert "" not in found.roles
    # The model has read it.
    assert not torch.allclose(found.values, record(model, tokens, HOOKS[0]).values)
    _, cache = model.run_with_cache(longer.ids)
    torch.testing.assert_close(found.values, cache[HOOKS[0]][has_role(longer)].detach())


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_training_from_disk_gives_the_same_bits(
    architecture: Any, model: HybridLM, tokens: Tokens, tmp_path: Path
) -> None:
    config = replace(CONFIG, architecture=architecture)
    stored = record_to(tmp_path / "acts", model, tokens, HOOKS, dtype="float32", batch_size=16)
    held = record_many(model, tokens, HOOKS, batch_size=16)
    found, expected = train_sae(stored[0], config), train_sae(held[0], config)
    assert found.record == expected.record
    assert torch.equal(found.sae.W_enc, expected.sae.W_enc)


class Largest(TorchDispatchMode):
    """The most numbers that an operation has put into new memory."""

    def __init__(self, mapped: set[int]) -> None:
        super().__init__()
        self.mapped, self.numbers = mapped, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in self.mapped:
                self.numbers = max(self.numbers, one.numel())
        return result


@pytest.mark.parametrize("form", ["sae", "transcoder", "crosscoder"])
def test_no_more_than_a_part_is_ever_in_memory(
    form: Any, model: HybridLM, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "AT_ONCE", 100)
    monkeypatch.setattr(training, "CHECK_ROWS", 50)
    config = replace(CONFIG, d_sae=20, architecture="batchtopk", form=form)
    stored = record_to(tmp_path / "acts", model, tokens, HOOKS)
    n, width = stored[0].values.shape
    with Largest({one.values.untyped_storage().data_ptr() for one in stored}) as largest:
        if form == "crosscoder":
            train_crosscoder(stored, config)
        elif form == "transcoder":
            train_transcoder(stored[0], stored[1], config)
        else:
            train_sae(stored[0], config)
    assert 0 < largest.numbers < 0.5 * n * width


def test_writing_to_the_tensor_leaves_the_file_alone(model: HybridLM, tokens: Tokens, tmp_path: Path) -> None:
    (found,) = record_to(tmp_path / "acts", model, tokens, HOOKS[:1])
    before = (tmp_path / "acts" / "values-0.bin").read_bytes()
    found.values.zero_()
    assert (tmp_path / "acts" / "values-0.bin").read_bytes() == before


def test_bad_input_is_a_sentence_and_leaves_nothing(model: HybridLM, tokens: Tokens, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean"):
        record_to(tmp_path / "none", model, tokens, ["blocks.0.hook_resid_pots"])
    assert not (tmp_path / "none" / "recording.json").exists()
    with pytest.raises(InputError, match="is not a recording"):
        open_recording(tmp_path / "none")
    record_to(tmp_path / "acts", model, tokens, HOOKS[:1])
    with pytest.raises(InputError, match="is not empty"):
        record_to(tmp_path / "acts", model, tokens, HOOKS[:1])
    file = tmp_path / "acts" / "values-0.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(InputError, match="bytes, recording.json expects"):
        open_recording(tmp_path / "acts")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"tokens": "x"}, "tokens is 'x', expected int"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"hooks": [3]}, "hooks is 3"),
        ({"roles": ["a"]}, "does not hold the labels"),
        ({"width": 3}, "unknown key `width`"),
    ],
)
def test_a_damaged_recording_is_a_sentence(
    model: HybridLM, tokens: Tokens, tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    record_to(tmp_path / "acts", model, tokens, HOOKS[:1])
    file = tmp_path / "acts" / "recording.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(InputError, match=sentence):
        open_recording(tmp_path / "acts")


def test_what_float16_cannot_hold_is_refused(model: HybridLM, tokens: Tokens, tmp_path: Path) -> None:
    def large(value: Tensor, hook: Any) -> Tensor:
        return value * 1e6

    with (
        model.hooks(fwd_hooks=[("hook_embed", large)]),
        pytest.raises(InputError, match="which float16 cannot hold"),
    ):
        record_to(tmp_path / "acts", model, tokens, HOOKS[:1], dtype="float16")


def test_balanced_batches_meet_every_role_as_often() -> None:
    rows = torch.arange(10_000) + 7
    label = torch.where(torch.arange(10_000) < 100, 2, 0)  # no row of family 1
    drawn = torch.cat(
        [batch for batch, _ in zip(batches(rows, 500, 0, family=label), range(20), strict=False)]
    )
    rare = drawn < 107
    assert float(rare.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert len(drawn[rare].unique()) == 100
    # From the middle on, the same batches.
    later = next(batches(rows, 500, 0, family=label, start=13))
    assert torch.equal(later, drawn[13 * 500 : 14 * 500])


def test_a_balanced_training_reads_balanced_batches(model: HybridLM, tokens: Tokens) -> None:
    activations = record(model, tokens, HOOKS[0])
    plain, balanced = (train_sae(activations, replace(CONFIG, balance_roles=on)) for on in (False, True))
    assert not torch.equal(plain.sae.W_dec, balanced.sae.W_dec)
    # With one role there is nothing to balance, and every row may still be drawn.
    alone = replace(activations, roles=("r",) * len(activations))
    assert train_sae(alone, replace(CONFIG, balance_roles=True)).record.tokens == len(activations)
    assert len({family(role) for role in activations.roles}) > 5


def test_an_empty_directory_of_activations_is_refused(tokens: Tokens, model: HybridLM) -> None:
    nothing = replace(tokens, roles=tuple(("",) * len(row) for row in tokens.roles))
    with pytest.raises(InputError, match="there is no token to record"):
        record(model, nothing, HOOKS[0])


def unlabelled() -> Activations:
    """Rows that all have the same role."""
    zeros = torch.zeros(300, dtype=torch.long)
    return Activations(
        hook="h",
        values=torch.randn(300, 8, generator=torch.Generator().manual_seed(0)),
        ids=zeros,
        roles=("r",) * 300,
        example=zeros,
        position=zeros,
    )


def test_scaling_does_not_depend_on_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = unlabelled().values * 3 + 5
    mean, scale = training.scaling(values)
    monkeypatch.setattr(training, "AT_ONCE", 7)
    in_parts = training.scaling(values)
    torch.testing.assert_close(in_parts[0], mean)
    assert in_parts[1] == pytest.approx(scale, rel=1e-6)
    z = (values - mean) * scale
    assert float(z.square().sum(1).mean()) == pytest.approx(8.0, rel=1e-5)
