"""What a checkpoint must hold to be gone on from, and what is said of one that does not."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.training.checkpoints import load_tensors, load_training, save_tensors, save_training
from tinysql.training.config import TrainState
from tinysql.training.distributed import World
from tinysql.training.loop import read_log
from tinysql.training.optimizer import make_optimizer

Tensors = dict[str, Tensor]


@pytest.fixture
def trained(tmp_path: Path) -> tuple[HybridLM, torch.optim.AdamW]:
    """A model and its optimizer behind one step, with checkpoints of steps 20 and 30 that hold a mean of 2 steps."""
    model = HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=50, n_ctx=16))
    optimizer = make_optimizer(model, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    optimizer.step()
    for step in (20, 30):
        save_training(
            tmp_path, model, optimizer, TrainState(step=step, averaged=2), model.state_dict(), World()
        )
    return model, optimizer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 7}, "step is 7"),
        ({"step": -5}, "step is -5"),
        ({"decay_start": -3}, "decay_start is -3"),
        ({"taken": -1}, "taken is -1"),
        ({"block": -1}, "block is -1"),
        ({"averaged": -1}, "averaged is -1"),
        ({"averaged": 0}, "the mean of .* over 0 steps"),
        ({"seconds": float("inf")}, "seconds is inf"),
    ],
)
def test_a_state_with_numbers_that_cannot_be_is_passed_over(
    change: dict[str, Any], reason: str, trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    file = tmp_path / "step-00000030" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.warns(UserWarning, match=f"step-00000030 is damaged .*{reason}"):
        found = load_training(tmp_path, *trained, World())
    assert found is not None
    assert found[0].step == 20


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        (
            "model",
            lambda t: {**t, "embed.W_E": t["embed.W_E"] / 0},
            "`embed.W_E` has numbers that are not finite",
        ),
        ("average", lambda t: {**t, "foo": torch.zeros(2)}, "the mean of `foo`"),
        ("average", lambda t: dict(list(t.items())[1:]), "the mean of `.*` over 2 steps is None"),
        ("average", lambda t: {}, "over 2 steps is None"),
        ("average", lambda t: {name: x.new_zeros(3) for name, x in t.items()}, r"over 2 steps is \(3,\)"),
        ("optimizer", lambda t: {name: x.new_zeros(3) for name, x in t.items()}, r"holds `.*` as \(3,\)"),
    ],
)
def test_tensors_that_are_not_the_model_s_are_passed_over(
    part: str,
    change: Callable[[Tensors], Tensors],
    reason: str,
    trained: tuple[HybridLM, torch.optim.AdamW],
    tmp_path: Path,
) -> None:
    file = tmp_path / "step-00000030" / f"{part}.safetensors"
    save_tensors(file, change(load_tensors(file)))
    with pytest.warns(UserWarning, match=f"step-00000030 is damaged .*{reason}"):
        found = load_training(tmp_path, *trained, World())
    assert found is not None
    assert found[0].step == 20


def test_the_last_checkpoint_is_kept_and_the_way_out_named(
    trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    for folder in tmp_path.glob("step-*"):
        (folder / "model.safetensors").write_bytes(b"x")
    remedy = re.escape(f"or remove {tmp_path} and repeat the command")
    with pytest.warns(UserWarning, match="step-00000030 is damaged"), pytest.raises(InputError, match=remedy):
        load_training(tmp_path, *trained, World())
    assert {folder.name for folder in tmp_path.glob("step-*")} == {"step-00000020", "step-00000030"}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {**t, "embed.W_E": t["embed.W_E"].new_zeros(60, 8)},
        lambda t: {**t, "foo": torch.zeros(2)},
        lambda t: {**t, "embed.W_E": t["embed.W_E"].to(torch.int8)},
    ],
)
def test_whole_weights_of_another_shape_are_refused_and_kept(
    change: Callable[[Tensors], Tensors], trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    file = tmp_path / "step-00000030" / "model.safetensors"
    save_tensors(file, change(load_tensors(file)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="step-00000030/model.safetensors: weight `.*` is .* expect"):
        load_training(tmp_path, *trained, World())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_way_past_weights_of_another_shape_is_named_where_there_is_one(
    trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    newest, older = tmp_path / "step-00000030", tmp_path / "step-00000020"
    file = newest / "model.safetensors"
    save_tensors(file, {**load_tensors(file), "embed.W_E": torch.zeros(60, 8)})
    way = f"move step-00000030 out of {tmp_path} to go on from step-00000020"
    with pytest.raises(InputError, match=f"30/model.safetensors: weight `embed.W_E` .*\nhint: {way}"):
        load_training(tmp_path, *trained, World())
    # The one before has to be whole.
    kept = (older / "optimizer.safetensors").read_bytes()
    (older / "optimizer.safetensors").write_bytes(kept[:-100])
    with pytest.raises(InputError, match="weight `embed.W_E`") as refused:
        load_training(tmp_path, *trained, World())
    assert "go on from" not in str(refused.value)
    (older / "optimizer.safetensors").write_bytes(kept)
    newest.rename(tmp_path.parent / f"{tmp_path.name}-away")
    found = load_training(tmp_path, *trained, World())
    assert found is not None
    assert found[0].step == 20


@pytest.mark.parametrize("step", [25, 30])
def test_a_damaged_checkpoint_stays_until_a_whole_one_is_written(
    step: int, trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    damaged = tmp_path / "step-00000030" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="step-00000030 is damaged"):
        load_training(tmp_path, *trained, World())
    assert damaged.exists()
    model, optimizer = trained
    save_training(tmp_path, model, optimizer, TrainState(step=step), {}, World())
    assert {folder.name for folder in tmp_path.glob("step-*")} == {"step-00000020", f"step-000000{step}"}
    found = load_training(tmp_path, *trained, World())
    assert found is not None
    assert found[0].step == step


def test_a_file_with_the_name_of_a_checkpoint_is_none(
    trained: tuple[HybridLM, torch.optim.AdamW], tmp_path: Path
) -> None:
    (tmp_path / "step-00000099").write_text("x")
    found = load_training(tmp_path, *trained, World())
    assert found is not None
    assert found[0].step == 30


@pytest.mark.parametrize(
    "line", ["hello", "[1]", "{}", '{"step": "3"}', '{"step": 3', b"\xff\xfe".decode("latin1")]
)
def test_the_log_is_read_up_to_what_is_no_record(line: str, tmp_path: Path) -> None:
    whole = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    text = "".join(json.dumps(record) + "\n" for record in whole) + line + '\n{"step": 9}\n'
    (tmp_path / "metrics.jsonl").write_bytes(text.encode("latin1"))
    assert read_log(tmp_path / "metrics.jsonl") == whole
