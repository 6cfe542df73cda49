"""Models wired by hand, whose circuits are known: they behave as wired, the truth is true, methods name it."""

from __future__ import annotations

import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of, run_circuit
from circuits.graph import Edge, Graph
from circuits.judging.faithfulness import evaluate
from circuits.looking.contributions import contributions
from circuits.methods.eap import eap
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.metrics import logit_diff
from circuits.planted.cases import PLANTED
from circuits.planted.cases import planted as plant
from circuits.planted.draft import Draft, Planted
from circuits.planted.stream import rotate
from circuits.planted.words import FILLERS
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.layers import relu2


@pytest.fixture(scope="module")
def truth(planted) -> EdgeScores:
    return exact(planted.model, planted.pairs)


@pytest.fixture(scope="module")
def estimate(planted) -> EdgeScores:
    return eap_ig(planted.model, planted.pairs)


def test_exact_names_the_planted_edges_and_no_other(planted, truth) -> None:
    ranked = truth.ranked()
    assert set(ranked[: len(planted.edges)]) == planted.edges
    weakest, strongest_other = (abs(truth[ranked[len(planted.edges) - offset]]) for offset in (1, 0))
    assert weakest > 4 * strongest_other


def test_patching_a_planted_edge_lowers_the_metric_on_every_pair(planted, truth) -> None:
    rows = [row for row in truth.table(len(planted.edges)) if row["same_sign"] == 1.0 and row["high"] < 0]
    assert len(rows) == len(planted.edges)


def test_eap_ig_agrees_with_exact(planted, truth, estimate) -> None:
    assert set(estimate.ranked()[: len(planted.edges)]) == planted.edges
    values = torch.stack([truth.of_edges().mean(0), estimate.of_edges().mean(0)])
    assert torch.corrcoef(values)[0, 1] > 0.97
    # Selection goes by size, so the order by size counts, decoys included.
    assert torch.corrcoef(values.abs().argsort().argsort().float())[0, 1] > 0.7
    for edge in planted.edges:
        assert estimate[edge] == pytest.approx(truth[edge], rel=0.35)


def test_the_planted_circuit_alone_does_what_the_model_does(planted, estimate) -> None:
    report = evaluate(planted.model, top_edges(estimate, len(planted.edges)), planted.pairs)
    assert report.faithfulness.value == pytest.approx(1, abs=0.15)
    assert report.completeness.value == pytest.approx(0, abs=0.15)
    assert report.random.high < 0.5


@pytest.mark.parametrize("planted", ["copy-attention-place"], indirect=True)
def test_one_gradient_at_the_clean_run_misses_what_integration_finds(planted, truth, estimate) -> None:
    """EAP's known failure, attention that is saturated at the clean run, on the previous-token head's value."""
    edge = next(edge for edge in planted.edges if edge.writer == "embed")
    first_order = eap(planted.model, planted.pairs)
    assert abs(first_order[edge]) < 0.6 * abs(truth[edge])
    assert abs(first_order[edge] - truth[edge]) > 2 * abs(estimate[edge] - truth[edge])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_model_answers_right_and_follows_the_edit(name: str, seed: int) -> None:
    found = plant(name, seed)
    rows = torch.arange(len(found.pairs))
    with torch.no_grad():
        clean, corrupt = (
            found.model(side.ids)[rows, found.pairs.position]
            for side in (found.pairs.clean, found.pairs.corrupt)
        )
    assert torch.equal(clean.argmax(-1), found.pairs.clean_answer)
    assert torch.equal(corrupt.argmax(-1), found.pairs.corrupt_answer)
    assert logit_diff(clean, found.pairs).min() > 0.5
    assert logit_diff(corrupt, found.pairs).max() < -0.5


def faithfulness(found: Planted, *kept: frozenset[Edge]) -> torch.Tensor:
    """`[circuit pair]`: how much of the way from the corrupt to the clean run each set of edges goes alone."""
    graph = Graph.of(found.model)
    circuits = [Circuit(graph, tuple(edges)) for edges in (frozenset(graph.edges), frozenset(), *kept)]
    clean, corrupt, *values = metric_of(found.model, circuits, found.pairs, logit_diff)
    return (torch.stack(values) - corrupt) / (clean - corrupt)


