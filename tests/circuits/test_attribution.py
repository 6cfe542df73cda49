"""EAP and EAP-IG: algebra that must hold on any model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.circuit import Circuit
from circuits.engine.attribution import pieces_of
from circuits.engine.batching import fitting_batch_size, parting
from circuits.engine.forward import run_circuit
from circuits.engine.mixers import mixers_of
from circuits.engine.ports import ReaderPort
from circuits.engine.recording import Changes, Machine
from circuits.engine.rules import FROZEN, FROZEN_NORMS, FROZEN_ROUTER, RELP, Rules
from circuits.graph import Graph
from circuits.methods.eap import clean_corrupt, eap, relp
from circuits.methods.eap_ig import eap_ig, integration_error
from circuits.methods.exact import _Oracle, exact
from circuits.metrics import answer_log_prob, logit_diff
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.config import MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

METHODS = {
    "eap": eap,
    "eap_ig": partial(eap_ig, steps=3),
    "eap_ig over activations": partial(eap_ig, steps=2, over="activations"),
    "clean-corrupt": clean_corrupt,
    "relp": relp,
    "exact": exact,
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Callable[..., EdgeScores]:
    return METHODS[request.param]


HOOKS = {
    "*": ("attn.hook_q", "attn.hook_k", "attn.hook_v"),
    "-": ("mlp.hook_pre",),
    "M": ("mamba.hook_z", "mamba.hook_x_in", "mamba.hook_B_in", "mamba.hook_C_in"),
    "E": ("moe.hook_router",),
}
"""Where the model itself shows what a block's ports read, in their order."""


def nudged_metric(
    model: HybridLM, pairs: TokenPairs, block: int, hook: str, port: ReaderPort, slot: int, nudge: Tensor
) -> Tensor:
    """The metric of the clean run in which one reader, and no other, reads the stream plus `nudge`."""
    seen: list[Tensor] = []

    def keep(resid: Tensor, hook: object) -> None:
        seen.append(resid)

    def replace(read: Tensor, hook: object) -> Tensor:
        moved = port.read(model.blocks[block].ln1(seen[0] + nudge))[:, :, slot]
        if read.ndim == 3:
            return moved
        read = read.clone()
        read[:, :, slot] = moved
        return read

    logits = model.run_with_hooks(
        pairs.clean.ids,
        fwd_hooks=[(f"blocks.{block}.hook_resid_pre", keep), (f"blocks.{block}.{hook}", replace)],
    )
    return logit_diff(logits[torch.arange(len(pairs)), pairs.position], pairs)


def test_an_eap_score_is_the_derivative_along_the_writers_change(random_case, shape) -> None:
    """For the last reader of each port: central difference under `x_reader + ε Δ_writer`, made with hooks alone."""
    case = random_case(**shape)
    model, pairs, step = case.model, case.pairs, 1e-5
    scores, slopes = eap(model, pairs), []
    mixers = mixers_of(model)
    with torch.no_grad():
        _, clean = model.run_with_cache(pairs.clean.ids)
        _, corrupt = model.run_with_cache(pairs.corrupt.ids)
        change = corrupt["blocks.0.hook_resid_pre"] - clean["blocks.0.hook_resid_pre"]
        for block, mixer in enumerate(mixers):
            # A gated MLP reads through two hooks at once: the derivative of `exact` covers it.
            kind = model.blocks[block].kind
            hooks = () if kind == "-" and model.cfg.gated else HOOKS[kind]
            for hook, port in zip(hooks, mixer.reads, strict=False):
                slot = port.slots - 1
                ends = [
                    nudged_metric(model, pairs, block, hook, port, slot, sign * step * change)
                    for sign in (1, -1)
                ]
                slope = (ends[0] - ends[1]) / (2 * step)
                found = scores.per_example[:, 0, port.readers.start + slot]
                torch.testing.assert_close(found, slope.float(), rtol=1e-4, atol=1e-6)
                slopes.append(slope.abs().max().item())
    assert sum(slope > 1e-3 for slope in slopes) > len(slopes) / 2, "the slopes are not all zero"


