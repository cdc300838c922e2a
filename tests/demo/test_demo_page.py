"""The demo page in a real browser: a photo goes in, and five pictures are seen."""

import json

import pytest
from headless_browser import CHROMIUM, browser
from test_demo_server import photo

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")
PICTURES = ("original", "encrypted", "received", "right", "wrong")
DONE = "document.getElementById('status').textContent === 'Done.'"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(window, port, tmp_path):
    """The page with a photo chosen and everything done."""
    window.open(f"http://127.0.0.1:{port}/")
    (tmp_path / "photo.png").write_bytes(photo())
    window.choose("#photo", tmp_path / "photo.png")
    window.wait(DONE)
    return window


def sizes(page):
    """Natural width and height of every picture that is shown, once it is drawn."""
    shown = "[...document.querySelectorAll('figure:not([hidden]) img')]"
    page.wait(f"{shown}.every(picture => picture.complete && picture.naturalWidth)")
    script = f"JSON.stringify(Object.fromEntries({shown}.map(picture => [picture.parentElement.id, [picture.naturalWidth, picture.naturalHeight]])))"  # noqa: E501
    return json.loads(page.evaluate(script))


def caption(page, name):
    page.wait(f"document.querySelector('#{name} span').textContent")
    return page.evaluate(f"document.querySelector('#{name} span').textContent")


def pick(page, name, value):
    page.evaluate(
        f"document.getElementById('{name}').value = '{value}';"
        f"document.getElementById('{name}').dispatchEvent(new Event('change'))"
    )
    page.wait(DONE)


def test_a_photo_is_shown_encrypted_received_and_decrypted_with_both_keys(page):
    shown = sizes(page)
    assert tuple(shown) == PICTURES
    assert shown["original"] == shown["right"] == shown["wrong"] == [60, 44]
    assert shown["received"] == [round(side / 2) for side in shown["encrypted"]]
    assert caption(page, "right").startswith("PSNR ")
    assert "ddm decrypt refuses it" in caption(page, "wrong")
    strangers = [
        url for url in page.requests() if not url.startswith(("http://127.0.0.1:", "blob:", "data:"))
    ]
    assert strangers == []


def test_a_dropped_photo_is_encrypted_and_decrypted_as_a_chosen_one(window, port, tmp_path):
    window.open(f"http://127.0.0.1:{port}/")
    (tmp_path / "photo.png").write_bytes(photo())
    window.drop(*middle(window, "drop"), tmp_path / "photo.png")
    window.wait(DONE)
    shown = sizes(window)
    assert tuple(shown) == PICTURES
    assert shown["original"] == shown["right"] == [60, 44]
    assert window.evaluate("location.pathname") == "/"  # the browser did not open the file instead


def test_the_place_to_drop_is_marked_while_something_is_over_it_and_words_are_no_photo(window, port):
    window.open(f"http://127.0.0.1:{port}/")
    marked = "document.getElementById('drop').classList.contains('over')"
    data = {"items": [{"mimeType": "text/plain", "data": "words"}], "dragOperationsMask": 1}
    assert not window.evaluate(marked)
    x, y = middle(window, "drop")
    for kind, expected in (("dragEnter", marked), ("dragOver", marked), ("drop", f"!{marked}")):
        window.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
        window.wait(expected, 10)
    assert window.evaluate("document.getElementById('status').textContent") == "No photo yet."


def middle(window, name):
    """The middle of an element, in CSS pixels of the window."""
    box = f"document.getElementById('{name}').getBoundingClientRect()"
    place = f"(box => JSON.stringify([box.x + box.width / 2, box.y + box.height / 2]))({box})"
    return [round(number) for number in json.loads(window.evaluate(place))]


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_pictures_of_a_row_begin_on_one_line_however_long_their_captions(page, width):
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
    )
    sizes(page)
    caption(page, "wrong")
    boxes = "picture => [picture.getBoundingClientRect().left, picture.getBoundingClientRect().top]"
    places = json.loads(page.evaluate(f"JSON.stringify([...document.images].map({boxes}))"))
    rows = {}
    for left, top in places:
        rows.setdefault(round(top), []).append(round(left))
    columns = {360: 1, 800: 2, 1280: 3}[width]
    assert len(next(iter(rows.values()))) == columns
    assert len(rows) == -(-len(PICTURES) // columns)


def test_another_channel_decrypts_what_then_arrives(page):
    pick(page, "percent", 100)
    pick(page, "quality", "")
    shown = sizes(page)
    assert shown["received"] == shown["encrypted"]
    best = float(caption(page, "right").split()[1])
    pick(page, "quality", 30)
    assert float(caption(page, "right").split()[1]) < best


def test_a_file_that_is_no_photo_is_told_on_the_page(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    page.choose("#photo", tmp_path / "notes.txt")
    page.wait("document.getElementById('status').textContent === 'That did not work.'")
    assert page.evaluate("document.getElementById('error').textContent.length > 10")
    assert page.evaluate("document.getElementById('right').hidden")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(window, port, width):
    window.open(f"http://127.0.0.1:{port}/", width=width, height=740)
    assert window.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_every_control_has_a_label_and_every_picture_a_text(page):
    assert page.evaluate(
        "[...document.querySelectorAll('input, select')].every(field => field.labels.length)"
    )
    assert page.evaluate("[...document.images].every(picture => picture.alt.length > 5)")
