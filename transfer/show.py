"""Report of a transfer -> a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """One line per condition: payloads and restored answers behind the trigger, then damage and verdict.

    `report` is what `read_report` gives. Intervals are Wilson's at 95 % for one draw, the range of several draws.
    """
    plan = report["plan"]
    head = (
        f"{report['source']} {plan['source_hook']} -> {report['target']} {plan['target_hook']}: "
        f"{report['payload']}, {plan['method']} map ({plan['mode']}), {plan['operator']} at {plan['place']}"
    )
    lines = [head, "", f"{'condition':<30}{'payload':>9}{'restored':>10}{'interval':>16}{'draws':>7}"]
    lines += [_row(one) for one in report["outcomes"]]
    lines += ["", f"{'untriggered prompts':<30}{'right':>9}{'before':>10}{'runs':>16}"]
    lines += [
        f"{one['name']:<30}{one['right']['share']:>9.1%}{one['right_before']['share']:>10.1%}{one['valid']['share']:>16.1%}"
        for one in report["damage"]
    ]
    return "\n".join([*lines, "", *_map_lines(report), verdict_line(report["transfer"])])


def verdict_line(transfer: Mapping[str, Any]) -> str:
    """The verdict with the numbers that it follows from."""
    ratio = "no ratio"
    if transfer["ratio"] is not None:
        low, high = transfer["interval"]
        ratio = f"ratio {transfer['ratio']:.2f} ({low:.2f} to {high:.2f})"
    missing = f"; not run: {', '.join(transfer['missing'])}" if transfer["missing"] else ""
    return (
        f"{transfer['verdict']}: native {transfer['native']:.1%}, transferred {transfer['transferred']:.1%}, "
        f"{ratio}, controls reach {transfer['bar']:.1%} ({transfer['bar_of'] or 'none run'}){missing}"
    )


def _map_lines(report: Mapping[str, Any]) -> list[str]:
    quality, replaced = report["quality"], report["replacement"]
    return [
        f"map: FVU {quality['fvu']:.3f}, R2 {quality['r2']:.3f}, cosine {quality['cosine']:.3f}; "
        f"target on mapped activations: KL {replaced['kl']:.3f} against {replaced['kl_ablated']:.3f} "
        f"under mean ablation ({replaced['kl_recovered']:.0%} recovered)",
        f"cosine of the transferred and the native vector: {report['cosine_to_native']:.3f}",
    ]


def _row(one: Mapping[str, Any]) -> str:
    number = f"{one['control']:>2} " if one["control"] is not None else "   "
    restored, attacked = _values(one["restored"]), _values(one["attacked"])
    low, high = (min(restored), max(restored)) if len(restored) > 1 else one["restored"][0]["interval95"]
    mean = sum(restored) / len(restored)
    return (
        f"{number + one['name']:<30}{sum(attacked) / len(attacked):>9.1%}{mean:>10.1%}"
        f"{f'{low:.1%} to {high:.1%}':>16}{len(restored):>7}"
    )


def _values(shares: Sequence[Mapping[str, Any]]) -> list[float]:
    return [one["share"] for one in shares]
