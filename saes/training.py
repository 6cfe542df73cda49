"""Activations -> SAE: a TopK SAE trained by sae-lens' own step on activations held in memory.

sae-lens brings the SAE, its loss (with the auxiliary loss for dead latents), its optimiser and its file
format. Ours are the batches: every activation once per epoch, in an order drawn from the seed.

Activations are centred and scaled to a mean squared norm of d_in before training, z = (x - mean) * s, and
the two numbers are folded into the weights afterwards, so that the SAE reads and writes raw activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.disk import SAE, stock
from tinysql.progress import progress

CHECK_ROWS = 16_384
"""Rows on which the finished SAE's FVU, L0 and dead latents are measured."""


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Everything that decides how an SAE is trained; `None` means "derive it"."""

    d_sae: int | None = None
    """Number of latents; derived as 4 per input dimension."""
    k: int = 8
    """Latents that may be active at one token."""
    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 512
    """Activations (tokens) per step."""
    lr: float = 4e-3
    """Adam's learning rate after warm-up."""
    warmup_fraction: float = 0.03
    """First share of the steps, over which the rate rises from nearly 0 to `lr`."""
    decay_fraction: float = 0.3
    """Last share of the steps, over which the rate falls to 0."""
    aux_loss: float = 1.0
    """Weight of the auxiliary loss, which lets dead latents learn what the live ones leave over."""
    dead_after: int = 100
    """Steps without firing after which a latent counts as dead."""
    seed: int = 0
    """Draws the first weights and the order of the activations."""

    def __post_init__(self) -> None:
        for name in ("d_sae", "k", "steps", "batch_size", "lr", "dead_after"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(
                    f"SAE {name} is {value}, expected more than 0", hint=f"set {name} to a positive number"
                )
        if (
            min(self.warmup_fraction, self.decay_fraction) < 0
            or self.warmup_fraction + self.decay_fraction >= 1
        ):
            raise InputError(
                f"SAE warmup_fraction {self.warmup_fraction} and decay_fraction {self.decay_fraction} "
                "are not shares that leave steps between them",
                hint="choose two shares of at least 0 that add up to less than 1",
            )
        if self.d_sae is not None and self.k > self.d_sae:
            raise InputError(
                f"SAE k is {self.k}, but there are {self.d_sae} latents", hint="lower k or raise d_sae"
            )

    @property
    def warmup_steps(self) -> int:
        """Steps at the beginning over which the learning rate rises."""
        return int(self.steps * self.warmup_fraction)

    @property
    def decay_steps(self) -> int:
        """Steps at the end over which the learning rate falls."""
        return int(self.steps * self.decay_fraction)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How training went; FVU, L0 and dead latents are those of the finished SAE on (up to 16,384) training rows."""

    tokens: int
    """Different activations trained on."""
    steps: int
    loss_steps: tuple[int, ...]
    """At which steps the loss was kept."""
    loss: tuple[float, ...]
    """Squared error per activation (of mean squared norm d_in) plus the auxiliary loss."""
    fvu: float
    """Fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean|^2."""
    l0: float
    """Mean number of active latents per token."""
    dead: int
    """Latents that never fired on the measured rows."""


@dataclass(frozen=True, kw_only=True)
class TrainedSAE:
    """An SAE for raw activations, and how it came about."""

    sae: SAE
    record: TrainingRecord


def train_sae(
    activations: Activations, config: SAEConfig, *, model_name: str = "tinysql", show_progress: bool = False
) -> TrainedSAE:
    """Train a TopK SAE; the same activations and configuration give the same weights.

    The global random state is left as it was; nothing is written and no network is used. Raises `InputError`
    when there are fewer activations than one batch, when one is not finite, or when k exceeds the latents.
    """
    values = activations.values
    _check(values, config)
    mean = values.mean(0)
    spread = (values - mean).square().sum(1).mean().sqrt()
    scale = float(values.shape[1] ** 0.5 / spread.clamp_min(1e-12))
    trainer = _start(values, config, hook=activations.hook, model_name=model_name)
    batches: Any = trainer.data_provider
    every = max(config.steps // 200, 1)
    loss: dict[int, float] = {}
    steps = range(config.steps)
    for step in progress(steps, total=config.steps, title="training the SAE") if show_progress else steps:
        # The same calls in the same order as `SAETrainer.fit`, which would also draw a bar of its own.
        trainer.maybe_reset_sparsity()
        output = trainer.step((next(batches) - mean) * scale)
        trainer.n_training_steps += 1
        if step % every == 0 or step == config.steps - 1:
            loss[step] = output.loss.item()
    trainer.set_final_sae_metadata()
    sae = _fold(trainer.sae, mean, scale)
    error, l0, dead = _measure(sae, values[:: max(len(values) // CHECK_ROWS, 1)][:CHECK_ROWS])
    kept = TrainingRecord(
        tokens=len(values),
        steps=config.steps,
        loss_steps=tuple(loss),
        loss=tuple(loss.values()),
        fvu=error,
        l0=l0,
        dead=dead,
    )
    return TrainedSAE(sae=sae, record=kept)


def fvu(x: Float[Tensor, "token d_in"], x_hat: Float[Tensor, "token d_in"]) -> float:
    """Fraction of variance unexplained: 0 is perfect, 1 is no better than the mean."""
    return float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def shuffled(
    values: Float[Tensor, "token d_in"], batch_size: int, seed: int
) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Endless batches: every row once per epoch in an order drawn from `seed`, the odd rest left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(values), generator=generator).to(values.device)
        for start in range(0, len(values) - batch_size + 1, batch_size):
            yield values[order[start : start + batch_size]]


def _check(values: Float[Tensor, "token d_in"], config: SAEConfig) -> None:
    if len(values) < config.batch_size:
        raise InputError(
            f"{len(values)} activations are fewer than one SAE batch of {config.batch_size}",
            hint="record more rows or lower batch_size",
        )
    if not bool(values.isfinite().all()):
        raise InputError("some activations are not finite", hint="check that the model's weights are whole")
    latents = config.d_sae or 4 * values.shape[1]
    if config.k > latents:
        raise InputError(
            f"SAE k is {config.k}, but there are {latents} latents", hint="lower k or raise d_sae"
        )


def _start(values: Float[Tensor, "token d_in"], config: SAEConfig, *, hook: str, model_name: str) -> Any:
    """sae-lens' trainer at step 0."""
    sae_lens = stock()
    sae_config = sae_lens.TopKTrainingSAEConfig(
        d_in=values.shape[1],
        d_sae=config.d_sae or 4 * values.shape[1],
        k=config.k,
        aux_loss_coefficient=config.aux_loss,
        metadata=sae_lens.saes.sae.SAEMetadata(model_name=model_name, hook_name=hook, prepend_bos=False),
    )
    # sae-lens draws the first weights from the global generator of the CPU.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        sae = sae_lens.TopKTrainingSAE(sae_config).to(values.device)
    trainer_config = sae_lens.config.SAETrainerConfig(
        total_training_samples=config.steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=config.lr,
        lr_end=config.lr,
        lr_warm_up_steps=config.warmup_steps,
        lr_decay_steps=config.decay_steps,
        device=str(values.device),
        dead_feature_window=config.dead_after,
    )
    return sae_lens.training.sae_trainer.SAETrainer(
        trainer_config, sae, shuffled(values, config.batch_size, config.seed)
    )


@torch.no_grad()
def _fold(trained: Any, mean: Float[Tensor, " d_in"], scale: float) -> SAE:
    """The same SAE for raw activations, with decoder rows of length 1 and latents in units of the activation.

    With n the lengths of the decoder rows: W_enc n, b_enc n / s, W_dec / n, b_dec / s + mean.
    """
    sae_lens = stock()
    config = sae_lens.TopKSAEConfig.from_dict(trained.cfg.get_inference_sae_cfg_dict())
    config.rescale_acts_by_decoder_norm = False
    with torch.random.fork_rng(devices=[]):
        sae = sae_lens.TopKSAE(config).to(mean.device)
    lengths = trained.get_W_dec_norm()
    sae.W_enc.copy_(trained.W_enc * lengths)
    sae.b_enc.copy_(trained.b_enc * lengths / scale)
    sae.W_dec.copy_(trained.W_dec / lengths[:, None])
    sae.b_dec.copy_(trained.b_dec / scale + mean)
    sae.requires_grad_(False)
    return sae


@torch.no_grad()
def _measure(sae: SAE, values: Float[Tensor, "token d_in"]) -> tuple[float, float, int]:
    """FVU, L0 and the number of latents that never fire."""
    latents = sae.encode(values)
    active = latents > 0
    return fvu(values, sae.decode(latents)), float(active.sum(1).float().mean()), int((~active.any(0)).sum())