@pytest.mark.parametrize("name", PLANTED)
def test_the_true_edges_alone_do_what_the_model_does(name: str) -> None:
    found = plant(name, seed=0)
    whole = [found.edges | path for path in found.alternatives or (frozenset(),)]
    for row in faithfulness(found, *whole):
        assert row.mean() == pytest.approx(1, abs=0.1)
        assert row.min() > 0.75


@pytest.mark.parametrize("name", PLANTED)
def test_without_any_one_true_edge_the_behaviour_is_lost_on_some_pairs(name: str) -> None:
    found = plant(name, seed=0)
    whole = found.edges | found.ambiguous
    for edge, row in zip(
        sorted(found.edges),
        faithfulness(found, *(whole - {edge} for edge in sorted(found.edges))),
        strict=True,
    ):
        assert row.min() < 0.6, edge


@pytest.mark.parametrize("name", [name for name in PLANTED if name.startswith("redundant")])
def test_either_of_two_redundant_paths_suffices_and_one_is_needed(name: str) -> None:
    found = plant(name, seed=0)
    first, second = found.alternatives
    assert faithfulness(found, found.edges).abs().max() < 0.1
    assert faithfulness(found, found.edges | first, found.edges | second).min() > 0.75
    # So no single edge shows it, to patching or to a gradient; on the way from the corrupt run it does show.
    measured, estimated = exact(found.model, found.pairs), eap_ig(found.model, found.pairs)
    needed = max(abs(measured[edge]) for edge in found.edges)
    assert all(abs(measured[edge]) < 0.1 * needed for edge in found.ambiguous)
    assert all(abs(estimated[edge]) > 0.3 * needed for edge in found.ambiguous)


@pytest.mark.parametrize("name", [name for name in PLANTED if name.startswith("cancelling")])
def test_two_parts_that_undo_each_other_have_effects_alone_and_none_together(name: str) -> None:
    found = plant(name, seed=0)
    assert found.cancelling
    assert not found.cancelling & found.edges
    everything = frozenset(Graph.of(found.model).edges)
    without = faithfulness(found, everything - found.cancelling)
    assert (without - 1).abs().max() < 0.15
    measured = exact(found.model, found.pairs)
    weakest = min(abs(measured[edge]) for edge in found.edges)
    assert all(abs(measured[edge]) > weakest for edge in found.cancelling)


WITH_EXPERTS = [name for name in PLANTED if "experts" in name]


