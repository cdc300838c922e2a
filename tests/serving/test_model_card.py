"""The model card says what a model is for, what was measured, and what it learned from."""

import dataclasses
import re

import pytest
from packaged_models import ODD_SIZE, SIZE, candidate, small_params

from ddm_core import keys
from ddm_core.obfuscators.store import describe
from ddm_core.serving.package import card_page, model_card

HEADINGS = (
    "Intended use",
    "Threat model",
    "Evidence",
    "Limits",
    "Data and licences",
    "How to load it",
    "The networks in other runtimes",
)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """Each kind of file, and in it each model: keyed in grey and in colour, keyless, photo, an odd size."""
    root = tmp_path_factory.mktemp("trained")
    candidates = {
        "grey": candidate(root / "grey", "keyed_ddm"),
        "colour": candidate(root / "colour", "keyed_ddm", 3),
        "keyless": candidate(root / "keyless", "ddm"),
        "photo": candidate(root / "photo", "photo_ddm", 3),
        "odd": candidate(root / "odd", "keyed_ddm", size=ODD_SIZE),
    }
    texts = {name: model_card(each, describe(each.folder)) for name, each in candidates.items()}
    pages = {name: card_page(text, candidates[name].name) for name, text in texts.items()}
    return {"model_card.md": texts, "model_card.html": pages}


@pytest.mark.parametrize("name", ["model_card.md", "model_card.html"])
def test_the_card_says_what_the_model_is_for_and_what_was_measured(cards, name):
    for folder, card in cards[name].items():
        for heading in HEADINGS:
            assert re.search(rf"(## |<h2>){heading}", card)
        assert re.search(r"retrained( \| |</td>\s*<td>)3\.0 %( \| |</td>\s*<td>)5\.0 %", card)
        assert ("master key" in card) == (folder != "keyless")


@pytest.mark.parametrize("name", ["model_card.md", "model_card.html"])
def test_the_card_names_the_photos_it_was_trained_on_and_those_it_was_judged_on(cards, name):
    for card in cards[name].values():
        assert re.search(rf"judged on( \| `|</td>\s*<td><code>){'ab' * 32}", card)
        assert ("AT&amp;T" if name.endswith("html") else "AT&T") in card
        assert "ask for credit" in card
    own = r"trained on( \| `|</td>\s*<td><code>)"
    assert re.search(own + "cd" * 32, cards[name]["photo"])
    assert all(word in cards[name]["photo"] for word in ("whose documentation names who took each", "CC0"))
    assert "photos of another source than those that it was trained on" in cards[name]["photo"]
    assert re.search(own + "ab" * 32, cards[name]["grey"])
    assert "One data set, split" in cards[name]["grey"]
    assert "scikit" not in cards[name]["grey"]


def test_the_card_says_which_sizes_are_taken(cards):
    name = "model_card.md"
    assert "Photos have any size" in cards[name]["photo"]
    assert "exactly" not in cards[name]["photo"]
    assert f"Pictures are exactly {SIZE}x{SIZE} pixels" in cards[name]["grey"]
    assert f"must be scaled back to {SIZE}x{SIZE} pixels" in cards[name]["odd"]
    assert "photo [batch, 3, 8 rows, 8 columns]" in cards[name]["photo"]
    assert "hidden [batch, 3, 12 rows, 12 columns]" in cards[name]["photo"]


def test_the_card_tells_how_other_runtimes_get_the_rotation(cards):
    card = cards["model_card.md"]["photo"]
    params = small_params("photo_ddm")
    (named,) = re.findall(r"by `ddm_core\.keys\.(\w+)`", card)
    assert callable(getattr(keys, named))
    octonions = f"{params.octonions} octonions (each two of the first quaternions)"
    assert f"for a `Grid` of {octonions} and {params.quaternions} quaternions a cell" in card


def test_a_card_of_photos_that_nobody_described_says_so(tmp_path):
    bare = dataclasses.replace(candidate(tmp_path / "trained", "ddm"), dataset={})
    description = dataclasses.replace(describe(bare.folder), trained_on=None)
    card = model_card(bare, description)
    assert card.count("not recorded: ask whoever published or supplied the photos") == 2


def test_markup_in_a_name_is_shown_and_not_obeyed():
    page = card_page("# <script>alert(1)</script>\n\n[x](javascript:alert(1))", "<b>name</b>")
    assert "<script>" not in page
    assert "href=" not in page
    assert "<title>&lt;b&gt;name&lt;/b&gt;: model card</title>" in page


def test_a_model_without_evidence_still_gets_a_card_that_says_so(tmp_path):
    bare = candidate(tmp_path / "trained", "ddm", evidence={})
    card = model_card(bare, describe(bare.folder))
    assert "**failed** the gate" in card
    assert "not measured" in card
