"""The verdict follows from the numbers, and so does what a transfer carries."""

from dataclasses import asdict

import pytest

from data_gen.errors import InputError
from transfer.evaluation.verdict import DECIDING, decide
from transfer.show import verdict_line


def flags(right: int, total: int = 100) -> list[bool]:
    return [i < right for i in range(total)]


def draws(*right: int, total: int = 100) -> list[list[bool]]:
    return [flags(one, total) for one in right]


def quiet(total: int = 100) -> dict[str, list[list[bool]]]:
    """Controls of two draws, of which one does nothing and the other a tenth."""
    return {name: draws(0, total // 10, total=total) for name in DECIDING}


def calm(total: int = 100) -> dict[str, list[list[bool]]]:
    """Controls that do nothing."""
    return {name: draws(0, total=total) for name in DECIDING}


QUIET = quiet()


def test_a_full_transfer_is_called_one() -> None:
    found = decide(flags(0), flags(90), flags(85), QUIET)
    assert found.verdict == "transferred"
    assert found.ratio == pytest.approx(85 / 90)
    assert found.interval[0] < 85 / 90 < found.interval[1]
    assert found.interval[0] > 0.5


def test_one_strong_control_is_enough_to_refuse_it() -> None:
    for name in DECIDING:
        found = decide(flags(0), flags(90), flags(85), {**QUIET, name: draws(85)})
        assert (found.verdict, found.bar_of) == ("not transferred", name)
    # Controls that do not decide are reported, no more.
    assert (
        decide(flags(0), flags(90), flags(85), {**QUIET, "clean source": draws(90)}).verdict == "transferred"
    )


def test_the_bar_is_the_largest_95th_percentile_of_a_single_control() -> None:
    drawn = draws(*[0] * 19, 100)
    found = decide(flags(10), flags(90), flags(85), {**QUIET, "gaussian": drawn, "sign flip": draws(40)})
    # Quantile .95 of 20 draws lies at 19 * .95 = 18.05: a twentieth of the way from 0 to 1. Less .1 without steering.
    assert found.bar_of == "sign flip"
    assert found.bar == pytest.approx(0.4 - 0.1)


def test_the_bar_lies_above_all_but_the_highest_draws_of_a_control() -> None:
    """Two of twenty draws that do more than the transferred vector are enough, one of forty is not."""
    name = DECIDING[0]
    found = decide(flags(0), flags(95), flags(85), {**QUIET, name: draws(*[0] * 18, 90, 90)})
    assert (found.verdict, found.bar_of, found.bar) == ("not transferred", name, pytest.approx(0.9))
    one_in_forty = draws(*[0] * 39, 90)
    assert decide(flags(0), flags(90), flags(85), {**QUIET, name: one_in_forty}).verdict == "transferred"


def test_half_of_the_native_effect_is_not_a_transfer() -> None:
    found = decide(flags(0), flags(90), flags(48), QUIET)
    assert found.verdict == "not transferred"
    assert found.interval[0] <= 0.5


def test_without_a_native_effect_there_is_no_ratio() -> None:
    found = decide(flags(5), flags(5), flags(60), QUIET)
    assert (found.verdict, found.ratio, found.interval) == ("no native effect", None, ())


def test_a_missing_control_leaves_it_undecided() -> None:
    some = {name: shares for name, shares in QUIET.items() if name != "random source"}
    found = decide(flags(0), flags(90), flags(85), some)
    assert (found.verdict, found.missing) == ("not decided", ("random source",))
    assert decide(flags(0), flags(90), flags(10), some).verdict == "not transferred"


def test_outcomes_of_other_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="100, 100, 99, 100"):
        decide(flags(0), flags(1), flags(1, 99), QUIET)


def test_an_effect_that_chance_may_have_made_is_no_native_effect() -> None:
    """One of a hundred prompts is missing from more than a third of the resamples, ten from next to none."""
    assert decide(flags(0), flags(1), flags(1), QUIET).verdict == "no native effect"
    assert decide(flags(0), flags(10), flags(10), calm()).verdict == "transferred"


def test_the_interval_of_the_ratio_is_that_of_95_in_100_resamples() -> None:
    """With all of the native effect on every prompt the ratio is a share, whose interval is the binomial's."""
    found = decide(flags(0, 400), flags(400, 400), flags(280, 400), quiet(400))
    # 1.96 sqrt(.7 * .3 / 400) = .0449.
    assert found.ratio == pytest.approx(0.7)
    assert found.interval == pytest.approx((0.7 - 0.0449, 0.7 + 0.0449), abs=0.006)


@pytest.mark.parametrize(
    ("clean", "carried"),
    [
        (None, "not known"),
        (0, "the behaviour's own"),
        (30, "the behaviour's own"),
        (44, "any model's"),
        (90, "any model's"),
    ],
)
def test_a_clean_source_decides_what_is_carried_and_not_whether(clean: int | None, carried: str) -> None:
    found = decide(flags(0), flags(90), flags(85), QUIET, clean=None if clean is None else flags(clean))
    assert (found.verdict, found.carried) == ("transferred", carried)
    if clean is None:
        assert (found.clean_ratio, found.clean_interval) == (None, ())
    else:
        assert found.clean_ratio == pytest.approx(clean / 90)
        assert found.clean_interval[0] <= clean / 90 <= found.clean_interval[1]


def test_where_nothing_is_carried_a_clean_source_says_nothing() -> None:
    assert decide(flags(0), flags(90), flags(10), QUIET, clean=flags(90)).carried is None
    nothing = decide(flags(5), flags(5), flags(60), QUIET, clean=flags(90))
    assert (nothing.carried, nothing.clean_ratio) == (None, None)
    with pytest.raises(InputError, match="100, 100, 100, 99, 100"):
        decide(flags(0), flags(1), flags(1), QUIET, clean=flags(1, 99))


def test_an_effect_of_the_native_vector_that_is_as_small_as_little_damage_is_none() -> None:
    """13 of 1,000 are surely more than none, and a ratio of 76 to them says nothing."""
    found = decide(flags(0, 1000), flags(13, 1000), flags(992, 1000), quiet(1000), clean=flags(992, 1000))
    assert (found.verdict, found.ratio, found.interval) == ("no native effect", None, ())
    assert (found.carried, found.clean_ratio) == (None, None)
    assert verdict_line(asdict(found)).startswith(
        "no native effect, for there is nothing to transfer: the native vector does not act: native 1.3%"
    )
    # The lower end of 50 of 1,000 is .037.
    assert decide(flags(0, 1000), flags(50, 1000), flags(45, 1000), calm(1000)).verdict == "transferred"


def test_where_the_native_vector_does_no_more_than_a_control_there_is_nothing_to_transfer() -> None:
    strong = {**QUIET, "random source": draws(60)}
    found = decide(flags(0), flags(60), flags(95), strong, clean=flags(95))
    assert (found.verdict, found.ratio, found.interval) == ("nothing to transfer", None, ())
    assert (found.carried, found.clean_ratio) == (None, None)
    line = verdict_line(asdict(found))
    assert line.startswith(
        "nothing to transfer by 0 prompts of 100 (the interval holds 0), for the native vector does no more than "
        "random source: "
    )
    assert "no ratio" in line
    assert decide(flags(0), flags(61), flags(95), strong).verdict == "transferred"


def test_at_a_scale_that_the_guard_refused_nothing_is_transferred() -> None:
    found = decide(flags(0), flags(90), flags(85), QUIET, clean=flags(90), refused=("transferred",))
    assert (found.verdict, found.carried, found.refused) == ("not transferred", None, ("transferred",))
    assert verdict_line(asdict(found)).startswith(
        "not transferred, for no scale that does little damage has an effect: native 90.0%, transferred 85.0%"
    )
    some = {name: shares for name, shares in QUIET.items() if name != "random source"}
    assert decide(flags(0), flags(90), flags(85), some, refused=("transferred",)).verdict == "not transferred"


def test_the_line_says_where_the_guard_refused_the_scale_of_the_native_vector() -> None:
    found = asdict(decide(flags(0), flags(90), flags(85), QUIET, refused=("native",)))
    allowed = asdict(decide(flags(0), flags(90), flags(85), QUIET))
    assert "native 90.0% at a scale that the guard refused, transferred 85.0%" in verdict_line(found)
    assert "refused" not in verdict_line(allowed)
    older = {name: value for name, value in found.items() if name != "refused"}
    assert verdict_line(older) == verdict_line(allowed)


def test_the_line_says_why_a_transfer_is_refused() -> None:
    strong = decide(flags(0), flags(90), flags(85), {**QUIET, "sign flip": draws(85)})
    assert verdict_line(asdict(strong)).startswith(
        "not transferred by 0 prompts of 100 (the interval holds 0), for sign flip gives no less: native 90.0%"
    )
    weak = decide(flags(0), flags(90), flags(45), QUIET)
    assert verdict_line(asdict(weak)).startswith(
        "not transferred, for the ratio may be below 0.5: native 90.0%"
    )


def test_the_line_has_the_clean_ratio_and_is_written_of_older_reports_too() -> None:
    values = asdict(decide(flags(0), flags(90), flags(85), QUIET, clean=flags(90)))
    line = verdict_line(values)
    assert line.startswith("transferred: native 90.0%, transferred 85.0%, ratio 0.94 (")
    assert "what it carries is any model's (clean source: ratio 1.00 (1.00 to 1.00))" in line
    older = {
        name: value
        for name, value in values.items()
        if name not in ("carried", "clean_ratio", "clean_interval")
    }
    assert verdict_line(older) == line.split("; what it carries")[0]


def test_a_verdict_that_rests_on_one_prompt_says_so() -> None:
    """991 and 992 of 1,000, as it was once found: three prompts more and other prompts would have said the same."""
    for restored, said in (
        (992, "transferred by 1 prompt of 1,000 (the interval holds 0): native 99.4%"),
        (993, "transferred by 2 prompts of 1,000 (the interval holds 0): native 99.4%"),
        (998, "transferred: native 99.4%"),
    ):
        controls = {**quiet(1000), "random source": draws(991, total=1000)}
        found = decide(flags(0, 1000), flags(994, 1000), flags(restored, 1000), controls)
        assert verdict_line(asdict(found)).startswith(said)
        assert found.margin is not None
        assert (found.verdict, found.margin.value) == ("transferred", pytest.approx((restored - 991) / 1000))
        assert found.margin.holds_zero == ("holds 0" in said)


def test_the_margin_that_decides_is_the_one_that_is_said() -> None:
    """Where there is nothing to transfer it is the native vector's, and by the ratio or the guard it is neither's."""
    strong = {**quiet(1000), "sign flip": draws(981, total=1000)}
    nothing = decide(flags(0, 1000), flags(979, 1000), flags(1000, 1000), strong)
    assert verdict_line(asdict(nothing)).startswith(
        "nothing to transfer by 2 prompts of 1,000 (the interval holds 0), for"
    )
    assert "transferred +1.9 points (+1.1 to +2.9)" in verdict_line(asdict(nothing))
    controls = {**quiet(1000), "sign flip": draws(440, total=1000)}
    by_ratio = decide(flags(0, 1000), flags(900, 1000), flags(441, 1000), controls)
    assert verdict_line(asdict(by_ratio)).startswith("not transferred, for the ratio may be below 0.5: ")
    by_guard = decide(flags(0, 1000), flags(900, 1000), flags(441, 1000), controls, refused=("transferred",))
    assert verdict_line(asdict(by_guard)).startswith("not transferred, for no scale that does little damage")
    at_bar = decide(flags(0, 1000), flags(900, 1000), flags(440, 1000), controls, refused=("transferred",))
    assert verdict_line(asdict(at_bar)).startswith("not transferred, for no scale that does little damage")
    below = decide(flags(0, 1000), flags(900, 1000), flags(439, 1000), controls, refused=("transferred",))
    assert verdict_line(asdict(below)).startswith("not transferred, for no scale that does little damage")
    assert all("; holds 0" in verdict_line(asdict(one)) for one in (by_ratio, by_guard))


def test_without_a_deciding_control_there_is_no_margin() -> None:
    found = decide(flags(0), flags(90), flags(85), {"clean source": draws(10)})
    assert (found.margin, found.native_margin, found.bar_of) == (None, None, "")
    assert "margin" not in verdict_line(asdict(found))
