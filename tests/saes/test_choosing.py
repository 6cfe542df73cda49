"""Roles are watched during a training without changing it, and the dictionary to keep is chosen by them."""

import json
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.example import make_example
from saes import asked as asking
from saes.activations import Activations, record
from saes.choices import CHOSEN, LEVEL, REST, choice_figure, curve_figure, group, watched_figure
from saes.disk import SAE, load, stock
from saes.pages import sections
from saes.recipes import default_hook
from saes.roles import family
from saes.rows import MOST_DRAWN
from saes.training import fitting
from saes.training.combinations import grid
from saes.training.config import SAEConfig
from saes.training.cross_layer import CrossLayerTranscoder, train_cross_layer
from saes.training.crosscoders import side_by_side, train_crosscoder
from saes.training.fitting import Watch
from saes.training.fitting import _numbers as fitting_numbers
from saes.training.grids import train_grid
from saes.training.loop import Loop
from saes.training.resume import save_state
from saes.training.sae import train_sae
from saes.training.transcoders import train_transcoder
from saes.truth.alignment import align
from saes.truth.choosing import Choice, choose
from saes.truth.controls import encode_sparse
from saes.truth.forms import Coder
from saes.truth.intervals import resamples
from saes.truth.scoring import by_half
from saes.truth.watching import RoleWatch
from tinysql import progress
from tinysql.cli import main
from tinysql.runs import open_run

WIDTH, EXAMPLES, LENGTH, ROLES = 16, 60, 8, 6
CONFIG = SAEConfig(d_sae=32, k=3, steps=40, batch_size=128, lr=5e-3, seed=1, dead_after=5)


def planted(seed: int, *, hook: str = "blocks.0.hook_resid_post", noise: float = 0.3) -> Activations:
    """Role r adds direction r to a token; the last two are slots of one family. The seed draws roles and noise."""
    rng = torch.Generator().manual_seed(seed)
    n = EXAMPLES * LENGTH
    role = torch.randint(0, ROLES, (n,), generator=rng)
    values = noise * torch.randn(n, WIDTH, generator=rng)
    values[torch.arange(n), role] += 2
    return Activations(
        hook=hook,
        values=values,
        ids=torch.zeros(n, dtype=torch.long),
        roles=tuple(f"sql.clause{min(r, ROLES - 2)}.{r}.column" for r in role.tolist()),
        example=torch.arange(n) // LENGTH,
        position=torch.arange(n) % LENGTH,
    )


@pytest.fixture(scope="module")
def train() -> Activations:
    return planted(0)


@pytest.fixture(scope="module")
def held_out() -> Activations:
    return planted(1)


@pytest.fixture(scope="module")
def watch(held_out: Activations) -> RoleWatch:
    return RoleWatch.of(held_out)


def reading(directions: Tensor, *, bias: float = 0.0) -> SAE:
    """An SAE whose latents read and write these rows."""
    d_sae, d_in = directions.shape
    sae = stock().StandardSAE(stock().StandardSAEConfig(d_in=d_in, d_sae=d_sae)).requires_grad_(False)
    sae.W_enc.copy_(directions.T)
    sae.W_dec.copy_(directions)
    sae.b_enc.fill_(bias)
    return sae


AXES = torch.eye(WIDTH)


# Watching


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka", "standard", "gated", "jumprelu"])
def test_the_last_look_is_what_truth_says_and_nothing_is_changed(
    architecture: Any, train: Activations, held_out: Activations, watch: RoleWatch
) -> None:
    config = replace(CONFIG, architecture=architecture)
    alone, watched = train_sae(train, config), train_sae(train, config, watch=watch)
    assert same(alone.sae, watched.sae)
    record = watched.record
    assert replace(record, watched=(), loss=(), loss_steps=()) == replace(
        alone.record, loss=(), loss_steps=()
    )
    assert [now["step"] for now in record.watched] == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    own = align(watched.sae, held_out).sae
    said = {
        "step": 39,
        "coverage": own.coverage,
        "coverage_low": own.coverage_interval[0],
        "coverage_high": own.coverage_interval[1],
        "slot_coverage": own.slot_coverage,
        "held_out_fvu": own.fvu,
        "held_out_l0": own.l0,
    }
    assert own.coverage != own.slot_coverage
    assert record.watched[-1] == said
    assert own.fvu < record.watched[0]["held_out_fvu"] - 0.01


