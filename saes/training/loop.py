"""Batches -> parameters: one training's state and its step, in which nothing is read back from the device.

On a GPU the step is replayed from a recording (`saes.training.replay`), so all of the state is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.dictionaries import adam as adams
from saes.dictionaries import dense, layers, topk
from saes.dictionaries.auxiliary import Dead
from saes.dictionaries.layers import first_layers
from saes.dictionaries.parameters import Gradients, first_parameters
from saes.room import check_weights, room_for
from saes.training.config import SAEConfig
from saes.training.replay import Replay
from tinysql.devices import can_record

LOOK_EVERY = {"cpu": 1}
"""Steps between two looks at the number of dead latents; 16 where a look makes the device wait."""
ROOMS = 16
"""How many sizes of room for dead latents there are on a GPU, each a recording of its own."""


class Loop:
    """Parameters, optimiser and counters of one training."""

    def __init__(
        self,
        config: SAEConfig,
        parameters: dict[str, Tensor],
        since_fired: Int[Tensor, " latents"],
        hooks: tuple[int, ...] | None = None,
    ) -> None:
        """At step 0; `begin` draws the parameters.

        `hooks` are the widths of what lies side by side in the input of a crosscoder or a cross-layer transcoder.
        """
        self.config = config
        self.hooks = hooks
        self.parameters = parameters
        self.adam = adams.start(parameters, config.lr)
        self.since_fired = since_fired
        """Steps since each latent was last above 0."""
        self.step = 0
        """Steps done."""
        self.good = torch.zeros((), dtype=torch.long, device=since_fired.device)
        """Steps done before a gradient was not finite."""
        self.room = 0
        """At least the number of dead latents until the next look."""
        self.rates: dict[str, Tensor] = {}
        """Where steps are recorded the learning rate and the penalty's weight, which a recording reads."""
        self.replay: Replay | None = None
        if can_record(since_fired.device):
            self.rates = {name: torch.zeros((), device=since_fired.device) for name in ("lr", "sparsity")}
            self.replay = Replay()
        self.widths = None
        if config.architecture == "matryoshka":
            self.widths = config.levels(hooks[0] if hooks else parameters["encoder"].shape[1])

    @staticmethod
    def begin(
        config: SAEConfig,
        *,
        d_in: int,
        device: torch.device,
        d_out: int | None = None,
        skip: bool = False,
        hooks: tuple[int, ...] | None = None,
    ) -> Loop:
        """The first parameters, drawn from the seed; with `d_out`, a transcoder's; with `hooks`, a crosscoder's."""
        d_sae = config.latents(hooks[0] if hooks else d_in)
        check_weights(
            config, (d_in,) if hooks is None else hooks, (d_in if d_out is None else d_out,), device
        )
        with room_for(d_sae, d_in):
            parameters = first_parameters(
                config.architecture,
                d_in=d_in,
                d_sae=d_sae,
                d_out=d_out,
                skip=skip,
                hooks=hooks,
                seed=config.seed,
                device=device,
            )
            return Loop(config, parameters, torch.zeros(d_sae, dtype=torch.long, device=device), hooks)

    @staticmethod
    def begin_layers(
        config: SAEConfig, *, n_layers: int, d_in: int, d_out: int, device: torch.device
    ) -> Loop:
        """The first parameters of a cross-layer transcoder, whose layers are all of these widths."""
        d_sae = config.latents(d_in)
        check_weights(config, (d_in,) * n_layers, (d_out,) * n_layers, device)
        with room_for(n_layers * d_sae, d_in):
            parameters = first_layers(
                config.architecture,
                layers=n_layers,
                d_in=d_in,
                d_out=d_out,
                d_sae=d_sae,
                seed=config.seed,
                device=device,
            )
            silent = torch.zeros(n_layers * d_sae, dtype=torch.long, device=device)
            return Loop(config, parameters, silent, (d_in,) * n_layers)

    @torch.no_grad()
    def advance(
        self, x: Float[Tensor, "batch d_in"], y: Float[Tensor, "batch d_out"] | None = None
    ) -> Gradients:
        """One step on one batch; `y` is what a transcoder is to write.

        On a GPU the next step overwrites what is returned.
        """
        room = self._look()
        if self.replay is None:
            found = self._step(x, y, room)
        else:
            self.rates["lr"].fill_(self.config.lr_at(self.step))
            self.rates["sparsity"].fill_(self.config.sparsity_at(self.step))
            found = self.replay(self._step, x, y, room)
        self.step += 1
        return found

    def _step(self, x: Tensor, y: Tensor | None, room: int) -> Gradients:
        """What is done on the device; numbers that differ from step to step are read from tensors there."""
        lr = self.rates.get("lr", self.config.lr_at(self.step))
        found = self._gradients(x, y, room)
        adams.update(self.adam, found.of, lr)
        since = torch.where(found.fired > 0, 0, self.since_fired + 1)
        self.since_fired.copy_(torch.where(self.adam.broken, self.since_fired, since))
        self.good += ~self.adam.broken
        return found

    def _gradients(
        self, x: Float[Tensor, "batch d_in"], y: Float[Tensor, "batch d_out"] | None, room: int
    ) -> Gradients:
        config = self.config
        sparsity = self.rates.get("sparsity", config.sparsity_at(self.step))
        if config.form == "cross_layer_transcoder":
            assert y is not None, "a transcoder has something to write"
            assert self.hooks is not None, "`begin_layers` sets them"
            return layers.step(
                config.architecture,
                self.parameters,
                x,
                y,
                layers=len(self.hooks),
                k=config.k,
                sparsity=sparsity,
                dead=self._dead(room) if config.is_k_sparse else None,
            )
        if config.is_k_sparse:
            return topk.step(
                self.parameters,
                x,
                y,
                k=config.k,
                per_batch=config.architecture != "topk",
                widths=self.widths,
                hooks=self.hooks,
                dead=self._dead(room),
            )
        return dense.step(config.architecture, self.parameters, x, y, sparsity=sparsity, hooks=self.hooks)

    def metrics(self, result: Gradients) -> dict[str, float]:
        """The last step in numbers, which waits for the device."""
        parts = {name: float(value) for name, value in result.losses.items()}
        return {
            "loss": sum(parts.values()),
            **parts,
            "l0": float(result.fired.sum()) / self.config.batch_size,
            "dead": int((self.since_fired > self.config.dead_after).sum()),
            "lr": self.config.lr_at(self.step - 1),
        }

    def is_broken(self) -> bool:
        """Whether some gradient was not finite, since when nothing has changed; waits for the device."""
        return bool(self.adam.broken)

    def good_steps(self) -> int:
        """Steps before that."""
        return int(self.good)

    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs beside the configuration and the step."""
        return {
            **{f"parameters/{name}": value for name, value in self.parameters.items()},
            **{f"adam/{name}": value for name, value in adams.state(self.adam).items()},
            "since_fired": self.since_fired,
            "room": torch.tensor(self.room),
        }

    def restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Go on after `step` steps; `InputError` when the tensors are not those of this configuration."""
        wrong = sorted(
            name
            for name, value in self.parameters.items()
            if f"parameters/{name}" not in tensors or tensors[f"parameters/{name}"].shape != value.shape
        )
        if wrong:
            raise InputError(
                f"the saved state does not hold `{wrong[0]}` of shape {list(self.parameters[wrong[0]].shape)}",
                hint="remove it and train anew",
            )
        for name, value in self.parameters.items():
            value.copy_(tensors[f"parameters/{name}"])
        moments = {
            key.removeprefix("adam/"): value for key, value in tensors.items() if key.startswith("adam/")
        }
        adams.restore(self.adam, moments)
        self.since_fired.copy_(tensors["since_fired"])
        self.room = int(tensors["room"])
        self.step = step
        self.good.fill_(step)
        if self.replay is not None:  # what it recorded reads the moments from where they were
            self.replay = Replay()

    def _look(self) -> int:
        """Room for the dead latents there may be by now; 0 where there can be none."""
        config: Any = self.config
        if not config.is_k_sparse or config.aux_loss == 0:
            return 0
        every = LOOK_EVERY.get(self.since_fired.device.type, 16)
        if self.step % every == 0:
            # A latent that is dead at a step before the next look has been silent for that much less by now.
            self.room = int((self.since_fired > config.dead_after - every + 1).sum())
        if self.replay is None:
            return self.room
        d_sae = len(self.since_fired)
        grain = -(-d_sae // ROOMS)
        return min(-(-self.room // grain) * grain, d_sae)

    def _dead(self, room: int) -> Dead | None:
        """Latents silent for longer than `dead_after`, or None where there is no room for one."""
        config: Any = self.config
        if room == 0:
            return None
        return Dead(mask=self.since_fired > config.dead_after, room=room, coefficient=config.aux_loss)
