"""Run -> RUN/saes/NAME: a dictionary of any form trained on a run's own model and rows, and an SAE's truth.

The directory appears whole or not at all and holds `cfg.json` and `sae_weights.safetensors` (sae-lens' own
format), `config.json` (what made it), `metrics.json` and `metrics.jsonl` (how training went, in sum and step by step);
`truth.json` comes with scoring. While it trains, its state stands in RUN/saes/.NAME.training, from which it goes on,
and, when they are kept on disk, its activations in RUN/saes/.NAME.activations.
Training reads the run's training rows, scoring its test rows, which share no schema with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from saes.activations import Activations
from saes.asked import Asked
from saes.disk import SAE
from saes.places import VALIDATION, WEIGHTS, Place
from saes.recipes import default_hooks
from saes.training.config import SAEConfig
from saes.training.cross_layer import CrossLayerTranscoder, train_cross_layer
from saes.training.crosscoders import train_crosscoder
from saes.training.grids import train_grid
from saes.training.penalty import FAR, NEAR, check_l0, chosen, search
from saes.training.sae import TrainingRecord, check_form, train_sae
from saes.training.transcoders import train_transcoder
from saes.truth.choosing import Choice, choose, read_choice
from saes.truth.watching import RoleWatch
from tinysql.runs import Run, provenance

SEARCH = "search.json"
"""Weights of a penalty that were tried, beside the state of the training that they are of."""


def train_on_run(
    run: Run,
    config: SAEConfig,
    *,
    name: str,
    hooks: Sequence[str] = (),
    rows: int = 2000,
    device: str = "cpu",
    overwrite: bool = False,
    resume: bool = False,
    on_disk: bool = False,
    l0: float | None = None,
    validation: int = VALIDATION,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingRecord:
    """Train on the activations of the first `rows` training examples and write RUN/saes/`name`.

    `hooks` are what the form reads, and after them what it writes when that is something else; those of
    `saes.recipes.default_hooks` unless given. `resume` goes on, bit for bit, where a training of that name was cut off,
    begins where none did, and gives the record of one that is finished.
    With `l0` the weight of the penalty of `standard`, `gated` or `jumprelu` is searched for at which so many latents
    are active per token, within a tenth; `say` hears of every trial, and where none comes as near. `on_disk` keeps the
    activations in bfloat16 in RUN/saes/.NAME.activations while it trains, for more than fit into memory. Ten times the
    latents are scored against the roles of `validation` further training examples, none of them trained on, and what is
    found stands in `metrics.jsonl` and in the record; 0 leaves that out.

    Raises `InputError` for a name with a slash in it, an unknown hook, a number of hooks that the form cannot have, a
    directory that is already there, unless `overwrite`, other settings than those of what is gone on
    with, an L0 of a kind that k decides, and one that no trial comes within a factor of two of.
    """
    place = Place.of(run.path, name)
    asked = Asked(
        run=run,
        place=place,
        members={"": config},
        hooks=tuple(hooks) or default_hooks(run.shape, config.form),
        rows=rows,
        validation=validation,
        device=device,
        overwrite=overwrite,
        resume=resume,
        on_disk=on_disk,
        l0=l0,
    )
    if l0 is not None:
        check_l0(config, l0)
        config = _found_before(config, place, l0) if resume else config
    if (records := asked.finished({place.path: config})) is not None:
        return records[0]
    recordings, watch = asked.record({place.path: config})
    with asked.begun():
        if l0 is not None:
            check_l0(replace(config, d_sae=config.latents(recordings[0].values.shape[1])), l0)
            config = _matched(recordings, config, place, run.path.name, l0, say)
        dictionary, record = train_form(recordings, config, run.path.name, place.state, watch)
    asked.write(place.path, config, dictionary, record, place.state)
    place.clear()
    return record


def _found_before(config: SAEConfig, place: Place, l0: float) -> SAEConfig:
    """With the weight of the penalty that the search of a cut-off training came to, if it came so far."""
    file = place.state / SEARCH
    weight = chosen(_tried(file), l0) if file.exists() else None
    return config if weight is None else replace(config, sparsity=weight)


def _tried(file: Path) -> dict[float, float]:
    return {float(weight): l0 for weight, l0 in read_json(file)["tried"].items()}


def _matched(
    recordings: Sequence[Activations],
    config: SAEConfig,
    place: Place,
    model_name: str,
    l0: float,
    say: Callable[[str], None],
) -> SAEConfig:
    """With the weight of the penalty that gives this L0; what was tried stays with the training's state."""
    file = place.state / SEARCH

    def l0_of(weight: float) -> float:
        found = train_form(recordings, replace(config, sparsity=weight), model_name)[1].l0
        say(f"penalty {weight:.4g}: L0 {found:.2f}")
        return found

    def keep(tried: Mapping[float, float]) -> None:
        write_atomic(file, json.dumps({"tried": tried}))

    weight = search(
        l0_of, l0, first=config.sparsity, tried=_tried(file) if file.exists() else None, keep=keep
    )
    tried = _tried(file)
    nearest = (
        f"of {len(tried)} trainings the nearest to an L0 of {l0:g} has {tried[weight]:.4g}, "
        f"at a penalty of {weight:.4g}"
    )
    if not 1 / FAR < tried[weight] / l0 < FAR:
        raise InputError(
            nearest,
            hint=f"train for more steps, or take that one: --set sparsity={weight:.4g} --overwrite in place of --l0",
        )
    if abs(tried[weight] / l0 - 1) > NEAR:
        say(nearest)
    return replace(config, sparsity=weight)


