"""The page says what the activations say, and a browser searches, sorts and shows it."""

import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch

from data_gen.example import DataConfig, make_example
from saes.activations import Activations, record
from saes.disk import SAE, stock
from saes.truth.alignment import align
from saes.truth.dashboard import dashboard, logit_effects
from saes.truth.labels import auto_label, ordinal, role_words
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer, Tokens

HOOK = "blocks.0.hook_resid_post"
HOSTILE = '</script><img src=x onerror="document.title=1">'


class Shown:
    """An untrained model, an untrained SAE and the page about them."""

    def __init__(self) -> None:
        data = DataConfig(command_sets=("cs2",), lexicon="demo", split="test", max_columns=3)
        examples = [make_example(data, index) for index in range(40)]
        self.tokenizer = Tokenizer.train([example.text.string for example in examples], vocab_size=400)
        shape = ModelConfig(pattern="*-", d_model=32, n_heads=2, n_ctx=200, d_vocab=self.tokenizer.vocab_size)
        self.model = HybridLM(shape, seed=0)
        self.tokens: Tokens = self.tokenizer.encode(examples)
        self.activations: Activations = record(self.model, self.tokens, HOOK)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = stock().TopKSAE(stock().TopKSAEConfig(d_in=32, d_sae=48, k=4)).requires_grad_(False)
            made.W_enc.copy_(made.W_dec.T)
        self.sae: SAE = made
        alignment = align(self.sae, self.activations)
        # Latent 0 changes nothing, 1 was switched on alone, 2 not at all.
        effects = {j: {"off": {"select": j / 48, "from": 0.0}} for j in range(48)}
        effects[1] = {"on": {"select": 0.5, "from": 0.0}}
        del effects[2]
        self.html = dashboard(
            self.sae,
            self.model,
            self.tokens,
            self.activations,
            self.tokenizer,
            alignment,
            title=f"SAE {HOSTILE}",
            effects=effects,
        )
        found = re.search(r'<script id="data" type="application/json">(.*?)</script>', self.html, re.DOTALL)
        assert found is not None
        self.data = json.loads(found[1])


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown()


def test_every_latent_that_fires_is_shown_with_its_own_activations(shown: Shown) -> None:
    dense = shown.sae.encode(shown.activations.values)
    alive = (dense > 0).any(0).nonzero()[:, 0].tolist()
    assert [latent["id"] for latent in shown.data["latents"]] == alive
    example, position = shown.activations.example, shown.activations.position
    for latent in shown.data["latents"]:
        j = latent["id"]
        assert latent["density"] == pytest.approx(float((dense[:, j] > 0).double().mean()))
        assert sum(latent["bars"]) == int((dense[:, j] > 0).sum())
        strongest = [max(a for _, a in at) for _, at in latent["top"]]
        per_example = (
            torch.stack([dense[example == e, j].max() for e in range(40)]).sort(descending=True).values
        )
        assert strongest == pytest.approx(per_example[: len(strongest)].tolist(), abs=2e-3)
        e, at = latent["top"][0]
        by_hand = {
            int(position[t]): float(dense[t, j]) for t in (example == e).nonzero()[:, 0] if dense[t, j] > 0
        }
        assert dict(map(tuple, at)) == pytest.approx(by_hand, abs=2e-3)


def test_examples_are_whole_texts_with_a_role_per_word(shown: Shown) -> None:
    for number, (words, roles) in shown.data["examples"].items():
        own = shown.tokens.mask[int(number)]
        assert "".join(words) == shown.tokenizer.decode(shown.tokens.ids[int(number)][own].tolist()) + "<end>"
        assert tuple(roles) == shown.tokens.roles[int(number)][: int(own.sum())]


def test_neighbours_and_logits_are_products_of_weights(shown: Shown) -> None:
    rows = torch.nn.functional.normalize(shown.sae.W_dec, dim=1)
    cosines = rows @ rows.T
    cosines.fill_diagonal_(-1)
    effect = shown.sae.W_dec @ shown.model.unembed.W_U.detach()
    for latent in shown.data["latents"]:
        j = latent["id"]
        assert [c for _, c in latent["near"]] == pytest.approx(cosines[j].topk(6).values.tolist(), abs=1e-3)
        centred = effect[j] - effect[j].mean()
        raised, lowered = ([value for _, value in side] for side in latent["logits"])
        assert raised == pytest.approx(centred.topk(8).values.tolist(), abs=1e-3)
        assert lowered == pytest.approx(centred.sort().values[:8].tolist(), abs=1e-3)


def test_what_is_no_stream_writes_no_logits(shown: Shown) -> None:
    assert logit_effects(shown.sae, shown.model, "blocks.1.mlp.hook_post") is None


