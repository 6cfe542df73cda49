"""Checkpoints of transformers and `HybridLM`, both ways: the same logits, the same ids, or one sentence."""

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig, MoEConfig, RotaryScaling
from tinysql.models.huggingface import from_hf, to_hf, tokenizer_from_hf
from tinysql.models.huggingface.reading import read_config
from tinysql.models.huggingface.settings import Settings
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
models, parity = (importlib.import_module(f"benchmarks.{name}") for name in ("parity_models", "parity"))
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it
GPT_2, GPT_NEO, HYBRID, LLAMA = models.GPT_2, models.GPT_NEO, models.HYBRID, models.LLAMA
LLAMA3, OURS, ROTARY, SLOW, SMALL, THEIRS = (
    getattr(models, name) for name in ("LLAMA3", "OURS", "ROTARY", "SLOW", "SMALL", "THEIRS")
)
edit, ids, ours, stock, theirs = models.edit, models.ids, models.ours, models.stock, models.theirs

CLOSE = {"atol": 3e-5, "rtol": 0.0}


@pytest.mark.parametrize("name", THEIRS)
def test_imported_models_compute_the_logits_of_transformers(name, tmp_path):
    expected = theirs(THEIRS[name], tmp_path)
    model = from_hf(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(model(ids()), expected(ids()).logits, **CLOSE)


def test_rotary_angles_are_those_of_transformers_to_the_last_bit(tmp_path):
    config = LlamaConfig(**(ROTARY | {"max_position_embeddings": 5000}))
    expected = theirs(config, tmp_path).model.rotary_emb(torch.zeros(1), torch.arange(5000)[None])[0]
    assert torch.equal(from_hf(tmp_path).blocks[0].attn.rotary.cos[:, 0], expected[0, :, :5])


@pytest.mark.parametrize("name", OURS)
def test_exported_models_compute_our_logits_in_transformers(name, tmp_path):
    model = ours(OURS[name])
    to_hf(model, tmp_path / "out")
    exported = stock(tmp_path / "out")
    assert exported.config.model_type == models.family(name)
    with torch.no_grad():
        torch.testing.assert_close(exported(ids()).logits, model(ids()), **CLOSE)


@pytest.mark.parametrize("name", OURS)
def test_what_is_exported_is_imported_unchanged(name, tmp_path):
    model = ours(OURS[name])
    to_hf(model, tmp_path / "out")
    back = from_hf(tmp_path / "out")
    assert torch.equal(back(ids()), model(ids()))
    assert back.num_parameters() == model.num_parameters() + (
        back.unembed.W_U.numel() if model.cfg.tied and not back.cfg.tied else 0
    )
    to_hf(back, tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


def test_an_exported_experts_model_runs_with_the_grouped_products_of_transformers(tmp_path):
    even = replace(
        HYBRID, d_model=24, moe=MoEConfig(n_experts=4, n_active=2, d_expert=8, d_shared=9, d_latent=16)
    )
    model = ours(even)
    to_hf(model, tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(ids()).logits, model(ids()), **CLOSE)


class TestTimeStepLimit:
    """transformers 5.23 limits dt by `time_step_min` and ignores `time_step_limit`; we follow the latter."""

    def both(self, folder, limits):
        expected = theirs(SLOW, folder)
        edit(folder, time_step_limit=limits)
        return expected, from_hf(folder)

    def test_we_agree_with_mixers_whose_limit_is_set_right(self, tmp_path):
        expected, model = self.both(tmp_path, [0.2, 1.1])
        models.limit_dt(expected, (0.2, 1.1))
        with torch.no_grad():
            torch.testing.assert_close(model(ids()), expected(ids()).logits, **CLOSE)

    def test_we_agree_with_stock_mixers_when_our_limit_is_theirs(self, tmp_path):
        expected, model = self.both(tmp_path, [0.8, math.inf])
        assert model.cfg.mamba.dt_min == 0.8
        assert model.cfg.mamba.dt_max is None
        with torch.no_grad():
            torch.testing.assert_close(model(ids()), expected(ids()).logits, **CLOSE)

    def test_the_two_differ(self, tmp_path):
        expected, model = self.both(tmp_path, [0.2, 1.1])
        with torch.no_grad():
            assert (model(ids()) - expected(ids()).logits).abs().max() > 0.1

    def test_no_limit_is_read_in_every_spelling(self, tmp_path):
        for limits in ([0.0, {"__float__": "Infinity"}], [0.0, math.inf], None):
            _, model = self.both(tmp_path, limits)
            assert (model.cfg.mamba.dt_min, model.cfg.mamba.dt_max) == (0.0, None)

    def test_an_upper_limit_is_written_with_a_warning(self, tmp_path):
        model = ours(replace(HYBRID, mamba=replace(HYBRID.mamba, dt_min=0.2, dt_max=1.1)))
        with pytest.warns(UserWarning, match="ignores mamba.dt_max"):
            to_hf(model, tmp_path / "out")
        assert torch.equal(from_hf(tmp_path / "out")(ids()), model(ids()))

    def test_weights_can_still_be_drawn_from_an_exported_configuration(self, tmp_path):
        to_hf(ours(HYBRID), tmp_path / "out")
        config = AutoConfig.from_pretrained(tmp_path / "out")
        AutoModelForCausalLM.from_config(config)


class TestParityBenchmark:
    """What docs/models.md prints."""

    def test_one_draw_of_every_family_is_within_the_bar_both_ways_and_the_fault_is_apart(self):
        rows = {
            (row["family"], row["direction"]): row["difference"]
            for row in parity.measured(1, 7, torch.device("cpu"))
        }
        fault = rows.pop((parity.FAULT, "from_hf"))
        assert {kind for kind, _ in rows} >= {"gpt_neo", "llama", "qwen2", "nemotron_h"}
        assert len(rows) == 2 * len(parity.FAMILIES) + 1
        assert max(rows.values()) < 1e-4
        assert fault > 0.1

    def test_a_difference_above_the_bar_is_a_failure_that_names_the_draw(self, tmp_path, monkeypatch, capsys):
        def shifted(folder):
            model = from_hf(folder)
            with torch.no_grad():
                model.ln_final.w += 0.01
            return model

        monkeypatch.setattr(parity, "quieten", lambda: None)
        monkeypatch.setattr(parity, "FAMILIES", ("llama",))
        monkeypatch.setattr(
            sys, "argv", ["parity.py", "--configs", "1", "--json", str(tmp_path / "found.json")]
        )
        assert parity.main() == 0
        found = json.loads((tmp_path / "found.json").read_text())
        assert found["made_by"]["seed"] == 0
        assert {"command", "commit", "date", "device"} <= found["made_by"].keys()
        assert [row["configs"] for row in found["rows"]] == [1] * 4
        monkeypatch.setattr(parity, "from_hf", shifted)
        assert parity.main() == 1
        said = capsys.readouterr().err
        assert "llama by from_hf differs by more than 0.0001: llama, draw 0" in said
        assert "llama by to_hf" not in said

    def test_the_page_prints_what_was_measured(self):
        docs = Path(__file__).parents[2] / "docs"
        found = json.loads((docs / "results" / "parity.json").read_text())
        page = (docs / "models.md").read_text()
        assert parity.table(found["rows"]) in page
        assert f"commit {found['made_by']['commit'][:7]}, seed {found['made_by']['seed']}, " in page

    def test_sizes_follow_the_seed_and_differ_from_draw_to_draw(self):
        drawn = [models.drawn_ours(HYBRID, Random(seed)) for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        theirs = [models.drawn_theirs(SLOW, Random(seed)).to_dict() for seed in (0, 0, 1)]
        assert theirs[0] == theirs[1] != theirs[2]


def drop(folder, *names):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in names}))


