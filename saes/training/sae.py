"""Activations -> SAE: trained on activations held in memory, by the steps of `saes.dictionaries`.

Every activation comes once per epoch, in an order that the seed and the epoch determine. Activations are centred and
scaled to a mean squared norm of d_in before training, z = (x - mean) * s, and the two numbers are folded into the
weights afterwards, so that the SAE reads and writes raw activations. Losses, clipping and schedules are those of
sae-lens' `SAETrainer`, and so is the file format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from data_gen.seeding import stable_hash
from saes.activations import Activations, check_recorded
from saes.dictionaries.inference import calibrate, to_sae
from saes.disk import SAE
from saes.training.config import Form, SAEConfig
from saes.training.fitting import Fit, Watch, check_watch, fit, looking, scaled
from saes.training.loop import Loop
from saes.training.resume import fingerprint

CHECK_ROWS = 16_384
"""Rows on which the finished SAE's FVU, L0 and dead latents are measured."""
AT_ONCE = 65_536
"""Activations that are looked at together, which may be all that fit into memory of a recording on disk."""
HELD_BACK = 8
"""One in so many activations is kept from training where a threshold is to be set, up to `CHECK_ROWS`."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How training went; FVU, L0 and dead latents are those of the finished SAE on (up to 16,384) training rows."""

    tokens: int
    """Different activations trained on."""
    steps: int
    loss_steps: tuple[int, ...]
    """At which steps the loss was kept."""
    loss: tuple[float, ...]
    """All parts of the loss, per activation (of mean squared norm d_in)."""
    fvu: float
    """Fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean|^2."""
    l0: float
    """Mean number of active latents per token."""
    dead: int
    """Latents that never fired on the measured rows."""
    threshold: float | None = None
    """The threshold that `batchtopk` and `matryoshka` are saved with, set on activations held back from training."""
    watched: tuple[dict[str, int | float], ...] = ()
    """What `watch` said of the dictionary behind ten steps, each with its `step`; the last is the finished one's."""


@dataclass(frozen=True, kw_only=True)
class TrainedSAE:
    """An SAE for raw activations, and how it came about."""

    sae: SAE
    record: TrainingRecord


def train_sae(
    activations: Activations,
    config: SAEConfig,
    *,
    model_name: str = "tinysql",
    show_progress: bool = False,
    directory: Path | None = None,
    watch: Watch | None = None,
) -> TrainedSAE:
    """Train an SAE; the same activations and configuration give the same weights.

    The global random state is left as it was and no network is used. With a `directory`, state and metrics are
    written there, and training goes on, bit for bit, from what an earlier call left in it. `watch` is shown the SAE ten
    times, and what it says is kept in the record; `RoleWatch` scores it against roles. Raises `InputError` for
    what is no recording, such as a bare tensor, when there are fewer activations than one batch, when one is not
    finite or all are the same, when k exceeds the latents, when the memory does not hold so many, when the directory
    holds another training, and when the loss is not finite: then the last good state is kept.
    """
    check_watch(watch)
    check_recorded(activations)
    values = activations.values
    check_form(config, "sae")
    check(values, config)
    train, held_back = split(values, config)
    mean, scale = scaling(values)
    maker = Maker.of(activations, config, model_name, (train, held_back), (mean, scale))
    run = Fit(maker.loop, directory, lambda: fingerprint(values), looking(watch, maker.sae))
    fit(
        [run],
        train,
        lambda rows: (scaled(values, rows, mean, scale),),
        roles=activations.roles,
        title="training the SAE",
        show_progress=show_progress,
    )
    return maker.finished(run)


@dataclass(frozen=True, kw_only=True)
class Maker:
    """The parameters of a loop, at any step -> an SAE for raw activations."""

    loop: Loop
    raw: Callable[[Int[Tensor, " row"]], Float[Tensor, "row d_in"]]
    """Activations by their rows."""
    metadata: dict[str, Any]
    """What goes into its `cfg.json`; see `about`."""
    train: Int[Tensor, " train"]
    """Rows that it is trained on."""
    held_back: Int[Tensor, " held_back"]
    """Rows that a threshold is set on."""
    mean: Float[Tensor, " d_in"]
    scale: float | Float[Tensor, " d_in"]

    @staticmethod
    def of(
        activations: Activations,
        config: SAEConfig,
        model_name: str,
        rows: tuple[Int[Tensor, " train"], Int[Tensor, " held_back"]],
        scales: tuple[Float[Tensor, " d_in"], float],
    ) -> Maker:
        """Of an SAE of one hook in front of its first step; `rows` as `split` gives them, `scales` as `scaling`."""
        values, (train, held_back), (mean, scale) = activations.values, rows, scales
        return Maker(
            loop=Loop.begin(config, d_in=values.shape[1], device=values.device),
            raw=lambda rows: values[rows].float(),
            metadata=about(model_name, activations.hook),
            train=train,
            held_back=held_back,
            mean=mean,
            scale=scale,
        )

    def make(self) -> tuple[SAE, float | None]:
        """The SAE of the present parameters and, where its kind has one for all latents, its threshold."""
        config = self.loop.config
        sae = to_sae(
            self.loop.parameters,
            config.architecture,
            k=config.k,
            mean=self.mean,
            scale=self.scale,
            metadata=self.metadata,
            hooks=self.loop.hooks,
        )
        if not config.needs_threshold:
            return sae, None
        return sae, calibrate(sae, self.raw(self.held_back), l0=float(config.k))

    def sae(self) -> SAE:
        """The SAE of the present parameters."""
        return self.make()[0]

    def finished(self, run: Fit) -> TrainedSAE:
        """The SAE of a loop that has come to its end, and how it does on some of the rows."""
        sae, threshold = self.make()
        checked = self.raw(measured_rows(self.train))
        with torch.no_grad():
            latents = sae.encode(checked)
            record = recorded(latents, sae.decode(latents), checked, len(self.train), run, threshold)
        metadata: Any = sae.cfg.metadata
        metadata.l0, metadata.num_dead_features = record.l0, record.dead
        return TrainedSAE(sae=sae, record=record)