def speech(found: Planted) -> tuple[int, torch.Tensor]:
    """The `E` block, and bool `[pair seq]`: where an expert of the mechanism is chosen in the clean run."""
    (block,) = {int(name.split(".")[1]) for name in found.decoys}
    speakers = {int(edge.writer.rsplit(".", 1)[1]) for edge in found.edges if ".expert." in edge.writer}
    hook = f"blocks.{block}.moe.hook_router"
    _, cache = found.model.run_with_cache(found.pairs.clean.ids, names_filter=hook)
    return block, (cache[hook][..., sorted(speakers)] > 3).any(-1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", WITH_EXPERTS)
@torch.no_grad()
def test_two_decoy_experts_fire_where_the_mechanism_speaks_and_write_as_loudly(name: str, seed: int) -> None:
    found = plant(name, seed)
    assert len(found.decoys) == 2
    block, spoken = speech(found)
    assert spoken.any(1).all(), "an expert of the mechanism speaks in every prompt"
    hooks = [f"blocks.{block}.moe.hook_{what}" for what in ("chosen", "weights", "expert_out")]
    _, cache = found.model.run_with_cache(found.pairs.clean.ids, names_filter=hooks)
    chosen, weights, out = (cache[hook][spoken] for hook in hooks)
    decoys = torch.tensor([int(decoy.rsplit(".", 1)[1]) for decoy in found.decoys])
    of_decoys = (chosen[..., None] == decoys).any(-1)
    assert (of_decoys.sum(-1) == 2).all()
    loud = (weights[..., None] * out).norm(dim=-1)
    assert 0.3 < loud[of_decoys].mean() / loud[~of_decoys].mean() < 3


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", WITH_EXPERTS)
def test_edges_of_decoy_experts_are_false_by_patching_and_by_running_the_rest(name: str, seed: int) -> None:
    found = plant(name, seed)
    truth = exact(found.model, found.pairs)
    theirs = {edge for edge in truth.graph.edges if {edge.writer, edge.reader} & {*found.decoys}}
    assert len(theirs) > 20
    assert not theirs & found.edges
    weakest = min(abs(truth[edge]) for edge in found.edges)
    assert weakest > 4 * max(abs(truth[edge]) for edge in theirs)
    # All of them together: what they do may not hide in being patched one at a time.
    (without,) = faithfulness(found, frozenset(truth.graph.edges) - theirs)
    assert (without - 1).abs().max() < 0.15


@pytest.mark.parametrize("name", [name for name in WITH_EXPERTS if not name.startswith("direction")])
def test_logits_read_the_second_decoy_of_words_that_are_no_answers_and_the_first_not_at_all(
    name: str,
) -> None:
    found = plant(name, 0)
    graph = Graph.of(found.model)
    everything = frozenset(graph.edges)

    def without(*decoys: str) -> torch.Tensor:
        """`[pair word]` logits with the corrupt writing of these decoys in place of the clean one."""
        kept = everything - {Edge(decoy, "logits") for decoy in decoys}
        return run_circuit(found.model, Circuit(graph, tuple(kept)), found.pairs)

    first, second = found.decoys
    whole, without_first, without_second = without(), without(first), without(second)
    # The divisor of the last norm hears every writer; it makes all words louder or softer alike.
    assert torch.cosine_similarity(whole, without_first, dim=-1).min() > 0.9999
    moved = without_second - whole
    assert moved[:, FILLERS.start : FILLERS.stop].abs().amax(1).min() > 0.5
    assert logit_diff(moved, found.pairs).abs().max() < 0.1 * logit_diff(whole, found.pairs).mean()


@torch.no_grad()
def test_a_head_beside_the_path_hears_the_second_decoy_of_the_experts_that_say_the_direction() -> None:
    found = plant("direction-experts", 0)
    block, spoken = speech(found)
    number = int(found.decoys[1].rsplit(".", 1)[1])
    moe = found.model.blocks[block].moe
    hook = f"blocks.{block}.moe.hook_latent"
    read = [
        found.model.run_with_cache(side.ids, names_filter=hook)[1][hook][spoken]
        for side in (found.pairs.clean, found.pairs.corrupt)
    ]
    clean, corrupt = (relu2(x @ moe.W_in[number]) @ moe.W_out[number] for x in read)
    heard = torch.einsum("pd,hdw->phw", clean - corrupt, found.model.blocks[block + 1].attn.W_V)
    loudness = heard.norm(dim=-1).mean(0)
    idle = int(loudness.argmax())
    carries = {edge.reader for edge in found.edges if ".attn.v." in edge.reader}
    assert carries
    assert f"blocks.{block + 1}.attn.v.{idle}" not in carries
    (carrying,) = (int(reader.rsplit(".", 1)[1]) for reader in carries)
    assert loudness[carrying] < 0.01 * loudness[idle]


def test_the_same_seed_gives_the_same_model_and_another_seed_another_place() -> None:
    first, again = plant("copy-mamba-place", 3), plant("copy-mamba-place", 3)
    assert all(
        torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True)
    )
    assert torch.equal(first.pairs.clean.ids, again.pairs.clean.ids)
    assert len({plant("copy-mamba-place", seed).edges for seed in range(6)}) > 1


def test_turning_the_stream_changes_every_reading_and_writing_weight_and_no_logit() -> None:
    draft = Draft("M*-E", seed=0)
    ids = plant("direction-mamba", 0).pairs.clean.ids
    before = {name: weight.clone() for name, weight in draft.model.named_parameters()}
    with torch.no_grad():
        logits = draft.model(ids)
        rotate(draft.model, draft.generator)
        assert torch.allclose(draft.model(ids), logits, atol=1e-4)
    same = {name for name, weight in draft.model.named_parameters() if torch.equal(weight, before[name])}
    inside = ("dt_bias", "A_log", "D", "conv_weight", "conv_bias", "norm_weight", "w")
    assert all(name.rsplit(".", 1)[-1] in inside for name in same)