def rewrite(folder, change):
    """Change the tensors of a directory."""
    path = Path(folder) / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, metadata={"format": "pt"})


@pytest.fixture
def llama(tmp_path):
    folder = tmp_path / "llama"
    to_hf(ours(LLAMA), folder)
    return folder


@pytest.fixture
def hybrid(tmp_path):
    folder = tmp_path / "hybrid"
    to_hf(ours(HYBRID), folder)
    return folder


class TestSpellings:
    """Older and newer ways to say the same."""

    def test_rope_theta_and_rope_scaling_of_older_files(self, llama):
        before = from_hf(llama)
        scaling = {key: value for key, value in LLAMA3.items() if key not in ("rope_theta", "rope_type")}
        drop(llama, "rope_parameters")
        edit(llama, rope_theta=500.0, rope_scaling={**scaling, "type": "llama3"})
        expected = replace(
            before.cfg, rotary_base=500.0, rotary_scaling=RotaryScaling(factor=8.0, original_n_ctx=16)
        )
        model = from_hf(llama)
        assert model.cfg == expected
        with torch.no_grad():
            torch.testing.assert_close(stock(llama)(ids()).logits, model(ids()), **CLOSE)

    @pytest.mark.parametrize(
        "kinds",
        [
            ["mamba", "moe", "mamba", "attention", "moe", "mlp"],
            ["linear_attention", "moe", "linear_attention", "full_attention", "moe", "mlp"],
        ],
    )
    def test_blocks_by_name(self, hybrid, kinds):
        drop(hybrid, "hybrid_override_pattern")
        edit(hybrid, layers_block_type=kinds)
        assert from_hf(hybrid).cfg.pattern == "MEM*E-"

    def test_fused_experts_and_the_prefix_of_newer_files(self, hybrid):
        before = from_hf(hybrid)

        def fused(tensors):
            new = {}
            for name, tensor in tensors.items():
                stem, _, rest = name.replace("backbone.", "model.").partition(".experts.")
                if rest:
                    new.setdefault(f"{stem}.experts.{rest.split('.')[1]}", {})[rest.split(".")[0]] = tensor
                else:
                    new[stem] = tensor
            return {
                name: torch.stack([t[str(i)] for i in range(len(t))]) if isinstance(t, dict) else t
                for name, t in new.items()
            }

        rewrite(hybrid, fused)
        assert "model.layers.1.mixer.experts.up_proj" in safetensors.torch.load_file(
            hybrid / "model.safetensors"
        )
        assert torch.equal(from_hf(hybrid)(ids()), before(ids()))

    def test_an_unembedding_of_its_own_is_not_tied(self, llama):
        before = from_hf(llama)
        edit(llama, tie_word_embeddings=True)
        assert torch.equal(from_hf(llama)(ids()), before(ids()))

    def test_an_unembedding_that_repeats_the_embedding_is_tied(self, tmp_path):
        model = ours(replace(LLAMA, tied=True))
        to_hf(model, tmp_path / "out")
        rewrite(tmp_path / "out", lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()})
        back = from_hf(tmp_path / "out")
        assert back.cfg.tied
        assert torch.equal(back(ids()), model(ids()))

    def test_shards(self, hybrid, tmp_path):
        stock(hybrid).save_pretrained(tmp_path / "shards", max_shard_size="4KB")
        assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
        assert torch.equal(from_hf(tmp_path / "shards")(ids()), from_hf(hybrid)(ids()))

    def test_masks_of_older_gpt_neo_files_are_passed_over(self, tmp_path):
        to_hf(ours(GPT_NEO), tmp_path / "out")
        before = from_hf(tmp_path / "out")
        mask = {f"transformer.h.0.attn.attention.{n}": torch.ones(1) for n in ("bias", "masked_bias")}
        rewrite(tmp_path / "out", lambda tensors: tensors | mask)
        assert torch.equal(from_hf(tmp_path / "out")(ids()), before(ids()))

    def test_older_gpt2_files_name_no_transformer_and_hold_masks(self, tmp_path):
        to_hf(ours(GPT_2), tmp_path / "out")
        before = from_hf(tmp_path / "out")
        masks = {f"h.0.attn.{n}": torch.ones(1) for n in ("bias", "masked_bias")}
        rewrite(
            tmp_path / "out",
            lambda tensors: {n.removeprefix("transformer."): t for n, t in tensors.items()} | masks,
        )
        assert torch.equal(from_hf(tmp_path / "out")(ids()), before(ids()))
        assert torch.equal(from_hf(tmp_path / "out", n_ctx=23)(ids()), before(ids()))

    def test_heads_for_later_tokens_are_left_out_with_a_warning(self, hybrid):
        before = from_hf(hybrid)
        rewrite(hybrid, lambda tensors: tensors | {"mtp.layers.0.norm.weight": torch.ones(22)})
        with pytest.warns(UserWarning, match=r"later tokens \(mtp"):
            after = from_hf(hybrid)
        assert torch.equal(after(ids()), before(ids()))

    def test_code_beside_a_known_family_is_not_run(self, hybrid):
        (hybrid / "modeling_own.py").write_text("raise SystemExit('ran')")
        edit(hybrid, auto_map={"AutoModelForCausalLM": "modeling_own.Own", "AutoConfig": "modeling_own.Own"})
        assert from_hf(hybrid).cfg.pattern == "MEM*E-"