def test_eap_is_the_derivative_of_exact(random_case, shape) -> None:
    """For every edge: central difference of the metric when a small part of the corrupt value is carried."""
    case = random_case(**shape)
    model, pairs, step = case.model, case.pairs, 1e-5
    with torch.no_grad():
        oracle = _Oracle(Machine(model), pairs, logit_diff, rows=256)
        whole, last, _ = oracle.change
        ends = []
        for sign in (1, -1):
            oracle.change = Changes(sign * step * whole, sign * step * last)
            ends.append(oracle.effects())
    slopes = (ends[0] - ends[1]) / (2 * step)
    assert slopes.abs().max() > 0.1
    torch.testing.assert_close(eap(model, pairs).per_example, slopes.float(), rtol=1e-4, atol=1e-5)


def test_the_last_writer_in_front_of_a_block_adds_its_latent_times_its_weight(random_case, shape) -> None:
    """What the writers of a block write sums to what the model's own block adds."""
    case = random_case(**shape)
    with torch.no_grad():
        machine = Machine(case.model)
        _, cache = case.model.run_with_cache(case.pairs.clean.ids)
        for index, mixer in enumerate(machine.mixers):
            through = mixer.run(cache[f"blocks.{index}.ln1.hook_normalized"])
            added = cache[f"blocks.{index}.hook_resid_post"] - cache[f"blocks.{index}.hook_resid_pre"]
            bias = 0 if mixer.bias is None else mixer.bias
            torch.testing.assert_close(mixer.written(through.latents).sum(0) + bias, added)
            dense = mixer.latents(mixer.dense(through))
            for sparse, whole in zip(through.latents, dense, strict=True):
                torch.testing.assert_close(sparse, whole)


def test_scores_leaving_embed_sum_to_the_gradient_at_the_embedding(random_case, shape) -> None:
    """`Σ_readers score(embed, reader) = ⟨Δ_embed, ∂metric/∂embed⟩`, with autograd's own gradient."""
    case = random_case(**shape)
    machine = Machine(case.model)
    ends = [machine.embedding(side.ids).detach() for side in (case.pairs.clean, case.pairs.corrupt)]
    stream = ends[0].clone().requires_grad_()
    metric = logit_diff(machine.record(stream, case.pairs.position).logits, case.pairs)
    (gradient,) = torch.autograd.grad(metric.sum(), stream)
    expected = ((ends[1] - ends[0]) * gradient).sum((1, 2))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(eap(case.model, case.pairs).per_example[:, 0].sum(-1), expected.float())


def test_nothing_is_scored_in_front_of_where_prompts_part(random_case, shape, monkeypatch) -> None:
    case = random_case(**shape)
    assert parting(case.pairs).min() == 2
    found = eap(case.model, case.pairs).per_example
    monkeypatch.setattr("circuits.engine.attribution.parting", lambda pairs: torch.zeros(1))
    torch.testing.assert_close(eap(case.model, case.pairs).per_example, found)


def test_the_completeness_gap_closes_with_more_steps(random_case) -> None:
    case = random_case()
    gaps = [
        eap_ig(case.model, case.pairs, steps=steps).metadata["completeness_gap_relative"]
        for steps in (2, 10, 80)
    ]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    assert gaps[2] < 1e-3


def test_eap_becomes_exact_as_corrupt_approaches_clean(random_case) -> None:
    """The error of a first-order estimate falls tenfold when the change does."""
    errors = []
    for size in (1e-1, 1e-2, 1e-3):
        case = random_case(n=3)
        model, pairs = case.model, case.pairs
        with torch.no_grad():
            # Every corrupt token is a new row of the vocabulary near the clean one.
            old, new = pairs.clean.ids, pairs.corrupt.ids
            differing = old != new
            direction = torch.randn(
                int(differing.sum()), 24, generator=torch.Generator().manual_seed(1)
            ).double()
            model.embed.W_E = torch.nn.Parameter(
                torch.cat([model.embed.W_E, model.embed.W_E[old[differing]] + size * direction])
            )
            near = old.clone()
            near[differing] = torch.arange(20, 20 + int(differing.sum()))
        pairs = dataclasses.replace(pairs, corrupt=dataclasses.replace(pairs.corrupt, ids=near))
        measured, estimated = exact(model, pairs).per_example, eap(model, pairs).per_example
        errors.append(((measured - estimated).norm() / measured.norm()).item())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 0.01


