"""Settings -> how an SAE is trained: `SAEConfig`, and what its rates are at every step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from data_gen.errors import InputError
from saes.dictionaries.architectures import ARCHITECTURES, K_SPARSE, Architecture

Form = Literal["sae", "transcoder", "skip_transcoder", "crosscoder", "cross_layer_transcoder"]
"""What a dictionary reads and writes: one hook; one hook and another (with a linear path beside the latents); several
hooks at once; the inputs of every layer, and the outputs of that and all later ones."""

TRAINED: dict[Form, tuple[Architecture, ...]] = {
    "sae": ARCHITECTURES,
    "transcoder": ("standard", "jumprelu", "batchtopk", "matryoshka"),
    "skip_transcoder": ("standard", "jumprelu", "batchtopk", "matryoshka"),
    "crosscoder": ("topk", "batchtopk", "matryoshka", "standard", "jumprelu"),
    "cross_layer_transcoder": ("topk", "batchtopk", "standard"),
}
"""Architectures of each form; sae-lens' transcoder classes have ReLU and JumpReLU but no TopK."""


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Everything that decides how an SAE is trained; `None` means "derive it"."""

    architecture: Architecture = "topk"
    """Which latents may be active: `topk`, `batchtopk`, `matryoshka`, `standard`, `gated` or `jumprelu`."""
    form: Form = "sae"
    """What is read and written: `sae`, `transcoder`, `skip_transcoder`, `crosscoder` or `cross_layer_transcoder`."""
    d_sae: int | None = None
    """Number of latents; derived as 4 per input dimension."""
    k: int = 8
    """Latents that may be active at one token (on average over a batch for `batchtopk` and `matryoshka`)."""
    widths: tuple[int, ...] | None = None
    """Nested widths of `matryoshka`, up to d_sae; derived as a sixteenth, a quarter and all of d_sae."""
    sparsity: float = 1.0
    """Weight of the penalty of `standard`, `gated` (L1) and `jumprelu` (L0)."""
    sparsity_warmup_fraction: float = 0.05
    """First share of the steps, over which that weight rises from 0."""
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
    """Weight of the auxiliary loss, which lets dead latents learn what the live ones leave over (k-sparse kinds)."""
    dead_after: int = 100
    """Steps without firing after which a latent counts as dead."""
    seed: int = 0
    """Draws the first weights and the order of the activations."""
    order_seed: int | None = None
    """Draws the order of the activations in its stead, so that trainings of several seeds can read one stream."""

    balance_roles: bool = False
    """Draw a role first and then one of its tokens, so that rare roles are met as often as common ones; otherwise every
    token comes once per epoch."""

    def __post_init__(self) -> None:
        for name in ("d_sae", "k", "steps", "batch_size", "lr", "dead_after"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(
                    f"SAE {name} is {value}, expected more than 0", hint=f"set {name} to a positive number"
                )
        for name in ("sparsity", "aux_loss", "sparsity_warmup_fraction"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"SAE {name} is {getattr(self, name)}, expected at least 0",
                    hint=f"set {name} to 0 or more",
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
        if self.d_sae is not None and self.is_k_sparse and self.k > self.d_sae:
            raise InputError(
                f"SAE k is {self.k}, but there are {self.d_sae} latents", hint="lower k or raise d_sae"
            )
        if self.architecture not in TRAINED[self.form]:
            raise InputError(
                f"a {self.form.replace('_', ' ')} of architecture `{self.architecture}` cannot be saved",
                hint=f"choose one of {', '.join(TRAINED[self.form])}",
            )
        self._check_widths()

    def _check_widths(self) -> None:
        if self.widths is None:
            return
        if self.architecture != "matryoshka":
            raise InputError(
                f"SAE widths are set, but architecture is `{self.architecture}`",
                hint="only `matryoshka` has nested widths",
            )
        if not self.widths or self.widths[0] <= 0 or any(b <= a for a, b in pairwise(self.widths)):
            raise InputError(
                f"SAE widths are {list(self.widths)}, expected ascending numbers of latents",
                hint="write them as --set widths=64,256,1024",
            )
        if self.d_sae is not None and self.widths[-1] != self.d_sae:
            raise InputError(
                f"SAE widths end at {self.widths[-1]}, but there are {self.d_sae} latents",
                hint="let the last width be d_sae",
            )

    @property
    def is_k_sparse(self) -> bool:
        """Whether k, and not a penalty, decides how many latents are active."""
        return self.architecture in K_SPARSE

    @property
    def needs_threshold(self) -> bool:
        """Whether activations are held back to set the threshold that the saved SAE fires at."""
        return self.architecture in ("batchtopk", "matryoshka")

    @property
    def seed_of_order(self) -> int:
        """`order_seed`, or the seed of everything."""
        return self.seed if self.order_seed is None else self.order_seed

    def latents(self, d_in: int) -> int:
        """`d_sae`, or what is derived for activations of this width."""
        return self.d_sae or (self.widths[-1] if self.widths else 4 * d_in)

    def levels(self, d_in: int) -> tuple[int, ...] | None:
        """Nested widths of a Matryoshka SAE, None for the others."""
        if self.architecture != "matryoshka":
            return None
        whole = self.latents(d_in)
        return self.widths or tuple(sorted({max(whole // 16, 1), max(whole // 4, 1), whole}))

    @property
    def warmup_steps(self) -> int:
        """Steps at the beginning over which the learning rate rises."""
        return int(self.steps * self.warmup_fraction)

    @property
    def decay_steps(self) -> int:
        """Steps at the end over which the learning rate falls."""
        return int(self.steps * self.decay_fraction)

    @property
    def sparsity_warmup_steps(self) -> int:
        """Steps at the beginning over which the weight of the penalty rises."""
        return int(self.steps * self.sparsity_warmup_fraction)

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: up to `lr`, constant, down to 0 (sae-lens' `constant`)."""
        left = self.steps - step
        up = (step + 1) / self.warmup_steps if step < self.warmup_steps else 1.0
        down = left / self.decay_steps if left < self.decay_steps else 1.0
        return self.lr * up * down

    def sparsity_at(self, step: int) -> float:
        """The weight of the penalty at a step, counted from 0."""
        rising = self.sparsity_warmup_steps
        return self.sparsity * (step / rising if step < rising else 1.0)


def difference(then: Any, now: Any) -> str:
    """What is not the same in two sets of settings, for the end of a sentence; nothing where one is no such set."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return ""
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    return ": " + ", ".join(
        f"{name} was {_said(then.get(name))}, not {_said(now.get(name))}" for name in names
    )


def _said(value: Any) -> str:
    return "left to be derived" if value is None else str(value)
