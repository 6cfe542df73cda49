"""Report of a transfer, of curves, of a switch or of a map -> a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transfer.evaluation.verdict import LEAST_RATIO
from transfer.reports import bar_line

ENOUGH_DRAWS = 20
"""From as many on, the 95th percentile lies next to the second largest draw or below it, not towards the largest."""


def table(report: Mapping[str, Any]) -> str:
    """One line per condition: how many answers show the behaviour, are right, or are neither; then damage and verdict.

    `report` is what `read_report` gives. Intervals are Wilson's at 95 % for one draw, the range of several draws.
    """
    plan = report["plan"]
    head = (
        f"{report['source']} {plan['source_hook']} -> {report['target']} {plan['target_hook']}: "
        f"{report['behaviour']} ({report['payload']}), {plan['aim'] or 'usual aim'}, {_vector(plan)} vector, "
        f"{plan['method']} map ({plan['mode']}), {plan['operator']} at {plan['place']}; scale "
        + ", ".join(f"{_scale(choice)} {name}" for name, choice in report["choices"].items())
    )
    aim = report["aim"]
    title = f"`{aim['start']}` prompts, {aim['wanted']} wanted"
    lines = [
        head,
        "",
        f"{title:<36}{'shown':>9}{'right':>9}{'other':>9}{'95 % or range':>18}{'draws':>7}",
    ]
    lines += [_row(one, aim["wanted"]) for one in report["outcomes"]]
    lines.append(f"of one draw Wilson's 95 % interval of {aim['wanted']}, of several the range of the draws")
    lines += _few_draws(report["outcomes"])
    title = f"`{aim['guard']}` prompts, to be left alone"
    lines += ["", f"{title:<36}{'kept':>9}{'before':>9}{'runs':>9}{'perplexity':>18}{'':>7}"]
    lines += [_damage(one) for one in report["damage"]]
    lines += [
        f"* no scale of the {name} vector has an effect and loses at most {choice['most_damage']:.0%} of these on "
        "validation: it is the first that is shown"
        for name, choice in report["choices"].items()
        if choice["best"] is None
    ]
    lines += [
        "",
        *_sweep(report["choices"], aim["wanted"]),
        *_layers(report, aim["wanted"]),
        "",
        *_gates(report.get("gates", {})),
    ]
    return "\n".join(
        [*lines, "", *_map_lines(report), *_latent_lines(report), verdict_line(report["transfer"])]
    )


def curve_table(report: Mapping[str, Any]) -> str:
    """One line per layer or rank and vector."""
    lines = [
        f"{report['source']} -> {report['target']}: {report['behaviour']} ({report['payload']}), "
        f"{report['aim']['wanted']} wanted on `{report['aim']['start']}` prompts, {_vector(report['plan'])} vector",
        "",
        f"{'target hook':<32}{'rank':>5} {'vector':<12}{'scale':>6}{'shown':>8}{'right':>8}{'kept':>8}{'cosine':>8}",
    ]
    for one in report["points"]:
        rank = "" if one["rank"] is None else str(one["rank"])
        scale = "" if one["setting"] is None else f"{one['setting']['scale']:g}{'*' * _is_refused(one)}"
        cosine = "" if one["cosine"] is None else f"{one['cosine']:.3f}"
        shares = "".join(f"{one[name]['share']:>8.1%}" for name in ("shown", "right", "kept"))
        # Older reports do not say; other vectors have none.
        latent = "" if one.get("latent") is None else f"  latent {one['latent']}"
        lines.append(
            f"{one['target_hook']:<32}{rank:>5} {one['vector']:<12}{scale:>6}{shares}{cosine:>8}{latent}"
        )
    if any(_is_refused(one) for one in report["points"]):
        lines.append(
            "* no scale has an effect and does little damage on validation: it is the first that is shown"
        )
    return "\n".join(lines)


def _vector(plan: Mapping[str, Any]) -> str:
    """Older reports, which do not say, had no choice."""
    return str(plan.get("vector", "difference-of-means"))


def _is_refused(point: Mapping[str, Any]) -> bool:
    """Whether the guard allowed no scale. Older reports do not say."""
    return point.get("allowed") is False


def switch_table(report: Mapping[str, Any]) -> str:
    """One line per arm, then what a switch has to do and whether the map does it."""
    lines = [
        f"{report['base']} <-> {report['tuned']}: {report['behaviour']} ({report['payload']}), "
        f"{report['plan']['method']} map at {report['plan']['hook']}",
        "",
        f"{'arm':<16}{'shown':>8}{'right':>8}{'as base':>9}{'elsewhere':>11}{'unseen':>8}"
        f"{'numbers':>10}{'share':>8}{'us/token':>10}",
    ]
    for one in report["arms"]:
        shown, right, agreement, elsewhere, ood = (
            one[name]["share"] for name in ("shown", "right", "agreement", "elsewhere", "ood")
        )
        lines.append(
            f"{one['name']:<16}{shown:>8.1%}{right:>8.1%}{agreement:>9.1%}{elsewhere:>11.1%}{ood:>8.1%}"
            f"{one['parameters']:>10,}{one['parameter_share']:>8.2%}{one['microseconds']:>10.2f}"
        )
    lines.append("")
    lines += [
        f"{one['name']:<36}{one['value']:>8.3f}  {one['needed']:<15}{'passed' if one['passed'] else 'failed'}"
        for one in report["requirements"]
    ]
    return "\n".join([*lines, report["verdict"]])


def map_table(report: Mapping[str, Any]) -> str:
    """Which map it is, and what it is worth on texts that it was not fitted on."""
    plan, quality = report["plan"], report["quality"]
    return "\n".join(
        [
            f"{report['source']} {plan['source_hook']} -> {report['target']} {plan['target_hook']}: "
            f"{plan['method']} map, measured on {quality['pairs']:,} pairs of other texts",
            _map_line(report),
        ]
    )


def verdict_line(transfer: Mapping[str, Any]) -> str:
    """The verdict with the numbers that it follows from."""
    ratio = _ratio_of(transfer["ratio"], transfer["interval"])
    carried = ""
    # Older reports do not say.
    if transfer.get("carried") is not None:
        carried = f"; what it carries is {transfer['carried']}"
    if transfer.get("clean_ratio") is not None:
        carried += f" (clean source: {_ratio_of(transfer['clean_ratio'], transfer['clean_interval'])})"
    missing = f"; not run: {', '.join(transfer['missing'])}" if transfer["missing"] else ""
    reached = f"controls reach {transfer['bar']:.1%} ({transfer['bar_of'] or 'none run'})"
    # Older reports do not say, and were judged without it; so in `_why`.
    refused = " at a scale that the guard refused" if "native" in transfer.get("refused", ()) else ""
    return (
        f"{transfer['verdict']}{by_how_much(transfer)}{_why(transfer)}: native {transfer['native']:.1%}{refused}, "
        f"transferred {transfer['transferred']:.1%}, {ratio}, {reached}{_margins(transfer)}{carried}{missing}"
    )


def by_how_much(transfer: Mapping[str, Any]) -> str:
    """How few prompts the verdict rests on, where the interval of the margin that decides it holds 0."""
    word = transfer["verdict"]
    is_by_bar = word in ("transferred", "not decided", "nothing to transfer")
    if word == "not transferred":
        is_by_bar = (
            "transferred" not in transfer.get("refused", ()) and transfer["transferred"] <= transfer["bar"]
        )
    # Older reports have no margin; so in `_margins`.
    margin = transfer.get("native_margin" if word == "nothing to transfer" else "margin")
    if not is_by_bar or margin is None or not margin["holds_zero"]:
        return ""
    count = f"{abs(margin['value']) * margin['prompts']:.3g}"
    return f" by {count} prompt{'' if count == '1' else 's'} of {margin['prompts']:,} (the interval holds 0)"


def _margins(transfer: Mapping[str, Any]) -> str:
    """By how much each vector exceeds what the controls reach, in points, with 95 % over prompts."""
    said = []
    for name, of in (("native", "native_margin"), ("transferred", "margin")):
        margin = transfer.get(of)
        if margin is not None:
            low, high = margin["interval"]
            how = ("; holds 0" if margin["holds_zero"] else "") + (
                "" if margin["is_paired"] else "; not paired"
            )
            said.append(
                f"{name} {100 * margin['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}{how})"
            )
    return f", margins: {', '.join(said)}" if said else ""


def _why(transfer: Mapping[str, Any]) -> str:
    """What a transfer that was refused lacks."""
    if transfer["verdict"] == "no native effect":
        return ", for there is nothing to transfer: the native vector does not act"
    if transfer["verdict"] == "nothing to transfer":
        return f", for the native vector does no more than {transfer['bar_of']}"
    if transfer["verdict"] != "not transferred":
        return ""
    if "transferred" in transfer.get("refused", ()):
        return ", for no scale that does little damage has an effect"
    if transfer["transferred"] <= transfer["bar"]:
        return f", for {transfer['bar_of']} gives no less"
    return f", for the ratio may be below {LEAST_RATIO}"


def _ratio_of(ratio: float | None, interval: Sequence[float]) -> str:
    if ratio is None:
        return "no ratio"
    low, high = interval
    return f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})"


def _gates(gates: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What both models showed before anything was steered; a bar that neither `eval` nor the behaviour has says so."""
    return [f"gate of the {side}: {bar_line(bar)}" for side, gate in gates.items() for bar in gate["bars"]]