@pytest.mark.parametrize("name", ["copy-attention-name", "copy-mamba-name"])
def test_decoy_heads_write_as_strongly_as_the_planted_one(name: str) -> None:
    found = plant(name, seed=0)
    planted_head = next(edge.writer for edge in found.edges if edge.reader == "logits")
    hook, weight = {
        "copy-attention-name": ("blocks.2.attn.hook_z", "W_O"),
        "copy-mamba-name": ("blocks.2.mamba.hook_gated", "W_out"),
    }[name]
    mixer = found.model.get_submodule(hook.rsplit(".", 1)[0])
    with torch.no_grad():
        _, cache = found.model.run_with_cache(found.pairs.clean.ids, names_filter=hook)
        wrote = torch.einsum("bhw,hwd->bhd", cache[hook][:, -1], getattr(mixer, weight)).norm(dim=-1).mean(0)
    its = int(planted_head.rsplit(".", 1)[1])
    others = torch.cat([wrote[:its], wrote[its + 1 :]])
    assert 0.3 < others.max() / wrote[its] < 3


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean `copy-mamba-name`"):
        plant("copy-mamba-nam", 0)


def mixers_of(name: str) -> set[str]:
    """The kinds of blocks that the true edges of a planted model run through."""
    found = plant(name, 0)
    ports = {port for edge in found.edges | found.ambiguous for port in (edge.writer, edge.reader)}
    return {port.split(".")[2] for port in ports if port.startswith("blocks.")}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_model_is_made_of_what_its_name_says(name: str) -> None:
    expected = {"attention": {"attn"}, "mamba": {"mamba"}, "experts": {"attn", "moe"}}
    (word,) = set(name.split("-")) & set(expected)
    assert mixers_of(name) - {"mlp"} == expected[word]


def test_a_gated_copy_finds_the_place_by_the_step_size_alone() -> None:
    def into(name: str) -> set[str]:
        edges = [edge for edge in plant(name, 0).edges if edge.reader.startswith("blocks.2")]
        return {edge.reader.split(".")[3] for edge in edges}

    assert into("gated-copy-mamba-place") == {"dt"}
    assert into("copy-mamba-place") == {"B"}


@pytest.mark.parametrize("name", [name for name in PLANTED if name != "cancelling-mamba"])
def test_seeds_move_the_truth(name: str) -> None:
    cases = [plant(name, seed) for seed in range(4)]
    assert len({case.edges | case.ambiguous for case in cases}) > 1
    assert len({tuple(case.pairs.clean.ids.flatten().tolist()) for case in cases}) == 4


def test_ambiguous_are_the_edges_of_every_redundant_path() -> None:
    found = plant("redundant-attention", 0)
    first, second = found.alternatives
    assert found.ambiguous == first | second
    for path in (first, second):
        (head,) = {edge.writer for edge in path if edge.writer != "embed"}
        value = head.replace(".head.", ".v.")
        assert {str(edge) for edge in path} == {f"embed -> {value}", f"{head} -> blocks.3.mlp"}


@pytest.mark.parametrize("name", [name for name in PLANTED if name.startswith("cancelling")])
def test_the_pair_that_undoes_itself_is_twice_as_loud_as_the_mechanism(name: str) -> None:
    found = plant(name, 0)
    heads = {edge.writer for edge in found.cancelling if edge.reader == "logits"}
    assert len(heads) == 2
    assert len(found.cancelling) == 4
    written = contributions(found.model, found.pairs)
    one, other = (written[head] for head in heads)
    torch.testing.assert_close(one, -other, rtol=0.01, atol=0.01)
    ratio = one.abs() / written["blocks.3.mlp"]
    # What comes in through a norm is not quite the same in every prompt.
    assert 1.5 < ratio.min() < ratio.max() < 3


@pytest.mark.parametrize("name", ["copy-attention-name", "copy-mamba-name", "copy-experts-name"])
def test_no_axis_of_a_finished_model_stands_for_a_word(name: str) -> None:
    model = plant(name, 0).model
    for axes_of_words in (model.embed.W_E, model.unembed.W_U.T):
        torch.testing.assert_close(
            axes_of_words @ axes_of_words.T, torch.eye(len(axes_of_words)), atol=1e-4, rtol=0
        )
        assert axes_of_words.abs().max() < 0.5
