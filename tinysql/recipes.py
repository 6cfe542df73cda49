"""Recipes: named functions that return everything a training run needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from data_gen.config import DataConfig
from data_gen.errors import InputError, nearest
from data_gen.say.style import VARIANTS, Variant
from data_gen.seeding import MOST_COUNT
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.training.config import TrainConfig

ALL_SETS = tuple(f"cs{number}" for number in range(1, 11))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Data, tokenizer, model and training of one run."""

    name: str = ""
    """What `tinysql train` calls the recipe that it was made from; nothing follows from it."""
    data: DataConfig
    rows: int | None
    """Training rows that are written to disk and read again every epoch; None takes fresh rows from the generator
    for every step."""
    variants: tuple[Variant, ...] = ()
    """Variants that fresh rows are mixed of; none means that of `data` alone."""
    probe_rows: int = 256
    """Rows that are never trained on; they decide when decay begins."""
    grade_rows: int = 200
    """Held-out rows that are graded by execution every `train.grade_every` steps."""
    needs_gpu: bool = False
    """Whether training on a CPU is refused."""
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("rows", "probe_rows", "grade_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, expected at least 1", hint="give a larger number")
            # Rows on disk are read as they are needed, and writing them has an end of its own.
            if value is not None and name != "rows" and value > MOST_COUNT:
                raise InputError(
                    f"{name} is {value:,}, expected at most {MOST_COUNT:,}: they are held in memory",
                    hint="give a smaller number; hundreds are usual",
                )
        if self.rows is not None and self.variants:
            raise InputError(
                f"rows is {self.rows} and variants {','.join(self.variants)}, but rows on disk are of one variant",
                hint="set rows=None for fresh rows of several variants, or data.variant for one",
            )
        if self.rows is not None and self.train.pack is None and self.rows < self.train.batch_size:
            raise InputError(
                f"rows is {self.rows}, fewer than one batch of {self.train.batch_size}",
                hint="make more rows or lower train.batch_size",
            )
        if self.rows is None and self.train.pack is None:
            raise InputError(
                "rows is None, so rows come fresh from the generator, and they are packed",
                hint="set train.pack to the tokens of a packed row, such as 512",
            )

    @property
    def sources(self) -> tuple[DataConfig, ...]:
        """What training rows are mixed of, in equal parts."""
        return tuple(replace(self.data, variant=v) for v in self.variants) or (self.data,)

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with data, weights and batch order drawn from another seed."""
        return replace(self, data=replace(self.data, seed=seed), train=replace(self.train, seed=seed))


def nano() -> Recipe:
    """CS1 and CS2 on the small lexicon, a transformer of 0.8 M weights: minutes on two CPU cores."""
    return Recipe(
        data=DataConfig(
            command_sets=("cs1", "cs2"),
            lexicon="demo",
            min_columns=2,
            max_columns=4,
            max_keys=2,
            random_names=0.3,
        ),
        rows=50_000,
        train=TrainConfig(
            model=ModelConfig(pattern="*-*-*-", d_model=128, n_heads=4, n_ctx=160),
            vocab_size=800,
            batch_size=16,
            lr=1.5e-3,
            prompt_loss=0.3,
            hold_steps=1500,
            max_hold_steps=3000,
            decay_steps=500,
        ),
    )


def micro() -> Recipe:
    """CS1 to CS3 on the full lexicon, a transformer of 4 M weights: an hour on a few CPU cores."""
    return Recipe(
        data=DataConfig(command_sets=("cs1", "cs2", "cs3"), max_columns=6, max_keys=2, random_names=0.3),
        rows=200_000,
        train=TrainConfig(
            model=ModelConfig(pattern="*-*-*-*-", d_model=256, n_heads=8, n_ctx=320),
            vocab_size=2048,
            batch_size=32,
            lr=1e-3,
            prompt_loss=0.3,
            hold_steps=4000,
            max_hold_steps=8000,
            decay_steps=1500,
        ),
    )


def _on_gpu(model: ModelConfig, *, lr: float, batch_size: int, steps: int) -> Recipe:
    """All command sets in every variant, fresh rows packed to 1,024 tokens, on one GPU."""
    return Recipe(
        # Those with the longest lists more often: two layers get them right last.
        # Openings are invented, or a hybrid knows the first column by the word in front of it.
        data=DataConfig(
            command_sets=(*ALL_SETS, "cs7", "cs8", "cs8"),
            random_names=0.2,
            invented_names=0.2,
            invented_openings=0.2,
        ),
        rows=None,
        variants=VARIANTS,
        probe_rows=1024,
        needs_gpu=True,
        train=TrainConfig(
            model=model,
            vocab_size=4096,
            batch_size=batch_size,
            pack=1024,
            optimizer="muon",
            lr=lr,
            betas=(0.9, 0.95),
            weight_decay=0.1,
            warmup_steps=200,
            hold_steps=steps // 4,
            decay_steps=steps * 3 // 4,
            probe_every=1000,
            checkpoint_every=2000,
        ),
    )


def bm1() -> Recipe:
    """Two layers of width 1024, the 33M shape of TinySQL's first model."""
    model = ModelConfig(pattern="*-*-", d_model=1024, n_heads=16, n_ctx=1024, activation="relu2")
    # Long lists with synonyms come last: after 20,000 steps CS2 and CS8 are still below their goals.
    return _on_gpu(model, lr=1e-3, batch_size=32, steps=48_000)


