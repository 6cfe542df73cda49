"""What is no points of a hook is refused in a sentence."""

import subprocess
import sys

UNPOINTED = """
import torch
import transfer
from data_gen.errors import InputError
from transfer.maps.activation_map import Made
from transfer.maps.kinds import AffineMap

found = AffineMap(made=Made(method="a", source_hook="a", target_hook="b"), weight=torch.eye(4), bias=torch.zeros(4))
try:
    found.map_points(torch.zeros(9, 4))
except InputError as error:
    print(error)
"""


def test_a_bare_tensor_is_no_points_and_is_told_how_they_are_made() -> None:
    # Without the type checks of the tests, which users do not have.
    ran = subprocess.run([sys.executable, "-c", UNPOINTED], capture_output=True, text=True, check=True)
    assert ran.stdout == (
        "points are a Tensor of shape [9, 4], expected transfer.Points\n"
        "hint: take `transfer.Points.of(saes.record(model, tokens, hook))`\n"
    )
