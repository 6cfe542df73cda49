"""SAE <-> directory, in sae-lens' own format: `cfg.json` and `sae_weights.safetensors`."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from data_gen.errors import InputError, nearest
from data_gen.files import read_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


@runtime_checkable
class SAE(Protocol):
    """What this package asks of an SAE; every inference class of sae-lens is one.

    `latents = activation((x - b_dec) @ W_enc + b_enc)`, `x ~ latents @ W_dec + b_dec`.
    """

    cfg: Any
    """sae-lens' configuration; `cfg.metadata.hook_name` names the hook it was trained on."""
    if TYPE_CHECKING:
        # A module finds its parameters only when it is asked, and from Python 3.12 on `isinstance` does not ask.
        W_enc: Float[Tensor, "d_in d_sae"]
        W_dec: Float[Tensor, "d_sae d_in"]
        b_enc: Float[Tensor, " d_sae"]
        b_dec: Float[Tensor, " d_in"]

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by name."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """Activations `[..., d_in]` -> latents `[..., d_sae]`."""
        ...

    def decode(self, feature_acts: Tensor) -> Tensor:
        """Latents `[..., d_sae]` -> reconstructions `[..., d_in]`."""
        ...


def stock() -> Any:
    """The module `sae_lens`, imported when first needed: that takes seconds."""
    # It imports a part of TransformerLens that warns of its own removal, which no user of ours can act on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("sae_lens")


@runtime_checkable
class Savable(Protocol):
    """What knows how to write itself: every class of sae-lens, and a `CrossLayerTranscoder`."""

    def save_model(self, path: Path) -> Any:
        """Write `cfg.json` and `sae_weights.safetensors` into an existing directory."""
        ...


def save(sae: SAE | Savable, directory: str | Path) -> None:
    """Write `sae` into a directory, made if need be, so that a stock `sae_lens.SAE.load_from_disk` reads an SAE."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        cast(Savable, sae).save_model(directory)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write an SAE to {directory} ({error})", hint="make room or choose another directory"
        ) from error
    # safetensors leaves its files readable by their owner alone.
    shutil.copymode(directory / CONFIG, directory / WEIGHTS)


def load(path: str | Path, device: str = "cpu") -> SAE:
    """Read a directory that `save` or sae-lens wrote; `InputError` when it is none or a file is cut short."""
    path = Path(path)
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} is not an SAE directory: it has no {missing[0]}",
            hint="name one that `tinysql sae train` made",
        )
    config = read_json(path / CONFIG)
    if config.get("architecture") == "cross_layer_transcoder":
        raise InputError(
            f"{path} holds a cross-layer transcoder, which sae-lens has no class for",
            hint="read it with `saes.load_cross_layer`",
        )
    _check_config(path, config)
    try:
        return cast(SAE, stock().SAE.load_from_disk(path, device=device))
    except SafetensorError as error:
        raise weights_cut_short(path, error) from error
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: an SAE of architecture {config.get('architecture')!r} cannot be built "
            f"({' '.join(str(error).split())})",
            hint=f"{CONFIG} and {WEIGHTS} must come from the same SAE",
        ) from error


def weights_cut_short(path: Path, error: Exception) -> InputError:
    """The refusal of the weights in a directory, which could not be read."""
    return InputError(f"{path / WEIGHTS} is not a whole file of weights ({error})", hint=_again(path))


def _again(path: Path) -> str:
    """How the SAE of a directory is made again; where it lies in a run, that run and its name are known."""
    if path.parent.name != "saes":
        return "restore the file, or train the SAE again and `saes.save` it"
    # A member of a grid is called by the grid's name and its own settings.
    run, name = path.parent.parent, path.name.partition(",")[0]
    return (
        f"restore the file, or repeat `tinysql sae train {run} --name {name} --overwrite` with its settings"
    )


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """What sae-lens would only stumble over when it encodes, or with an error that does not say what is wrong."""
    known = list(stock().registry.SAE_CLASS_REGISTRY)
    kind, k, latents = config.get("architecture"), config.get("k"), config.get("d_sae")
    if kind not in known:
        raise InputError(
            f"{path / CONFIG}: architecture is {kind!r}{nearest(str(kind), known)}",
            hint=f"sae-lens has {', '.join(known)}",
        )
    if kind == "topk" and not (isinstance(k, int) and isinstance(latents, int) and 0 < k <= latents):
        raise InputError(
            f"{path / CONFIG}: k is {k!r}, expected a number from 1 to the {latents!r} latents",
            hint=f"{CONFIG} must be the one that was saved with {WEIGHTS}",
        )
