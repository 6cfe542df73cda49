"""Checkpoints that sparsify 1.3.3 wrote (tests/fixtures/sparsify) give what sparsify itself gave for them.

`expected.safetensors` beside each holds inputs, and the latents and outputs of `SparseCoder.encode` and `decode`.
"""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from data_gen.errors import InputError
from saes.activations import capture
from saes.disk import load, save
from saes.sparsify import hook_of, load_sparsify
from tinysql.models.foreign import as_hybrid
from tinysql.training.checkpoints import load_tensors, save_tensors

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens.model_bridge import TransformerBridge

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sparsify"
HOOKS = {
    "transformer.h.0.attn": "blocks.0.hook_attn_out",
    "model.layers.5.mlp": "blocks.5.hook_mlp_out",
    "layers.2.mlp": "blocks.2.hook_mlp_out",
}


@pytest.mark.parametrize("name", HOOKS)
def test_latents_and_outputs_are_sparsifys_own(name: str, tmp_path: Path) -> None:
    expected = load_tensors(FIXTURES / name / "expected.safetensors")
    sae = load_sparsify(FIXTURES / name)
    save(sae, tmp_path)
    for read in (sae, load(tmp_path)):
        latents = read.encode(expected["x"])
        torch.testing.assert_close(latents, expected["latents"], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(read.decode(latents), expected["sae_out"], rtol=1e-6, atol=1e-6)
        assert read.cfg.metadata.hook_name == HOOKS[name]
    k, d_sae = {"model.layers.5.mlp": (4, 20), "transformer.h.0.attn": (3, 32)}.get(name, (3, 24))
    assert sae.W_dec.shape == (d_sae, 8)
    assert int((expected["latents"] > 0).sum(1).max()) == k


@pytest.mark.parametrize(
    ("hookpoint", "of_bridge", "of_hybrid"),
    [
        ("transformer.h.1", "blocks.1.hook_resid_post", "blocks.3.hook_resid_post"),
        ("layers.1", "blocks.1.hook_resid_post", "blocks.3.hook_resid_post"),
        ("transformer.h.1.attn", "blocks.1.hook_attn_out", "blocks.2.hook_attn_out"),
        ("transformer.h.1.mlp", "blocks.1.hook_mlp_out", "blocks.3.hook_mlp_out"),
        ("transformer.h.1.ln_1", "blocks.1.ln1.hook_out", "blocks.2.ln1.hook_normalized"),
        ("transformer.h.1.ln_2", "blocks.1.ln2.hook_out", "blocks.3.ln1.hook_normalized"),
        ("model.layers.7.self_attn", "blocks.7.hook_attn_out", "blocks.14.hook_attn_out"),
        ("model.layers.7.post_attention_layernorm", "blocks.7.ln2.hook_out", "blocks.15.ln1.hook_normalized"),
    ],
)
def test_a_hookpoint_has_its_hook(hookpoint: str, of_bridge: str, of_hybrid: str) -> None:
    assert hook_of(hookpoint) == of_bridge
    assert hook_of(hookpoint, blocks_per_layer=2) == of_hybrid


def test_the_hooks_carry_what_the_modules_give(tmp_path: Path) -> None:
    """Modules of somebody's GPT-2, and the hooks of the bridge and of the `HybridLM` with its weights."""
    shape = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        original = GPT2LMHeadModel(
            GPT2Config(**shape, initializer_range=0.3, bos_token_id=None, eos_token_id=None)
        )
    for parameter in original.parameters():  # norms that are not the identity
        parameter.data += 0.05
    original.eval().save_pretrained(tmp_path)
    bridge = TransformerBridge.boot_transformers(str(tmp_path), device="cpu")
    hybrid, ids = as_hybrid(bridge), torch.arange(24).reshape(2, 12)
    carried: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: carried.update(
            {name: output[0] if isinstance(output, tuple) else output}
        )

    points = ["transformer.h.1", *(f"transformer.h.1.{part}" for part in ("attn", "mlp", "ln_1", "ln_2"))]
    for point in points:
        original.get_submodule(point).register_forward_hook(keep(point))
    with torch.no_grad():
        original(ids)
    for point in points:
        expected = carried[point].reshape(2, 12, 16)
        for model, blocks in ((bridge, 1), (hybrid, 2)):
            found = capture(model, ids, hook_of(point, blocks_per_layer=blocks))
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def copy(tmp_path: Path, **changed: Any) -> Path:
    path = tmp_path / "transformer.h.0.attn"
    shutil.copytree(FIXTURES / path.name, path)
    config = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps({**config, **changed}))
    return path


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"activation": "groupmax"}, "is not a TopK SAE"),
        ({"skip_connection": True}, "is not a TopK SAE"),
        ({"signed": True}, "is not a TopK SAE"),
        ({"expansion_factor": 5}, r"`encoder.weight` is of shape \[32, 8\], cfg.json expects \[40, 8\]"),
        ({"k": None}, "`k` is None, expected a number"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(changed: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        load_sparsify(copy(tmp_path, **changed))


def test_files_and_names_that_are_not_sparsifys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has no cfg.json"):
        load_sparsify(tmp_path)
    path = copy(tmp_path)
    tensors = load_tensors(path / "sae.safetensors")
    save_tensors(path / "sae.safetensors", {name: t for name, t in tensors.items() if name != "W_dec"})
    with pytest.raises(InputError, match="`W_dec` is missing"):
        load_sparsify(path)
    with pytest.raises(InputError, match="hookpoint `lm_head` is no layer"):
        hook_of("lm_head")
    renamed = tmp_path / "mine"
    shutil.copytree(FIXTURES / path.name, renamed)
    with pytest.raises(InputError, match="hookpoint `mine`"):
        load_sparsify(renamed)
    assert load_sparsify(renamed, hook="blocks.1.hook_resid_post").cfg.metadata.hook_name.startswith(
        "blocks.1"
    )
