"""A run is a directory: what made it, the tokenizer, the weights, and everything found in them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.config import DataConfig
from data_gen.draw.splits import Split
from data_gen.errors import InputError, nearest
from data_gen.files import read_json, write_atomic
from data_gen.outputs import MARKERS
from tinysql.config import from_json, to_json
from tinysql.models.config import ModelConfig
from tinysql.models.sources import check_tensors

# Whether a run is there is known before anything is loaded that takes seconds.
if TYPE_CHECKING:
    import torch

    from tinysql.models.hybrid import HybridLM
    from tinysql.recipes import Recipe
    from tinysql.tokens import Tokenizer

PIECES, PIECE = 1024, 4096
"""How many pieces of a file of weights name it, and their bytes."""
WEIGHTS = {"final": "model.safetensors", "best": "best.safetensors"}
"""The weights of a run that can be loaded: those that training ended with, and those of the best grade on the way."""
SEEDS = ("data.seed", "train.seed")
"""Settings of a recipe that --seed decides."""
RECORDED = ("torch", "transformer-lens", "sae-lens", "tokenizers", "datasets", "sqlglot", "numpy")


@dataclass(frozen=True)
class Run:
    """An existing run directory."""

    path: Path
    config: dict[str, Any]

    @cached_property
    def recipe(self) -> Recipe:
        """Data, tokenizer, model and training, fully resolved."""
        from tinysql.recipes import Recipe

        return from_json(Recipe, self.config["recipe"], where=f"{self.path / 'config.json'}: recipe")

    @property
    def shape(self) -> ModelConfig:
        """The model as it was built, its vocabulary included."""
        if "model" not in self.config:
            raise InputError(
                f"{self.path / 'config.json'} has no `model`", hint="restore the file, or train again"
            )
        return from_json(ModelConfig, self.config["model"], where=f"{self.path / 'config.json'}: model")

    @property
    def data(self) -> DataConfig:
        """How the training rows were made; its other splits share no schema with them."""
        return self.recipe.data

    def split(self, name: Split) -> DataConfig:
        """How rows of a split are made: `train`, `test` (unseen schemas) or `names` (unseen names)."""
        return replace(self.data, split=name)

    def load(
        self, device: torch.device | str = "cpu", *, weights: str = "final"
    ) -> tuple[HybridLM, Tokenizer]:
        """The trained model, in evaluation mode, and its tokenizer.

        `weights` is `final`, or `best`: those of the best grade, which `train.grade_every` keeps. Raises `InputError`
        where the run has none of them, or what it has is damaged.
        """
        from tinysql.devices import find_device
        from tinysql.models.hybrid import HybridLM
        from tinysql.tokens import Tokenizer
        from tinysql.training.checkpoints import load_tensors, load_weights

        file = self.weights_file(weights)
        if self.shape.num_parameters() > file.stat().st_size:  # a weight takes a byte at least
            load_tensors(file)  # which says so of a file that is cut short
            raise InputError(
                f"{file} is smaller than the {self.shape.num_parameters():,} weights of config.json",
                hint="config.json and the weights must come from the same run",
            )
        place = find_device(device) if isinstance(device, str) else device
        model, tokenizer = HybridLM(self.shape), Tokenizer.load(self.path / "tokenizer.json")
        load_weights(model, file)
        for name, tensor in model.state_dict().items():
            if not tensor.sum().isfinite():
                raise InputError(f"{file}: `{name}` is not finite", hint="restore the file, or train again")
        # A checkpoint of others may have room for more tokens than its tokenizer has.
        known, room = tokenizer.vocab_size, self.shape.d_vocab
        if known > room or (known < room and "init" not in self.config):
            raise InputError(
                f"{self.path / 'tokenizer.json'} has {known} tokens and the model knows {room}",
                hint="restore the tokenizer that the run was trained with",
            )
        _tokenizer_digest(self)
        return model.to(place).eval(), tokenizer

    def fingerprint(self) -> str:
        """A short name of the final weights: of their file's length and of 1,024 pieces of it.

        It takes no time, whatever their number. Raises `InputError` where there are none.
        """
        file = self.weights_file()
        length = file.stat().st_size
        found = sha256(str(length).encode())
        with file.open("rb") as opened:
            for piece in range(PIECES):
                opened.seek(piece * max(length - PIECE, 0) // max(PIECES - 1, 1))
                found.update(opened.read(PIECE))
        return found.hexdigest()[:16]

    def check_whole(self) -> None:
        """Raise `InputError` where no model can be loaded, as far as a look at the files tells: it takes no time."""
        file = self.weights_file()
        _ = self.shape, self.recipe  # read, and refused where they are none
        check_tensors(file)
        tokenizer = self.path / "tokenizer.json"
        if not tokenizer.is_file():
            raise InputError(
                f"{self.path} has no tokenizer.json, and its model knows no other tokenizer",
                hint="restore the file, or train the run again",
            )
        read_json(tokenizer)

    def weights_file(self, name: str = "final") -> Path:
        """The file of these weights; `InputError` where there is none."""
        if name not in WEIGHTS:
            raise InputError(
                f"no weights `{name}`{nearest(name, WEIGHTS)}", hint=f"weights: {', '.join(WEIGHTS)}"
            )
        file = self.path / WEIGHTS[name]
        if file.is_file():
            return file
        if name == "best":
            raise InputError(
                f"{self.path} holds no {file.name}: no grade has been taken while it trained",
                hint="load its final weights, or train with `--set train.grade_every=500`",
            )
        older = kept_place(self.path)
        beside = f"; {older} beside it keeps the run that it replaces" if older.is_dir() else ""
        raise InputError(
            f"{self.path} holds no finished model{beside}",
            hint="repeat what began it, such as `tinysql train`, with `--resume`",
        )


def kept_place(path: Path) -> Path:
    """Where the run that a new one replaces at `path` is kept until that has done a step."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.replaced")