def test_pairs_of_equal_sides_score_zero_everywhere(random_case, method) -> None:
    """All pairs but the first: where no pair moves at all there is nothing to attribute, which is said."""
    case = random_case()
    ids = torch.cat([case.pairs.corrupt.ids[:1], case.pairs.clean.ids[1:]])
    one = dataclasses.replace(case.pairs, corrupt=dataclasses.replace(case.pairs.corrupt, ids=ids))
    found = method(case.model, one).per_example
    assert found[0].abs().max() > 1e-3
    assert found[1:].abs().max() < 1e-12


def test_scores_do_not_depend_on_the_batch_size(random_case, method) -> None:
    case = random_case()
    whole, single = (method(case.model, case.pairs, batch_size=size).per_example for size in (32, 1))
    assert whole.abs().max() > 0.1
    torch.testing.assert_close(whole, single)


def test_scores_do_not_depend_on_what_stands_behind_the_position(random_case, method) -> None:
    case = random_case()
    wider = torch.full((len(case.pairs), 4), 7)

    def padded(side):
        ids = torch.cat([torch.where(side.mask, side.ids, torch.tensor(13)), wider], dim=1)
        mask = torch.cat([side.mask, torch.zeros_like(wider, dtype=torch.bool)], dim=1)
        return dataclasses.replace(side, ids=ids, mask=mask)

    other = dataclasses.replace(
        case.pairs, clean=padded(case.pairs.clean), corrupt=padded(case.pairs.corrupt)
    )
    torch.testing.assert_close(
        method(case.model, case.pairs).per_example, method(case.model, other).per_example
    )


def test_scores_are_zero_where_there_is_no_edge(random_case, method) -> None:
    case = random_case()
    scores = method(case.model, case.pairs)
    assert scores.per_example[:, ~torch.from_numpy(scores.graph.mask)].abs().max() == 0


def test_every_shape_satisfies_completeness(random_case, shape) -> None:
    """With all experts active: where a token changes its expert the metric jumps, and no gradient sees a jump."""
    if "moe" in shape:
        shape = {**shape, "moe": dataclasses.replace(shape["moe"], n_active=shape["moe"].n_experts)}
    case = random_case(**shape, n=3)
    scores = eap_ig(case.model, case.pairs, steps=60)
    assert scores.metadata["completeness_gap_relative"] < 5e-3
    assert scores.per_example.shape[1:] == Graph.of(case.model).mask.shape


def test_another_metric_gives_other_scores(random_case) -> None:
    case = random_case()
    scores = eap(case.model, case.pairs, answer_log_prob)
    assert scores.metric == "answer_log_prob"
    assert not torch.allclose(scores.values, eap(case.model, case.pairs).values, rtol=0.1)


def test_the_model_is_left_as_it_was(random_case, method) -> None:
    """Gradient flags, gradients, hooks and mode: after success and after an error in the metric."""
    case = random_case()
    model = case.model.eval()
    model.embed.W_E.requires_grad_(False)

    def state() -> tuple[object, ...]:
        parameters = list(model.parameters())
        return (
            [parameter.requires_grad for parameter in parameters],
            [parameter.grad for parameter in parameters],
            [(len(point._forward_hooks), len(point.fwd_hooks)) for point in model.hook_dict.values()],
            [module.training for module in model.modules()],
            torch.is_grad_enabled(),
        )

    def broken(logits: Tensor, pairs: TokenPairs) -> Tensor:
        raise RuntimeError("broken metric")

    before = state()
    method(model, case.pairs)
    assert state() == before
    with pytest.raises(RuntimeError, match="broken metric"):
        method(model, case.pairs, metric=broken)
    assert state() == before


def test_gradients_are_found_even_where_the_caller_switched_them_off(random_case) -> None:
    case = random_case()
    with torch.no_grad():
        off = eap(case.model, case.pairs)
    torch.testing.assert_close(off.values, eap(case.model, case.pairs).values)


def test_a_hooked_model_is_refused(random_case, method) -> None:
    case = random_case()
    with (
        case.model.hooks(fwd_hooks=[("hook_embed", lambda x, hook: None)]),
        pytest.raises(InputError, match="hooks on hook_embed"),
    ):
        method(case.model, case.pairs)