def test_the_published_shape_of_nemotron_3_nano_is_read():
    values = {
        "model_type": "nemotron_h",
        "hidden_size": 2688,
        "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "intermediate_size": 1856,
        "vocab_size": 131072,
        "max_position_embeddings": 262144,
        "mamba_num_heads": 64,
        "mamba_head_dim": 64,
        "ssm_state_size": 128,
        "n_groups": 8,
        "n_routed_experts": 128,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712,
        "routed_scaling_factor": 2.5,
        "time_step_limit": [0.0, math.inf],
    }
    _, config = read_config(Settings(values, "config.json"))
    # 31.6B parameters, 3.2B of them active, embeddings left out of the latter (arXiv 2512.20848).
    assert round(config.num_parameters() / 1e6) == 31_578
    assert round((config.num_active_parameters() - 2688 * 131072) / 1e8) == 32


class TestPrecisionAndLength:
    def test_bfloat16_files_become_float32(self, hybrid):
        rewrite(hybrid, lambda tensors: {n: t.bfloat16() for n, t in tensors.items()})
        model = from_hf(hybrid)
        assert {t.dtype for t in model.state_dict().values()} == {torch.float32}

    def test_bfloat16_on_request_spares_biases_of_routers_and_rotation(self, hybrid, llama):
        model = from_hf(hybrid, dtype=torch.bfloat16)
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert model.blocks[1].moe.selection_bias.dtype == torch.float32
        assert from_hf(llama, dtype=torch.bfloat16).blocks[0].attn.rotary.cos.dtype == torch.float32
        assert model(ids()).dtype == torch.bfloat16

    def test_bfloat16_models_are_written_in_bfloat16(self, hybrid, tmp_path):
        to_hf(from_hf(hybrid, dtype=torch.bfloat16), tmp_path / "half")
        tensors = safetensors.torch.load_file(tmp_path / "half" / "model.safetensors")
        wide = {name for name, tensor in tensors.items() if tensor.dtype == torch.float32}
        assert wide == {f"backbone.layers.{i}.mixer.gate.e_score_correction_bias" for i in (1, 4)}
        assert stock(tmp_path / "half").dtype == torch.bfloat16

    @pytest.mark.parametrize("config", [LLAMA, GPT_NEO, GPT_2], ids=["llama", "gpt_neo", "gpt2"])
    def test_a_shorter_context_gives_the_same_logits(self, config, tmp_path):
        model = ours(config)
        to_hf(model, tmp_path / "out")
        short = from_hf(tmp_path / "out", n_ctx=23)
        assert short.cfg.n_ctx == 23
        assert torch.equal(short(ids()), model(ids()))

    def test_a_longer_context_is_refused(self, llama):
        with pytest.raises(InputError, match="n_ctx is 51, more than the 50 positions"):
            from_hf(llama, n_ctx=51)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bloom"}, "`model_type` is 'bloom'.*\n.*gpt2, gpt_neo, llama, qwen2, nemotron_h"),
        ({"model_type": None}, "`model_type` is None"),
        ({"hidden_size": "30"}, "`hidden_size` is '30', expected a whole number"),
        ({"hidden_size": None}, "has no `hidden_size`"),
        ({"num_attention_heads": 0}, "n_heads is 0, expected at least 1"),
        ({"rms_norm_eps": [1]}, r"`rms_norm_eps` is \[1\], expected a number"),
        ({"hidden_act": "mish"}, "`hidden_act` is 'mish', expected one of relu, gelu"),
        ({"attention_bias": 1}, "`attention_bias` is 1, expected true or false"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "`rope_type` default or llama3"),
        ({"rope_parameters": [1]}, "`rope_parameters` is .*, expected an object"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "`rope_theta` is -1.0, expected a number above 0"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "`partial_rotary_factor` is 0.5"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}}, "low_freq_factor below high_freq_factor"),
        ({"quantization_config": {"bits": 4}}, "the checkpoint is quantized"),
        ({"num_hidden_layers": 3}, "has no weight `model.layers.2.input_layernorm.weight`"),
        ({"num_hidden_layers": 1}, "has a weight `model.layers.1.*`, for which its config.json has no place"),
        ({"attention_bias": True}, "has no weight `model.layers.0.self_attn.q_proj.bias`"),
        ({"intermediate_size": 14}, r"mlp.*is \[.*13.*\], its config.json asks for \[.*14.*\]"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "`use_sliding_window` is True, expected False"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2}, "`full_attention` throughout"),
    ],
    ids=str,
)
def test_a_llama_configuration_that_does_not_fit_is_refused(changes, message, llama):
    edit(llama, **changes)
    with pytest.raises(InputError, match=message):
        from_hf(llama)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_conv_bias": False}, "`use_conv_bias` is False, expected True"),
        ({"use_bias": True}, "`use_bias` is True, expected False"),
        ({"n_group": 2}, "`n_group` is 2, expected 1"),
        ({"norm_topk_prob": False}, "`norm_topk_prob` is False"),
        ({"mlp_hidden_act": "silu"}, "`mlp_hidden_act` is 'silu', expected relu2"),
        ({"time_step_limit": [0.0]}, r"`time_step_limit` is \[0.0\], expected two numbers"),
        ({"time_step_limit": [2.0, 1.0]}, "expected 0 <= dt_min <= dt_max"),
        ({"hybrid_override_pattern": "MEMXE-"}, "pattern 'MEMXE-'"),
        ({"hybrid_override_pattern": None}, "neither `layers_block_type` nor `hybrid_override_pattern`"),
        ({"layers_block_type": ["mamba", "conv"]}, "`layers_block_type` is .*, expected a list of"),
        ({"n_routed_experts": 6}, "has no weight `backbone.layers.1.mixer.experts.5.up_proj.weight`|gate"),
        ({"mamba_head_dim": 6}, r"conv1d.bias` is \[72\], its config.json asks for \[78\]"),
    ],
    ids=str,
)
def test_a_nemotron_h_configuration_that_does_not_fit_is_refused(changes, message, hybrid):
    edit(hybrid, **changes)
    with pytest.raises(InputError, match=message):
        from_hf(hybrid)


