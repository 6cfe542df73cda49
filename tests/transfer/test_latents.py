"""A vector from an SAE's latent: which latent, of which SAE, and what a transfer and its controls make of it."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.disk import SAE, load, save, stock
from tinysql.cli import main
from tinysql.config import override
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.runs import Run
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import Gate
from transfer.behaviours.training import Subject, open_subject, teach
from transfer.evaluation.bench import Bench
from transfer.evaluation.controls import Materials, clean_bench, sources
from transfer.evaluation.curves import rank_curve
from transfer.evaluation.plan import Plan
from transfer.latents import _there, contrast_latent, sae_at
from transfer.parts import ENDING, place_of
from transfer.points import Contrast, Points
from transfer.steering import SteeringVector
from transfer.vectors import difference_of_means

HOOK, OTHER = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"
WIDTH, LATENTS = 16, 12
PLAN = Plan(
    source_hook=HOOK,
    target_hook=HOOK,
    vector="sae-latent",
    sae=("stream",),
    map_rows=20,
    vector_rows=6,
    choose_rows=3,
    test_rows=4,
    draws=2,
    scales=(1.0, 4.0),
)


def an_sae(hook: str = HOOK, seed: int = 0, *, d_in: int = WIDTH) -> SAE:
    """Random directions, read and written; latents are ReLUs."""
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=d_in, d_sae=LATENTS)).requires_grad_(False)
    sae.cfg.metadata.hook_name = hook
    rows = torch.randn(LATENTS, d_in, generator=torch.Generator().manual_seed(seed))
    sae.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    return sae


def points(values: Tensor) -> Points:
    return Points(
        values=values,
        ids=torch.zeros(len(values), dtype=torch.long),
        positions=torch.zeros(len(values), dtype=torch.long),
    )


@pytest.mark.parametrize("is_turned", [False, True])
def test_the_latent_is_the_one_whose_means_lie_most_standard_deviations_apart_sign_included(
    is_turned: bool,
) -> None:
    """By hand: more noise on one latent than on another makes the larger difference of means the smaller d."""
    sae, noise = an_sae(), torch.Generator().manual_seed(1)
    sae.W_dec.copy_(torch.eye(LATENTS, WIDTH))
    sae.W_enc.copy_(sae.W_dec.T)
    plus, minus = (5 + 0.1 * torch.randn(200, WIDTH, generator=noise) for _ in range(2))
    plus[:, 3] += 1.0
    plus[:, 7] += 2 + 3 * torch.randn(200, generator=noise)
    sides = (points(minus), points(plus)) if is_turned else (points(plus), points(minus))
    contrast = Contrast(plus=sides[0], minus=sides[1])
    found = contrast_latent(sae, contrast, HOOK)
    first, second = (side.values[:, 3].double() for side in sides)
    gap = first.mean() - second.mean()
    d = gap / ((first.var(unbiased=False) + second.var(unbiased=False)) / 2).sqrt()
    assert found.metadata["latent"] == 3
    assert found.metadata["apart"] == pytest.approx(float(d), rel=1e-5)
    assert (found.metadata["apart"] < 0) == is_turned
    torch.testing.assert_close(found.vector, float(gap) * sae.W_dec[3])
    # It leads from minus to plus, as the difference of means does.
    assert found.cosine(difference_of_means(contrast, HOOK)) > 0
    assert abs(difference_of_means(contrast, HOOK).vector[7]) > abs(gap)


def test_sides_that_no_latent_tells_apart_are_refused() -> None:
    same = points(torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(InputError, match=r"no latent of the SAE at .* tells the two sides apart: the best, "):
        contrast_latent(an_sae(), Contrast(plus=same, minus=same), HOOK)
    near = points(same.values + 0.01)
    with pytest.raises(InputError, match=r"standard deviations apart, expected at least 0.2"):
        contrast_latent(an_sae(), Contrast(plus=near, minus=same), HOOK)


def test_an_sae_of_another_width_is_refused() -> None:
    some = Contrast(plus=points(torch.ones(2, WIDTH)), minus=points(torch.zeros(2, WIDTH)))
    with pytest.raises(InputError, match=f"the SAE reads 8 dimensions, `{HOOK}` carries {WIDTH}"):
        contrast_latent(an_sae(d_in=8), some, HOOK)


def test_a_run_has_the_named_sae_of_the_hook_or_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no SAE `stream`"):
        sae_at(Run(tmp_path, {}), ["stream"], HOOK)
    save(an_sae(), tmp_path / "saes" / "stream")
    assert sae_at(Run(tmp_path, {}), ["stream"], HOOK) == tmp_path / "saes" / "stream"
    with pytest.raises(
        InputError, match=f"has no SAE of `{OTHER}` among those named: `stream` is of `{HOOK}`"
    ):
        sae_at(Run(tmp_path, {}), ["stream"], OTHER)
    save(an_sae(OTHER), tmp_path / "saes" / "later")
    # A name may be that of another run's.
    assert sae_at(Run(tmp_path, {}), ["source", "stream", "later"], OTHER).name == "later"
    with pytest.raises(InputError, match="has no SAE `strem`; did you mean `stream`"):
        sae_at(Run(tmp_path, {}), ["strem"], HOOK)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("g,k=4,seed=0", "g,k=4,seed=0"),
        ("elsewhere,g,k=4,seed=0,late", "g,k=4,seed=0"),
        ("elsewhere,g,late", "g"),
        ("g,widths=(8, 48)", "g,widths=(8, 48)"),
        ("late,g", "late"),
    ],
)
def test_the_commas_in_the_name_of_a_member_of_a_grid_part_no_names(
    tmp_path: Path, said: str, meant: str
) -> None:
    for name in ("g", "g,k=4,seed=0", "g,widths=(8, 48)", "late"):
        save(an_sae(), tmp_path / "saes" / name)
    plan = override(PLAN, [f"sae={said}"])
    assert sae_at(Run(tmp_path, {}), plan.sae, HOOK).name == meant


def test_the_parts_of_a_name_name_nothing_else() -> None:
    known = ["g", "g,k=4", "k=4", "late"]
    assert _there(["g", "k=4", "late", "none", "k=4"], known) == ["g,k=4", "late", "k=4"]


@pytest.mark.parametrize(
    "change",
    [{"architecture": "transcoder"}, {"metadata": {"hook_name": HOOK, "hook_widths": [8, 8]}}],
)
def test_what_writes_another_hook_or_reads_several_is_no_sae_of_one(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    save(an_sae(), tmp_path / "saes" / "stream")
    file = tmp_path / "saes" / "stream" / "cfg.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match="`stream` is no SAE"):
        sae_at(Run(tmp_path, {}), ["stream"], HOOK)


def test_a_plan_names_an_sae_where_its_vector_is_a_latent_and_only_there() -> None:
    with pytest.raises(InputError, match="the vector `sae-latent` is one of an SAE, and none is named"):
        replace(PLAN, sae=())
    with pytest.raises(InputError, match="sae is `stream`, and a `prompt-contrast` reads none"):
        replace(PLAN, vector="prompt-contrast")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any latent is as good as another in models that were taught nothing."""
    monkeypatch.setattr("transfer.latents.LEAST_APART", 0.0)