def test_bad_arguments_are_refused_with_the_reason(random_case) -> None:
    case = random_case()
    with pytest.raises(InputError, match="steps is 0"):
        eap_ig(case.model, case.pairs, steps=0)
    with pytest.raises(InputError, match="over is 'outputs'"):
        eap_ig(case.model, case.pairs, over="outputs")
    with pytest.raises(InputError, match="batch_size is 0"):
        eap(case.model, case.pairs, batch_size=0)
    with pytest.raises(InputError, match="no pairs"):
        eap(case.model, case.pairs[0:0])


def test_the_integration_error_falls_with_the_square_of_the_steps(random_case) -> None:
    """The midpoint rule is of second order: twice the steps, a quarter of the error."""
    case = random_case()
    few, many = (integration_error(case.model, case.pairs, steps=steps) for steps in (20, 40))
    assert 3 < few / many < 5


def test_the_mean_of_both_ends_is_eap_with_the_sides_exchanged_and_turned(random_case, shape) -> None:
    """`clean_corrupt = (eap(clean, corrupt) - eap(corrupt, clean)) / 2`, for a metric that does not change sides."""
    case = random_case(**shape)
    pairs = case.pairs
    turned = dataclasses.replace(pairs, clean=pairs.corrupt, corrupt=pairs.clean)
    expected = (eap(case.model, pairs).per_example - eap(case.model, turned).per_example) / 2
    torch.testing.assert_close(clean_corrupt(case.model, pairs).per_example, expected, rtol=1e-4, atol=1e-5)


def test_integrating_over_one_blocks_writing_gives_the_effect_of_all_its_edges(random_case, shape) -> None:
    """The way is that of one block alone, so its edges' scores sum to what patching everything it writes does."""
    if "moe" in shape:
        shape = {**shape, "moe": dataclasses.replace(shape["moe"], n_active=shape["moe"].n_experts)}
    case = random_case(**shape, n=3)
    model, pairs = case.model, case.pairs
    scores = eap_ig(model, pairs, steps=30, over="activations")
    with torch.no_grad():
        clean = case.model.run_with_cache(pairs.clean.ids)[1]
        corrupt = case.model.run_with_cache(pairs.corrupt.ids)[1]
        rows = torch.arange(len(pairs))
        for block, kind in enumerate(model.cfg.pattern):
            name = f"blocks.{block}.hook_{ {'*': 'attn', '-': 'mlp', 'M': 'mamba', 'E': 'moe'}[kind] }_out"
            patched = model.run_with_hooks(
                pairs.clean.ids, fwd_hooks=[(name, lambda x, hook, name=name: corrupt[name])]
            )
            effect = logit_diff(patched[rows, pairs.position], pairs) - logit_diff(
                model(pairs.clean.ids)[rows, pairs.position], pairs
            )
            mine = [i for i, writer in enumerate(scores.graph.writers) if writer.block == block]
            found = scores.per_example[:, mine].sum((1, 2))
            torch.testing.assert_close(found, effect.float(), rtol=2e-2, atol=2e-2)
        assert clean.keys() == corrupt.keys()


@pytest.mark.parametrize(
    ("rules", "norms", "router", "name"),
    [
        (FROZEN_NORMS, True, False, "eap-frozen-norms"),
        (FROZEN_ROUTER, False, True, "eap-frozen-router"),
        (FROZEN, True, True, "eap-frozen"),
    ],
)
def test_frozen_norms_and_router_are_what_hooks_that_detach_them_give(
    random_case, shape, rules: Rules, norms: bool, router: bool, name: str
) -> None:
    """The gradient at the embedding, with divisors and expert weights held by hooks on the model itself."""
    case = random_case(**shape)
    model, pairs = case.model, case.pairs
    stream = Machine(model).embedding(pairs.clean.ids).detach()

    kept: dict[str, Tensor] = {}

    def keep(x: Tensor, hook: HookPoint) -> None:
        kept[hook.name.rsplit(".", 1)[-1]] = x

    def held(x: Tensor, hook: HookPoint) -> Tensor:
        return x.detach()

    def divided_by_a_constant(x: Tensor, hook: HookPoint) -> Tensor:
        gated = kept["hook_y"] * torch.nn.functional.silu(kept["hook_z"])
        return gated * (x / gated).detach()

    of_norms = {
        ("ln1.hook_scale", "ln_final.hook_scale"): held,
        ("mamba.hook_y", "mamba.hook_z"): keep,
        ("mamba.hook_gated",): divided_by_a_constant,
    }
    of_router = {("moe.hook_weights",): held}
    does = (of_norms if norms else {}) | (of_router if router else {})
    hooks = [(one, hook) for ends, hook in does.items() for one in model.hook_dict if one.endswith(ends)]
    leaf = stream.clone().requires_grad_()
    with model.hooks(fwd_hooks=[*hooks, ("blocks.0.hook_resid_pre", lambda x, hook: leaf)]):
        logits = model(pairs.clean.ids)
    metric = logit_diff(logits[torch.arange(len(pairs)), pairs.position], pairs)
    (gradient,) = torch.autograd.grad(metric.sum(), leaf)
    change = Machine(model).embedding(pairs.corrupt.ids).detach() - stream
    expected = (change * gradient).sum((1, 2))
    scores = eap(model, pairs, rules=rules)
    torch.testing.assert_close(scores.per_example[:, 0].sum(-1), expected.float(), rtol=1e-4, atol=1e-5)
    assert scores.method == name


