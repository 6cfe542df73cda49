"""One stream of activations -> a grid of SAEs over it: seeds x k x width x architecture, each as if trained alone.

What the members share is done once: recording, centring, the gathering of every batch. Members that keep rows back for
a threshold read a stream of their own, as they have fewer rows. A member has the bits of its lone training because its
steps are the same steps; only what lies between them is shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_gen.errors import InputError
from saes.activations import Activations, check_recorded
from saes.training.config import SAEConfig
from saes.training.fitting import Fit, Watch, check_watch, fit, looking, scaled
from saes.training.resume import fingerprint
from saes.training.sae import Maker, TrainedSAE, check, check_form, scaling, split


def train_grid(
    activations: Activations,
    configs: Mapping[str, SAEConfig],
    *,
    model_name: str = "tinysql",
    show_progress: bool = False,
    directory: Path | None = None,
    watch: Watch | None = None,
) -> dict[str, TrainedSAE]:
    """Train all of them over one stream; every member equals, bit for bit, `train_sae` with its configuration.

    With a `directory`, each member's state and metrics are in a directory of its name in it, and a grid that was cut
    off goes on. `watch` is shown every member ten times, as in `train_sae`; `saes.choose` chooses among the finished
    ones. Members of one order and batch size are in step with each other; others follow one after the other.
    Raises `InputError` as `train_sae` does, before the first step where that can be known.
    """
    check_watch(watch)
    check_recorded(activations)
    values = activations.values
    if not configs:
        raise InputError("the grid has no member", hint="make one with `saes.grid`")
    for config in configs.values():
        check_form(config, "sae")
    for config in {(c.batch_size, c.k, c.d_sae, c.is_k_sparse): c for c in configs.values()}.values():
        check(values, config)
    mean, scale = scaling(values)
    data = fingerprint(values) if directory is not None else ""
    made: dict[str, TrainedSAE] = {}
    for names in _streams(configs):
        rows = split(values, configs[names[0]])
        makers = {
            name: Maker.of(activations, configs[name], model_name, rows, (mean, scale)) for name in names
        }
        runs = {
            name: Fit(
                maker.loop,
                directory / name if directory is not None else None,
                lambda: data,
                looking(watch, maker.sae),
            )
            for name, maker in makers.items()
        }
        fit(
            list(runs.values()),
            rows[0],
            lambda rows: (scaled(values, rows, mean, scale),),
            roles=activations.roles,
            title=f"training {len(names)} SAEs",
            show_progress=show_progress,
        )
        made |= {name: maker.finished(runs[name]) for name, maker in makers.items()}
    return {name: made[name] for name in configs}


def _streams(configs: Mapping[str, SAEConfig]) -> list[list[str]]:
    """Names of the members that read the same batches."""
    streams: dict[tuple[int, int, bool, bool], list[str]] = {}
    for name, config in configs.items():
        key = (config.batch_size, config.seed_of_order, config.needs_threshold, config.balance_roles)
        streams.setdefault(key, []).append(name)
    return list(streams.values())
