"""Plain values -> random numbers: the same wherever they are made, and unlike one another."""

import subprocess
import sys
from argparse import ArgumentTypeError
from itertools import islice

import pytest

from data_gen.seeding import (
    BLOCK,
    BLOCKS,
    MASK,
    MOST_ROWS,
    Draws,
    draws,
    mix,
    read_count,
    read_rows,
    read_seed,
    stable_hash,
)
from data_gen.store.job import MOST_FILES, MOST_SHARD_ROWS

KEY = stable_hash("a key")
WIDTH = BLOCK * BLOCKS
"""Numbers of a row that are computed for many rows at once."""


def numbers(rng, count):
    return [rng.random() for _ in range(count)]


def chi_square(counts):
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def shares(values, bins=16):
    counts = [0] * bins
    for value in values:
        counts[int(value * bins)] += 1
    return counts


@pytest.mark.parametrize("rows", [range(1), range(5, 9), range(0, 300, 7), range(2**40, 2**40 + 3)])
def test_numbers_drawn_for_many_rows_are_those_of_each_row_alone(rows):
    for row, rng in zip(rows, draws(KEY, rows), strict=True):
        assert numbers(rng, WIDTH + 5) == numbers(Draws(KEY, row), WIDTH + 5)


def test_how_rows_are_put_together_makes_no_difference():
    whole = [numbers(rng, 40) for rng in draws(KEY, range(60))]
    for size in (1, 7, 59):
        parts = [range(first, min(60, first + size)) for first in range(0, 60, size)]
        assert [numbers(rng, 40) for part in parts for rng in draws(KEY, part)] == whole


def test_a_row_that_asks_for_more_takes_nothing_from_its_neighbours():
    greedy, other = islice(draws(KEY, range(2)), 2)
    assert numbers(greedy, 3 * WIDTH) == numbers(Draws(KEY, 0), 3 * WIDTH)
    assert numbers(other, 5) == numbers(Draws(KEY, 1), 5)


def test_a_number_is_what_the_definition_says_in_every_block_and_beyond():
    golden = 0x9E3779B97F4A7C15
    found = numbers(Draws(KEY, 3), WIDTH + 40)
    for place in (0, 1, BLOCK - 1, BLOCK, WIDTH - 1, WIDTH, WIDTH + 39):
        start = mix(3 * golden + KEY & MASK)
        assert found[place] == (mix(start + (place + 1) * golden & MASK) >> 11) / 2**53


def test_mix_is_the_published_finalizer():
    # The first three numbers of SplitMix64 from seed 0, as its authors' program gives them.
    golden = 0x9E3779B97F4A7C15
    assert [mix(step * golden & MASK) for step in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_numbers_are_uniform_along_a_row_and_across_rows():
    along = numbers(Draws(KEY, 0), 16000)
    across = [rng.random() for rng in draws(KEY, range(16000))]
    keys = [Draws(key, 0).random() for key in range(2000)]
    for values in (along, across, keys):
        assert all(0 <= value < 1 for value in values)
        # 99.99 % of chi-squares with 15 degrees of freedom are below 44.3.
        assert chi_square(shares(values)) < 44.3


def test_rows_and_keys_are_independent():
    first = numbers(Draws(KEY, 0), 8000)
    for other in (Draws(KEY, 1), Draws(KEY + 1, 0), Draws(KEY ^ 1 << 63, 0)):
        pairs = [int(a * 4) * 4 + int(b * 4) for a, b in zip(first, numbers(other, 8000), strict=True)]
        assert chi_square([pairs.count(pair) for pair in range(16)]) < 44.3


def test_neighbouring_numbers_of_a_row_are_independent():
    values = [value for rng in draws(KEY, range(4000)) for value in numbers(rng, 2)]
    pairs = [int(a * 4) * 4 + int(b * 4) for a, b in zip(values[::2], values[1::2], strict=True)]
    assert chi_square([pairs.count(pair) for pair in range(16)]) < 44.3


def test_a_hash_is_the_same_in_another_process_and_knows_where_its_parts_end():
    code = "from data_gen.seeding import stable_hash; print(stable_hash('a', 1))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "99"}
    )
    assert int(told.stdout) == stable_hash("a", 1) == 13924241962069754241
    assert (
        len({stable_hash("ab", "c"), stable_hash("a", "bc"), stable_hash("abc"), stable_hash("c", "ab")}) == 4
    )


@pytest.mark.parametrize(("text", "seed"), [("0", 0), ("17", 17), (str(2**63 - 1), 2**63 - 1)])
def test_a_seed_is_read_as_it_is_written(text, seed):
    assert read_seed(text) == seed


@pytest.mark.parametrize("text", ["", "-1", "1.5", "one", str(2**63), "٣"])
def test_what_is_no_seed_is_one_sentence(text):
    with pytest.raises(ArgumentTypeError, match="is no seed, expected a whole number"):
        read_seed(text)


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("-3", -3), ("10000000", 10_000_000)])
def test_a_count_is_a_whole_number(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize(
    ("text", "said"),
    [("10000001", "10,000,001 is more than 10,000,000"), ("1e3", "'1e3' is no whole number")],
)
def test_what_is_no_count_or_without_end_is_refused(text: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        read_count(text)


def test_rows_are_as_many_as_a_dataset_can_have() -> None:
    assert MOST_ROWS == MOST_FILES * MOST_SHARD_ROWS
    assert read_rows(str(MOST_ROWS)) == MOST_ROWS
    with pytest.raises(
        ArgumentTypeError, match=f"{MOST_ROWS + 1:,} is more than {MOST_ROWS:,}, expected fewer"
    ):
        read_rows(str(MOST_ROWS + 1))
