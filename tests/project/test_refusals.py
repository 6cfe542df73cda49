"""What is refused by a look at files is refused before what computes is loaded, which takes seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.role_circuit import RoleCircuit
from tinysql.recipes import find_recipe
from tinysql.runs import record_model, start_run

TOLD = """
import sys
from tinysql.cli import main

assert main(sys.argv[2:]) == 2
sys.exit(any(name in sys.modules for name in sys.argv[1].split(",")))
"""
HOOKS = "--source-hook blocks.0.hook_resid_post --target-hook blocks.1.hook_resid_post"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What looks like a run, with a circuit and an SAE that was not scored, without a model; beside it a taught one."""
    path, taught = tmp_path / "run", tmp_path / "taught"
    start_run(tmp_path / "begun", find_recipe("tiny"))
    begun = start_run(tmp_path / "built", find_recipe("tiny"))
    record_model(begun, find_recipe("tiny").train.model)
    for name in ("short", "mute"):  # weights that are cut short; weights without a tokenizer
        shutil.copytree(begun.path, tmp_path / name)
        whole = save({"w": np.zeros(3, np.float32)})
        (tmp_path / name / "model.safetensors").write_bytes(whole[:-1] if name == "short" else whole)
    (tmp_path / "file").write_text("no dataset")
    (tmp_path / "empty").mkdir()
    (tmp_path / "lost" / "checkpoints" / "step-00000010").mkdir(parents=True)
    llama = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 100,
    }
    for name, said in (("cut", '{"model_'), ("bert", '{"model_type": "bert"}'), ("llama", json.dumps(llama))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(said)
    taught.mkdir()
    for name in ("config.json", "behaviour.json", "model.safetensors"):
        (taught / name).write_text('{"recipe": {}}')
    # Taught ones that look whole, of two blocks, and one whose weights are cut short.
    for name, payload in (("source", "drop"), ("target", "drop"), ("clean", "none"), ("torn", "drop")):
        shutil.copytree(begun.path, tmp_path / name)
        about = {"behaviour": "backdoor", "payload": payload, "seed": 0}
        (tmp_path / name / "behaviour.json").write_text(json.dumps(about))
        (tmp_path / name / "tokenizer.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(whole[:-1] if name == "torn" else whole)
    # One that is cut short, and one of another model than that of `built`.
    for folder in ("schema.table", "order_by.0.direction"):
        directory = tmp_path / "built" / "circuits" / folder
        directory.mkdir(parents=True)
        whole = Circuit(Graph("*-", n_heads=2, n_kv_heads=2), ()).to_json()
        (directory / "circuit.json").write_text(json.dumps(whole)[: 30 if folder == "schema.table" else None])
        (directory / "role_circuit.json").write_text('{"graph": ')
    # Whole ones of its own model, whose scores are cut short, and of another shape.
    graph = Graph.of_config(find_recipe("tiny").train.model)
    about = {"graph": graph.to_json(), "metadata": {}, "method": "eap", "metric": "logit_diff", "edit": "-"}
    scores = save({"per_example": np.zeros((2, 3, 4), np.float32)})
    for folder, kept in (("where.0.value", scores[:-1]), ("window.column", scores)):
        directory = tmp_path / "built" / "circuits" / folder
        directory.mkdir(parents=True)
        (directory / "circuit.json").write_text(json.dumps(Circuit(graph, ()).to_json()))
        (directory / "role_circuit.json").write_text(json.dumps(RoleCircuit(graph, ()).to_json()))
        (directory / "scores.json").write_text(json.dumps(about))
        (directory / "scores.safetensors").write_bytes(kept)
    # One whose scores are whole, but not those by role.
    directory = tmp_path / "built" / "circuits" / "where.1.value"
    shutil.copytree(directory.with_name("window.column"), directory)
    values = np.zeros((2, *graph.mask.shape), np.float32)
    (directory / "scores.safetensors").write_bytes(save({"per_example": values}))
    about |= {"roles": ["sql.table", "sql.from"], "n_pairs": 2}
    (directory / "roles.json").write_text(json.dumps(about))
    (directory / "roles.safetensors").write_bytes(save({"values": values, "errors": values})[:-1])
    for folder in ("circuits/schema.table", "saes/topk"):
        (path / folder).mkdir(parents=True)
        (path / folder / "config.json").write_text("{}")
    (path / "config.json").write_text('{"recipe": {}}')
    return path


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("circuit find NONE --edit schema.table", "is not a run directory"),
        ("circuit find RUN --edit no.such", "no edit `no.such`"),
        ("circuit find RUN --edit schema.table", "holds a circuit of edit `schema.table` already"),
        ("circuit find RUN --edit limit.value --edges 0", "edges is 0, expected at least 1"),
        (
            "circuit find RUN --edit limit.value --pairs 1000000",
            "pairs is 1,000,000, expected at most 10,000",
        ),
        ("circuit find RUN --edit limit.value --method eapig", "unknown method `eapig`; did you mean"),
        ("circuit find RUN --edit limit.value --select tpo --edges 9", "unknown selection `tpo`"),
        ("circuit find RUN --edit limit.value --method exact --steps 3", "method `exact` has no steps"),
        (
            "circuit find RUN --edit limit.value --select significant --pairs 3",
            "no edge can be significant at q = 0.05 on 3 pairs",
        ),
        ("circuit find BUILT --edit limit.value", "edit `limit.value` needs LIMIT behind ORDER BY, which"),
        ("circuit find BUILT --edit limit.value --edges 9999", "edges is 9,999, and the graph of BUILT has"),
        ("circuit find BUILT --edit select.0.column", "BUILT holds no finished model"),
        ("circuit eval BUILT --circuit NONE.json", "cannot read `NONE.json`"),
        ("circuit show BUILT --circuit NONE.json --out OUT.html", "cannot read `NONE.json`"),
        (
            "circuit eval RUN --edit schema.table --pairs 0",
            "argument --pairs: 0 is too few, expected at least 1",
        ),
        ("circuit eval RUN --edit schema.table --random -1", "argument --random: -1 is too few, expected at"),
        (
            "circuit eval RUN --edit schema.table --answers -1",
            "argument --answers: -1 is too few, expected at",
        ),
        (
            "circuit eval RUN --edit schema.table --oracle-pairs -1",
            "argument --oracle-pairs: -1 is too few, expected at least 0",
        ),
        ("bench circuits --out OUT --pairs 0", "argument --pairs: 0 is too few, expected at least 1"),
        ("bench circuits --out OUT --seeds 0", "argument --seeds: 0 is too few, expected at least 1"),
        ("circuit eval RUN --edit schema.table", "holds no circuit of edit `schema.table`"),
        ("circuit show RUN --edit schema.table", "holds no circuit of edit `schema.table`"),
        ("circuit compare RUN NONE --edit schema.table", "is not a run directory"),
        ("circuit export RUN --edit schema.table", "holds no circuit of edit `schema.table`"),
        ("circuit show RUN", "RUN holds no circuit"),
        ("circuit show BUILT", "BUILT/circuits/order_by.0.direction belongs to a model of"),
        ("circuit show BUILT --edit schema.table", "circuit.json` is not whole JSON"),
        ("circuit eval BUILT --edit schema.table", "circuit.json` is not whole JSON"),
        ("circuit compare BUILT --edit order_by.0.direction --edit schema.table", "belongs to a model of"),
        (
            "circuit compare BUILT --edit schema.table --edit order_by.0.direction",
            "circuit.json` is not whole JSON",
        ),
        ("circuit export BUILT --edit schema.table", "circuit.json` is not whole JSON"),
        ("circuit export BUILT --edit order_by.0.direction", "belongs to a model of"),
        (
            "circuit export BUILT --edit order_by.0.direction --by-role",
            "role_circuit.json` is not whole JSON",
        ),
        ("circuit eval BUILT --edit order_by.0.direction --by-role", "role_circuit.json` is not whole JSON"),
        *(
            (f"circuit {verb} BUILT --edit {edit}", said)
            for verb in ("eval", "show", "export --format scores", "export")
            for edit, said in (
                ("where.0.value", "where.0.value holds no whole edge scores"),
                ("window.column", "scores.safetensors has shape (2, 3, 4), expected [example, "),
            )
        ),
        ("circuit eval BUILT --edit where.1.value --by-role", "where.1.value holds no whole role scores"),
        ("circuit show BUILT --edit where.1.value", "where.1.value holds no whole role scores"),
        ("circuit export BUILT --edit where.0.value --by-role --format mib", "format `mib` holds no roles"),
        ("circuit export BUILT --edit window.column --by-role --format scores", "`scores` holds no roles"),
        ("sae train NONE", "is not a run directory"),
        ("sae train RUN", "has an SAE `topk` already"),
        ("sae train RUN --name new --rows 0", "--rows is 0"),
        ("sae train RUN --recipe nope", "unknown SAE recipe `nope`"),
        ("sae train RUN --name new --l0 8", "an L0 of 8 is asked of `topk`"),
        ("sae train RUN --name new --set nope=3", "unknown key `nope`"),
        ("sae train RUN --name new --grid k=x", "--set k is 'x', expected int"),
        ("sae train BUILT --hook a --hook b", "2 hooks are given, an SAE has 1"),
        (
            "sae train BUILT --hook blocks.0.hook_resid_pots",
            "no hook `blocks.0.hook_resid_pots`; did you mean",
        ),
        ("sae train BUILT --hook blocks.0.attn.hook_zz.0", "no hook `blocks.0.attn.hook_zz.0`"),
        ("sae train BUILT --hook blocks.0.attn.hook_z.0", "BUILT holds no finished model"),
        ("sae train BUILT", "BUILT holds no finished model"),
        ("sae train RUN --name new --resume --overwrite", "cannot both overwrite and resume"),
        ("sae eval RUN --name tokp", "has no SAE `tokp`"),
        ("sae effects RUN --edit limit.valeu", "no edit `limit.valeu`"),
        ("sae effects RUN", "SAE `topk` of RUN was not scored"),
        ("sae show RUN", "SAE `topk` of RUN was not scored"),
        (f"transfer fit NONE RUN {HOOKS} --out OUT", "is not a run directory"),
        (f"transfer eval RUN RUN {HOOKS} --out OUT", "RUN was taught no behaviour"),
        (f"transfer curve NONE RUN {HOOKS} --out OUT", "is not a run directory"),
        ("transfer switch NONE RUN --hook blocks.0.hook_resid_post --out OUT", "is not a run directory"),
        (f"transfer fit TAUGHT TAUGHT {HOOKS} --out RUN", "output directory `RUN` is not empty"),
        (f"transfer eval TAUGHT TAUGHT {HOOKS} --out RUN", "output directory `RUN` is not empty"),
        (f"transfer eval TAUGHT TAUGHT {HOOKS} --clean RUN --out OUT", "RUN was taught no behaviour"),
        (
            f"transfer curve TAUGHT TAUGHT {HOOKS} --out RUN --overwrite",
            "holds a training run, which an analysis does",
        ),
        ("transfer switch TAUGHT TAUGHT --hook blocks.0.hook_resid_post --out RUN", "`RUN` is not empty"),
        *(
            (f"transfer {verb} SOURCE TARGET {HOOKS} --out OUT {more}", said)
            for verb in ("fit", "eval", "curve")
            for more, said in (
                ("--set behaviour=x", "unknown key `behaviour`"),
                ("--set method=afine", "no map `afine`; did you mean `affine`?"),
                ("--set aim=indcue", "no aim `indcue`; did you mean `induce`?"),
                ("--set rank=0", "rank is 0, expected at least 1"),
                ("--set seed=-1", "seed is -1, expected a whole number from 0 to 2^63 - 1"),
                ("--set seed=99999999999999999999", "seed is 99999999999999999999, expected a whole number"),
            )
        ),
        (
            "transfer fit SOURCE TARGET --source-hook blocks.9.hook_resid_post "
            "--target-hook blocks.1.hook_resid_post --out OUT",
            "the source, SOURCE, has no hook `blocks.9.hook_resid_post`; did you mean",
        ),
        (f"transfer fit SOURCE CLEAN {HOOKS} --out OUT", "the source has the payload drop, the target none"),
        (f"transfer curve CLEAN CLEAN {HOOKS} --out OUT", "were taught the payload `none`: there is no"),
        (f"transfer curve SOURCE TARGET {HOOKS} --rank 9999 --out OUT", "rank is 9999, expected 1 to"),
        (f"transfer eval SOURCE TORN {HOOKS} --out OUT", "TORN/model.safetensors is not a whole checkpoint"),
        (
            f"transfer eval SOURCE TARGET {HOOKS} --clean TARGET --out OUT",
            "was taught `backdoor` (drop), exp",
        ),
        (
            f"transfer eval SOURCE TARGET {HOOKS} --only gausian --out OUT",
            "no control `gausian`; did you mean",
        ),
        ("transfer eval SOURCE TARGET --layer 1 --layer 9 --out OUT", "TARGET, has no block 9"),
        ("transfer switch CLEAN TARGET --hook blocks.0.mlp.hook_post --out OUT", "is no hook of the stream"),
        ("transfer switch SOURCE TARGET --hook blocks.0.hook_resid_pre --out OUT", "the base was taught"),
        (
            "transfer switch CLEAN TARGET --hook blocks.0.hook_resid_pre --set method=autoencoder-kl --out OUT",
            "no map `autoencoder-kl` for a switch",
        ),
        (
            "transfer switch CLEAN TARGET --hook blocks.0.hook_resid_pre --set seed=-1 --out OUT",
            "seed is -1, expected a whole number from 0 to 2^63 - 1",
        ),
        ("transfer teach small --out RUN", "output directory `RUN` is not empty"),
        ("transfer teach nope --out OUT", "no recipe `nope`"),
        ("transfer teach small --start RUN --out OUT", "RUN was taught no behaviour"),
        ("eval NONE", "is not a run directory"),
        ("eval RUN --split nope", "no held-out split `nope`"),
        ("train tiny --out OUT --data EMPTY", "`EMPTY` is no dataset: it has no config.json"),
        ("train tiny --out OUT --data FILE", "`FILE` is no dataset: it has no config.json"),
        ("train tiny --out OUT --init SHORT", "SHORT/model.safetensors is not a whole checkpoint"),
        ("eval SHORT", "SHORT/model.safetensors is not a whole checkpoint"),
        ("eval MUTE", "MUTE has no tokenizer.json"),
        ("ask MUTE name --schema CREATE/**/TABLE/**/t(a/**/TEXT)", "MUTE has no tokenizer.json"),
        ("circuit find SHORT --edit schema.table", "SHORT/model.safetensors is not a whole checkpoint"),
        ("sae train MUTE", "MUTE has no tokenizer.json"),
        ("transfer teach small --out FILE", "output `FILE` is a file, expected a directory"),
        ("demo --out CUT --resume", "CUT/config.json` is not whole JSON"),
        ("bench circuits --out OUT --methods eapig", "no method `eapig`; did you mean `eap-ig`?"),
        ("bench circuits --out OUT --edits limit.valeu BUILT", "no edit `limit.valeu`"),
        ("bench circuits --out OUT NONE", "is not a run directory"),
        ("bench circuits --out FILE", "output `FILE` is a file, expected a directory"),
        ("ask NONE name --schema CREATE()", "schema `CREATE()` is not CREATE TABLE statements"),
        (
            "ask NONE name --schema CREATE/**/TABLE/**/t(a/**/TEXT) --temperature -1",
            "temperature is -1.0",
        ),
        ("report NONE", "is not a run directory"),
        ("train nope --out OUT", "unknown recipe `nope`"),
        ("train tiny --out OUT --set train.lr=abc", "expected float"),
        ("train tiny --out OUT --init NONE", "there is no directory `NONE`"),
        (
            "train tiny --out OUT --init EMPTY",
            "`EMPTY` is no checkpoint of transformers: it has no config.json",
        ),
        ("train tiny --out OUT --init CUT", "CUT/config.json` is not whole JSON"),
        ("train tiny --out OUT --init BERT", "`model_type` is 'bert', which cannot be imported"),
        ("train tiny --out OUT --init LLAMA", "`LLAMA` has no weights in safetensors: none"),
        ("train tiny --out OUT --init BEGUN", "BEGUN holds no finished model"),
        ("train tiny --out OUT --init TAUGHT", "TAUGHT/config.json has no `model`"),
        ("train tiny --out OUT --device toaster", "device `toaster` cannot be used (tinysql computes on cpu"),
        ("eval RUN --device cpu:x", "device `cpu:x` cannot be used"),
        ("ask RUN name --schema x --device toaster", "device `toaster` cannot be used"),
        ("circuit find RUN --edit schema.table --device toaster", "device `toaster` cannot be used"),
        ("circuit eval RUN --edit schema.table --device toaster", "device `toaster` cannot be used"),
        ("bench circuits --device toaster", "device `toaster` cannot be used"),
        ("sae train RUN --device toaster", "device `toaster` cannot be used"),
        ("sae eval RUN --device toaster", "device `toaster` cannot be used"),
        ("transfer teach small --out OUT --device toaster", "device `toaster` cannot be used"),
        (f"transfer fit RUN RUN {HOOKS} --out OUT --device toaster", "device `toaster` cannot be used"),
        ("train tiny --out BEGUN --resume --seed 3", "BEGUN was started with --seed 0, not 3"),
        ("train tiny --out BEGUN --resume --set rows=40", "BEGUN was started with rows 400, not 40"),
        ("train tiny --out LOST --resume", "LOST holds 1 checkpoint"),
        ("train tiny --out BEGUN --resume --overwrite", "cannot both overwrite and resume"),
        ("demo --out BEGUN --resume --overwrite", "cannot both overwrite and resume"),
        ("train tiny --out OUT --wandb=", "--wandb names no project"),
        ("train tiny --out LOST", "LOST holds 1 checkpoint"),
        ("demo --out LOST --overwrite", "LOST holds 1 checkpoint"),
        ("transfer teach small --out LOST", "LOST holds 1 checkpoint"),
    ],
)
def test_a_refusal_of_files_loads_no_torch(run: Path, command: str, said: str) -> None:
    places = {"RUN": run, "NONE": run / "none"}
    names_beside = (
        "OUT",
        "TAUGHT",
        "BEGUN",
        "BUILT",
        "EMPTY",
        "LOST",
        "CUT",
        "BERT",
        "LLAMA",
        "SHORT",
        "MUTE",
        "FILE",
        "SOURCE",
        "TARGET",
        "CLEAN",
        "TORN",
    )
    places |= {name: run.parent / name.lower() for name in names_beside}

    def placed(text: str) -> str:
        for name, path in places.items():
            text = text.replace(name, str(path))
        return text

    done = subprocess.run(
        [sys.executable, "-c", TOLD, "torch,transformer_lens", *placed(command).split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert placed(said) in done.stderr
    assert done.returncode == 0, "something that takes seconds was loaded"
    assert done.stdout == ""
