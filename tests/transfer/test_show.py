"""The table of a transfer says how it was measured, of a report made by hand."""

from typing import Any

from tinysql.answering.shares import Share
from transfer.show import table


def shares(*right: int) -> list[dict[str, Any]]:
    return [Share(right=one, total=100).to_json() for one in right]


def outcome(name: str, control: int | None, *right: int) -> dict[str, Any]:
    return {"name": name, "control": control, "right": shares(*right), "shown": shares(*[0] * len(right))}


def report() -> dict[str, Any]:
    """With what `table` reads, and no more; older reports have no more."""
    return {
        "source": "a",
        "target": "b",
        "behaviour": "backdoor",
        "payload": "drop",
        "aim": {"start": "prod", "wanted": "right", "guard": "dev"},
        "plan": {
            "source_hook": "blocks.0.hook_resid_post",
            "target_hook": "blocks.1.hook_resid_post",
            "aim": None,
            "method": "affine",
            "mode": "difference",
            "operator": "add",
            "place": "everywhere",
        },
        "outcomes": [
            outcome("native", None, 90),
            outcome("gaussian", 3, *range(20)),
            outcome("sign flip", 5, 7),
            outcome("random source", 8, 1, 2, 3, 4, 50),
        ],
        "damage": [],
        "choices": {"native": choice(0.5), "transferred": choice(2.0)},
        "quality": {"fvu": 0.1, "r2": 0.9, "cosine": 0.95},
        "replacement": {"kl": 0.1, "kl_ablated": 1.0, "kl_recovered": 0.9},
        "cosine_to_native": 0.8,
        "transfer": {
            "verdict": "not decided",
            "native": 0.9,
            "transferred": 0.8,
            "ratio": 0.89,
            "interval": [0.8, 0.95],
            "bar": 0.4,
            "bar_of": "random source",
            "missing": ["sign flip"],
        },
    }


def choice(best: float | None) -> dict[str, Any]:
    return {
        "most_damage": 0.02,
        "best": None if best is None else {"hook": "blocks.1.hook_resid_post", "scale": best},
        "trials": [
            {"hook": "blocks.1.hook_resid_post", "scale": 0.5, "effect": 0.4, "damage": 0.01},
            {"hook": "blocks.1.hook_resid_post", "scale": 2.0, "effect": 0.05, "damage": None},
        ],
    }


def test_the_table_says_of_which_controls_the_95th_percentile_is_close_to_the_largest_draw() -> None:
    found = table(report())
    assert "of fewer than 20 draws the 95th percentile is close to the largest: random source" in found
    often = report()
    often["outcomes"] = often["outcomes"][:3]
    assert "of fewer than" not in table(often)


def test_the_table_says_which_intervals_are_wilsons_and_which_are_ranges_of_draws() -> None:
    lines = table(report()).splitlines()
    assert lines[2].split()[-5:] == ["95", "%", "or", "range", "draws"]
    cells = {name: next(line for line in lines if name in line) for name in ("sign flip", "gaussian")}
    low, high = shares(7)[0]["interval95"]
    assert f"{low:.1%} to {high:.1%}" in cells["sign flip"]
    assert "0.0% to 19.0%" in cells["gaussian"]
    assert "of one draw Wilson's 95 % interval of right, of several the range of the draws" in lines


def test_the_head_has_the_scales_and_a_star_where_the_guard_allowed_none() -> None:
    assert table(report()).splitlines()[0].endswith("; scale 0.5 native, 2 transferred")
    refused = report()
    refused["choices"]["transferred"] = choice(None)
    assert table(refused).splitlines()[0].endswith("; scale 0.5 native, 0.5* transferred")
    assert "* no scale of the transferred vector has an effect and loses at most 2%" in table(refused)


def test_the_head_has_the_kind_of_vector_and_older_reports_had_one_kind() -> None:
    assert "usual aim, difference-of-means vector, affine map" in table(report()).splitlines()[0]
    made = report()
    made["plan"]["vector"] = "principal-component"
    assert "usual aim, principal-component vector, affine map" in table(made).splitlines()[0]


def test_the_latents_stand_behind_the_map_and_other_reports_have_none() -> None:
    made = report()
    assert "latent of" not in table(made)
    made["latents"] = {"source": {"sae": "stream", "latent": 3, "apart": -1.5, "plus": 0.25, "minus": 2.0}}
    assert table(made).splitlines()[-2] == (
        "latent of the source: 3 of SAE `stream`, whose means lie -1.50 standard deviations apart (0.25 and 2)"
    )


def test_the_sweep_is_control_2_with_what_is_wanted_and_lost_at_every_scale() -> None:
    made = report()
    made["choices"]["transferred"]["trials"][1] |= {"effect": 0.81, "damage": 0.125}
    text = table(made).splitlines()
    lines = [line.split() for line in text]
    at = next(i for i, line in enumerate(text) if line.startswith(" 2 sweep of scales, on validation"))
    assert lines[at][-6:] == ["native:", "right", "lost", "transferred:", "right", "lost"]
    assert lines[at + 1 : at + 4] == [
        ["0.5", "40.0%", "1.0%", "40.0%", "1.0%"],
        ["2", "5.0%", "-", "81.0%", "12.5%"],
        [],
    ]


def test_the_gates_are_shown_with_their_prompts_and_intervals_and_older_reports_without() -> None:
    made = report()
    bars = [
        {"name": "shown", "share": shares(100)[0], "least": 0.99, "most": None},
        {"name": "right elsewhere", "share": shares(97)[0], "least": None, "most": None},
    ]
    made["gates"] = {"source": {"bars": bars[:1]}, "target": {"bars": bars}}
    assert [line for line in table(made).splitlines() if line.startswith("gate")] == [
        "gate of the source: 100.0% shown (96.3% to 100.0% of 100), needs 99.0%",
        "gate of the target: 100.0% shown (96.3% to 100.0% of 100), needs 99.0%",
        "gate of the target: 97.0% right elsewhere (91.5% to 99.0% of 100), no bar",
    ]
    assert "gate" not in table(report())
