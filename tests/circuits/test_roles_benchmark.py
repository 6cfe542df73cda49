"""The benchmark of role-aware edges: its controls keep what they say they keep, and it goes on from its file."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from circuits.engine.forward import Scattered, metric_by_role, metric_of
from circuits.judging.controls import RandomParts
from circuits.judging.ratios import ratios_of
from circuits.judging.role_curves import top_parts
from circuits.methods.eap_ig import eap_ig
from circuits.methods.role_scores import role_scores
from circuits.metrics import logit_diff
from circuits.select import top_edges
from data_gen.errors import InputError

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
roles = importlib.import_module("benchmarks.roles")
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


@pytest.fixture
def subject(planted, with_roles):
    """A model wired by hand, whose tokens have one of three roles each."""
    pairs = with_roles(planted.pairs, lambda row, column: "abc"[column % 3])
    return roles.Subject(planted.model, pairs[:16], pairs[16:32], seed=1)


def test_a_row_says_what_the_circuits_reach_one_by_one(subject) -> None:
    share = 0.2
    row = roles.role_row(subject, share)
    model, pairs = subject.model, subject.held_out
    scores, by_role = eap_ig(model, subject.scored), role_scores(model, subject.scored)
    ratios = ratios_of(model, scores.graph, pairs, logit_diff, seed=1, batch_size=None)

    def of_parts(kept) -> list[float]:
        return ratios.of(
            metric_by_role(model, kept, by_role.roles, pairs, logit_diff).double().numpy()
        ).tolist()

    kept = top_parts(by_role, row["n"])
    assert row["n"] == int(share * len(scores.graph.edges))
    assert row["pairs"] == 16
    assert row["role_aware"]["value"] == pytest.approx(of_parts([kept])[0])
    plain = metric_of(model, [top_edges(scores, row["n"])], pairs, logit_diff).double().numpy()
    assert row["plain"]["value"] == pytest.approx(ratios.of(plain)[0])
    assert row["parts_of"] == kept.any(0).sum()
    below, at = of_parts([top_parts(by_role, row["role_aware_to"] - by) for by in (1, 0)])
    assert below < 0.8 <= at
    assert set(row["bands"]) == set(roles.BANDS)
    assert all(len(band["draws"]) == roles.DRAWS for band in row["bands"].values())
    draws = RandomParts.draw(scores.graph, by_role.values.numpy() != 0, roles.DRAWS, seed=1)
    inner = scores.graph.mask.copy()
    inner[0] = inner[:, -1] = False
    assert row["inner"] == (kept & inner).sum() > 0
    expected = {
        "matched": draws.layer_matched(kept),
        "roles": draws.edge_matched(kept),
        "roles_inner": [np.where(inner, mask, kept) for mask in draws.edge_matched(kept)],
        "tokens": [Scattered(kept, np.ones_like(inner), seed) for seed in range(roles.DRAWS)],
        "tokens_inner": [Scattered(kept, inner, seed) for seed in range(roles.DRAWS)],
    }
    for name, circuits in expected.items():
        assert row["bands"][name]["draws"] == pytest.approx(of_parts(circuits))
    assert len({tuple(band["draws"]) for band in row["bands"].values()}) == len(roles.BANDS)
    assert json.loads(json.dumps(row)) == row


def test_inner_controls_leave_the_edges_at_the_ends_where_they_are(subject) -> None:
    by_role = role_scores(subject.model, subject.scored)
    scored = by_role.values.numpy() != 0
    kept = scored & (np.random.default_rng(0).random(scored.shape) < 0.3)
    controls = roles.Controls.of(by_role.graph, scored, kept, 0)
    played = list(controls.played())
    assert len(played) == 1 + len(roles.ROLE_BANDS) * roles.DRAWS
    groups = {
        name: played[1 + i * roles.DRAWS : 1 + (i + 1) * roles.DRAWS]
        for i, name in enumerate(roles.ROLE_BANDS)
    }
    ends = ~controls.inner
    assert (kept & ends).any()
    assert (kept & controls.inner).any()
    assert all((mask[:, ends] == kept[:, ends]).all() for mask in groups["roles_inner"])
    assert any((mask[:, ends] != kept[:, ends]).any() for mask in groups["roles"])
    assert any((mask[:, controls.inner] != kept[:, controls.inner]).any() for mask in groups["roles_inner"])
    # The same edges, each at as many roles.
    assert all((mask.sum(0) == kept.sum(0)).all() for mask in groups["roles"] + groups["roles_inner"])
    assert all((one.mask == kept).all() and one.edges.all() for one in groups["tokens"])
    assert all((one.edges == controls.inner).all() for one in groups["tokens_inner"])
    assert len({one.seed for one in groups["tokens"]}) == roles.DRAWS
    stay = controls.stay()
    inner = kept & controls.inner
    assert stay["roles_inner"] == pytest.approx(
        np.mean([(mask & inner).sum() / inner.sum() for mask in groups["roles_inner"]])
    )


def test_what_was_kept_is_not_measured_again_and_other_pairs_are_refused(
    tmp_path, monkeypatch, subject
) -> None:
    made = []
    row = roles.role_row(subject, 0.2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())

    def measured_row(_, share: float) -> dict:
        made.append(share)
        if len(made) == 3:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(roles, "role_row", measured_row)
    monkeypatch.setattr(
        roles, "open_run", lambda path: SimpleNamespace(path=path, load=lambda device: (1, 2))
    )
    monkeypatch.setattr(roles.Subject, "of", lambda *_: None)
    arguments = SimpleNamespace(
        runs=[tmp_path / "a", tmp_path / "b"],
        edit=["schema.table", "select.0.column"],
        device="cpu",
        pairs=64,
        share=0.2,
        seed=0,
        json=tmp_path / "roles.json",
    )
    with pytest.raises(KeyboardInterrupt):
        roles.measured(arguments)
    rows = roles.measured(arguments)
    assert len(made) == 5
    assert [(row["run"], row["edit"]) for row in rows] == [
        (run, edit) for run in "ab" for edit in arguments.edit
    ]
    assert roles.measured(arguments) == rows
    assert len(made) == 5
    for line in roles.printed(rows).split("\n\n"):
        assert len({row.count("|") for row in line.splitlines()}) == 1
        assert len(line.splitlines()) == 6
    whole = json.loads(arguments.json.read_text())
    for change, reason in (
        (
            lambda found: found["roles"][1].update(n="many"),
            f"whole rows of {tmp_path / 'a'} select.0.column: ",
        ),
        (
            lambda found: found["roles"][3].pop("bands"),
            f"{tmp_path / 'b'} select.0.column: it has no `bands`",
        ),
        (lambda found: found["roles"].insert(0, 3), "whole rows of roles: "),
        (lambda found: found["seconds"].append("late"), "whole rows of roles: "),
        (lambda found: found.update(of=3), "not written with the runs"),
    ):
        damaged = json.loads(json.dumps(whole))
        change(damaged)
        arguments.json.write_text(json.dumps(damaged))
        with pytest.raises(InputError) as refused:
            roles.measured(arguments)
        assert f"`{arguments.json}` " in refused.value.message
        assert reason in refused.value.message
    arguments.json.write_text(json.dumps(whole))
    arguments.pairs = 32
    with pytest.raises(InputError, match="not written with the pairs"):
        roles.measured(arguments)
