"""The results page as a document: complete, well-formed, self-contained, readable by everyone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
from benchmark_results import OBFUSCATORS, WITHOUT_PICTURE, results_content, write_results

from ddm_core import benchmark
from ddm_core.benchmark.page import write_page
from ddm_core.benchmark.results_file import read_results
from ddm_core.benchmark.summary import summarise, verdict
from ddm_core.errors import DdmError
from ddm_core.files import write_bytes, write_json
from ddm_core.reporting.wording import ABSENT

VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}


class Document(HTMLParser):
    """The elements of a page in order, with their text; refuses a wrongly nested tag."""

    def __init__(self, path):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        assert self._open and self._open[-1]["tag"] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]


@pytest.fixture(scope="module")
def index(results_page):
    return Document(results_page)


@pytest.fixture(scope="module")
def cell_pages(results_page):
    """One page of every kind of cell."""
    names = ("keyed-learning_curve", "mosaic8-verification", "keyed-inversion", "mosaic8-wrong_key")
    return [results_page.parent / "cells" / f"seed0-invented_{name}.html" for name in names]


def every_page(results_page, cell_pages):
    return [results_page, *cell_pages]


def test_every_cell_has_its_page_and_leads_back(results_page):
    pages = sorted(path.name for path in (results_page.parent / "cells").iterdir())
    assert len(pages) == len(results_content()["cells"])
    assert "seed1-invented_keyed-nonce_reuse.html" in pages
    back = [
        element
        for element in Document(results_page.parent / "cells" / pages[0]).all("a")
        if element["href"] == "../index.html"
    ]
    assert back


def test_every_link_leads_somewhere(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        document = Document(page)
        ids = {element["id"] for element in document.elements if "id" in element}
        for link in document.all("a"):
            file, _, anchor = unquote(link["href"]).partition("#")
            assert (page.parent / file).exists(), link
            assert not anchor or anchor in ids, link


def test_ids_are_unique(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        ids = [element["id"] for element in Document(page).elements if "id" in element]
        assert sorted(set(ids)) == sorted(ids)


def test_nothing_is_fetched_from_elsewhere(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        document = Document(page)
        fetched = [element["src"] for element in document.elements if "src" in element]
        assert all(source.startswith("data:image/png;base64,") for source in fetched)
        assert document.all("link") == []
        text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page.read_text())  # a name, not an address
        assert not re.search(
            r"https?:|//[a-z]|@import|@font-face|url\((?!#)", re.sub(r"base64,[^\"]*", "", text)
        )


def test_the_bytes_repeat(results_page, tmp_path):
    again = write_page(write_results(tmp_path)).parent
    files = sorted(path for path in again.rglob("*") if path.is_file())
    assert len(files) > 100
    for path in files:
        assert path.read_bytes() == (results_page.parent / path.relative_to(again)).read_bytes(), path


def test_tables_say_what_they_hold_and_what_heads_what(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        document = Document(page)
        assert len(document.all("caption")) == len(document.all("table"))
        assert all(element["scope"] in ("col", "row") for element in document.all("th"))


def test_pictures_and_plots_have_words_for_who_cannot_see_them(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        document = Document(page)
        assert all(len(element["alt"]) > 20 for element in document.all("img"))
        assert all(element["role"] == "img" and element["aria-label"] for element in document.all("svg"))
        assert document.all("html")[0]["lang"] == "en"
        assert "width=device-width" in str(document.all("meta"))
        assert len(document.all("h1")) == 1
        regions = [element for element in document.elements if element.get("class") == "scroll"]
        assert all(element["tabindex"] == "0" and element["aria-label"] for element in regions)


def test_the_page_opens_with_the_verdict_and_the_state_of_the_sanity_gate(index):
    heading = index.all("h1")[0]["text"]
    assert heading == "2 of 9 obfuscators hide the face from every attacker: invented_cipher, invented_keyed."
    assert "Sanity gate of the attackers: passed" in index.all("body")[0]["text"]


def rows(document):
    """The result table: obfuscator -> text of its row."""
    results = [element["text"] for element in document.all("tr")][1 : 1 + len(OBFUSCATORS)]
    return {text.split()[0]: text for text in results}


def test_a_grade_is_said_in_words(index):
    badges = {element["text"] for element in index.all("span") if "badge" in element.get("class", "")}
    assert {"at chance", "above chance", "exposed", "passed"} == badges


def test_missing_cells_and_attackers_that_do_not_apply_or_count_are_told_apart(index):
    table = rows(index)
    assert "not run" in table["invented_noise"]
    assert "n/a" in table["invented_mosaic8"]
    assert table["invented_keyed"].count("does not count") == 2  # pretrained, nonce_reuse


def test_an_obfuscator_without_a_picture_says_so(index):
    captions = {element["text"].partition(",")[0]: element["text"] for element in index.all("figcaption")}
    assert "No picture was saved" in captions[WITHOUT_PICTURE]
    assert "No picture was saved" not in captions["invented_keyed"]


def test_the_cell_page_shows_all_its_figures(cell_pages):
    curve, verification, inversion, inapplicable = (
        Document(page).all("body")[0]["text"] for page in cell_pages
    )
    assert "Photos a person" in curve
    assert "12800" in curve
    assert "Equal error rate" in verification
    assert "identity similarity" in inversion
    assert "16.4 dB" in inversion
    assert "there is nothing to decrypt" in inapplicable
    assert "c0ffee" in inapplicable


def test_identity_in_rebuilt_photos_stands_beneath_what_it_is_read_against(index):
    rows = [element["text"].strip() for element in index.all("tr")]
    assert f"Another photo of the same person0.771{ABSENT}" in rows
    assert "The mean face0.1310.823" in rows
    assert "Photos of two people0.0500.790" in rows
    assert any(re.fullmatch(r"invented_keyed0\.1[34]\d0\.80\d", row) for row in rows)
    headings = [element["text"] for element in index.all("th")]
    assert {"Inversionclean recogniser", "Inversiondlib's ResNet"} <= set(headings)


def test_results_from_before_the_references_show_the_recognisers_similarity_alone(tmp_path):
    content = results_content(seeds=(0,))
    for cell in content["cells"]:
        del cell["result"]["identity"]
    index = Document(write_page(write_results(tmp_path, content)))
    headings = [element["text"] for element in index.all("th")]
    assert "Inversionclean recogniser" in headings
    assert "Inversiondlib's ResNet" not in headings
    assert "The mean face" not in headings


def test_a_cell_page_tells_of_both_architectures_and_of_what_its_embedding_is_worth(results_page):
    cells = results_page.parent / "cells"
    retrained = Document(cells / "seed0-invented_keyed-retrained.html").all("body")[0]["text"]
    assert "cnn3164.262.3no" in retrained.replace("\n", "")
    assert "resnet_arcface4088.786.1yes" in retrained.replace("\n", "")
    pretrained = Document(cells / "seed0-invented_keyed-pretrained.html").all("body")[0]["text"]
    assert "61.2 %: too weak to count, 90.0 % is the least" in pretrained
    inversion = Document(cells / "seed0-invented_keyed-inversion.html").all("body")[0]["text"]
    assert re.search(r"clean recogniser0\.1[34]\d0\.7710\.1310\.050320", inversion.replace("\n", ""))


def test_a_failed_gate_takes_the_verdict_away(tmp_path):
    content = results_content(seeds=(0,))
    content["sanity"][0]["passed"] = False
    index = Document(write_page(write_results(tmp_path, content)))
    assert index.all("h1")[0]["text"].startswith("No verdict")
    assert "Sanity gate of the attackers: failed" in index.all("body")[0]["text"]


def test_without_a_gate_there_is_no_verdict(tmp_path):
    index = Document(write_page(write_results(tmp_path, results_content(seeds=(0,)) | {"sanity": []})))
    assert index.all("h1")[0]["text"] == "No verdict: the sanity gate of the attackers was not run."


def test_the_made_up_results_have_the_shape_that_the_benchmark_writes():
    schema = json.loads((Path(benchmark.__file__).parent / "results.schema.json").read_text())
    jsonschema.validate(results_content(), schema)


def test_verification_above_chance_is_a_leak_though_nobody_is_named(tmp_path):
    content = results_content(seeds=(0,))
    for cell in content["cells"]:
        if (cell["obfuscator"], cell["attacker"]) == ("invented_keyed", "verification"):
            cell["result"]["verification"]["obfuscated"] |= {"auc": 0.6, "auc_ci95": [0.58, 0.62]}
    results = read_results(write_results(tmp_path, content))
    rows = {row.name: row for row in summarise(results)}
    assert rows["invented_keyed"].grade == "leaking"
    assert "hides the face from every attacker: invented_cipher" in verdict(results, list(rows.values()))


def test_a_control_of_the_sanity_gate_is_called_one_and_no_verdict_counts_it(tmp_path):
    content = json.loads(json.dumps(results_content(seeds=(0,))).replace("invented_cipher", "many_time_pad"))
    results = read_results(write_results(tmp_path, content))
    told = verdict(results, summarise(results))
    assert told == "1 of 8 obfuscators hides the face from every attacker: invented_keyed."
    page = write_page(tmp_path).read_text()
    assert "A control of the sanity gate, not a method to use" in page


def test_names_and_reasons_are_escaped(tmp_path):
    content = results_content(seeds=(0,))
    content["cells"][0]["result"]["reason"] = "<script>alert(1)</script>"
    content["cells"][0]["result"]["counts_for_gate"] = False
    content["dataset"]["name"] = "<b>bold</b>"
    page = write_page(write_results(tmp_path, content))
    assert "<b>bold" not in page.read_text()
    assert "<script>" not in (page.parent / "cells" / "seed0-invented_none-clean.html").read_text()


def test_results_without_curves_utility_or_sanity_still_give_a_page(tmp_path):
    content = results_content(seeds=(0,))
    content |= {"utility": [], "sanity": []}
    content["cells"] = [cell for cell in content["cells"] if cell["attacker"] == "clean"]
    index = Document(write_page(write_results(tmp_path, content)))
    assert "Sanity gate of the attackers: not run" in index.all("body")[0]["text"]
    assert index.all("svg") == []


def test_a_page_of_an_earlier_run_goes_and_a_strangers_folder_stays(tmp_path):
    write_page(write_results(tmp_path, results_content(seeds=(0, 1))))
    write_page(write_results(tmp_path, results_content(seeds=(0,))))
    assert not list((tmp_path / "page" / "cells").glob("seed1-*"))

    stranger = tmp_path / "stranger"
    write_json(stranger / "results.json", results_content(seeds=(0,)))
    (stranger / "page").mkdir()
    (stranger / "page" / "mine.txt").write_text("keep")
    with pytest.raises(DdmError, match="did not write"):
        write_page(stranger)
    assert (stranger / "page" / "mine.txt").read_text() == "keep"


def test_a_picture_that_is_none_is_named(tmp_path):
    write_results(tmp_path, results_content(seeds=(0,)))
    write_bytes(tmp_path / "utility/seed0/invented_p3/pictures.png", b"no picture")
    with pytest.raises(DdmError, match=r"invented_p3/pictures\.png: not a PNG"):
        write_page(tmp_path)
    assert not (tmp_path / "page").exists()


def palettes(page):
    """The colours of the style sheet: of the light page, of the dark one and of print."""
    css = re.search(r"<style>(.*?)</style>", page.read_text(), re.DOTALL)[1]
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block))
        for block in re.findall(r":root \{([^}]*)\}", css)
    ]
    light, dark, print_ = [block for block in blocks if block]
    return {"light": light, "dark": light | dark, "print": light | print_}


def luminance(colour):
    if len(colour) == 4:
        colour = "#" + "".join(2 * digit for digit in colour[1:])
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", ["light", "dark", "print"])
def test_text_keeps_the_contrast_that_wcag_asks_for(results_page, look):
    colours = palettes(results_page)[look]
    pairs = [
        (text, ground) for text in ("ink", "muted", "safe", "warn", "bad") for ground in ("paper", "panel")
    ]
    pairs += [(kind, f"{kind}-soft") for kind in ("safe", "warn", "bad")]
    pairs += [(text, f"{kind}-soft") for text in ("ink", "safe") for kind in ("safe", "warn", "bad")]
    faint = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in faint.items() if ratio < 4.5} == {}


def test_every_colour_of_a_plot_follows_the_page(results_page, cell_pages):
    for page in every_page(results_page, cell_pages):
        plots = re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL)
        colours = {colour for plot in plots for colour in re.findall(r"(?:fill|stroke): ?(#\w+)", plot)}
        assert colours == set()


def test_the_style_is_one_and_the_same_on_every_page(results_page, cell_pages):
    styles = {
        re.search(r"<style>.*?</style>", page.read_text(), re.DOTALL)[0]
        for page in (results_page, *cell_pages)
    }
    assert len(styles) == 1
