"""The results page in a real browser: on a desk, on a phone, in the dark, on paper, without its script."""

import io
import re

import pytest
from headless_browser import CHROMIUM, browser
from PIL import Image

from ddm_core.benchmark.results_file import read_results

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")

PHONE = {"width": 360, "height": 740}
ROOT = "document.documentElement"
ROWS = "[...document.querySelectorAll('table.results tbody tr')]"
WORST = f"{ROWS}.map(row => Number(row.cells[1].dataset.sort))"
FIRST_COLUMN = f"{ROWS}.map(row => row.cells[0].textContent)"
CELLS = ("keyed-learning_curve", "mosaic8-verification", "keyed-inversion", "mosaic8-wrong_key")


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def pages(index):
    return [index, *(index.parent / "cells" / f"seed0-invented_{name}.html" for name in CELLS)]


def click(window, heading):
    window.evaluate(
        "[...document.querySelectorAll('table.results thead th')]"
        f".find(cell => cell.textContent.startsWith('{heading}')).querySelector('button').click()"
    )


def sorting(window, heading):
    return window.evaluate(
        "[...document.querySelectorAll('table.results thead th')]"
        f".find(cell => cell.textContent.startsWith('{heading}')).getAttribute('aria-sort')"
    )


def test_the_page_asks_for_nothing_but_itself(window, results_page):
    for page in pages(results_page):
        window.open(page)
        strangers = [url for url in window.requests() if not url.startswith("data:")]
        assert strangers == [page.as_uri()]


