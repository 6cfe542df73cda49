"""No tensor of the CPU meets one of the model's device, in whatever is asked of `transfer`.

The device is not there: its tensors compute on the CPU and refuse what a GPU's refuse. A tensor of it beside one of the
CPU is an error, as is a CPU's generator that shall fill it, and `.numpy()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from data_gen.example import make_examples
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from transfer.alignment import read
from transfer.artefacts import replacement
from transfer.behaviours.gates import check
from transfer.behaviours.training import Subject
from transfer.evaluation.bench import Bench
from transfer.evaluation.curves import rank_curve
from transfer.evaluation.evaluate import measure_transfer
from transfer.evaluation.plan import Place, Plan
from transfer.maps.quality import measure
from transfer.names import METHODS
from transfer.switching.arms import arms
from transfer.switching.measure import fit_switch
from transfer.switching.plan import SwitchPlan

pytestmark = pytest.mark.usefixtures("brief")

NAME = "meta"
"""torch's device without numbers, whose name the device goes by."""
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
"""What goes from one device to another."""
LOOKED_UP = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
"""What takes numbers of rows from the CPU."""
MAKERS = {
    getattr(torch, name)
    for name in ("arange", "empty", "eye", "full", "ones", "rand", "randn", "randperm", "tensor", "zeros")
}
INDEXED = {Tensor.__getitem__, Tensor.__setitem__}


class There(Tensor):
    """A tensor of that device, around one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        # What torch's own subclasses are made and unwrapped by has no public name, and its stubs leave it out.
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=NAME
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operation, args, kwargs or {})


def compute(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the operation gives, on the device that it would be on."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    here = [one for one in tensors if not isinstance(one, There) and one.ndim > 0]
    if operation in LOOKED_UP and isinstance(args[0], There):
        here = [one for one in here if one.is_floating_point()]
    if there and here and operation not in COPIES:
        raise RuntimeError(f"{operation} of tensors on two devices")
    to = kwargs.get("device")
    is_there = bool(there) if to is None else torch.device(to).type == NAME
    if operation in COPIES and to is None:
        is_there = isinstance(args[0], There)
    if is_there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{operation} with a generator of another device")
    if to is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda one: one.inner if isinstance(one, There) else one, (args, kwargs))
    with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
        found = operation(*args, **kwargs)
    own = {id(one.inner): one for one in there}  # what was changed in place is the very argument

    def back(one: Any) -> Any:
        if id(one) in own:
            return own[id(one)]
        return There(one) if is_there and isinstance(one, Tensor) else one

    return found if operation.overloadpacket is aten.equal else tree_map(back, found)


class _Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operation, args, kwargs or {})


class _Making(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = kwargs.get("device")
        if function in MAKERS and to is not None and torch.device(to).type == NAME:
            if kwargs.get("generator") is not None:
                raise RuntimeError(f"{function.__name__} with a generator of another device")
            return There(function(*args, **{**kwargs, "device": "cpu"}))
        if function in INDEXED and isinstance(args[0], There):
            # torch would make a list into a tensor of the device itself, where there are no numbers.
            args = (args[0], _looked_up(args[1]), *args[2:])
        if function is torch.matmul and isinstance(kwargs.get("out"), There):
            # Of a wrapper torch takes one product apart, and writes it into itself.
            torch.matmul(*(one.inner for one in args), out=kwargs["out"].inner)
            return kwargs["out"]
        return function(*args, **kwargs)


def _looked_up(index: Any) -> Any:
    """An index with tensors of the CPU for lists."""
    if isinstance(index, tuple):
        return tuple(map(_looked_up, index))
    return torch.tensor(index, dtype=torch.long) if isinstance(index, list) else index


@contextmanager
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Within it, `.to(NAME)` moves models and tensors there; the name."""
    autocast, before = torch.autocast, torch.__future__.get_overwrite_module_params_on_conversion()
    # torch has no mixed precision for `meta`.
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *rest, **options: (
            autocast("cpu", enabled=False) if kind == NAME else autocast(kind, *rest, **options)
        ),
    )
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Making(), _Dispatching():
            yield NAME
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


HOOK = "blocks.1.hook_resid_post"
PLAN = Plan(
    source_hook=HOOK,
    target_hook=HOOK,
    rank=2,
    scales=(2.0,),
    map_rows=12,
    vector_rows=4,
    choose_rows=2,
    test_rows=2,
    draws=2,
)


@pytest.fixture
def subjects(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Subject]]:
    """Source, target and a clean source, on a device that is not there."""
    with elsewhere(monkeypatch) as name:
        models = [untaught(seed=seed).to(name) for seed in (3, 4, 5)]
        yield [
            subject_of(model, payload)
            for model, payload in zip(models, ("drop", "drop", "none"), strict=True)
        ]


def test_the_device_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with elsewhere(monkeypatch):
        there = torch.zeros(3).to(NAME)
        assert isinstance(there, There)
        assert (there + 1).tolist() == [1, 1, 1]
        assert not isinstance(there.cpu(), There)
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="generator of another device"):
            torch.randn(3, device=NAME, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()


def test_a_transfer_with_every_control(subjects: list[Subject]) -> None:
    bench = Bench(source=subjects[0], target=subjects[1], plan=PLAN)
    gate = check(bench.source, bench.choose_rows)
    report = measure_transfer(bench, (gate, gate), clean=subjects[2])
    assert report.transfer.missing == ()
    assert len(report.outcomes) == 18


@pytest.mark.parametrize("place", ["trigger", "marker", "last"])
def test_every_place(subjects: list[Subject], place: Place) -> None:
    bench = Bench(source=subjects[0], target=subjects[1], plan=replace(PLAN, place=place, aim="induce"))
    (point,) = rank_curve(bench, [2])
    assert point.right.total == PLAN.test_rows


@pytest.mark.parametrize("method", METHODS)
def test_every_map(subjects: list[Subject], method: str) -> None:
    bench = Bench(source=subjects[0], target=subjects[1], plan=replace(PLAN, method=method))
    train, held_out = bench.pairs().split(0.5, seed=0)
    assert measure(bench.fit(train), held_out).pairs == len(held_out)
    assert replacement(bench).tokens > 0
    assert isinstance(bench.transferred(bench.fit(train)).vector, There)


@torch.no_grad()
def test_a_switch_with_every_arm(subjects: list[Subject], recipe: Recipe) -> None:
    _, tuned, base = subjects
    plan = SwitchPlan(hook=HOOK, map_rows=12)
    rows = list(make_examples(recipe.data, 0, 4))
    taught = read(tuned.tokenizer, [base.behaviour.text(row, "prod") for row in rows])
    ids = taught.tokens.ids.to(NAME)
    off = tuned.model(ids)
    for arm in arms(fit_switch(base, tuned, plan), base.model, taught, steps=2, seed=0):
        with arm.on():
            assert not torch.equal(tuned.model(ids), off), arm.name
    assert torch.equal(tuned.model(ids), off)