def open_run(path: str | Path) -> Run:
    """The run at `path`; `InputError` when it is not one."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is not a run directory: it has no config.json",
            hint="name a directory that `tinysql train` or `tinysql demo` made",
        )
    config = read_json(path / "config.json")
    if "recipe" not in config:
        raise InputError(
            f"{path / 'config.json'} has no `recipe`, so it does not describe a training run",
            hint="name a directory that `tinysql train` or `tinysql demo` made",
        )
    return Run(path, config)


def check_one_way(*, resume: bool, overwrite: bool) -> None:
    """Refuse to go on with a run and to replace it at once."""
    if resume and overwrite:
        raise InputError(
            "cannot both overwrite and resume: one begins again, the other keeps what is there",
            hint="pass --overwrite or --resume, not both",
        )


def check_not_lost(path: Path) -> None:
    """Refuse a directory whose config.json is gone from beside what was trained, which nothing else can go on with.

    What is half deleted, by a killed --overwrite, is no such one: its config.json has another name.
    """
    if any((path / marker).is_file() for marker in MARKERS):
        return
    checkpoints = sum(part.is_dir() for part in path.glob("checkpoints/step-*"))
    held = [f"{checkpoints} checkpoint{'s' * (checkpoints > 1)}"] if checkpoints else []
    held += ["a finished model"] if (path / WEIGHTS["final"]).is_file() else []
    if held:
        raise InputError(
            f"{path / 'config.json'} is missing, and {path} holds {' and '.join(held)}",
            hint="restore it (the same command with another --out begins with one like it) and pass --resume, "
            f"move {path} away, or choose another --out",
        )


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Within it, no other process of this machine that asks for it holds the directory `path`.

    The system lets go of it when the process ends, by a kill too. Raises `InputError` when another holds it, and
    `FileNotFoundError` when there is none, or whoever held it has just deleted it.
    """
    place = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is at work in `{path}`",
                hint="wait for it or end it, then repeat the command with --resume; or choose another --out",
            ) from error
        except OSError:  # a disk that knows no locks
            pass
        # What was opened before it was deleted can be locked still, and keeps nobody from what is there now.
        if not os.path.samestat(os.fstat(place), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield
    finally:
        os.close(place)


def start_run(path: Path, recipe: Recipe, init: str | None = None, dataset: Path | None = None) -> Run:
    """Write `config.json` of a new run: the recipe, what it begins with and whose rows it takes if so, what made it."""
    path.mkdir(parents=True, exist_ok=True)
    begins = {"init": init} if init is not None else {}
    begins |= {"dataset": str(dataset.resolve())} if dataset is not None else {}
    return _write(path, {"recipe": to_json(recipe), **begins, "made_by": provenance()})


def record_model(run: Run, shape: ModelConfig) -> Run:
    """Add the resolved shape of the model, its vocabulary included, and its tokenizer's digest to `config.json`.

    Raises `InputError` where the run has recorded another tokenizer.
    """
    return _write(run.path, {**run.config, "model": to_json(shape), **_tokenizer_digest(run)})


def _tokenizer_digest(run: Run) -> dict[str, str]:
    """What `config.json` says of the tokenizer's file, if there is one; `InputError` where it says it of another."""
    file = run.path / "tokenizer.json"
    if not file.is_file():
        return {}
    found = sha256(file.read_bytes()).hexdigest()
    if run.config.get("tokenizer_sha256", found) != found:
        raise InputError(
            f"{file} is not the tokenizer that the run began with",
            hint="restore it: of another run's tokenizer the weights know nothing, even where sizes agree",
        )
    return {"tokenizer_sha256": found}


def _write(path: Path, config: dict[str, Any]) -> Run:
    write_atomic(path / "config.json", json.dumps(config, indent=1))
    return Run(path, config)


def resume_run(path: Path, recipe: Recipe, init: str | None = None) -> Run:
    """The run to go on with; `InputError` when it was started from another recipe or checkpoint."""
    run = open_run(path)
    if run.config.get("init") != init:
        raise InputError(
            f"{path} was started with --init {run.config.get('init')}, not {init}",
            hint="repeat what it was started with, or choose another directory",
        )
    check_same(run, recipe, hint="repeat what it was started with, or choose another directory")
    return run


def check_same(run: Run, recipe: Recipe, hint: str) -> None:
    """`InputError` with the `hint` where the run was started with other settings than the recipe's."""
    apart = settings_apart(run, recipe)
    if apart:
        said = "; ".join(f"{name} {_set(had)}, not {_set(given)}" for name, (had, given) in apart.items())
        raise InputError(f"{run.path} was started with {said}", hint=hint)


def _set(value: Any) -> str:
    """A value as --set takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def settings_apart(run: Run, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Setting -> what the run began with and what the recipe has, where they differ; --seed decides two at once."""
    apart = dict(_apart(to_json(replace(run.recipe, name=recipe.name)), to_json(recipe)))
    if all(name in apart for name in SEEDS) and len({apart[name] for name in SEEDS}) == 1:
        seeds = [apart.pop(name) for name in SEEDS]
        apart = {"--seed": seeds[0], **apart}
    return apart


def load(
    path: str | Path, device: torch.device | str = "cpu", *, weights: str = "final"
) -> tuple[HybridLM, Tokenizer]:
    """Model and tokenizer of a run directory: `model, tokenizer = tinysql.load("runs/demo")`.

    `weights="best"` loads those of the best grade on the way, in place of those that training ended with; a run that
    was never graded has none, which is an `InputError`.
    """
    return open_run(path).load(device, weights=weights)


def provenance() -> dict[str, Any]:
    """Command, commit, versions, device and date: what every artefact says made it."""
    from datetime import UTC, datetime

    return {
        "command": " ".join([_program(), *sys.argv[1:]]),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": _device(),
        "python": platform.python_version(),
        "tinysql": _version("tinysql"),
        "versions": {name: _version(name) for name in RECORDED},
    }


def _program() -> str:
    """What was typed in front of the arguments: `tinysql`, or a benchmark's file."""
    script = Path(sys.argv[0])
    return f"python benchmarks/{script.name}" if script.parent.name == "benchmarks" else "tinysql"


def _device() -> str:
    """The GPU, where this process has used one, or the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_of(made_by: Mapping[str, Any]) -> str | None:
    """The commit of a provenance, whatever lay beside it: a file that is written into the tree changes no code."""
    commit = made_by["commit"]
    return commit.removesuffix("+changes") if commit is not None else None


def _commit() -> str | None:
    """The commit of the source tree, with `+changes` when it is not clean; None for an installed wheel."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, whose commit says nothing about us.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _apart(
    had: Mapping[str, Any], given: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key, value in had.items():
        other = given[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _apart(value, other, f"{prefix}{key}.")
        elif value != other:
            yield prefix + key, (value, other)