def test_nothing_in_the_data_ends_the_script_or_comes_from_elsewhere(shown: Shown) -> None:
    assert shown.html.count("</script>") == 2
    assert shown.data["title"] == f"SAE {HOSTILE}"
    assert re.findall(r"""(?:src|href)\s*=\s*["']https?:""", shown.html) == []


@pytest.mark.browser
def test_a_browser_searches_sorts_and_shows(
    shown: Shown, tmp_path: Path, in_browser: Callable[..., str]
) -> None:
    page = tmp_path / "dashboard.html"
    page.write_text(shown.html)

    def rows(words: str) -> tuple[list[int], str]:
        dom = in_browser(f"{page.as_uri()}#{words}").partition("<script")[0]
        table = dom[dom.index('id="latents"') :].partition("</tbody>")[0]
        return [int(n) for n in re.findall(r'<tr data-latent="(\d+)"', table)], dom

    latents = {latent["id"]: latent for latent in shown.data["latents"]}
    ids, dom = rows("sort=-density&latent=7")
    assert ids == sorted(latents, key=lambda j: (latents[j]["density"], j))
    assert "<h2>Latent 7: " in dom
    assert dom.count('class="text"') == len(latents[7]["top"])
    assert "<img" not in dom
    assert re.search(r"<title>SAE &lt;/script", dom)
    ids, _ = rows("sort=effect")
    assert ids == [*sorted({*latents} - {1, 2}, reverse=True), 1, 2]
    ids, _ = rows("sort=on")
    assert ids == [1, *sorted({*latents} - {1})]
    role = next(iter(latents.values()))["roles"][0][0]
    ids, _ = rows(f"q={role}")
    assert set(ids) == {j for j, latent in latents.items() if role in str(latent["roles"]) + latent["label"]}
    assert 0 < len(ids) <= len(latents)


@pytest.mark.browser
def test_what_was_not_switched_is_told_from_what_changes_nothing(
    shown: Shown, tmp_path: Path, in_browser: Callable[..., str]
) -> None:
    page = tmp_path / "dashboard.html"
    page.write_text(shown.html)
    dom = in_browser(f"{page.as_uri()}#latent=2").partition("<script")[0]
    assert ">effect off</th>" in dom
    assert ">effect on</th>" in dom
    shows = {
        int(row[1]): re.findall(r">([^<>]+)(?:</span>)?</td>", row[0])[-2:]
        for row in re.finditer(r'<tr data-latent="(\d+)".*?</tr>', dom)
    }
    no = "not switched"
    assert [shows[j] for j in (0, 1, 2, 12)] == [["none", no], [no, ".500"], [no, no], [".250", no]]
    assert "Not switched: it fires in none of the rows" in dom
    assert "Not switched:" not in in_browser(f"{page.as_uri()}#latent=12").partition("<script")[0]


@pytest.mark.browser
def test_labels_of_histograms_stand_apart(
    shown: Shown, tmp_path: Path, in_browser: Callable[..., str]
) -> None:
    page = tmp_path / "dashboard.html"
    measure = """<script>
    const at = [...document.querySelectorAll("#spread text")].map(label => label.getBoundingClientRect());
    document.body.dataset.places = JSON.stringify(at.map(({left, right, top, bottom}) => [left, right, top, bottom]));
    </script>"""
    page.write_text(shown.html + measure)
    found = re.search(r'data-places="([^"]*)"', in_browser(page.as_uri(), "--window-size=1500,900"))
    assert found is not None
    places = json.loads(found[1])
    assert len(places) == 6
    for a, b in combinations(places, 2):
        beside = min(a[3], b[3]) > max(a[2], b[2])
        assert not beside or max(a[0], b[0]) - min(a[1], b[1]) > 24


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("sql.order_by.0.direction", "SQL: ORDER BY direction, 1st"),
        ("english.select.column", "question: SELECT column"),
        ("schema.columns.2.name", "schema: columns name, 3rd"),
        ("sql", "SQL"),
    ],
)
def test_roles_are_said_in_words(role: str, words: str) -> None:
    assert role_words(role) == words


def test_labels_name_the_role_the_token_and_the_score() -> None:
    assert auto_label("sql.table", 0.974, {" a": 1.0, " b": 1.0}) == "SQL: table, F1 .97"
    assert auto_label("sql.select.keyword", 1.0, {" SELECT": 9.5, "x": 0.5}) == (
        "SQL: SELECT keyword “SELECT”, F1 1.00"
    )
    assert auto_label("sql.table", 0.1, {}) == "no role (nearest SQL: table, F1 .10)"


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
