"""What stands for a protocol is one on every Python: from 3.12 on `isinstance` looks at attributes and does not ask."""

import inspect

import pytest

from circuits.looking.running import HookedLM
from saes.activations import HookedModel
from saes.disk import SAE, Savable, stock
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

SHAPE = ModelConfig(pattern="*-", d_model=8, n_heads=2, n_ctx=8, d_vocab=8)


def members(protocol: type) -> set[str]:
    """What a protocol asks for, but for what every class has."""
    own = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    return {
        name
        for base in own
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if not name.startswith("_")
    }


@pytest.mark.parametrize("protocol", [HookedModel, HookedLM, SAE, Savable])
def test_a_model_and_a_stock_sae_have_what_protocols_ask_for_without_being_asked(protocol: type) -> None:
    of = stock().StandardSAE(stock().StandardSAEConfig(d_in=4, d_sae=8))
    made = HybridLM(SHAPE) if protocol in (HookedModel, HookedLM) else of
    assert isinstance(made, protocol)
    assert members(protocol)
    for name in members(protocol):
        inspect.getattr_static(made, name)
