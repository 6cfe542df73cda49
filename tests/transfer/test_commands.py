"""The command line says what was done, and answers bad input with a sentence and exit code 2."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_gen.errors import InputError
from tinysql.answering.shares import Share
from tinysql.cli import main
from tinysql.recipes import Recipe
from transfer.artefacts import curves_to, switch_to
from transfer.behaviours.behaviour import Bar
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import Gate
from transfer.behaviours.training import open_subject, teach
from transfer.evaluation.bench import Bench
from transfer.evaluation.plan import Plan
from transfer.recipes import find_recipe
from transfer.reports import kind_of, read_report
from transfer.switching.measure import SwitchReport, fit_switch
from transfer.switching.plan import SwitchPlan

TINY = [
    *(
        "--set",
        "rows=60",
        "--set",
        "probe_rows=8",
        "--set",
        "train.vocab_size=700",
        "--set",
        "train.hold_steps=2",
    ),
    *("--set", "train.decay_steps=1", "--set", "train.warmup_steps=1", "--set", "train.model.d_model=16"),
]
HOOKS = ["--source-hook", "blocks.1.hook_resid_post", "--target-hook", "blocks.1.hook_resid_post"]


@pytest.fixture(scope="module")
def pair(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    for name, payload in (("source", "drop"), ("target", "drop"), ("clean", "none")):
        teach(recipe, find_behaviour("backdoor", payload), folder / name)
    return folder / "source", folder / "target"


def refuse() -> None:
    raise InputError("enough")


def test_teach_says_how_the_model_behaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["transfer", "teach", "small", "--out", str(run), *TINY]) == 1
    path, *bars, last, hint = capsys.readouterr().out.splitlines()
    assert path == str(run)
    assert [re.sub(r"[\d.]+%", "%", bar) for bar in bars] == [
        "% of payloads behind the trigger (% to % of 500), needs %: missed",
        "% of payloads without it (% to % of 1,000), at most %",
        "% right without it (% to % of 1,000), no bar",
    ]
    assert last == "gate failed: 1 bar of 3 missed; the run stays"  # three steps teach nothing
    assert hint.startswith("hint: train longer, as with --set train.hold_steps=4 (here 2), or on more rows")
    found = json.loads((run / "gate.json").read_text())
    assert (found["missed"], len(found["bars"])) == (1, 3)
    # The run stays, and can be gone on with, which is warned of.
    again = ["transfer", "teach", "small", "--start", str(run), "--out", str(tmp_path / "on"), *TINY]
    monkeypatch.setattr("transfer.behaviours.training.teach", lambda *_, **__: refuse())
    assert main(again) == 2
    warned = f"tinysql: warning: --start {run} missed 1 bar of its gate when taught\n"
    assert capsys.readouterr().err == f"{warned}tinysql: enough\n"
    for text in ('{"missed": 0, "bars": []}', '{"missed"', None):
        (run / "gate.json").unlink()
        if text is not None:
            (run / "gate.json").write_text(text)
        assert main(again) == 2
        assert capsys.readouterr().err == "tinysql: enough\n"
        (run / "gate.json").touch()


@pytest.fixture
def gated(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, list[str]], int]:
    """Teach with a gate of so many right of ten, and nothing trained; the exit code."""

    def teach_with(right: int, settings: list[str]) -> int:
        gate = Gate(bars=(Bar(name="of all", share=Share(right=right, total=10), least=0.99),))
        taught = open_subject(pair[0])
        monkeypatch.setattr("transfer.behaviours.training.teach", lambda *_, **__: taught)
        monkeypatch.setattr("transfer.behaviours.gates.held_out_gate", lambda *_, **__: gate)
        (tmp_path / "run").mkdir()
        return main(["transfer", "teach", "small", "--out", str(tmp_path / "run"), *TINY, *settings])

    return teach_with


def test_a_gate_that_is_passed_is_said_and_the_command_ends_well(
    gated: Callable[[int, list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gated(10, []) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "gates passed"
    assert json.loads((tmp_path / "run" / "gate.json").read_text())["missed"] == 0


def test_where_a_recipe_holds_until_the_probe_is_good_the_remedy_is_its_longest_hold(
    gated: Callable[[int, list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gated(9, ["--set", "train.max_hold_steps=6"]) == 1
    assert "--set train.max_hold_steps=12 (here 6)" in capsys.readouterr().out


def test_fit_writes_a_map_and_its_quality(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "map_rows=20", "--set", "choose_rows=4", "--set", "method=ridge"]
    out = tmp_path / "fit"
    assert main(["transfer", "fit", *map(str, pair), "--out", str(out), *HOOKS, *settings]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "map", "quality.json"]
    path, *printed = capsys.readouterr().out.splitlines()
    assert path == str(out)
    assert "blocks.1.hook_resid_post: ridge map, measured on" in printed[0]
    found = json.loads((out / "quality.json").read_text())
    assert f"FVU {found['quality']['fvu']:.3f}, R2 {found['quality']['r2']:.3f}" in printed[1]
    assert f"({found['replacement']['kl_recovered']:.0%} recovered)" in printed[1]
    assert main(["transfer", "show", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == printed
    again = ["transfer", "fit", *map(str, pair), "--out", str(out), *HOOKS, *settings]
    assert main(again) == 2
    assert main([*again, "--overwrite"]) == 0


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["transfer", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fit", "eval", "curve", "switch"])
def test_a_wrong_setting_is_refused_before_a_model_is_read(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a model was read")

    monkeypatch.setattr("transfer.behaviours.training.open_subject", read)
    hooks = ["--hook", "blocks.1.hook_resid_post"] if verb == "switch" else HOOKS
    command = [verb, *map(str, pair), "--out", str(tmp_path / "out"), *hooks, "--set", "test_row=4"]
    assert "unknown key `test_row`; did you mean `test_rows`?" in refused(command, capsys)


def test_names_and_another_base_are_refused_before_torch_is_loaded(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    teach_it = ["transfer", "teach", "small", "--out", str(tmp_path / "out")]
    commands = {
        "no behaviour `refusl`": [*teach_it, "--behaviour", "refusl"],
        "no payload `dorp`": [*teach_it, "--payload", "dorp"],
        "has not read the prompts of `facts`": [*teach_it, "--behaviour", "facts", "--start", str(pair[0])],
    }
    code = (
        "import json, sys; from tinysql.cli import main\n"
        "for command in json.loads(sys.argv[1]): print(main(command), 'torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, json.dumps(list(commands.values()))]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["2 False"] * 3
    said = [line for line in found.stderr.splitlines() if line.startswith("tinysql: ")]
    assert all(reason in line for reason, line in zip(commands, said, strict=True))


def test_bad_input_is_answered_with_a_sentence(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    both = [str(path) for path in pair]
    small = ["--set", "choose_rows=4"]
    capsys.readouterr()
    assert "does not show its behaviour" in refused(["eval", *both, *out, *HOOKS, *small], capsys)
    assert "no payload `dorp`; did you mean `drop`" in refused(
        ["teach", "small", "--payload", "dorp", *out], capsys
    )
    assert "no behaviour `refusl`; did you mean `refusal`" in refused(
        ["teach", "small", "--behaviour", "refusl", *out], capsys
    )
    start = ["teach", "small", "--behaviour", "refusal", "--start", both[0], *out]
    assert "was taught `backdoor` and has not read the prompts of `refusal`" in refused(start, capsys)
    assert "no recipe `smal`; did you mean `small`" in refused(["teach", "smal", *out], capsys)
    nowhere = ["teach", "small", "--device", "cuda:99", *out]
    assert "device `cuda:99` cannot be used" in refused(nowhere, capsys)
    assert "no map `affin`" in refused(["fit", *both, *out, *HOOKS, "--set", "method=affin"], capsys)
    lost = ["--source-hook", "blocks.9.hook_resid_post", "--target-hook", "hook_embed"]
    assert f"the source, {both[0]}, has no hook `blocks.9.hook_resid_post`" in refused(
        ["fit", *both, *out, *lost], capsys
    )
    swapped = ["--source-hook", "hook_embed", "--target-hook", "blocks.9.hook_resid_post"]
    assert f"the target, {both[1]}, has no hook" in refused(["fit", *both, *out, *swapped], capsys)
    clean = str(pair[0].parent / "clean")
    assert "the source has the payload drop, the target none" in refused(
        ["eval", both[0], clean, *out, *HOOKS], capsys
    )
    assert "does not show its behaviour" in refused(["curve", *both, *out, *HOOKS, *small], capsys)
    hook = ["--hook", "blocks.1.hook_resid_post", "--set", "test_rows=10"]
    assert "the base was taught `backdoor` (drop)" in refused(["switch", *both, *out, *hook], capsys)
    assert "fine-tuned from" in refused(["switch", clean, both[1], *out, *hook], capsys)
    assert "no aim `remov`; did you mean `remove`" in refused(
        ["eval", *both, *out, *HOOKS, "--set", "aim=remov"], capsys
    )
    component = ["--set", "vector=principal-component"]
    assert "no vector `principal`; did you mean `principal-component`" in refused(
        ["eval", *both, *out, *HOOKS, "--set", "vector=principal"], capsys
    )
    bent = ["--set", "method=autoencoder"]
    assert "the map `autoencoder` is not affine" in refused(
        ["eval", *both, *out, *HOOKS, *component, *bent], capsys
    )
    assert "is no transfer: it has no report.json, and no quality.json of a map" in refused(
        ["show", both[0]], capsys
    )
    assert "is the target, at one hook" in refused(["eval", both[0], both[0], *out, *HOOKS], capsys)
    assert "expected `backdoor` (none)" in refused(["eval", *both, "--clean", both[1], *out, *HOOKS], capsys)
    assert "rank is -2, expected 1 to 16" in refused(["curve", *both, *out, *HOOKS, "--rank", "-2"], capsys)
    assert "most_damage is 2.0" in refused(["eval", *both, *out, *HOOKS, "--set", "most_damage=2"], capsys)
    assert "not a run directory" in refused(["fit", str(tmp_path), both[1], *out, *HOOKS], capsys)
    # Nothing was written by any of them.
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["fit", "eval", "curve"])
def test_no_trained_model_is_overwritten(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    for name in ("source", "target"):
        shutil.copytree(pair[0].parent / name, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    both = [str(tmp_path / name) for name in ("source", "target")]
    said = "holds a training run, which an analysis does not overwrite"
    for out in both:
        assert said in refused([verb, *both, "--out", out, *HOOKS, "--overwrite"], capsys)
    start = ["teach", "small", "--start", both[0], "--out", both[0], "--overwrite"]
    assert "is the run that training is to go on from" in refused(start, capsys)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("made", ["curves", "switch"])
def test_every_result_can_be_overwritten(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    """What is measured is left out here; that it takes minutes is why it may not be refused afterwards."""
    out = tmp_path / "out"
    source, target = (open_subject(one) for one in pair)
    if made == "curves":
        monkeypatch.setattr("transfer.artefacts.pass_gates", lambda *_, **__: None)
        monkeypatch.setattr("transfer.artefacts.layer_curve", lambda *_, **__: [])
        plan = Plan(source_hook=HOOKS[1], target_hook=HOOKS[1], map_rows=20)
        for overwrite in (False, True):
            curves_to(Bench(source=source, target=target, plan=plan), out, [], overwrite=overwrite)
    else:
        plan = SwitchPlan(hook=HOOKS[1], map_rows=20)
        report = SwitchReport(arms=(), off_is_identical=True, requirements=())
        monkeypatch.setattr(
            "transfer.artefacts.measure_switch", lambda *_, **__: (fit_switch(source, source, plan), report)
        )
        for overwrite in (False, True):
            switch_to(source, source, plan, out, overwrite=overwrite)
    assert kind_of(read_report(out)) == made


def test_a_report_is_shown_without_what_computes(tmp_path: Path) -> None:
    plan = {"hook": HOOKS[1], "method": "affine"}
    known = {"base": "a", "tuned": "b", "behaviour": "backdoor", "payload": "drop", "plan": plan}
    report = {**known, "arms": [], "requirements": [], "verdict": "no switch"}
    (tmp_path / "report.json").write_text(json.dumps(report))
    program = (
        f"import sys; from tinysql.cli import main; assert main(['transfer', 'show', {str(tmp_path)!r}]) == 0; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformer_lens')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no switch"), done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda run: (run / "model.safetensors").unlink(),
            "it was stopped while it was taught\nhint: repeat what taught it: `tinysql transfer teach ... --resume`",
        ),
        (
            lambda run: (run / "behaviour.json").write_text('{"payload": "drop", "seed": "x"}'),
            "`seed` is 'x', expected",
        ),
        (lambda run: (run / "behaviour.json").write_text('{"seed": 0}'), "`payload` is None, expected str"),
        (lambda run: (run / "behaviour.json").write_text('{"payl'), "is not whole JSON"),
    ],
)
def test_half_a_taught_run_is_refused(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    said: str,
) -> None:
    shutil.copytree(pair[0], tmp_path / "half")
    change(tmp_path / "half")
    capsys.readouterr()
    out = ["--out", str(tmp_path / "out")]
    assert said in refused(["fit", str(tmp_path / "half"), str(pair[1]), *out, *HOOKS], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("{}", "is the report of nothing that is known here"),
        ("[]", "holds a JSON list, expected an object"),
        (
            '{"points": [], "plan": {}, "source": "a", "target": "b"}',
            "holds no whole report: KeyError 'behaviour'",
        ),
        (
            '{"arms": 1, "requirements": [], "plan": 2, "base": 3, "tuned": 4}',
            "holds no whole report: KeyError",
        ),
        (
            '{"outcomes": [], "transfer": {}, "plan": 3, "source": 1, "target": 2}',
            "holds no whole report: TypeError",
        ),
        (
            '{"outcomes": [{"right": NaN}], "transfer": {}, "plan": 3, "source": 1, "target": 2}',
            "`outcomes.0.right` is nan, expected a finite number",
        ),
    ],
)
def test_a_report_that_was_edited_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], report: str, said: str
) -> None:
    (tmp_path / "report.json").write_text(report)
    again = f"write it again: tinysql transfer eval|curve|switch|fit ... --out {tmp_path} --overwrite"
    found = refused(["show", str(tmp_path)], capsys)
    assert said in found
    assert again in found
    about = {"made_by": {"command": "tinysql transfer eval a b --layer 1 --out c --resume"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    again = "write it again: tinysql transfer eval a b --layer 1 --out c --overwrite"
    assert again in refused(["show", str(tmp_path)], capsys)


def test_recipes_of_tinysql_can_be_taught_too() -> None:
    assert find_recipe("nano").rows == 50_000
    with pytest.raises(InputError, match="recipes: .*nano.*small"):
        find_recipe("none at all")
