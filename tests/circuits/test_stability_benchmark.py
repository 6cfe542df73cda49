"""The stability benchmark: what is kept is not measured again, what else made a file is refused, methods are ranked."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_gen.errors import InputError

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
stability, of_files = (
    importlib.import_module(f"benchmarks.{name}") for name in ("stability", "stability_kept")
)
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it

EDITS = ("schema.table", "english.table", "select.0.column")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory as far as the file looks at it."""
    path = tmp_path / "run"
    path.mkdir()
    (path / of_files.MODEL).write_bytes(b"weights")
    return path


@pytest.fixture
def sets() -> dict[str, SimpleNamespace]:
    return {name: SimpleNamespace(set=name) for name in ("cs1", "cs2")}


def test_a_command_that_was_cut_off_goes_on_behind_the_last_edit(run, sets, tmp_path, monkeypatch) -> None:
    made = []

    def edit_row(subject, edit: str, top: int) -> dict[str, str]:
        if edit == EDITS[2] and len(made) < 3:
            raise KeyboardInterrupt
        made.append(edit)
        return {"edit": edit, "set": subject.set}

    monkeypatch.setattr(stability, "edit_row", edit_row)
    path = tmp_path / "kept.json"
    with pytest.raises(KeyboardInterrupt):
        stability.table_of("edits", [sets], EDITS, of_files.Kept(path, [run], 0, "cpu"))
    found = json.loads(path.read_text())
    assert [row["edit"] for row in found["edits"]] == list(EDITS[:2])
    assert [mark["part"] for mark in found["seconds"]] == list(EDITS[:2])
    made.append("again")
    rows = stability.table_of("edits", [sets], EDITS, of_files.Kept(path, [run], 0, "cpu"))
    assert made == [*EDITS[:2], "again", EDITS[2]]
    assert [row["edit"] for row in rows] == list(EDITS)
    assert json.loads(path.read_text())["edits"] == rows


def test_edits_and_tables_of_several_commands_stand_in_one_file(run, sets, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stability, "edit_row", lambda _, edit, top: {"edit": edit, "of": "edits"})
    monkeypatch.setattr(
        stability, "agreement_rows", lambda _, edit: [{"edit": edit, "method": name} for name in "ab"]
    )
    path = tmp_path / "kept.json"
    for table, edits in (("edits", EDITS[1:2]), ("agreement", EDITS[:1]), ("edits", EDITS[:2])):
        stability.table_of(table, [sets], edits, of_files.Kept(path, [run], 0, "cpu"))
    found = json.loads(path.read_text())
    assert [row["edit"] for row in found["edits"]] == [EDITS[1], EDITS[0]]
    assert [row["method"] for row in found["agreement"]] == ["a", "b"]


def test_two_commands_at_work_on_one_file_keep_what_both_measure(run, tmp_path) -> None:
    path = tmp_path / "kept.json"
    first, second = (of_files.Kept(path, [run], 0, "cpu") for _ in "ab")
    for kept, edit in ((first, EDITS[0]), (second, EDITS[1]), (first, EDITS[1]), (second, EDITS[2])):
        kept.add("edits", edit, [{"edit": edit}], 1.0)
    found = json.loads(path.read_text())
    assert [row["edit"] for row in found["edits"]] == list(EDITS)
    assert [mark["part"] for mark in found["seconds"]] == list(EDITS)


def test_similar_queries_are_compared_anew_for_other_edits(run, sets, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        stability, "similar", lambda _, edits, top: [{"alike": "1 " + edits[-1], "jaccard": [1.0]}]
    )
    path = tmp_path / "kept.json"
    for edits in (EDITS[:1], EDITS[:2], EDITS[:2], EDITS[:1]):
        rows = stability.table_of("similar", [sets], edits, of_files.Kept(path, [run], 0, "cpu"))
        assert [row["alike"] for row in rows] == ["1 " + edits[-1]]
    found = json.loads(path.read_text())
    assert len(found["similar"]) == 1
    assert len(found["seconds"]) == 3


@pytest.mark.parametrize("what", ["seed", "device", "weights", "runs", "commit"])
def test_a_file_that_something_else_gave_is_refused_and_stays(run, tmp_path, what: str, monkeypatch) -> None:
    path = tmp_path / "kept.json"
    of_files.Kept(path, [run], 0, "cpu").add("edits", "schema.table", [{"edit": "schema.table"}], 1.0)
    before = path.read_bytes()
    if what == "weights":
        (run / of_files.MODEL).write_bytes(b"other weights")
    if what == "commit":
        monkeypatch.setattr(of_files, "provenance", lambda: {"commit": "another"})
    seed, device = int(what == "seed"), "cuda" if what == "device" else "cpu"
    with pytest.raises(InputError, match=f"not written with the {what}") as refusal:
        of_files.Kept(path, [run, run] if what == "runs" else [run], seed, device)
    assert refusal.value.hint
    assert path.read_bytes() == before