@pytest.fixture
def bench(
    subject_of: Callable[..., Subject],
    untaught: Callable[..., HybridLM],
    tmp_path: Path,
    lenient: None,
) -> tuple[Bench, Subject]:
    """Two strangers, each with an SAE of its own in a directory of its own, and a clean source without one."""
    subjects = []
    for seed, name in ((3, "source"), (5, "target"), (7, "clean")):
        payload = "none" if name == "clean" else None
        subject = subject_of(untaught(WIDTH, seed), payload)
        subjects.append(replace(subject, run=Run(tmp_path / name, subject.run.config)))
        if name != "clean":
            save(an_sae(seed=seed), tmp_path / name / "saes" / "stream")
    source, target, clean = subjects
    return Bench(source=source, target=target, plan=PLAN), clean


def by_hand(bench: Bench, subject: Subject) -> SteeringVector:
    sae = load(subject.run.path / "saes" / "stream")
    return contrast_latent(sae, bench.contrast(subject, HOOK), HOOK)


def test_source_and_target_give_latents_and_sources_that_know_nothing_their_difference_of_means(
    bench: tuple[Bench, Subject],
    materials_of: Callable[[Bench, Subject], Materials],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, clean = bench
    fitted = here.fit(here.pairs())
    for vector, subject in ((here.native(), here.target), (here.own(here.source, HOOK), here.source)):
        torch.testing.assert_close(vector.vector, by_hand(here, subject).vector)
        assert vector.metadata["sae"] == "stream"
    carried = fitted.map_directions(by_hand(here, here.source).vector[None])[0]
    torch.testing.assert_close(here.transferred(fitted).vector, carried)
    posing = clean_bench(here, clean).by_means()
    means = difference_of_means(posing.contrast(posing.source, HOOK), HOOK).vector
    torch.testing.assert_close(posing.own(posing.source, HOOK).vector, means)
    used: list[Any] = []
    monkeypatch.setattr(Materials, "steer", lambda made, vector: used.append(vector) or nullcontext)
    for control in sources(materials_of(here, clean)):
        for draw in control.draws:
            draw()
    assert [one.metadata["of"]["method"] for one in used] == ["difference of means"] * (PLAN.draws + 1)
    fitted = posing.fit(posing.pairs())
    torch.testing.assert_close(used[-1].vector, fitted.map_directions(means[None])[0])
    kept = replace(here.plan, vector="prompt-contrast", sae=())
    assert replace(here, plan=kept).by_means().plan == kept


def test_a_point_of_a_curve_has_its_latent(bench: tuple[Bench, Subject], brief: None) -> None:
    here, _ = bench
    (point,) = rank_curve(here, [2])
    assert point.latent == by_hand(here, here.source).metadata["latent"]
    assert point.to_json()["latent"] == point.latent


@pytest.fixture(scope="module")
def runs(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, payload, seed in (("source", "drop", 0), ("target", "drop", 1), ("clean", "none", 2)):
        teach(recipe.with_seed(seed), find_behaviour("backdoor", payload, seed=0), folder / name)
        if name != "clean":
            save(an_sae(seed=seed), folder / name / "saes" / "stream")
    return folder


def command(verb: str, runs: Path, out: Path, *more: str) -> list[str]:
    fields = ("map_rows", "vector_rows", "choose_rows", "test_rows", "draws")
    settings = [part for name in fields for part in ("--set", f"{name}={getattr(PLAN, name)}")]
    both = [str(runs / "source"), str(runs / "target")]
    vector = ["--set", "vector=sae-latent", "--set", "scales=1.0,4.0", "--out", str(out)]
    return ["transfer", verb, *both, *settings, *vector, *more]


AT_HOOK = ("--source-hook", HOOK, "--target-hook", HOOK, "--set", "sae=stream")


@pytest.mark.usefixtures("brief", "lenient")
def test_eval_writes_and_prints_the_latents_and_resumes_with_the_same_saes_alone(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = (Gate(bars=()), Gate(bars=()))
    monkeypatch.setattr("transfer.evaluation.evaluate._gates", lambda *_: opened)
    clean = ["--clean", str(runs / "clean")]
    asked = command("eval", runs, tmp_path / "out", *AT_HOOK, *clean)

    def stop(what: str) -> None:
        if "sign flip" in what:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("transfer.commands._say", stop)
        assert main(asked) != 0
    assert list(place_of(tmp_path / "out").glob(f"*{ENDING}"))
    file = runs / "target" / "saes" / "stream" / "sae_weights.safetensors"
    before = file.read_bytes()
    save(an_sae(seed=9), runs / "target" / "saes" / "stream")
    capsys.readouterr()
    assert main([*asked, "--resume"]) == 2
    assert "was begun with saes." in capsys.readouterr().err
    file.write_bytes(before)
    assert main([*asked, "--resume"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(found["latents"]) == {"source", "target"}
    for name, one in found["latents"].items():
        assert one["sae"] == "stream"
        assert f"latent of the {name}: {one['latent']} of SAE `stream`" in said
    assert len(found["outcomes"]) == 2 + 16 - 2 + 2  # 2 and 15 stand elsewhere; 6 and 7 have two rows each
    target = open_subject(runs / "target")
    native = SteeringVector.load(tmp_path / "out" / "native")
    assert native.metadata["latent"] == found["latents"]["target"]["latent"]
    bench = Bench(source=open_subject(runs / "source"), target=target, plan=PLAN)
    torch.testing.assert_close(native.vector, by_hand(bench, target).vector)


def test_what_has_no_sae_of_the_hook_is_refused_before_anything_is_measured(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither gate is passed here, and none is asked."""
    out = tmp_path / "out"

    def refused(*arguments: str, verb: str = "eval") -> str:
        capsys.readouterr()
        assert main(command(verb, runs, out, *arguments)) == 2
        assert not out.exists()
        return capsys.readouterr().err

    hooks, at = ("--source-hook", OTHER, "--target-hook", OTHER), f"`stream` is of `{HOOK}`"
    none = f"{runs / 'source'} has no SAE `strem`; did you mean `stream`"
    assert none in refused(*AT_HOOK, "--set", "sae=strem")
    assert f"{runs / 'source'} has no SAE of `{OTHER}` among those named: {at}" in refused(
        *hooks, "--set", "sae=stream"
    )
    assert f"no SAE of `{OTHER}`" in refused("--layer", "1", "--layer", "2", "--set", "sae=stream")
    assert "no SAE of `blocks.0.hook_resid_post`" in refused(*AT_HOOK, verb="curve")