def about(model_name: str, hook: str) -> dict[str, Any]:
    """What sae-lens asks to know of what an SAE reads."""
    return {"model_name": model_name, "hook_name": hook, "prepend_bos": False}


def fvu(x: Float[Tensor, "token d_in"], x_hat: Float[Tensor, "token d_in"]) -> float:
    """Fraction of variance unexplained: 0 is perfect, 1 is no better than the mean."""
    return float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def scaling(values: Float[Tensor, "token d"]) -> tuple[Float[Tensor, " d"], float]:
    """The mean, and the factor that makes the mean squared norm d; a part of the rows at a time is in memory."""
    total = sum(part.sum(0, dtype=torch.float64) for part in values.split(AT_ONCE))
    mean = (total / len(values)).float()
    squares = [(part.float() - mean).square_().sum(dtype=torch.float64) for part in values.split(AT_ONCE)]
    spread = float(torch.stack(squares).sum() / len(values)) ** 0.5
    return mean, values.shape[1] ** 0.5 / max(spread, 1e-12)


def measured_rows(train: Int[Tensor, " train"]) -> Int[Tensor, " row"]:
    """Up to `CHECK_ROWS` of the rows trained on, evenly spread."""
    return train[:: max(len(train) // CHECK_ROWS, 1)][:CHECK_ROWS]


def recorded(
    latents: Float[Tensor, "token d_sae"],
    predicted: Float[Tensor, "token d"],
    wanted: Float[Tensor, "token d"],
    tokens: int,
    run: Fit,
    threshold: float | None,
) -> TrainingRecord:
    """How training went, measured on what the finished dictionary makes of some rows."""
    active = latents > 0
    return TrainingRecord(
        tokens=tokens,
        steps=run.loop.config.steps,
        loss_steps=tuple(run.loss),
        loss=tuple(run.loss.values()),
        fvu=fvu(wanted, predicted),
        l0=float(active.sum(1).float().mean()),
        dead=int((~active.any(0)).sum()),
        threshold=threshold,
        watched=watched_of(run),
    )


def watched_of(run: Fit) -> tuple[dict[str, int | float], ...]:
    """What was said of the dictionary at steps of its training, as a record keeps it."""
    return tuple({"step": step, **said} for step, said in run.watched.items())


def check_form(config: SAEConfig, *forms: Form) -> None:
    """`InputError` when the configuration is of something else."""
    if config.form not in forms:
        raise InputError(
            f"SAE form is `{config.form}`, expected {' or '.join(f'`{form}`' for form in forms)}",
            hint="each form has a training function of its own; set `form` to what is to be trained",
        )


def check(values: Float[Tensor, "token d_in"], config: SAEConfig) -> None:
    """`InputError` when these activations cannot be trained on."""
    if len(values) < config.batch_size:
        raise InputError(
            f"{len(values)} activations are fewer than one SAE batch of {config.batch_size}",
            hint="record more rows or lower batch_size",
        )
    if not all(bool(part.isfinite().all()) for part in values.split(AT_ONCE)):
        raise InputError("some activations are not finite", hint="check that the model's weights are whole")
    if all(bool((part == values[0]).all()) for part in values.split(AT_ONCE)):
        raise InputError(
            f"all {len(values)} activations are the same, so there is nothing to learn",
            hint="choose another hook, and check that the model was trained",
        )
    check_k(config, values.shape[1])


def check_k(config: SAEConfig, d_in: int) -> None:
    """`InputError` where more latents are to be active than there are for activations of that width."""
    latents = config.latents(d_in)
    if config.is_k_sparse and config.k > latents:
        raise InputError(
            f"SAE k is {config.k}, but there are {latents} latents", hint="lower k or raise d_sae"
        )


def split(
    values: Float[Tensor, "token d_in"], config: SAEConfig
) -> tuple[Int[Tensor, " train"], Int[Tensor, " held_back"]]:
    """Rows to train on, and rows to set a threshold on, which only some architectures need."""
    n = len(values)
    held = min(CHECK_ROWS, n // HELD_BACK, n - config.batch_size) if config.needs_threshold else 0
    if config.needs_threshold and held < 1:
        raise InputError(
            f"{n} activations leave none to set the threshold of `{config.architecture}` on",
            hint="record more rows or lower batch_size",
        )
    generator = torch.Generator().manual_seed(stable_hash("held back", config.seed_of_order))
    order = torch.randperm(n, generator=generator).to(values.device)
    return order[held:].sort().values, order[:held].sort().values
