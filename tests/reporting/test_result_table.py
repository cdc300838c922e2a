"""The result table as text: aligned, narrow enough, honest about what is missing."""

from hypothesis import given
from hypothesis import strategies as st

from ddm_core.reporting.table import result_table, result_table_markdown
from ddm_core.reporting.wording import decibels, interval, percent

CHANNELS = ("png", "jpeg75", "resize50")
fractions = st.floats(0, 1)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=40)


def entry(
    top1=1.0, psnr_db=120.0, *, attackers=("clean", "retrained", "inversion", "wrong_key"), decrypts=True
):
    cell = {"top1": top1, "ci95": [top1, top1], "n": 80}
    channel = {"psnr_db": psnr_db, "ssim": 1.0, "recognition_top1": top1, "ci95": [top1, top1], "n": 80}
    return {
        "decrypts": decrypts,
        "attacks": dict.fromkeys(attackers, cell),
        "controls": {"nonce_reuse": cell} if decrypts else {},
        "worst_case": {"attacker": attackers[0], "top1": top1, "ci95": [top1, top1]},
        "utility": dict.fromkeys(CHANNELS, channel),
    }


def metrics(**obfuscators):
    return {"chance_top1": 0.025, "obfuscators": obfuscators}


@given(st.dictionaries(names, st.builds(entry, fractions, st.floats(0, 200)), min_size=1, max_size=9))
def test_no_line_is_wider_than_110_characters(obfuscators):
    assert max(map(len, result_table(metrics(**obfuscators)).splitlines())) <= 110


@given(st.dictionaries(names, st.builds(entry, fractions, st.floats(0, 200)), min_size=1, max_size=9))
def test_the_last_column_ends_in_the_same_place_on_every_row(obfuscators):
    lines = result_table(metrics(**obfuscators)).splitlines()[1 : 2 + len(obfuscators)]
    assert len({len(line) for line in lines}) == 1


def test_what_does_not_apply_is_a_dash_and_what_cannot_be_decrypted_is_starred():
    line = result_table(metrics(mosaic=entry(0.5, 20.0, attackers=("clean",), decrypts=False))).splitlines()[
        2
    ]
    assert " ".join(line.split()) == "mosaic 50.0 – – – 50.0 (50.0–50.0) 20.0* 20.0* 20.0* –"  # noqa: RUF001


def test_the_footnote_about_decryption_stands_only_where_it_is_needed():
    assert "cannot be decrypted" in result_table(metrics(mosaic=entry(decrypts=False)))
    assert "cannot be decrypted" not in result_table(metrics(keyed=entry()))


def test_the_chance_level_is_said_under_the_table():
    assert "Guessing gives 2.5 %" in result_table(metrics(keyed=entry()))
    assert "Guessing gives 2.5 %" in result_table_markdown(metrics(keyed=entry()))


def test_the_price_of_a_reused_nonce_is_said_under_the_table():
    line = "keyed misused, one nonce for all photos: the retrained attacker names 97.5 % (97.5–97.5)."  # noqa: RUF001
    assert line in result_table(metrics(keyed=entry(0.975)))
    assert line in result_table_markdown(metrics(keyed=entry(0.975)))
    assert "misused" not in result_table(metrics(mosaic=entry(decrypts=False)))


def test_every_markdown_row_has_as_many_cells_as_the_heading():
    table = result_table_markdown(metrics(a=entry(), b=entry(attackers=("clean",), decrypts=False)))
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {11}


def test_figures_are_written_with_one_decimal_and_near_lossless_psnr_as_a_bound():
    assert percent(0.0249) == "2.5"
    assert interval((0.018, 0.035)) == "1.8–3.5"  # noqa: RUF001
    assert (decibels(33.34), decibels(100.0)) == ("33.3", "≥ 60")
