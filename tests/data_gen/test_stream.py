"""Config -> rows without end: the rows of `make_example`, a batch of them in memory at a time."""

import tracemalloc
from collections import deque
from functools import partial
from itertools import islice

import pytest

import data_gen
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.store.dataset import read_dataset, write_dataset
from data_gen.store.stream import stream, stream_records

CONFIG = DataConfig(command_sets=("cs1", "cs3", "cs5"), variant="syn", seed=5)


def test_the_streams_are_names_of_the_package():
    assert (data_gen.stream, data_gen.stream_records) == (stream, stream_records)


@pytest.mark.parametrize(
    ("start", "stop", "step", "batch"),
    [
        (0, 30, 1, 256),
        (0, 30, 1, 1),
        (3, 30, 4, 2),
        (3, 30, 4, 256),
        (7, 8, 3, 5),
        (30, 30, 1, 4),
        (31, 30, 2, 4),
    ],
)
def test_a_stream_is_the_rows_of_a_range(start, stop, step, batch):
    found = list(stream(CONFIG, start, stop, step, batch=batch))
    assert [example.index for example in found] == list(range(start, stop, step))
    for example in found:
        wanted = make_example(CONFIG, example.index)
        assert (example.query, example.style) == (wanted.query, wanted.style)


def test_workers_share_the_rows_and_none_is_lost():
    workers = [[e.index for e in stream(CONFIG, start=i, stop=50, step=3)] for i in range(3)]
    assert sorted(index for some in workers for index in some) == list(range(50))


def test_a_stream_without_an_end_goes_on():
    assert [e.index for e in islice(stream(CONFIG, start=10**12, batch=3), 8)] == list(
        range(10**12, 10**12 + 8)
    )


@pytest.mark.parametrize("step", [1, 4])
def test_a_stream_without_an_end_keeps_its_step_from_batch_to_batch(step):
    wanted = list(range(5, 5 + 8 * step, step))
    assert [e.index for e in islice(stream(CONFIG, 5, step=step, batch=3), 8)] == wanted
    assert [row["index"] for row in islice(stream_records(CONFIG, 5, step=step, batch=3), 8)] == wanted


def test_records_are_the_rows_of_a_dataset(tmp_path):
    write_dataset(CONFIG, 25, tmp_path, shard_rows=10)
    assert list(stream_records(CONFIG, 0, 25, batch=7)) == list(read_dataset(tmp_path))
    some = ("prompt", "sql_statement")
    assert list(stream_records(CONFIG, 0, 25, columns=some)) == list(read_dataset(tmp_path, columns=some))


@pytest.mark.parametrize(("rows", "options"), [(stream, {}), (stream_records, {"columns": ["roles"]})])
def test_a_stream_holds_no_more_than_a_batch(rows, options):
    config = DataConfig()

    def peak(start, stop, take):
        tracemalloc.start()
        take(rows(config, start, stop, batch=64, **options))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    forget = partial(deque, maxlen=0)
    # Names and phrases are remembered, so that a first look at them is none of the rows.
    forget(rows(config, 0, 1_000))
    few, many, all_at_once = peak(1_000, 1_128, forget), peak(2_000, 2_768, forget), peak(2_000, 2_768, list)
    assert many < few + (all_at_once - few) / 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"start": -1}, "start is -1"), ({"step": 0}, "step is 0"), ({"batch": 0}, "batch is 0")],
)
@pytest.mark.parametrize("rows", [stream, stream_records])
def test_numbers_that_make_no_sense_are_refused_at_once(rows, options, reason):
    with pytest.raises(InputError, match=reason):
        rows(CONFIG, **options)