@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}])
def test_nothing_is_wider_than_the_window(window, results_page, size):
    for page in pages(results_page):
        window.open(page, **size)
        assert window.evaluate("innerWidth") == size["width"]
        assert window.evaluate(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth"), page


def test_a_wide_table_scrolls_in_its_own_box_on_a_phone(window, results_page):
    window.open(results_page, **PHONE)
    box = "document.querySelector('.scroll')"
    assert window.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
    window.evaluate(f"{box}.scrollLeft = 400")
    name = "document.querySelector('table.results tbody th').getBoundingClientRect()"
    assert window.evaluate(f"{name}.left") >= 0  # the name stays in sight
    assert window.evaluate(f"{name}.width") < 180


def test_letters_on_a_phone_are_large_enough(window, results_page):
    window.open(results_page, **PHONE)
    smallest = window.evaluate(
        "Math.min(...[...document.querySelectorAll('body *')].filter(element => element.textContent.trim()"
        " && !element.closest('svg')).map(element => parseFloat(getComputedStyle(element).fontSize)))"
    )
    assert smallest >= 11


def test_a_click_on_a_heading_sorts_and_another_turns_the_order_round(window, results_page):
    window.open(results_page)
    before = window.evaluate(FIRST_COLUMN)
    assert sorting(window, "Worst case") == "none"

    click(window, "Worst case")
    worst = window.evaluate(WORST)
    assert sorting(window, "Worst case") == "descending"
    assert worst == sorted(worst, reverse=True)

    click(window, "Obfuscator")
    assert sorting(window, "Worst case") == "none"
    assert sorting(window, "Obfuscator") == "ascending"
    assert window.evaluate(FIRST_COLUMN) == sorted(before)
    click(window, "Obfuscator")
    assert window.evaluate(FIRST_COLUMN) == sorted(before, reverse=True)


def test_rows_without_the_figure_are_last_in_either_order(window, results_page):
    window.open(results_page)
    for order in ("descending", "ascending"):
        click(window, "Retrained")
        assert sorting(window, "Retrained") == order
        assert window.evaluate(FIRST_COLUMN)[-1] == "invented_noise"


def test_the_table_sorts_from_the_keyboard(window, results_page):
    window.open(results_page)
    window.evaluate("document.querySelectorAll('table.results button.sort')[1].focus()")
    window.press("Enter", 13)
    assert sorting(window, "Worst case") == "descending"


def test_the_table_is_readable_without_the_script(window, results_page):
    window.open(results_page, script=False)
    text = window.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    html = window.call("DOM.getOuterHTML", nodeId=text)["outerHTML"]
    table = re.search(r"<table class=\"results.*?</table>", html, re.DOTALL)[0]
    assert "invented_" in table
    assert "<button" not in table  # no control that does nothing


def colour(window, name):
    """The value that a colour of the style sheet has just now."""
    return window.evaluate(
        f"(() => {{ const probe = document.createElement('i'); probe.style.color = 'var(--{name})';"
        " document.body.append(probe); return getComputedStyle(probe).color })()"
    )


def brightness(content):
    return Image.open(io.BytesIO(content)).convert("L").getpixel((3, 3))


def test_the_page_follows_the_readers_choice_of_light_or_dark(window, results_page, tmp_path):
    window.open(results_page)
    assert brightness(window.screenshot(tmp_path / "light.png")) > 240
    window.open(results_page, dark=True)
    assert brightness(window.screenshot(tmp_path / "dark.png")) < 40
    letters = "[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)"
    assert set(window.evaluate(letters)) == {colour(window, "ink"), colour(window, "muted")}


def test_on_paper_everything_is_within_the_sheet(window, results_page):
    sheet = 1016  # CSS pixels between the margins of A4 across
    for page in pages(results_page):
        window.open(page, width=sheet, dark=True)
        window.call("Emulation.setEmulatedMedia", media="print")
        rightmost = window.evaluate(
            "Math.max(...[...document.querySelectorAll('table, svg, img, p, pre')]"
            ".map(element => element.getBoundingClientRect().right))"
        )
        assert rightmost <= sheet, page
        assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


# The results that the documentation shows: many obfuscators, several seeds

LETTERS = """[...document.querySelectorAll('body *')].filter(element => element.getClientRects().length
  && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
  && !element.closest('script, .hide')).map(element => { const svg = element.ownerSVGElement;
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const size = scale * parseFloat(getComputedStyle(element).fontSize);
  return [size, element.textContent.trim().slice(0, 40)] })"""
MOST_SHEETS = 14
POINT = 96 / 72  # CSS pixels


def smallest_letters(window):
    return min(window.evaluate(LETTERS))


def test_the_published_results_are_all_on_the_page(published_page, window):
    content = read_results(published_page.parents[1])
    window.open(published_page)
    assert window.evaluate(f"{ROWS}.length") == len(content.obfuscators)
    assert len(list((published_page.parent / "cells").iterdir())) == len(content.cells)
    assert window.evaluate("document.querySelector('#identity') !== null")
    assert window.evaluate("document.querySelectorAll('.panel svg').length") == 2 * len(
        {cell.obfuscator for cell in content.cells if cell.result.curve}
    )


def test_the_published_results_print_on_few_sheets_in_letters_of_seven_points(published_page, window):
    window.open(published_page, width=1016)
    assert len(re.findall(rb"/Type\s*/Page\b", window.print())) <= MOST_SHEETS
    window.call("Emulation.setEmulatedMedia", media="print")
    size, text = smallest_letters(window)
    assert size >= 7 * POINT - 0.01, text
    rightmost = (
        "Math.max(...[...document.querySelectorAll('td, svg')].map(e => e.getBoundingClientRect().right))"
    )
    assert window.evaluate(rightmost) <= 1016


def test_the_published_results_fit_a_phone(published_page, window):
    window.open(published_page, **PHONE)
    assert window.evaluate(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth")
    size, text = smallest_letters(window)
    assert size >= 10, text
    wide = (
        "[...document.querySelectorAll('svg, table')]"
        ".filter(element => element.getBoundingClientRect().right > innerWidth)"
    )
    assert window.evaluate(f"{wide}.length") > 0
    assert window.evaluate(
        f"{wide}.every(element => {{ const box = element.closest('.scroll'); return box"
        " && getComputedStyle(box).overflowX === 'auto'"
        " && getComputedStyle(box.previousElementSibling).display === 'block'"
        " && box.previousElementSibling.className === 'hint' })"
    )
    assert window.evaluate(f"{wide}.filter(element => element.closest('#curves')).length") == 0


def test_the_page_prints(window, results_page):
    window.open(results_page)
    printed = window.print()
    assert printed.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