@pytest.mark.parametrize(
    "kinds", [[[["global"], 2]], [[["global", "far", "local"], 1]], 7, [["global"]]], ids=str
)
def test_attention_types_that_do_not_fit_the_layers_are_refused(kinds, tmp_path):
    to_hf(ours(GPT_NEO), tmp_path / "out")
    edit(tmp_path / "out", attention_types=kinds)
    with pytest.raises(InputError, match="`global` or `local` for each of the 3 layers"):
        from_hf(tmp_path / "out")


class TestFiles:
    def test_a_directory_without_configuration(self, llama):
        (llama / "config.json").unlink()
        with pytest.raises(InputError, match="it has no config.json"):
            from_hf(llama)

    def test_a_configuration_cut_short(self, llama):
        (llama / "config.json").write_text('{"model_type": "lla')
        with pytest.raises(InputError, match="is not whole JSON"):
            from_hf(llama)

    def test_pickled_weights_are_refused(self, llama):
        (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
        with pytest.raises(InputError, match="only `pytorch_model.bin`, whose format can run code"):
            from_hf(llama)

    def test_no_weights(self, llama):
        (llama / "model.safetensors").unlink()
        with pytest.raises(InputError, match="no weights in safetensors: none"):
            from_hf(llama)

    def test_weights_cut_short(self, llama):
        path = llama / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(InputError, match="is not a whole safetensors file"):
            from_hf(llama)

    def test_weights_of_whole_numbers(self, llama):
        rewrite(llama, lambda t: {**t, "lm_head.weight": t["lm_head.weight"].to(torch.int8)})
        with pytest.raises(InputError, match="`lm_head.weight` is int8, expected floating point"):
            from_hf(llama)

    @pytest.mark.parametrize("file", ["../secret.safetensors", "a.bin", 3], ids=str)
    def test_an_index_that_leads_elsewhere(self, file, llama, tmp_path):
        (llama / "model.safetensors").rename(tmp_path / "secret.safetensors")
        (llama / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": file}}))
        with pytest.raises(InputError, match="must give a file of this directory for each weight"):
            from_hf(llama)

    def test_a_missing_shard(self, llama):
        (llama / "model.safetensors").unlink()
        index = {"weight_map": {"x": "model-00001-of-00002.safetensors"}}
        (llama / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(InputError, match="model-00001-of-00002.safetensors` is not a whole"):
            from_hf(llama)

    def test_a_name_that_is_neither_directory_nor_reachable(self):
        with pytest.raises(
            InputError, match="`nobody/nothing-here` is no directory here and cannot be fetched"
        ):
            from_hf("nobody/nothing-here")

    def test_an_id_of_the_hub_is_found_among_what_was_fetched_before(self, llama, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        kept = tmp_path / "hub" / "models--some--llama"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("0" * 40)
        (kept / "snapshots").mkdir()
        llama.rename(kept / "snapshots" / ("0" * 40))
        assert from_hf("some/llama").cfg.pattern == "*-*-"

    def test_a_path_is_not_asked_of_the_hub(self, tmp_path):
        for path in (tmp_path / "nowhere", "./nowhere", "a/b/c"):
            with pytest.raises(InputError, match="there is no directory"):
                from_hf(path)

    def test_nothing_is_written_over(self, llama):
        before = {path.name: path.read_bytes() for path in llama.iterdir()}
        with pytest.raises(InputError, match="is not empty\nhint: name a new or an empty directory$"):
            to_hf(ours(LLAMA), llama)
        assert {path.name: path.read_bytes() for path in llama.iterdir()} == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(**SMALL), "it has gated False, and the nearest, llama, needs True"),
        (
            replace(LLAMA, pattern="**-"),
            r"it has pattern '\*\*-', and the nearest, llama, needs `\*-` repeated",
        ),
        (
            replace(LLAMA, window=3, windowed_blocks=(0,)),
            "it has window 3, and the nearest, llama, needs None",
        ),
        (replace(LLAMA, attention_scale=1.0), "attention_scale 1.0, and the nearest, llama, needs None"),
        (replace(LLAMA, biases=("attention_out",)), r"biases \['attention_out'\], and the nearest, llama"),
        (
            replace(LLAMA, n_heads=4, n_kv_heads=1, d_head=6),
            "d_model 30 and n_heads 4, and the nearest, llama",
        ),
        (
            replace(GPT_2, attention_scale=0.5),
            "attention_scale 0.5, and the nearest, gpt2, needs None or 1.0",
        ),
        (replace(GPT_2, window=4, windowed_blocks=(2,)), "window 4, and the nearest, gpt2, needs None"),
        (replace(GPT_2, gated=True), "gated True, and the nearest, gpt2, needs False"),
        (replace(GPT_NEO, attention_scale=None), "attention_scale None, and the nearest, gpt_neo, needs 1.0"),
        (replace(GPT_NEO, n_kv_heads=1), "n_kv_heads 1, and the nearest, gpt_neo, needs as many as n_heads"),
        (replace(GPT_NEO, norm="rms"), "norm 'rms', and the nearest, gpt_neo, needs 'layer'"),
        (
            replace(HYBRID, positions="rope", d_head=6),
            "positions 'rope', and the nearest, nemotron_h, needs 'none'",
        ),
        (replace(HYBRID, activation="gelu"), "activation 'gelu', and the nearest, nemotron_h, needs 'relu2'"),
        (replace(HYBRID, gated=True), "gated True, and the nearest, nemotron_h, needs False"),
        (replace(HYBRID, biases=("mlp",)), r"biases \['mlp'\], and the nearest, nemotron_h, needs none"),
        (
            replace(HYBRID, moe=MoEConfig(n_experts=1, n_active=1)),
            "moe.n_experts 1, and the nearest, nemotron_h, needs at least 2",
        ),
    ],
    ids=str,
)
def test_models_of_no_family_are_refused(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        to_hf(HybridLM(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


TEXTS = ["SELECT name FROM users WHERE age > 30", "How old is each user?", "naïve café 'quoted' (x, y);"]


@pytest.fixture
def tokenizer():
    return Tokenizer.train(TEXTS * 3, vocab_size=300)


@pytest.fixture
def foreign(tmp_path):
    """A byte-level BPE as GPT-2 has it, saved by transformers: one special token, which ends and does not pad."""
    import tokenizers

    backend = tokenizers.ByteLevelBPETokenizer()
    backend.train_from_iterator(TEXTS, vocab_size=290, special_tokens=["<|endoftext|>"], show_progress=False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, eos_token="<|endoftext|>", model_max_length=50
    )
    fast.save_pretrained(tmp_path / "foreign")
    return tmp_path / "foreign"


class TestTokenizers:
    def test_a_foreign_tokenizer_gives_the_same_ids_and_its_end_pads(self, foreign):
        expected, found = AutoTokenizer.from_pretrained(foreign), tokenizer_from_hf(foreign)
        for text in TEXTS:
            assert found.encode_text(text) == expected(text)["input_ids"]
            assert found.decode(found.encode_text(text)) == text
        assert found.end_id == found.pad_id == expected.eos_token_id

    def test_a_pad_token_of_its_own_is_used(self, foreign):
        fast = AutoTokenizer.from_pretrained(foreign)
        fast.add_special_tokens({"pad_token": "<|pad|>"})
        fast.save_pretrained(foreign)
        found = tokenizer_from_hf(foreign)
        assert (found.pad_id, found.end_id) == (fast.pad_token_id, fast.eos_token_id)
        assert found.pad_id != found.end_id

    def test_the_end_token_may_be_named_by_its_id_alone(self, foreign):
        (foreign / "tokenizer_config.json").unlink()
        with pytest.raises(InputError, match="names no end token"):
            tokenizer_from_hf(foreign)
        (foreign / "config.json").write_text('{"eos_token_id": [5, 6]}')
        assert tokenizer_from_hf(foreign).end_id == 5

    def test_a_saved_limit_of_length_cuts_nothing(self, foreign):
        import tokenizers

        backend = tokenizers.Tokenizer.from_file(str(foreign / "tokenizer.json"))
        backend.enable_truncation(2)
        backend.enable_padding(length=64)
        backend.save(str(foreign / "tokenizer.json"))
        found = tokenizer_from_hf(foreign)
        assert found.decode(found.encode_text(TEXTS[0])) == TEXTS[0]
        assert 2 < len(found.encode_text(TEXTS[0])) < 64

    def test_no_tokenizer_file_or_a_broken_one(self, foreign):
        (foreign / "tokenizer.json").write_text("{")
        with pytest.raises(InputError, match="is not a whole tokenizer file"):
            tokenizer_from_hf(foreign)
        (foreign / "tokenizer.json").unlink()
        with pytest.raises(InputError, match="has no tokenizer.json"):
            tokenizer_from_hf(foreign)

    @pytest.mark.parametrize(
        "config",
        [LLAMA, GPT_NEO, GPT_2, HYBRID],
        ids=["llama", "gpt_neo", "gpt2", "nemotron_h"],
    )
    def test_an_exported_tokenizer_is_what_auto_tokenizer_loads(self, config, tokenizer, tmp_path):
        model = HybridLM(replace(config, d_vocab=tokenizer.vocab_size))
        to_hf(model, tmp_path / "out", tokenizer)
        found = AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=False)
        for text in TEXTS:
            assert found(text)["input_ids"] == tokenizer.encode_text(text)
            assert found.decode(tokenizer.encode_text(text), skip_special_tokens=True) == text
        assert (found.pad_token_id, found.eos_token_id) == (tokenizer.pad_id, tokenizer.end_id)
        assert stock(tmp_path / "out").generation_config.eos_token_id == tokenizer.end_id
        back = tokenizer_from_hf(tmp_path / "out")
        assert (back.pad_id, back.end_id) == (tokenizer.pad_id, tokenizer.end_id)

    def test_beside_qwen2_a_tokenizer_is_written_with_a_warning(self, tokenizer, tmp_path):
        model = HybridLM(replace(LLAMA, biases=("qkv",), d_vocab=tokenizer.vocab_size))
        with pytest.warns(UserWarning, match="load this one with PreTrainedTokenizerFast"):
            to_hf(model, tmp_path / "out", tokenizer)
        fast = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
        other = AutoTokenizer.from_pretrained(tmp_path / "out")
        assert [fast(text)["input_ids"] for text in TEXTS] == [tokenizer.encode_text(t) for t in TEXTS]
        assert other(TEXTS[0])["input_ids"] != tokenizer.encode_text(TEXTS[0])

    def test_qwen2_s_own_tokenizer_is_written_without_one(self, foreign, tmp_path):
        vocabulary, merges = (
            json.loads((foreign / "tokenizer.json").read_text())["model"][k] for k in ("vocab", "merges")
        )
        expected = transformers.Qwen2Tokenizer(vocabulary, [tuple(pair) for pair in merges])
        expected.save_pretrained(tmp_path / "qwen")
        own = tokenizer_from_hf(tmp_path / "qwen")
        model = HybridLM(replace(LLAMA, biases=("qkv",), d_vocab=own.vocab_size))
        to_hf(model, tmp_path / "out", own)
        found = AutoTokenizer.from_pretrained(tmp_path / "out")
        for text in TEXTS:
            assert found(text)["input_ids"] == own.encode_text(text) == expected(text)["input_ids"]

    def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(self, tokenizer, tmp_path):
        with pytest.raises(InputError, match="more than the 97 of the model"):
            to_hf(ours(LLAMA), tmp_path / "out", tokenizer)