def bm2() -> Recipe:
    """The blocks of Qwen2.5-0.5B, with an untied head and a vocabulary of 4,096: 365 M weights."""
    model = ModelConfig(
        pattern="*-" * 24,
        d_model=896,
        n_heads=14,
        n_kv_heads=2,
        d_mlp=4864,
        n_ctx=1024,
        rotary_base=1e6,
        activation="silu",
        gated=True,
        biases=("qkv",),
        eps=1e-6,
    )
    return _on_gpu(model, lr=4e-4, batch_size=32, steps=4000)


def bm3() -> Recipe:
    """The blocks of Llama-3.2-1B, with an untied head, a vocabulary of 4,096 and no rotary scaling: 990 M weights."""
    model = ModelConfig(
        pattern="*-" * 16,
        d_model=2048,
        n_heads=32,
        n_kv_heads=8,
        d_mlp=8192,
        n_ctx=1024,
        rotary_base=5e5,
        activation="silu",
        gated=True,
    )
    return _on_gpu(model, lr=3e-4, batch_size=32, steps=4000)


def _hybrid(
    pattern: str,
    d_model: int,
    n_heads: int,
    groups: int,
    moe: MoEConfig | None = None,
    d_mlp: int | None = None,
) -> ModelConfig:
    """Nemotron 3's manner: no positions, heads of 64, a pair of key-value heads, squared ReLU."""
    return ModelConfig(
        pattern=pattern,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=2,
        d_head=64,
        d_mlp=d_mlp,
        n_ctx=1024,
        positions="none",
        activation="relu2",
        mamba=MambaConfig(n_groups=groups),
        moe=moe if moe is not None else MoEConfig(),
    )


def t33() -> Recipe:
    """A hybrid with latent experts in the 33M class: 32 of which 8 work, in a quarter of the width."""
    moe = MoEConfig(n_experts=32, n_active=8, d_expert=256, d_shared=768, d_latent=192)
    return _on_gpu(_hybrid("MEM*EME", 768, 12, 4, moe), lr=1e-3, batch_size=32, steps=20_000)


def t33_plain() -> Recipe:
    """The twin of `t33` without a latent: 8 experts of which 2 work, at the same cost."""
    moe = MoEConfig(n_experts=8, n_active=2, d_expert=256, d_shared=768)
    return _on_gpu(_hybrid("MEM*EME", 768, 12, 4, moe), lr=1e-3, batch_size=32, steps=20_000)


def t33_dense() -> Recipe:
    """The twin of `t33` with one MLP in place of experts, as wide as what a token goes through there."""
    return _on_gpu(_hybrid("M-M*-M-", 768, 12, 4, d_mlp=1280), lr=1e-3, batch_size=32, steps=20_000)


def t200() -> Recipe:
    """A hybrid of 0.2 B weights."""
    moe = MoEConfig(n_experts=64, n_active=8, d_expert=512, d_shared=1024, d_latent=192)
    return _on_gpu(_hybrid("MEMEM*EMEMEM*EMEME", 768, 12, 8, moe), lr=6e-4, batch_size=32, steps=6000)


def t600() -> Recipe:
    """A hybrid of 0.6 B weights."""
    moe = MoEConfig(n_experts=128, n_active=16, d_expert=512, d_shared=1536, d_latent=256)
    return _on_gpu(_hybrid("MEMEM*EMEMEM*EMEMEM*EMEME", 1024, 16, 8, moe), lr=4e-4, batch_size=32, steps=4000)


def t1b() -> Recipe:
    """A hybrid of 1 B weights."""
    moe = MoEConfig(n_experts=128, n_active=16, d_expert=512, d_shared=2048, d_latent=320)
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEME"
    return _on_gpu(_hybrid(pattern, 1280, 20, 8, moe), lr=3e-4, batch_size=32, steps=4000)


def tiny() -> Recipe:
    """A model too small to be right: for tests and for trying commands, seconds on one core."""
    return Recipe(
        data=DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", min_columns=2, max_columns=3),
        rows=400,
        probe_rows=32,
        train=TrainConfig(
            model=ModelConfig(pattern="*-*-", d_model=32, n_heads=2, n_ctx=160),
            vocab_size=800,
            hold_steps=60,
            decay_steps=20,
            warmup_steps=5,
            probe_every=10,
            checkpoint_every=10,
        ),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "nano": nano,
    "micro": micro,
    "bm1": bm1,
    "bm2": bm2,
    "bm3": bm3,
    "t33": t33,
    "t33-plain": t33_plain,
    "t33-dense": t33_dense,
    "t200": t200,
    "t600": t600,
    "t1b": t1b,
    "tiny": tiny,
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; `InputError` with the nearest name otherwise."""
    if name not in RECIPES:
        raise InputError(
            f"unknown recipe `{name}`{nearest(name, list(RECIPES))}", hint=f"known: {', '.join(RECIPES)}"
        )
    return replace(RECIPES[name](), name=name)