def test_a_file_written_into_the_tree_makes_no_other_commit(run, tmp_path, monkeypatch) -> None:
    path = tmp_path / "kept.json"
    monkeypatch.setattr(of_files, "provenance", lambda: {"commit": "abc"})
    of_files.Kept(path, [run], 0, "cpu").add("edits", "schema.table", [{"edit": "schema.table"}], 1.0)
    monkeypatch.setattr(of_files, "provenance", lambda: {"commit": "abc+changes"})
    assert of_files.Kept(path, [run], 0, "cpu").rows("edits", "schema.table") == [{"edit": "schema.table"}]


def test_a_file_of_an_older_benchmark_is_refused(run, tmp_path) -> None:
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"edits": [], "made_by": {}}))
    with pytest.raises(InputError, match="not written with the runs and weights"):
        of_files.Kept(path, [run], 0, "cpu")


def test_an_edit_that_no_command_set_has_is_refused(sets) -> None:
    with pytest.raises(InputError, match=r"cs1 has the edit `order_by\.0\.column`"):
        stability.table_of("edits", [{"cs1": sets["cs1"]}], ["order_by.0.column"], None)


def test_a_step_says_what_it_is_and_whether_it_was_done(capsys) -> None:
    with of_files.step("one"):
        assert capsys.readouterr().err == "one: "
    assert capsys.readouterr().err.endswith(" s\n")
    with pytest.raises(ValueError, match="why"), of_files.step("two"):
        raise ValueError("why")
    assert capsys.readouterr().err == "two: not done\n"


def test_methods_are_ranked_as_one_by_one() -> None:
    """The oracle's ranks are shared by all methods; beside them the statistics as they are defined."""
    rng = np.random.default_rng(1)
    oracle = rng.normal(size=(6, 40)) * (rng.random(40) < 0.7)
    methods = {"same": oracle, "turned": -oracle, "near": oracle + rng.normal(size=oracle.shape)}
    found = stability.agreed(methods, oracle, top=5, resamples=30)

    def statistics(mine: np.ndarray, truth: np.ndarray) -> list[float]:
        orders = [np.argsort(-np.abs(values), kind="stable") for values in (mine, truth)]
        ranks = [np.argsort(order) for order in orders]
        shared = len(set(orders[0][:5].tolist()) & set(orders[1][:5].tolist())) / 5
        return [np.corrcoef(mine, truth)[0, 1], np.corrcoef(*ranks)[0, 1], shared]

    drawn = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=30) / 6
    for name, mine in methods.items():
        values = statistics(mine.mean(0), oracle.mean(0))
        draws = np.array([statistics(weight @ mine, weight @ oracle) for weight in drawn])
        low, high = np.quantile(draws, 0.025, axis=0), np.quantile(draws, 0.975, axis=0)
        rows = [found[name][key] for key in ("pearson", "spearman", "top_shared")]
        np.testing.assert_allclose([row["value"] for row in rows], values, atol=1e-12)
        np.testing.assert_allclose([row["low"] for row in rows], low, atol=1e-12)
        np.testing.assert_allclose([row["high"] for row in rows], high, atol=1e-12)
    assert found["turned"]["pearson"]["value"] == pytest.approx(-1)
    assert found["turned"]["spearman"]["value"] == pytest.approx(1)
    assert found["near"]["spearman"]["value"] < 0.95


def test_the_device_is_in_use_before_the_file_says_what_measured(run, tmp_path, monkeypatch) -> None:
    done = []

    def kept(*_) -> None:
        done.append("file")
        raise KeyboardInterrupt

    monkeypatch.setattr(stability, "find_device", done.append)
    monkeypatch.setattr(stability, "Kept", kept)
    arguments = SimpleNamespace(run=run, others=[], seed=0, device="cpu", top=30, json=tmp_path / "kept.json")
    with pytest.raises(KeyboardInterrupt):
        stability.measured(arguments)
    assert done == ["cpu", "file"]


def test_circuits_have_as_many_edges_as_asked_for(run, sets, monkeypatch) -> None:
    sizes = []

    def edit_row(subject, edit: str, top: int) -> dict[str, str]:
        sizes.append(top)
        return {"edit": edit}

    monkeypatch.setattr(stability, "edit_row", edit_row)
    stability.table_of("edits", [sets], EDITS[:1], None)
    stability.table_of("edits", [sets], EDITS[:1], None, 255)
    assert sizes == [30, 255]


def test_a_file_of_circuits_of_another_size_is_refused(run, tmp_path) -> None:
    path = tmp_path / "kept.json"
    of_files.Kept(path, [run], 0, "cpu", {"top": 30}).add("edits", EDITS[0], [{"edit": EDITS[0]}], 1.0)
    with pytest.raises(InputError, match="was not written with the top of this command"):
        of_files.Kept(path, [run], 0, "cpu", {"top": 255})
