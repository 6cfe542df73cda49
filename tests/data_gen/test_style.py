"""Query -> how it is said: what is remembered of names."""

import pytest

from data_gen.say import style


@pytest.mark.parametrize("variant", ["syn", "nat"])
def test_what_is_remembered_of_names_is_forgotten_before_it_fills_the_memory(variant):
    words = style._Words("demo", variant)
    for number in range(17_000):
        words[f"name_{number}"]
    assert 0 < len(words) < 16_500
    assert words["name_1"] == style._Words("demo", variant)["name_1"]
