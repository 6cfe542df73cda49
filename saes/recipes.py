"""Recipes: named functions that return the training configuration of an SAE, and the hook to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data_gen.errors import InputError, nearest
from saes.training.config import Form, SAEConfig
from tinysql.models.config import ModelConfig
from tinysql.models.hook_names import check_hook_name, hook_names

MLPS = {"-": "hook_mlp_out", "E": "hook_moe_out"}
"""Mixers without attention or memory, and the hooks of what they add to the residual stream."""
ABOUT_HOOKS = "repeat --hook, or leave it out"
"""What helps where `sae train` was given another number of hooks than a form has."""


def topk() -> SAEConfig:
    """A TopK SAE of four latents per dimension, a quarter of a minute on two quiet CPU cores."""
    return SAEConfig()


def batchtopk() -> SAEConfig:
    """As many active latents on average, but more of them at tokens that need more."""
    return SAEConfig(architecture="batchtopk")


def matryoshka() -> SAEConfig:
    """BatchTopK whose first latents alone must already reconstruct, so that they are the general ones."""
    return SAEConfig(architecture="matryoshka")


def standard() -> SAEConfig:
    """ReLU with an L1 penalty."""
    return SAEConfig(architecture="standard")


def gated() -> SAEConfig:
    """Which latents are active and how much, decided apart; the L1 penalty acts on the first alone."""
    return SAEConfig(architecture="gated")


def jumprelu() -> SAEConfig:
    """A trained threshold per latent, with an L0 penalty."""
    return SAEConfig(architecture="jumprelu")


def transcoder() -> SAEConfig:
    """BatchTopK latents between an MLP's input and its output, in the MLP's stead."""
    return SAEConfig(form="transcoder", architecture="batchtopk")


def skip_transcoder() -> SAEConfig:
    """The same with a linear path beside the latents."""
    return SAEConfig(form="skip_transcoder", architecture="batchtopk")


def crosscoder() -> SAEConfig:
    """One set of BatchTopK latents for the residual stream after every block."""
    return SAEConfig(form="crosscoder", architecture="batchtopk")


def cross_layer_transcoder() -> SAEConfig:
    """BatchTopK latents at every MLP's input that write to its own output and all later ones."""
    return SAEConfig(form="cross_layer_transcoder", architecture="batchtopk")


RECIPES: dict[str, Callable[[], SAEConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        topk,
        batchtopk,
        matryoshka,
        standard,
        gated,
        jumprelu,
        transcoder,
        skip_transcoder,
        crosscoder,
        cross_layer_transcoder,
    )
}


def find_recipe(name: str) -> SAEConfig:
    """The recipe of that name; `InputError` with the nearest name otherwise."""
    if name not in RECIPES:
        raise InputError(
            f"unknown SAE recipe `{name}`{nearest(name, list(RECIPES))}", hint=f"known: {', '.join(RECIPES)}"
        )
    return RECIPES[name]()


def check_number(hooks: Sequence[str], form: Form, *, hint: str) -> None:
    """`InputError` for a hook that is named twice, and for a number of hooks that the form cannot have."""
    for number, hook in enumerate(hooks):
        if hook in hooks[:number]:
            raise InputError(f"hook `{hook}` is named twice", hint="name each hook once")
    n = len(hooks)
    wanted, fits = {
        "sae": ("1", n == 1),
        "crosscoder": ("2 or more", n >= 2),
        "cross_layer_transcoder": ("as many to write as to read, 2 or more of each", n >= 4 and n % 2 == 0),
    }.get(form, ("2, one to read and one to write", n == 2))
    if not fits:
        named = "an SAE" if form == "sae" else f"a {form.replace('_', ' ')}"
        raise InputError(f"{n} hooks are given, {named} has {wanted}", hint=hint)


def check_names(hooks: Sequence[str], shape: ModelConfig) -> None:
    """`InputError` for a hook that a model of that shape has not; a head's number may stand behind its last dot."""
    known = hook_names(shape)
    for hook in hooks:
        point, _, head = hook.rpartition(".")
        if not (head.isdigit() and point in known):
            check_hook_name(shape, hook, whose="the model")


def default_hook(config: ModelConfig) -> str:
    """The residual stream two thirds up the model: `*-*-*-` -> `blocks.3.hook_resid_post`.

    There the words of the prompt have been gathered, and the next token is not yet all that is left.
    """
    return f"blocks.{max(2 * len(config.pattern) // 3 - 1, 0)}.hook_resid_post"


def default_hooks(config: ModelConfig, form: Form) -> tuple[str, ...]:
    """The hooks that a form reads, and after them those it writes when they are others.

    An SAE reads `default_hook`, a crosscoder the residual stream after every block, transcoders the input and output
    of the MLPs (or expert layers): of the last one within the first two thirds of the model, or of all. Raises
    `InputError` when the model has too few.

    Example:
        >>> default_hooks(ModelConfig(pattern="*-*-*-"), "transcoder")
        ('blocks.3.ln1.hook_normalized', 'blocks.3.hook_mlp_out')
    """
    if form == "sae":
        return (default_hook(config),)
    if form == "crosscoder":
        return tuple(f"blocks.{block}.hook_resid_post" for block in range(len(config.pattern)))
    mlps = [block for block, mixer in enumerate(config.pattern) if mixer in MLPS]
    wanted = 2 if form == "cross_layer_transcoder" else 1
    if len(mlps) < wanted:
        raise InputError(
            f"the pattern `{config.pattern}` has {len(mlps)} MLPs, a {form.replace('_', ' ')} needs {wanted}",
            hint="name the hooks to read and then those to write with --hook",
        )
    if form != "cross_layer_transcoder":
        early = [block for block in mlps if block < max(2 * len(config.pattern) // 3, mlps[0] + 1)]
        mlps = [early[-1]]
    reads = [f"blocks.{block}.ln1.hook_normalized" for block in mlps]
    return *reads, *(f"blocks.{block}.{MLPS[config.pattern[block]]}" for block in mlps)
