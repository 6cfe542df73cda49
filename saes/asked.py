"""What is asked of a training on a run -> the activations it reads, and a directory of what came of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_gen.errors import InputError
from data_gen.files import atomic_directory, find_json, read_json, write_atomic
from data_gen.outputs import claim_directory
from saes.activations import Activations, HookedModel, locate, record_many
from saes.disk import SAE, save
from saes.finished import decisive, is_finished, is_made_with
from saes.places import WEIGHTS, Place, check_begin, check_free
from saes.recipes import ABOUT_HOOKS, check_number
from saes.room import check_rows, check_weights, tokens_per_row, widths_of
from saes.rows import MOST_DRAWN, tokens_of
from saes.stored import RECORDING, open_recording, record_to
from saes.training.config import Form, SAEConfig, difference
from saes.training.cross_layer import CrossLayerTranscoder
from saes.training.resume import METRICS
from saes.training.sae import TrainingRecord, check_k
from saes.truth.forms import sides
from saes.truth.watching import RoleWatch
from tinysql.config import from_json, to_json
from tinysql.models.hybrid import HybridLM
from tinysql.runs import Run, provenance
from tinysql.tokens import Tokenizer

ASKED, REPLACES = "asked.json", "overwrite"
"""What was asked for, beside the state of the training; and in it, whether that replaces what stands there."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One training on a run's own rows; see `saes.artefacts.train_on_run`."""

    run: Run
    place: Place
    members: Mapping[str, SAEConfig]
    """The settings of each member of a grid, or those of the one dictionary under an empty name."""
    hooks: tuple[str, ...]
    rows: int
    validation: int
    device: str
    overwrite: bool
    resume: bool
    on_disk: bool
    l0: float | None = None

    def finished(self, made: Mapping[Path, SAEConfig]) -> list[TrainingRecord] | None:
        """The records of all that is `made`, where that is to be gone on with and is finished; else None.

        Raises `InputError` where it was made with other settings.
        """
        settings = {path: decisive(self.run, config, self.hooks, self.rows) for path, config in made.items()}
        is_there = self.resume and is_finished(self.place, settings, self.l0)
        return [read_record(path) for path in made] if is_there else None

    def record(self, made: Mapping[Path, SAEConfig]) -> tuple[tuple[Activations, ...], RoleWatch | None]:
        """The activations to train on, once it is known that there is a place for all that is `made` of them, and a
        watch on others.

        Going on with a training that was cut off while it wrote replaces what it wrote, and nothing else.
        """
        place, goes_on = self.place, self.resume and self.place.state.is_dir()
        check_begin(place, self.rows, self.validation, overwrite=self.overwrite, resume=self.resume)
        form = next(iter(made.values())).form
        settings = self._repeated()
        replaces = _is_replacing(place, settings) if goes_on else self.overwrite
        model, tokenizer = self.run.load(self.device)
        check_hooks(model, self.hooks, form, hint=ABOUT_HOOKS)
        for path, config in made.items():
            may = replaces or (
                goes_on and is_made_with(path, decisive(self.run, config, self.hooks, self.rows))
            )
            check_free(place, path, may)
        self._check_room(model, tokenizer, tuple(made.values()))
        tokens = tokens_of(self.run, tokenizer, "train", self.rows)
        watch = None
        if self.validation:
            # Behind all rows that those trained on are chosen among.
            held_out = tokens_of(self.run, tokenizer, "train", self.validation, first=MOST_DRAWN * self.rows)
            seen = record_many(model, held_out, self.hooks, show_progress=True)
            if self.on_disk:  # whatever computed them, the processor trains on what it maps from a disk
                seen = tuple(replace(one, values=one.values.cpu()) for one in seen)
            watch = RoleWatch.of(*sides(seen, form))
        if not goes_on:
            place.clear()
        if not self.on_disk:
            recordings = record_many(model, tokens, self.hooks, show_progress=True)
        elif (place.activations / RECORDING).is_file():
            recordings = open_recording(place.activations)
        else:
            recordings = record_to(place.activations, model, tokens, self.hooks, show_progress=True)
        place.state.mkdir(parents=True, exist_ok=True)
        write_atomic(place.state / ASKED, json.dumps({**settings, REPLACES: replaces}))
        return recordings, watch

    def _check_room(self, model: HybridLM, tokenizer: Tokenizer, configs: Sequence[SAEConfig]) -> None:
        """Raise `InputError` for what the memory, or the disk, does not hold, and for a k above the latents."""
        widths, device = widths_of(model, self.hooks), model.device
        trained_on = torch.device("cpu") if self.on_disk else device
        half = len(widths) // 2
        for config in configs:
            check_k(config, widths[0])
            same = config.form in ("sae", "crosscoder")
            check_weights(
                config, widths if same else widths[:half], widths if same else widths[half:], trained_on
            )
        is_recorded = self.on_disk and (self.place.activations / RECORDING).is_file()
        check_rows(
            0 if is_recorded else self.rows,
            self.validation,
            tokens_per_row(self.run, tokenizer),
            widths,
            device,
            self.place.activations if self.on_disk else None,
        )

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A training that is refused before it kept anything to go on with leaves nothing behind."""
        try:
            yield
        except InputError:
            kept = (file for file in self.place.state.rglob("*") if file.is_file())
            if all(file.name in (ASKED, METRICS) for file in kept):
                self.place.clear()
            raise

    def write(
        self,
        path: Path,
        config: SAEConfig,
        dictionary: SAE | CrossLayerTranscoder,
        record: TrainingRecord,
        state: Path,
    ) -> None:
        """What came of it, as a whole directory; its log is taken from `state`."""
        wanted = {} if self.l0 is None else {"l0": self.l0}
        made = {**decisive(self.run, config, self.hooks, self.rows), **wanted, "made_by": provenance()}
        # What is there is replaced only now that there is something to replace it with.
        claim_directory(path, self.overwrite or self.resume)
        with atomic_directory(path) as folder:
            save(dictionary, folder)
            write_atomic(folder / "config.json", json.dumps(made, indent=1))
            write_atomic(folder / "metrics.json", json.dumps(to_json(record)))
            write_atomic(folder / METRICS, (state / METRICS).read_bytes())

    def _repeated(self) -> dict[str, Any]:
        """What a training that is gone on with must be asked for again."""
        made: dict[str, Any] = {
            "grid": ", ".join(self.members) or "none",
            "l0": "none" if self.l0 is None else self.l0,
            "hooks": ", ".join(self.hooks),
            "rows": self.rows,
            "validation": self.validation,
            "on_disk": self.on_disk,
            # Activations that were kept on disk are of the weights of then.
            WEIGHTS: self.run.fingerprint(),
            **to_json(next(iter(self.members.values()))),
        }
        return json.loads(json.dumps(made))


def check_hooks(model: HookedModel, hooks: Sequence[str], form: Form, *, hint: str) -> None:
    """`InputError` for a hook that the model does not have, and as `check_number` does."""
    for hook in hooks:
        locate(model, hook)
    check_number(hooks, form, hint=hint)


def _is_replacing(place: Place, settings: Mapping[str, Any]) -> bool:
    """Whether the training that was cut off replaces what stands there, which `settings` need not say again.

    Raises `InputError` where it was asked for with other settings.
    """
    then = find_json(place.state / ASKED)
    if then is None:
        return False
    replaces = bool(then.pop(REPLACES, False))
    if then != settings:
        raise InputError(
            f"the training of `{place.path.name}` that was cut off had other settings"
            f"{difference(then, dict(settings))}",
            hint="repeat its settings, or pass --overwrite in place of --resume to begin again",
        )
    return replaces


def read_record(path: Path) -> TrainingRecord:
    """The `metrics.json` of a dictionary's directory."""
    values = read_json(path / "metrics.json")
    watched = tuple(values.pop("watched", ()))
    return replace(from_json(TrainingRecord, values, where=str(path / "metrics.json")), watched=watched)
