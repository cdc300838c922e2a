"""The report's plots: well-formed SVG that copes with gaps and repeats itself to the byte."""

from xml.etree import ElementTree

from ddm_core.reporting.plots import channels_plot, privacy_plot, training_plot

CELL = {"psnr_db": 33.3, "ssim": 0.96, "recognition_top1": 0.98, "ci95": [0.95, 0.99], "n": 80}


def entry(top1, channels, *, decrypts):
    return {
        "decrypts": decrypts,
        "worst_case": {"attacker": "clean", "top1": top1, "ci95": [top1 / 2, top1]},
        "utility": dict.fromkeys(channels, CELL),
    }


OBFUSCATORS = {
    "mosaic": entry(0.9, ("png",), decrypts=False),
    "keyed": entry(0.03, ("png", "jpeg75", "resize50"), decrypts=True),
    "partly": entry(0.03, ("jpeg75",), decrypts=True),
}
HISTORIES = {
    "keyed": [{"step": 0.0, "loss": 2.0, "psnr_db": 8.0}, {"step": 50.0, "loss": 0.5}],
    "plain": [{"step": 0.0, "jsd_lower_bound": 0.1}],
    "empty": [],
}


def words(svg):
    return "".join(ElementTree.fromstring(svg).itertext())


def test_the_privacy_plot_names_every_obfuscator_and_its_worst_case():
    text = words(privacy_plot({"chance_top1": 0.025, "obfuscators": OBFUSCATORS}))
    assert all(word in text for word in (*OBFUSCATORS, "90.0", "3.0", "33.3"))


def test_the_channels_plot_shows_only_what_can_be_decrypted():
    text = words(channels_plot(OBFUSCATORS, 0.025))
    assert "keyed" in text
    assert "half size" in text
    assert "mosaic" not in text


def test_the_training_plot_leaves_out_what_nobody_logged():
    text = words(training_plot(HISTORIES))
    assert "Discrepancy" in text
    assert "Discrepancy" not in words(training_plot({"keyed": HISTORIES["keyed"]}))


def test_nothing_to_decrypt_or_no_logged_figure_still_gives_a_plot():
    assert channels_plot({"mosaic": OBFUSCATORS["mosaic"]}, 0.025).startswith("<svg")
    assert training_plot({"empty": []}).startswith("<svg")


def test_plots_repeat_to_the_byte_and_share_no_ids():
    first, second = channels_plot(OBFUSCATORS, 0.025), training_plot(HISTORIES)
    assert first == channels_plot(OBFUSCATORS, 0.025)

    def ids(svg):
        return {element.get("id") for element in ElementTree.fromstring(svg).iter()} - {None}

    assert not ids(first) & ids(second)