def train_grid_on_run(
    run: Run,
    configs: Mapping[str, SAEConfig],
    *,
    name: str,
    hooks: Sequence[str] = (),
    rows: int = 2000,
    device: str = "cpu",
    overwrite: bool = False,
    resume: bool = False,
    on_disk: bool = False,
    validation: int = VALIDATION,
) -> tuple[dict[str, TrainingRecord], Choice | None]:
    """Train SAEs over one recording, as `train_grid` does, and write each to RUN/saes/`name`,`member`.

    On the validation examples one is chosen (`saes.choose`), which RUN/saes/`name`.choice.json keeps. Everything else
    is as in `train_on_run`.
    """
    place = Place.of(run.path, name)
    paths = {member: place.of_member(member) for member in configs}
    for config in configs.values():
        check_form(config, "sae")
    asked = Asked(
        run=run,
        place=place,
        members=configs,
        hooks=tuple(hooks) or default_hooks(run.shape, "sae"),
        rows=rows,
        validation=validation,
        device=device,
        overwrite=overwrite,
        resume=resume,
        on_disk=on_disk,
    )
    made = {paths[member]: config for member, config in configs.items()}
    if (records := asked.finished(made)) is not None:
        choice = read_choice(place.choice) if place.choice.exists() else None
        return dict(zip(configs, records, strict=True)), choice
    recordings, watch = asked.record(made)
    with asked.begun():
        trained = train_grid(
            recordings[0],
            configs,
            model_name=run.path.name,
            show_progress=True,
            directory=place.state,
            watch=watch,
        )
    for member, one in trained.items():
        asked.write(paths[member], configs[member], one.sae, one.record, place.state / member)
    choice = None
    place.choice.unlink(missing_ok=True)  # an older grid's of the same name
    if watch is not None:
        try:
            choice = choose({member: one.sae for member, one in trained.items()}, watch)
        except InputError:
            # As where no latent fires: all is trained and written, and nothing is left to go on with.
            place.clear()
            raise
        made_of = {**choice.to_json(), WEIGHTS: run.fingerprint(), "made_by": provenance()}
        write_atomic(place.choice, json.dumps(made_of, indent=1))
    place.clear()
    return {member: one.record for member, one in trained.items()}, choice


def train_form(
    recordings: Sequence[Activations],
    config: SAEConfig,
    model_name: str,
    state: Path | None = None,
    watch: RoleWatch | None = None,
) -> tuple[SAE | CrossLayerTranscoder, TrainingRecord]:
    """What the form of the configuration makes of recordings of the hooks it reads, and then of those it writes.

    With a `state` directory, it goes on from what was left there; `watch` looks at it on its way.
    """
    shared: Any = {"model_name": model_name, "show_progress": True, "directory": state, "watch": watch}
    half = len(recordings) // 2
    if config.form == "cross_layer_transcoder":
        layers = train_cross_layer(recordings[:half], recordings[half:], config, **shared)
        return layers.transcoder, layers.record
    if config.form == "crosscoder":
        trained = train_crosscoder(recordings, config, **shared)
    elif config.form == "sae":
        trained = train_sae(recordings[0], config, **shared)
    else:
        trained = train_transcoder(recordings[0], recordings[1], config, **shared)
    return trained.sae, trained.record