def hook(name: str, seed: int = 0) -> Activations:
    """Other values at the tokens of `planted`."""
    one = planted(seed, hook=name)
    turned = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(len(name))))[0]
    return replace(one, values=one.values @ turned)


def a_transcoder(watch: Watch | None) -> Any:
    config = replace(CONFIG, form="transcoder", architecture="batchtopk")
    return train_transcoder(hook("a"), hook("bb"), config, watch=watch)


def a_crosscoder(watch: Watch | None) -> Any:
    return train_crosscoder([hook("a"), hook("bb")], replace(CONFIG, form="crosscoder"), watch=watch)


def a_cross_layer(watch: Watch | None) -> Any:
    config = replace(CONFIG, form="cross_layer_transcoder", architecture="batchtopk")
    sides = [hook("a"), hook("bb")], [hook("ccc"), hook("dddd")]
    return train_cross_layer(*sides, config, watch=watch)


def weights(dictionary: Any) -> dict[str, Tensor]:
    """All numbers of a dictionary of any form."""
    if isinstance(dictionary, CrossLayerTranscoder):
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
        return {f"{name}_{i}": part for name in names for i, part in enumerate(getattr(dictionary, name))}
    found: dict[str, Tensor] = dictionary.state_dict()
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two dictionaries are the same bit for bit."""
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(
        torch.equal(part, theirs[name]) for name, part in ours.items()
    )


def of(first: str, second: str) -> Activations:
    return side_by_side([hook(first, 1), hook(second, 1)])


@pytest.mark.parametrize(
    ("trained", "inputs", "outputs"),
    [
        (a_transcoder, lambda: hook("a", 1), lambda: hook("bb", 1)),
        (a_crosscoder, lambda: of("a", "bb"), lambda: None),
        (a_cross_layer, lambda: of("a", "bb"), lambda: of("ccc", "dddd")),
    ],
)
def test_every_form_is_watched_and_none_is_changed(
    trained: Callable[[Watch | None], Any],
    inputs: Callable[[], Activations],
    outputs: Callable[[], Activations | None],
) -> None:
    seen = []

    def look(dictionary: Any) -> dict[str, float]:
        seen.append(dictionary)
        return watch(dictionary)

    watch = RoleWatch.of(inputs(), outputs())
    made = trained(look)
    alone, record = trained(None), made.record
    dictionary = made.transcoder if trained is a_cross_layer else made.sae
    assert same(dictionary, alone.transcoder if trained is a_cross_layer else alone.sae)
    assert same(dictionary, seen[-1])
    assert len(record.watched) == len(seen) == 10
    own = align(seen[-1], inputs(), outputs=outputs()).sae
    assert record.watched[-1]["coverage"] == own.coverage
    assert record.watched[-1]["held_out_fvu"] == own.fvu


def test_a_killed_training_goes_on_to_the_same_log(
    train: Activations, watch: RoleWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_sae(train, CONFIG, directory=tmp_path / "whole", watch=watch).record
    advance = Loop.advance

    def until(loop: Loop, x: Tensor) -> Any:
        if loop.step == 22:
            raise KeyboardInterrupt
        return advance(loop, x)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Loop, "advance", until)
        train_sae(train, CONFIG, directory=tmp_path / "cut", watch=watch)
    assert train_sae(train, CONFIG, directory=tmp_path / "cut", watch=watch).record == whole
    one, two = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert one == two
    assert [line["step"] for line in map(json.loads, one.splitlines()) if "held_out" in line][-2:] == [35, 39]


class Killed(Exception):
    """Ends a training from within."""


def test_a_kill_between_a_line_of_the_log_and_the_state_loses_nothing(
    train: Activations, watch: RoleWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_sae(train, CONFIG, directory=tmp_path / "whole", watch=watch).record

    def killed(*given: Any, step: int, **more: Any) -> None:
        if step == 24:
            raise Killed
        save_state(*given, step=step, **more)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save_state", killed)
        with pytest.raises(Killed):
            train_sae(train, CONFIG, directory=tmp_path / "cut", watch=watch)
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert "held_out" in json.loads(lines[-1])
    assert json.loads(lines[-1])["step"] == 23
    assert train_sae(train, CONFIG, directory=tmp_path / "cut", watch=watch).record == whole
    one, two = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_a_training_whose_watch_fails_goes_on(train: Activations, watch: RoleWatch, tmp_path: Path) -> None:
    whole = train_sae(train, CONFIG, watch=watch)
    looks = []

    def failing(sae: SAE) -> dict[str, float]:
        looks.append(sae)
        if len(looks) == 4:
            raise Killed
        return watch(sae)

    with pytest.raises(Killed):
        train_sae(train, CONFIG, directory=tmp_path, watch=failing)
    resumed = train_sae(train, CONFIG, directory=tmp_path, watch=watch)
    assert resumed.record == whole.record
    assert same(resumed.sae, whole.sae)


@pytest.mark.parametrize("steps", [3, 10, 19, 45])
def test_a_dictionary_is_looked_at_ten_times_or_behind_every_step(train: Activations, steps: int) -> None:
    looks = train_sae(train, replace(CONFIG, steps=steps), watch=lambda sae: {"now": 1.0}).record.watched
    behind = [look["step"] for look in looks]
    assert len(behind) == min(steps, 10)
    assert behind[-1] == steps - 1
    assert len({b - a for a, b in pairwise([-1, *behind])}) <= 2


def test_a_watch_may_say_nothing(train: Activations) -> None:
    made = train_sae(train, replace(CONFIG, steps=10), watch=lambda sae: {}, show_progress=True)
    assert made.record.watched == tuple({"step": step} for step in range(10))


def test_latents_that_never_fire_cover_nothing_and_end_no_training(watch: RoleWatch) -> None:
    said = watch(reading(AXES, bias=-100.0))
    assert (said["coverage"], said["slot_coverage"], said["held_out_l0"]) == (0, 0, 0)
    assert said["held_out_fvu"] > 0.5


def test_a_watch_of_a_seed_says_what_truth_says_of_that_seed(held_out: Activations) -> None:
    sae = reading(AXES + 0.4 * torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3)))
    said, other = (RoleWatch.of(held_out, seed=seed)(sae) for seed in (1, 0))
    own = align(sae, held_out, seed=1).sae
    assert (said["coverage"], said["coverage_low"]) == (own.coverage, own.coverage_interval[0])
    assert said["coverage"] != other["coverage"]


def test_too_few_examples_are_refused_before_a_training(held_out: Activations) -> None:
    few = 5 * LENGTH
    some = replace(
        held_out,
        roles=held_out.roles[:few],
        **{name: getattr(held_out, name)[:few] for name in ("values", "ids", "example", "position")},
    )
    with pytest.raises(InputError, match="no role has enough tokens to be scored"):
        RoleWatch.of(some)


# Choosing


def brute(watch: RoleWatch, sae: SAE, held_out: Activations) -> Callable[[int], float]:
    """Number of a resample -> coverage with its examples written out, as often as they were drawn."""
    coder, halves = Coder.of(sae), watch.judge.halves
    parts = by_half(encode_sparse(coder, held_out.values, held_out.values).firings, halves)
    table = watch.judge.table(parts)
    latent = table.chosen_f1.argmax(0)
    acts = sae.encode(held_out.values)[halves.measure]
    roles = np.array([family(role) for role in held_out.roles])[halves.measure.numpy()]
    drawn = resamples(EXAMPLES // 2, 0)

    def coverage(draw: int) -> float:
        times = torch.tensor(drawn[draw]).long()[halves.example]
        again = torch.arange(len(times)).repeat_interleave(times)
        found = []
        for column, name in enumerate(table.names):
            if name not in set(map(family, held_out.roles)):
                continue  # a slot
            fires = acts[again, latent[column]] >= table.threshold[latent[column], column]
            wanted = torch.tensor(roles[again.numpy()] == name)
            found.append(2 * float((fires & wanted).sum()) / float(fires.sum() + wanted.sum()))
        return float(np.mean(found))

    return coverage


def test_draws_are_those_of_examples_drawn_again(held_out: Activations, watch: RoleWatch) -> None:
    sae = reading(AXES + 0.4 * torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3)))
    draws = watch.scores(sae)[1]
    coverage = brute(watch, sae, held_out)
    for draw in random.Random(0).sample(range(len(draws)), 20):
        assert draws[draw] == pytest.approx(coverage(draw), abs=1e-6)


def test_what_cannot_be_told_from_the_best_is_chosen_among_by_what_it_reconstructs(watch: RoleWatch) -> None:
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5))
    exact = reading(AXES, bias=-1.0)
    half = reading(AXES, bias=-1.0)
    half.W_dec.mul_(0.5)  # the same latents, a worse reconstruction
    # Both signs of every direction of another basis: nothing is lost, and no latent is a role's.
    whole = reading(torch.cat([noise, -noise]))
    whole.W_dec.copy_(torch.cat([noise.inverse().T, -noise.inverse().T]))
    choice = choose({"half": half, "whole": whole, "exact": exact}, watch)
    by_name = {one.name: one for one in choice.candidates}
    assert by_name["whole"].fvu < 1e-6
    assert by_name["whole"].behind_interval[0] > 0
    assert not by_name["whole"].is_level
    assert by_name["half"].is_level
    assert by_name["half"].behind == by_name["exact"].behind == 0
    assert by_name["exact"].fvu < by_name["half"].fvu
    assert choice.chosen == "exact"
    assert choice.candidates[-1].name == "whole"
    marks = {"exact": CHOSEN, "half": LEVEL, "whole": REST}
    assert {name: group(choice, one) for name, one in by_name.items()} == marks
    lines = str(choice).splitlines()
    assert [line[0] for line in lines[1:-1]] == ["=", "*", " "]
    assert "the least FVU of the 2 whose coverage cannot be told" in lines[-1]
    assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


def test_a_difference_has_an_interval_of_its_own(held_out: Activations, watch: RoleWatch) -> None:
    tilted = reading(AXES + 0.4 * torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3)))
    saes = {"exact": reading(AXES), "tilted": tilted}
    first, second = choose(saes, watch).candidates
    one, other = (brute(watch, saes[name], held_out) for name in (first.name, second.name))
    low, high = np.quantile([one(draw) - other(draw) for draw in range(1000)], [0.025, 0.975])
    assert second.behind_interval == pytest.approx((low, high), abs=1e-6)
    assert first.behind_interval == (0, 0)


def test_one_that_is_a_little_behind_is_level_where_the_examples_do_not_tell(watch: RoleWatch) -> None:
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3))
    choice = choose({f"{tilt}": reading(AXES + tilt * noise) for tilt in (0.0, 0.1, 0.2, 0.4)}, watch)
    level = [one for one in choice.candidates if one.is_level]
    assert level == [one for one in choice.candidates if one.behind_interval[0] <= 0]
    assert any(one.behind > 0 and one.behind_interval[1] > 0 for one in level)
    assert len(level) < 4
    assert choice.chosen == min(level, key=lambda one: one.fvu).name


def test_what_is_no_finite_number_by_its_name_ends_a_training_in_a_sentence(
    train: Activations, tmp_path: Path
) -> None:
    for said in (None, {"a": "b"}, {"a": {"b": 1.0}}, {"fvu": float("nan")}, 3.0):
        with pytest.raises(InputError, match="expected finite numbers by their names"):
            fitting_numbers(said)
    assert fitting_numbers({"n": torch.tensor(2.0), 1: np.float32(3)}) == {"n": 2.0, "1": 3.0}
    told = train_sae(train, CONFIG, directory=tmp_path, watch=lambda sae: {"n": torch.tensor(2.0)}).record
    assert told.watched[0] == {"step": 3, "n": 2.0}


def test_what_cannot_be_chosen_among_is_a_sentence(watch: RoleWatch) -> None:
    broken, silent = reading(AXES), reading(AXES, bias=-100.0)
    broken.W_dec.fill_(float("nan"))
    for order in (["broken", "good"], ["good", "broken"]):
        given = {"broken": broken, "good": reading(AXES)}
        with pytest.raises(InputError, match="`broken` makes NaN or infinity"):
            choose({name: given[name] for name in order}, watch)
    with pytest.raises(InputError, match="no latent of any of the 1 dictionaries fires"):
        choose({"silent": silent}, watch)
    assert choose({"silent": silent, "good": reading(AXES)}, watch).chosen == "good"
    elsewhere = reading(AXES)
    elsewhere.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    with pytest.raises(InputError, match=r"the SAE reads `blocks.1.hook_resid_post`, and `blocks.0.hook_"):
        choose({"elsewhere": elsewhere}, watch)
    assert "the only one" in str(choose({"good": reading(AXES)}, watch))


def test_nothing_to_choose_from_is_a_sentence(watch: RoleWatch) -> None:
    with pytest.raises(InputError, match="no dictionary to choose from"):
        choose({}, watch)
    with pytest.raises(InputError, match="16 wide, the SAE reads 8"):
        choose({"narrow": reading(torch.eye(8))}, watch)


@pytest.mark.parametrize(
    "trained",
    [
        lambda watch: train_sae(planted(0), CONFIG, watch=watch),
        lambda watch: train_grid(planted(0), grid(CONFIG, k=(1, 3)), watch=watch),
        a_transcoder,
        a_crosscoder,
        a_cross_layer,
    ],
)
def test_a_watch_of_something_else_is_refused_in_front_of_the_first_step(
    trained: Callable[[Watch | None], Any], held_out: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "advance", lambda *_: pytest.fail("a step was done"))
    elsewhere = replace(held_out, hook="blocks.9.hook_resid_post")
    with pytest.raises(InputError, match=r"reads `.*`, and `blocks.9.hook_resid_post` is watched") as told:
        trained(RoleWatch.of(elsewhere))
    read = str(told.value).split("`")[1]
    narrow = replace(held_out, hook=read, values=held_out.values[:, :8])
    with pytest.raises(InputError, match=rf"hook `{re.escape(read)}` is 8 wide, the .* reads \d+"):
        trained(RoleWatch.of(narrow))


def test_a_grid_is_watched_chosen_among_and_not_changed(train: Activations, watch: RoleWatch) -> None:
    members = grid(CONFIG, k=(1, 3), architecture=("topk", "batchtopk", "jumprelu"))
    made, alone = train_grid(train, members, watch=watch), train_grid(train, members)
    assert all(same(one.sae, alone[name].sae) for name, one in made.items())
    choice = choose({name: one.sae for name, one in made.items()}, watch)
    for one in choice.candidates:
        said = made[one.name].record.watched[-1]
        assert (one.coverage, one.slot_coverage, one.fvu, one.l0) == (
            said["coverage"],
            said["slot_coverage"],
            said["held_out_fvu"],
            said["held_out_l0"],
        )


# The command

SMALL = ["--rows", "40", "--set", "steps=30", "--set", "batch_size=256", "--set", "d_sae=64"]


def test_the_command_follows_a_training_on_rows_it_is_not_trained_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, tokens_of = [], asking.tokens_of

    def noted(*given: Any, first: int = 0) -> Any:
        asked.append((given[2], first, first + MOST_DRAWN * given[3]))
        return tokens_of(*given, first=first)

    monkeypatch.setattr(asking, "tokens_of", noted)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    assert main(["sae", "train", str(run), "--name", "seen", "--validation", "30", *SMALL]) == 0
    [(_, _, last), (split, first, _)] = asked
    assert split == "train"
    assert first >= last
    said, shown = capsys.readouterr()
    assert len(re.findall(r"recording \S+: 1 of 1", shown)) == 2, (
        "both the rows to train on and the held-out ones"
    )
    looks = json.loads((run / "saes" / "seen" / "metrics.json").read_text())["watched"]
    assert len(looks) == 10
    own, (model, tokenizer) = open_run(run), open_run(run).load()
    rows = [make_example(own.data, MOST_DRAWN * 40 + index) for index in range(30)]
    fresh = RoleWatch.of(record(model, tokenizer.encode(rows), default_hook(own.shape)))
    now = fresh(load(run / "saes" / "seen"))
    assert looks[-1] == {"step": 29, **now}
    assert (
        f"coverage of roles {now['coverage']:.3f} (95 % interval {now['coverage_low']:.3f} to "
        f"{now['coverage_high']:.3f}) on 30 examples that it was not trained on"
    ) in said
    assert main(["sae", "train", str(run), "--name", "unseen", "--validation", "0", *SMALL]) == 0
    assert len(asked) == 3
    assert "coverage" not in capsys.readouterr().out
    weights = [run / "saes" / name / "sae_weights.safetensors" for name in ("seen", "unseen")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize("kept", [[], ["--on-disk"]])
def test_a_training_is_watched_where_it_is_trained(kept: list[str], run: Path) -> None:
    words = ["sae", "train", str(run), "--name", "there", "--device", "cuda", "--overwrite", *kept, *SMALL]
    assert main([*words, "--validation", "30"]) == 0
    assert len(json.loads((run / "saes" / "there" / "metrics.json").read_text())["watched"]) == 10


def test_activations_on_disk_are_watched_too(run: Path) -> None:
    words = ["sae", "train", str(run), "--overwrite", "--on-disk", *SMALL]
    assert main([*words, "--name", "mapped", "--validation", "30"]) == 0
    assert main([*words, "--name", "unwatched", "--validation", "0"]) == 0
    files = [run / "saes" / name / "sae_weights.safetensors" for name in ("mapped", "unwatched")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(json.loads((run / "saes" / "mapped" / "metrics.json").read_text())["watched"]) == 10


def test_the_command_chooses_one_of_a_grid(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sae", "train", str(run), "--name", "g", "--grid", "k=2,4", *SMALL]
    assert main([*words, "--validation", "40"]) == 0
    file = run / "saes" / "g.choice.json"
    made = json.loads(file.read_text())
    assert {one["name"] for one in made["candidates"]} == {"k=2", "k=4"}
    assert made["made_by"]["versions"]
    out = capsys.readouterr().out
    assert f"* {made['chosen']}" in out
    assert out.splitlines()[-1].endswith(f"tinysql sae eval {run} --name g,{made['chosen']}")
    # Another grid of that name leaves no older choice behind.
    assert main([*words, "--validation", "0", "--overwrite"]) == 0
    assert not file.exists()


def test_too_few_examples_to_follow_a_training_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sae", "train", str(run), "--name", "few", "--validation", "5", *SMALL]) == 2
    assert "--validation is 5, expected 0 or at least 20" in capsys.readouterr().err
    assert not list((run / "saes").glob("*few*"))


def test_the_report_shows_a_choice_and_how_it_came_about(run: Path, watch: RoleWatch) -> None:
    words = ["sae", "train", str(run), "--name", "shown", "--grid", "k=2,4", *SMALL, "--validation", "40"]
    assert main([*words, "--overwrite"]) == 0
    [section] = [one for one in sections(run) if one.title == "Grid shown: which one to keep"]
    assert section.html.count("plotly-graph-div") == 2
    choice = choose({"half": reading(AXES, bias=-1.5), "exact": reading(AXES, bias=-1.0)}, watch)
    figure = choice_figure(choice)
    by_name = {trace.name: trace for trace in figure.data}
    for one in choice.candidates:
        name = group(choice, one)
        trace = by_name[f"{name}: {choice.chosen}" if name == CHOSEN else name]
        place = [row[0] for row in trace.customdata].index(one.name)
        assert (trace.x[place], trace.y[place]) == (one.fvu, one.coverage)
        assert trace.error_y.array[place] == one.coverage_interval[1] - one.coverage
    looks = [{"step": 4, **watch(reading(AXES))}, {"step": 9, **watch(reading(AXES, bias=-1.0))}]
    line = watched_figure(looks).data[0]
    assert line.x == (5, 10)
    assert line.y == tuple(look["coverage"] for look in looks)
    curves = curve_figure(choice, {"half": looks, "exact": looks[:1]})
    assert {trace.text: trace.x for trace in curves.data} == {"half": (5, 10), "exact": (5,)}
    assert {trace.text: trace.y[-1] for trace in curves.data} == {
        "half": looks[1]["coverage"],
        "exact": looks[0]["coverage"],
    }
    for one in (figure, watched_figure(looks), curves):
        assert one.layout.title.text
        assert one.layout.xaxis.title.text
        assert one.layout.yaxis.title.text


def test_the_report_says_where_a_choice_is_no_longer_of_what_is_there(run: Path) -> None:
    words = ["sae", "train", str(run), "--name", "old", "--grid", "k=2,4", *SMALL, "--validation", "40"]
    assert main(words) == 0

    def shown() -> str:
        [section] = [one for one in sections(run) if one.title == "Grid old: which one to keep"]
        return section.html

    assert "<b>" not in shown()
    again = ["sae", "train", str(run), "--name", "old,k=2", "--set", "k=2", *SMALL, "--validation", "30"]
    assert main([*again, "--overwrite"]) == 0
    assert "Removed or trained anew since then: <code>k=2</code>" in shown()
    shutil.rmtree(run / "saes" / "old,k=4")
    assert "<code>k=2</code>, <code>k=4</code>" in shown() or "<code>k=4</code>, <code>k=2</code>" in shown()
    file = run / "saes" / "old.choice.json"
    made = json.loads(file.read_text())
    file.write_text(json.dumps({**made, "weights": "0" * 16}))
    assert "made on other weights than the run has now" in shown()
    # A report is made of runs whose weights were left behind, too.
    model = run / "model.safetensors"
    model.rename(run / "elsewhere")
    assert "made on weights that are no longer there" in shown()
    (run / "elsewhere").rename(model)
    file.write_text(json.dumps({**made, "chosen": "k=9"}))
    with pytest.raises(InputError, match="`k=9` is chosen, which is none of the candidates"):
        shown()
    file.unlink()