def _scale(choice: Mapping[str, Any]) -> str:
    """The scale that a vector acts with, starred where it is the first because the guard allowed none."""
    best = choice["best"]
    return f"{choice['trials'][0]['scale']:g}*" if best is None else f"{best['scale']:g}"


def _sweep(choices: Mapping[str, Mapping[str, Any]], wanted: str) -> list[str]:
    """Control 2: what is wanted at every scale, and what is lost of what is to be left alone, on validation prompts."""
    heads = "".join(f"{f'{name}: {wanted}':>20}{'lost':>9}" for name in choices)
    lines = [f"{' 2 sweep of scales, on validation':<36}{heads}"]
    for trials in zip(*(choice["trials"] for choice in choices.values()), strict=True):
        cells = "".join(f"{one['effect']:>20.1%}{_lost(one['damage']):>9}" for one in trials)
        lines.append(f"   {trials[0]['scale']:<33g}{cells}")
    return lines


def _layers(report: Mapping[str, Any], wanted: str) -> list[str]:
    """The layers that the native vector was tried at, at the best scale of each. Older reports had one alone."""
    layers = report.get("layers")
    if layers is None:
        return []
    lines = [f"{'   layers tried, on validation':<36}{f'native: {wanted}':>20}{'lost':>9}{'scale':>9}"]
    for one in layers["tried"]:
        best = one["best"]
        shown = one["trials"][0]
        if best is not None:
            shown = next(trial for trial in one["trials"] if trial["scale"] == best["scale"])
        chosen = "  chosen" if one["target_hook"] == layers["chosen"][1] else ""
        cells = f"{shown['effect']:>20.1%}{_lost(shown['damage']):>9}{_scale(one):>9}{chosen}"
        lines.append(f"   {one['target_hook']:<33}{cells}")
    return ["", *lines]