@pytest.mark.parametrize("n_active", [1, 2])
def test_the_choice_of_one_active_expert_has_no_gradient_and_that_of_two_has(
    random_case, n_active: int
) -> None:
    """A weight that is divided by itself is always 1; patching runs the other expert and sees the choice."""
    case = random_case(pattern="*E", moe=MoEConfig(n_experts=4, n_active=n_active, d_expert=8, d_shared=8))
    into_router = [edge for edge in Graph.of(case.model).edges if edge.reader.endswith(".router")]
    assert into_router
    measured = max(abs(exact(case.model, case.pairs)[edge]) for edge in into_router)
    assert measured > 1e-3
    for method in (eap, eap_ig):
        found = max(abs(method(case.model, case.pairs)[edge]) for edge in into_router)
        assert found < 1e-6 * measured if n_active == 1 else found > 1e-3 * measured


@pytest.mark.parametrize("rules", [FROZEN, RELP, Rules(ratios=True)], ids=["frozen", "relp", "ratios"])
def test_rules_change_no_value(random_case, shape, rules: Rules) -> None:
    case = random_case(**shape)
    pairs = case.pairs
    with torch.no_grad():
        logits = case.model(pairs.clean.ids)[torch.arange(len(pairs)), pairs.position]
        machine = Machine(case.model, rules)
        run = machine.record(machine.embedding(pairs.clean.ids), pairs.position)
    torch.testing.assert_close(run.logits, logits)


def test_an_activation_of_zero_passes_no_relevance() -> None:
    """`f(x) / x` is not defined at 0, and a zero has no relevance to hand on; elsewhere it is the gradient."""
    x = torch.tensor([0.0, 2.0, -4.0], requires_grad=True)
    out = RELP.activated(torch.exp, x)
    torch.testing.assert_close(out, x.exp())
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([0.0, math.exp(2) / 2, math.exp(-4) / -4]))


def test_relevance_of_a_relu_model_is_shared_out_whole(random_case) -> None:
    """Under RelP every part is linear with its constants, so relevance is conserved where nothing has a bias:

    the scores against a zero input sum to the metric itself.
    """
    case = random_case("*-*-", activation="relu2", positions="none")
    model, pairs = case.model, case.pairs
    with torch.no_grad():
        model.embed.W_E[0] = 0
    zero = torch.zeros_like(pairs.clean.ids)
    pairs = dataclasses.replace(pairs, corrupt=dataclasses.replace(pairs.corrupt, ids=zero))
    with torch.no_grad():
        metric = logit_diff(model(pairs.clean.ids)[torch.arange(len(pairs)), pairs.position], pairs)
    found = relp(model, pairs).per_example[:, 0].sum(-1)
    torch.testing.assert_close(found, -metric.float(), rtol=1e-4, atol=1e-5)


def whole_answers(pairs: TokenPairs) -> TokenPairs:
    """The same prompts, asked at three positions each; the third repeats the second, as padding does."""
    position = torch.stack([pairs.position - 3, pairs.position, pairs.position], dim=1)
    clean = torch.stack([pairs.corrupt_answer, pairs.clean_answer, pairs.clean_answer], dim=1)
    corrupt = torch.stack([pairs.clean_answer, pairs.corrupt_answer, pairs.clean_answer], dim=1)
    return dataclasses.replace(pairs, position=position, clean_answer=clean, corrupt_answer=corrupt)


