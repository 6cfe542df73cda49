"""Recorded rows -> trained loops: logged, guarded, saved, and gone on with bit for bit where they were cut off.

Everything that can be trained comes through here: one loop, or several over the same rows in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from data_gen.seeding import stable_hash
from saes.activations import described
from saes.dictionaries.parameters import Gradients
from saes.roles import Roles
from saes.training.loop import Loop
from saes.training.resume import Clock, MetricsLog, load_state, save_state
from tinysql.progress import Bar

LOGGED, SAVED = 200, 10
"""How often a training logs its loss, and how often its dictionary is looked at and its state saved whatever the clock
says: behind every step where there are fewer."""

WATCHED = "held_out"
"""What the numbers about the dictionary stand under in a line of the log."""

Batch = Callable[[Int[Tensor, " batch"]], tuple[Tensor, ...]]
"""Rows -> what a step reads (and, for transcoders, what it is to write), centred and scaled."""
Watch = Callable[[Any], Mapping[str, float]]
"""A dictionary as it is by now -> numbers about it, as `saes.RoleWatch` gives them; it changes nothing."""


@runtime_checkable
class Particular(Protocol):
    """A watch that is not for every dictionary."""

    def check(self, dictionary: Any) -> None:
        """`InputError` for one that it cannot look at."""


class Fit:
    """One loop on its way to the last step, with its log and the directory it can go on from."""

    def __init__(
        self,
        loop: Loop,
        directory: Path | None,
        data: Callable[[], str],
        watched: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """At the first step, or where an earlier training in `directory` stood.

        `data` names the activations, and is asked only when there is a directory. `watched` is asked `SAVED` times for
        numbers about the dictionary as it is by then. Raises `InputError` when another training left its state there.
        """
        self.loop, self.directory, self._watched = loop, directory, watched
        self.data = data() if directory is not None else ""
        if directory is not None and (saved := load_state(directory, loop.config, self.data)) is not None:
            loop.restore(saved.step, saved.tensors)
        self._saved = loop.step
        """At which step the newest state in the directory is; one of step 0 is not worth a file."""
        self.log = MetricsLog(directory, loop.step)
        lines = self.log.read()
        self.loss: dict[int, float] = {line["step"]: line["loss"] for line in lines}
        """The logged losses by their steps."""
        self.watched: dict[int, dict[str, float]] = {
            line["step"]: line[WATCHED] for line in lines if WATCHED in line
        }
        """What `watched` said, by the step behind which it was asked."""

    def advance(self, batch: tuple[Tensor, ...]) -> None:
        """One step; `InputError` when its gradient is not finite: then the last good state is kept."""
        loop, steps = self.loop, self.loop.config.steps
        step = loop.step
        result = loop.advance(*batch)
        last = loop.step == steps
        due = loop.step * SAVED // steps > step * SAVED // steps
        if step % max(steps // LOGGED, 1) == 0 or last or (due and self._watched is not None):
            self._note(step, result, due)
        if due:
            self.check_finite()
            self.save()

    def save(self) -> None:
        """Write the state of now, which must be finite; nothing without a directory, or where it is written already."""
        loop = self.loop
        if self.directory is not None and self._saved != loop.step:
            save_state(self.directory, loop.config, self.data, step=loop.step, tensors=loop.state())
            self._saved = loop.step

    def _note(self, step: int, result: Gradients, due: bool) -> None:
        self.check_finite()
        line: dict[str, Any] = {"step": step, **self.loop.metrics(result)}
        self.loss[step] = line["loss"]
        if due and self._watched is not None:
            self.watched[step] = line[WATCHED] = _numbers(self._watched())
        self.log.add(line)

    def check_finite(self) -> None:
        """`InputError` at a loss that is not finite, nothing having changed since the step before it; waits for the
        device."""
        loop, directory = self.loop, self.directory
        if not loop.is_broken():
            return
        good = loop.good_steps()
        kept = ""
        if directory is not None:
            save_state(directory, loop.config, self.data, step=good, tensors=loop.state())
            kept = f"; the state before it is kept in {directory}"
        raise InputError(
            f"the gradient of step {good} is not finite (lr {loop.config.lr}){kept}",
            hint="lower lr, or look for activations of extreme size",
        )


def check_watch(watch: Watch | None) -> None:
    """`InputError` for a watch that is no function, before a step is done."""
    if watch is not None and not callable(watch):
        raise InputError(
            f"watch is {described(watch)}, expected a function of the dictionary",
            hint="as in watch=saes.RoleWatch.of(saes.record(model, held_out, hook))",
        )


def looking(watch: Watch | None, make: Callable[[], Any]) -> Callable[[], Mapping[str, float]] | None:
    """What `watch` says of the dictionary that is made by then.

    Raises `InputError` at once, and not at the first look, where it cannot look at such a one.
    """
    if watch is None:
        return None
    if isinstance(watch, Particular):
        watch.check(make())
    return lambda: watch(make())


def _numbers(said: Any) -> dict[str, float]:
    """What a watch said, as the log and the record keep it; `InputError` for anything but finite numbers by names."""
    try:
        found = {str(name): float(value) for name, value in dict(said).items()}
    except (TypeError, ValueError, RuntimeError):
        found = {"": math.nan}
    if not all(map(math.isfinite, found.values())):
        raise InputError(
            f"watch gave {str(said)[:80]}, expected finite numbers by their names",
            hint='as in {"fvu": 0.1}; the training goes on from its last state with another watch',
        )
    return found


def fit(
    fits: Sequence[Fit],
    rows: Int[Tensor, " token"],
    batch: Batch,
    *,
    roles: Sequence[str],
    title: str,
    show_progress: bool,
) -> None:
    """Train all to their last steps on these rows; every batch is put together once and read by all.

    They share the batch size, the seed of the order and whether roles are balanced (those of the first count), and
    their states are saved together where the clock says so, which changes no bit of what is trained. `roles` are of all
    rows there are, those left out included.
    """
    config = fits[0].loop.config
    first = min(fit.loop.step for fit in fits)
    last = max(fit.loop.config.steps for fit in fits)
    family = Roles.of(tuple(roles), rows.device).families.label[rows] if config.balance_roles else None
    order = batches(rows, config.batch_size, config.seed_of_order, start=first, family=family)
    clock = Clock()
    with Bar(title, active=show_progress) as bar:
        for step in range(first, last):
            read = batch(next(order))
            for one in fits:
                # One that was saved later than the others when training was cut off waits for them.
                if one.loop.step == step < one.loop.config.steps:
                    one.advance(read)
            if clock.is_due():
                for one in fits:
                    one.check_finite()  # waits for the device, which is no part of the writing
                with clock.writing():
                    for one in fits:
                        one.save()
            if step % max(last // LOGGED, 1) == 0 or step + 1 == last:
                losses = [next(reversed(one.loss.values())) for one in fits if one.loss]
                shown = {"loss": sum(losses) / max(len(losses), 1)}
                if len(fits) == 1 and fits[0].watched:
                    said = fits[0].watched[max(fits[0].watched)]
                    shown |= dict(list(said.items())[:1])
                bar.show(step + 1, last, shown)


def batches(
    rows: Int[Tensor, " token"],
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    family: Int[Tensor, " token"] | None = None,
) -> Iterator[Int[Tensor, " batch"]]:
    """Endless batches from step `start` on: every row once per epoch, in an order of its own, the odd rest left out.

    With the role `family` of each row, an epoch is as many draws of a family, each as likely, and of one of its rows.
    """
    per_epoch = len(rows) // batch_size
    epoch, first = divmod(start, per_epoch)
    while True:
        generator = torch.Generator().manual_seed(stable_hash("epoch", seed, epoch))
        if family is None:
            order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        else:
            order = rows[_balanced(family, generator)]
        for batch in range(first, per_epoch):
            yield order[batch * batch_size : (batch + 1) * batch_size]
        epoch, first = epoch + 1, 0


def _balanced(family: Int[Tensor, " token"], generator: torch.Generator) -> Int[Tensor, " token"]:
    """As many draws as there are tokens, with replacement; families that are not there are never drawn."""
    by_family = family.argsort(stable=True)
    count = torch.bincount(family)
    begin = count.cumsum(0) - count
    there = count.nonzero()[:, 0]
    # Two draws per token from the CPU's generator, whatever the device.
    which = torch.rand(len(family), generator=generator, dtype=torch.float64).to(family.device)
    within = torch.rand(len(family), generator=generator, dtype=torch.float64).to(family.device)
    drawn = there[(which * len(there)).long()]
    return by_family[begin[drawn] + (within * count[drawn]).long()]


def scaled(
    values: Float[Tensor, "token d"],
    rows: Int[Tensor, " batch"],
    mean: Float[Tensor, " d"],
    scale: Float[Tensor, " d"] | float,
) -> Float[Tensor, "batch d"]:
    """These rows as a step reads them."""
    return (values[rows].float() - mean) * scale