def _lost(damage: float | None) -> str:
    """Not measured where there is no effect."""
    return "-" if damage is None else f"{damage:.1%}"


def _map_line(report: Mapping[str, Any]) -> str:
    quality, replaced = report["quality"], report["replacement"]
    return (
        f"map: FVU {quality['fvu']:.3f}, R2 {quality['r2']:.3f}, cosine {quality['cosine']:.3f}; "
        f"target on mapped activations: KL {replaced['kl']:.3f} against {replaced['kl_ablated']:.3f} "
        f"under mean ablation ({replaced['kl_recovered']:.0%} recovered)"
    )


def _map_lines(report: Mapping[str, Any]) -> list[str]:
    return [
        _map_line(report),
        f"cosine of the transferred and the native vector: {report['cosine_to_native']:.3f}",
    ]


def _latent_lines(report: Mapping[str, Any]) -> list[str]:
    """Which latent stands for which model. Other vectors, and older reports, have none."""
    return [
        f"latent of the {name}: {one['latent']} of SAE `{one['sae']}`, whose means lie {one['apart']:+.2f} standard "
        f"deviations apart ({one['plus']:.3g} and {one['minus']:.3g})"
        for name, one in (report.get("latents") or {}).items()
    ]


def _row(one: Mapping[str, Any], wanted: str) -> str:
    number = f"{one['control']:>2} " if one["control"] is not None else "   "
    shown, right = (_values(one[name]) for name in ("shown", "right"))
    means = sum(shown) / len(shown), sum(right) / len(right)
    aimed = _values(one[wanted])
    low, high = (min(aimed), max(aimed)) if len(aimed) > 1 else one[wanted][0]["interval95"]
    return (
        f"{number + one['name']:<36}{means[0]:>9.1%}{means[1]:>9.1%}{1 - sum(means):>9.1%}"
        f"{f'{low:.1%} to {high:.1%}':>18}{len(aimed):>7}"
    )


def _few_draws(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    few = [one["name"] for one in outcomes if 1 < len(one["right"]) < ENOUGH_DRAWS]
    if not few:
        return []
    return [
        f"of fewer than {ENOUGH_DRAWS} draws the 95th percentile is close to the largest: {', '.join(few)}"
    ]


def _damage(one: Mapping[str, Any]) -> str:
    rise = one["perplexity"] / one["perplexity_before"] - 1
    return (
        f"{one['name']:<36}{one['kept']['share']:>9.1%}{one['kept_before']['share']:>9.1%}"
        f"{one['valid']['share']:>9.1%}{one['perplexity']:>10.3f}{rise:>+8.1%}"
    )


def _values(shares: Sequence[Mapping[str, Any]]) -> list[float]:
    return [one["share"] for one in shares]