def test_scores_of_whole_answers_sum_over_their_tokens(random_case, shape, method) -> None:
    """For a metric that is linear in the logits: the sum of what each position gives by itself."""
    case = random_case(**shape, n=3)
    pairs = whole_answers(case.pairs)
    alone = [
        method(
            case.model,
            dataclasses.replace(
                pairs,
                position=pairs.position[:, column],
                clean_answer=pairs.clean_answer[:, column],
                corrupt_answer=pairs.corrupt_answer[:, column],
            ),
        ).per_example
        # Without attention or Mamba the first position hears nothing of the edit: nothing to attribute.
        for column in ((0, 1) if set("*M") & set(shape["pattern"]) else (1,))
    ]
    found = method(case.model, pairs).per_example
    assert all(scores.abs().max() > 1e-3 for scores in alone)
    torch.testing.assert_close(found, sum(alone), rtol=1e-4, atol=1e-5)


def test_a_circuit_of_all_edges_answers_every_position_as_the_model(random_case, shape) -> None:
    case = random_case(**shape, n=3)
    pairs, graph = whole_answers(case.pairs), Graph.of(case.model)
    with torch.no_grad():
        expected = case.model(pairs.clean.ids)[torch.arange(3)[:, None], pairs.position]
    torch.testing.assert_close(run_circuit(case.model, Circuit(graph, graph.edges), pairs), expected)


def test_the_pairs_that_fit_are_those_whose_runs_take_the_memory(random_case) -> None:
    """By hand: an MLP's token keeps 6 d_model + 3 d_mlp numbers of 8 bytes, and a third is left to the operations."""
    case = random_case("-")
    pair = 4 / 3 * (6 * 24 + 3 * 32) * (int(case.pairs.position.max()) + 1) * 8
    found = [fitting_batch_size(case.model, case.pairs, memory=n * pair / 2**30) for n in (1.01, 5.01, 15.01)]
    assert found == [1, 5, 15]


def test_fewer_pairs_fit_where_memory_is_less_or_the_model_larger(random_case) -> None:
    case = random_case()
    sizes = [fitting_batch_size(case.model, case.pairs, memory=memory) for memory in (1.0, 1e-3, 5e-4, 1e-6)]
    assert sizes[0] == 16, "more together gains nothing on a CPU"
    assert sizes[1] > sizes[2] > sizes[3] == 1
    wider = random_case(d_mlp=256)
    assert fitting_batch_size(wider.model, wider.pairs, memory=1e-3) < sizes[1]
    with pytest.raises(InputError, match="memory is 0 GiB"):
        fitting_batch_size(case.model, case.pairs, memory=0.0)


def test_inner_products_cut_into_pieces_give_the_same_scores(random_case, monkeypatch) -> None:
    case = random_case()
    whole = eap_ig(case.model, case.pairs, steps=2).per_example
    asked = []
    monkeypatch.setattr("circuits.engine.attribution.pieces_of", lambda *_, **__: asked.append(4) or 4)
    torch.testing.assert_close(eap_ig(case.model, case.pairs, steps=2).per_example, whole)
    assert asked


@pytest.mark.parametrize(
    ("batch", "width", "on_gpu", "pieces"),
    [(3, 2048, True, 128), (300, 2048, True, 1), (8, 24, True, 8), (3, 2048, False, 1)],
)
def test_a_gpu_shares_inner_products_out(batch: int, width: int, on_gpu: bool, pieces: int) -> None:
    assert pieces_of(batch, width, on_gpu=on_gpu) == pieces


def test_a_batch_contracted_pair_by_pair_gives_the_same_scores(method, random_case, monkeypatch) -> None:
    """The pairs part at different tokens and end at different ones, so that each alone is cut elsewhere."""
    case = random_case()
    ids = case.pairs.clean.ids.clone()
    for row, column in enumerate((0, 3, 1, 2, 4)):
        ids[row, :column] = case.pairs.corrupt.ids[row, :column]
    pairs = dataclasses.replace(case.pairs, clean=dataclasses.replace(case.pairs.clean, ids=ids))
    assert len(set(parting(pairs).tolist())) > 1
    together = method(case.model, pairs).per_example
    monkeypatch.setattr("circuits.engine.attribution.CHANGE_BYTES", (1, 1))
    torch.testing.assert_close(method(case.model, pairs).per_example, together)
