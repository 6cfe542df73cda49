"""A step of fixed shapes, as a CUDA graph replays it: the logits of a run without a cache."""

import pytest
import torch

from tinysql.answering.decoding import Decoder
from tinysql.devices import can_record
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM

SHAPES = {
    "rotary": ModelConfig(pattern="*-*-", d_model=32, n_heads=4, n_kv_heads=2, d_vocab=50, n_ctx=40),
    "learned positions and a window": ModelConfig(
        pattern="*-*",
        d_model=32,
        n_heads=4,
        d_vocab=50,
        n_ctx=40,
        positions="learned",
        window=5,
        windowed_blocks=(0,),
    ),
    "hybrid": ModelConfig(
        pattern="MEM*E",
        d_model=32,
        n_heads=4,
        d_vocab=50,
        n_ctx=40,
        positions="none",
        mamba=MambaConfig(d_head=8, d_state=16),
        moe=MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_steps_of_fixed_shape_give_the_uncached_logits(
    shape: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.models.attention.ROOM", 4)
    model = HybridLM(shape, seed=1).double().eval()
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    expected = model(ids)
    cache, rows = model.start_cache(), torch.arange(3)
    model(ids[:, :6], cache=cache)
    for at in range(6, 20):
        if at == 13:  # a row leaves
            going = torch.tensor([True, False, True])
            cache.keep(going)
            rows = rows[going]
        if cache.place is None or not cache.has_room or at == 13:
            cache.fix(ids.device)
        assert cache.place is not None
        cache.place.fill_(at)
        logits = model(ids[rows, at : at + 1], cache=cache)[:, 0]
        cache.seen += 1
        torch.testing.assert_close(logits, expected[rows, at])


@torch.no_grad()
def test_a_decoder_on_a_cpu_continues_what_it_has_seen() -> None:
    model = HybridLM(SHAPES["hybrid"], seed=1).double().eval()
    ids = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    decoder, expected = Decoder(model), model(ids)
    torch.testing.assert_close(decoder(ids[:, :4]), expected[:, 3])
    torch.testing.assert_close(decoder(ids[:, 4:5]), expected[:, 4])
    decoder.keep(torch.tensor([False, True]))
    torch.testing.assert_close(decoder(ids[1:, 5:6]), expected[1:, 5])


def test_only_the_current_gpu_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another a graph would be empty, without an error: nothing decoded, nothing learnt."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    places = ("cpu", "cuda:0", "cuda:1")
    assert [can_record(torch.device(place)) for place in places] == [False, False, True]
