"""The report stage: measurements in, one folder with figures, tables and a page out."""

import csv
import dataclasses
import json
import os
import re
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddm_core.errors import DdmError
from ddm_core.files import write_bytes, write_json, write_text
from ddm_core.params import load, to_dict
from ddm_core.reporting.table import result_table, result_table_markdown
from ddm_core.results import AttackResult, ChannelUtility, UtilityResult, write_result
from ddm_core.stages import report

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
DIGEST = "cd" * 32
CHANNELS = ("resize50", "png", "jpeg95", "jpeg85", "jpeg75", "jpeg50", "resize75")
TRAINED = [name for name, settings in PARAMS.train.items() if settings.method in ("ddm", "keyed_ddm")]
KEYED = [name for name, settings in PARAMS.train.items() if settings.method == "keyed_ddm"]


def png(width=8, height=4):
    """A grey picture as PNG bytes."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def attack(obfuscator, attacker, top1):
    drawn = attacker in ("inversion", "wrong_key")
    return AttackResult(
        obfuscator,
        attacker,
        applicable=True,
        top1=top1,
        ci95=(max(0.0, top1 - 0.01), min(1.0, top1 + 0.01)),
        n=320,
        psnr_db=16.2 if drawn else None,
        ssim=0.31 if drawn else None,
        weights_sha256=DIGEST,
        seconds=2.0,
    )


@pytest.fixture
def measured(tmp_path):
    """A whole run's measurements: everything falls to the retrained attacker, save the keyed method."""
    for name in PARAMS.train:
        keyed = name in KEYED
        cells = {
            "clean": attack(name, "clean", 0.02),
            "retrained": attack(name, "retrained", 0.025 if keyed else 0.99),
            "inversion": attack(name, "inversion", 0.03 if keyed else 0.9),
            "wrong_key": attack(name, "wrong_key", 0.01)
            if keyed
            else AttackResult(name, "wrong_key", applicable=False, reason="has no key"),
        }
        if keyed:
            reused = attack(name, "nonce_reuse", 0.975)
            cells["nonce_reuse"] = dataclasses.replace(reused, counts_for_gate=False)
        for attacker, cell in cells.items():
            write_result(tmp_path / "attacks" / name / attacker / "result.json", cell)
        write_bytes(tmp_path / "attacks" / name / "inversion/pictures.png", png())
        channel = ChannelUtility(33.3, 0.96, 0.9875, (0.95, 0.99), 80)
        utility = UtilityResult(name, name in TRAINED, dict.fromkeys(CHANNELS, channel), DIGEST, seconds=1.5)
        write_result(tmp_path / "utility" / name / "result.json", utility)
        write_bytes(tmp_path / "utility" / name / "pictures.png", png())
    for name in PARAMS.train:
        write_json(tmp_path / "histories" / name / "timing.json", {"seconds": 2.0})
    write_json(tmp_path / "recogniser/recogniser.json", {"clean_top1": 0.985, "ci95": [0.94, 0.99], "n": 80})
    for name in TRAINED:
        write_text(
            tmp_path / "histories" / name / "history.csv",
            "step,loss,jsd_lower_bound,psnr_db,images_per_second\n0,2.5,0.1,8.0,300\n50,0.4,,25.5,310\n",
        )
    write_json(
        tmp_path / "prepared" / "manifest.json",
        {
            "dataset_digest": "ab" * 32,
            "counts": {"identities": 40},
            "metadata": {"source": "orl", "credit": "AT&T"},
        },
    )
    return tmp_path


def run(folder, params=PARAMS):
    return report.run(
        params,
        prepared=folder / "prepared",
        attacks=folder / "attacks",
        utility=folder / "utility",
        histories=folder / "histories",
        recogniser=folder / "recogniser",
        report=folder / "reports",
    )


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Collects what a browser would fetch, ids, pictures and table headers."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def test_metrics_follow_the_documented_schema(measured):
    metrics = json.loads(run(measured).metrics.read_text())

    assert metrics["schema_version"] == 1
    assert metrics["chance_top1"] == 1 / 40
    assert list(metrics["obfuscators"]) == list(PARAMS.train)
    keyed = metrics["obfuscators"]["keyed_ddm"]
    assert keyed["method"] == "keyed_ddm"
    assert keyed["decrypts"] is True
    assert keyed["attacks"]["clean"] == {"top1": 0.02, "ci95": [0.01, 0.03], "n": 320}
    assert keyed["attacks"]["inversion"]["psnr_db"] == 16.2
    assert keyed["utility"]["jpeg75"] == {
        "psnr_db": 33.3,
        "ssim": 0.96,
        "recognition_top1": 0.9875,
        "ci95": [0.95, 0.99],
        "n": 80,
    }
    assert metrics["obfuscators"]["none"]["not_applicable"] == {"wrong_key": "has no key"}
    provenance = metrics["provenance"]
    assert provenance["dataset_digest"] == "ab" * 32
    assert provenance["dataset"] == {"source": "orl", "credit": "AT&T"}
    assert provenance["params"] == json.loads(json.dumps(to_dict(PARAMS)))
    assert provenance["versions"]["torch"].startswith("2.")
    cells = 4 * len(PARAMS.train) + len(KEYED) - (len(PARAMS.train) - len(KEYED))
    assert provenance["seconds"] == 2.0 * cells + 1.5 * len(PARAMS.train) + 2.0 * len(PARAMS.train)


def test_every_key_of_metrics_is_documented(measured):
    documentation = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    metrics = json.loads(run(measured).metrics.read_text())
    keyed = metrics["obfuscators"]["keyed_ddm"]
    keys = [*metrics, *keyed, *keyed["attacks"]["inversion"], *keyed["utility"], *keyed["utility"]["png"]]
    keys += [*metrics["provenance"], *metrics["provenance"]["versions"]]
    assert [key for key in keys if not re.search(rf"\b{re.escape(key)}\b", documentation)] == []


def test_the_worst_case_is_the_best_attacker_and_never_a_control(measured):
    obfuscators = json.loads(run(measured).metrics.read_text())["obfuscators"]
    assert obfuscators["keyed_ddm"]["worst_case"] == {
        "attacker": "inversion",
        "top1": 0.03,
        "ci95": [0.03 - 0.01, 0.03 + 0.01],
    }
    assert obfuscators["keyed_ddm"]["controls"]["nonce_reuse"]["top1"] == 0.975
    assert obfuscators["ddm"]["worst_case"]["attacker"] == "retrained"


def test_of_equal_attackers_the_worst_case_is_the_less_certain_one(measured):
    certain, less_certain = attack("ddm", "retrained", 0.9), attack("ddm", "inversion", 0.9)
    write_result(
        measured / "attacks/ddm/retrained/result.json", dataclasses.replace(certain, ci95=(0.89, 0.91))
    )
    write_result(
        measured / "attacks/ddm/inversion/result.json", dataclasses.replace(less_certain, ci95=(0.89, 0.95))
    )
    metrics = json.loads(run(measured).metrics.read_text())
    assert metrics["obfuscators"]["ddm"]["worst_case"]["attacker"] == "inversion"


def test_the_plot_tables_hold_every_cell_channel_and_logged_step(measured):
    folder = run(measured).metrics.parent
    metrics = json.loads((folder / "metrics.json").read_text())

    attacks = read_csv(folder / "attacks.csv")
    assert {"keyed_ddm/nonce_reuse", "none/clean"} < {f"{r['obfuscator']}/{r['attacker']}" for r in attacks}
    clean = next(r for r in attacks if r["obfuscator"] == "none" and r["attacker"] == "clean")
    assert [float(clean[key]) for key in ("ci95_low", "ci95_high")] == metrics["obfuscators"]["none"][
        "attacks"
    ]["clean"]["ci95"]
    channels = read_csv(folder / "channels.csv")
    assert len(channels) == len(PARAMS.train) * len(CHANNELS)
    assert [row["channel"] for row in channels[:2]] == ["png", "jpeg95"]
    training = read_csv(folder / "training.csv")
    assert len(training) == 2 * len(TRAINED)
    assert training[1] == {
        "obfuscator": TRAINED[0],
        "step": "50",
        "loss": "0.4",
        "jsd_lower_bound": "",
        "psnr_db": "25.5",
    }


def test_the_same_measurements_give_the_same_bytes(measured):
    first = {path.name: path.read_bytes() for path in run(measured).html.parent.iterdir()}
    second = {path.name: path.read_bytes() for path in run(measured).html.parent.iterdir()}
    assert first == second


def test_the_page_fetches_nothing_and_runs_no_script(measured):
    html = run(measured).html.read_text()
    page = Page(html)
    for reference in page.attributes("src") + page.attributes("href") + page.attributes("xlink:href"):
        assert reference.startswith(("data:image/png;base64,", "#"))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_the_page_can_be_read_without_seeing_it(measured):
    page = Page(run(measured).html.read_text())
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 2 * len(PARAMS.train)
    assert all(len(picture["alt"]) > 20 for picture in pictures)
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(plots) == 3
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.attributes("href")} <= set(ids)


def test_the_page_opens_with_a_verdict_on_the_headline(measured):
    heading = re.search(r"<h1>(.*?)</h1>", run(measured).html.read_text())[1]
    assert heading == "keyed_ddm hides the face: no attacker did measurably better than guessing."

    plain = dataclasses.replace(PARAMS, report=dataclasses.replace(PARAMS.report, headline="ddm"))
    heading = re.search(r"<h1>(.*?)</h1>", run(measured, plain).html.read_text())[1]
    assert heading == "ddm does not hide the face: the best attacker names 99.0 % of the people."

    write_result(measured / "attacks/keyed_ddm/clean/result.json", attack("keyed_ddm", "clean", 0.08))
    heading = re.search(r"<h1>(.*?)</h1>", run(measured).html.read_text())[1]
    assert heading == "keyed_ddm leaks: the best attacker names 8.0 % of the people, guessing 2.5 %."


def test_the_page_says_what_plain_ddm_is_worth_and_shows_its_controls(measured):
    html = run(measured).html.read_text()
    assert "ddm: no protection against adaptive attackers." in html
    assert "ddm_control: the same training without a discriminator" in html
    assert "keyed_ddm with a forbidden misuse: nonce reuse" in html


def test_names_and_reasons_from_the_measurements_cannot_become_markup(measured):
    cell = AttackResult("none", "wrong_key", applicable=False, reason="<script>alert(1)</script>")
    write_result(measured / "attacks/none/wrong_key/result.json", cell)
    html = run(measured).html.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_the_recogniser_is_mentioned_where_its_figure_is_given(measured):
    write_json(measured / "recogniser/recogniser.json", {"clean_top1": 0.985, "ci95": [0.94, 0.99], "n": 80})
    assert "untouched photos: 98.5&nbsp;% of 80" in run(measured).html.read_text()


@pytest.mark.parametrize(
    "missing",
    [
        "attacks/blur31/retrained/result.json",
        "utility/ddm/result.json",
        "histories/keyed_ddm/history.csv",
        "prepared/manifest.json",
    ],
)
def test_a_missing_measurement_is_named_with_the_command_that_makes_it(measured, missing):
    (measured / missing).unlink()
    with pytest.raises(DdmError, match=rf"{re.escape(missing)}: not found; .*dvc repro") as error:
        run(measured)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        ("histories/ddm/history.csv", "step,loss\n0,low\n", "not a table of numbers"),
        ("histories/ddm/history.csv", "epoch,loss\n0,1.0\n", "without 'step'"),
        ("utility/ddm/pictures.png", "not a picture", "not a PNG picture"),
        ("prepared/manifest.json", '{"dataset_digest": "ab", "counts": {}}', "counts.identities"),
        ("prepared/manifest.json", '{"dataset_digest": "ab", "counts": {"identities": 0}}', "at least one"),
        ("attacks/ddm/clean/result.json", '{"obfuscator": "ddm", "attacker": "clean"', "not valid JSON"),
    ],
)
def test_an_unreadable_measurement_is_named_and_no_report_is_written(measured, path, content, complaint):
    (measured / path).write_text(content)
    with pytest.raises(DdmError, match=complaint) as error:
        run(measured)
    assert path in str(error.value)
    assert not (measured / "reports").exists()


def test_a_cell_of_another_obfuscator_or_without_figures_is_refused(measured):
    write_result(measured / "attacks/ddm/clean/result.json", attack("mosaic8", "clean", 0.5))
    with pytest.raises(DdmError, match=r"ddm/clean/result\.json: holds mosaic8/clean"):
        run(measured)
    write_result(measured / "attacks/ddm/clean/result.json", AttackResult("ddm", "clean", applicable=True))
    with pytest.raises(DdmError, match=r"ddm/clean/result\.json: lacks top1"):
        run(measured)


def test_a_failed_run_leaves_the_former_report_as_it_was(measured):
    former = run(measured).html.read_bytes()
    (measured / "utility/ddm/pictures.png").write_text("not a picture")
    with pytest.raises(DdmError):
        run(measured)
    assert (measured / "reports/report.html").read_bytes() == former
    assert not list(measured.glob(".reports*"))


def test_the_commit_is_the_one_of_the_folder_that_the_stage_runs_in(measured, monkeypatch):
    checkout = measured / "checkout"
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    checkout.mkdir()
    (checkout / "dvc.lock").write_text("before")
    (checkout / "code.py").write_text("before")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=checkout, env=os.environ | identity, check=True)
    monkeypatch.chdir(checkout)

    def origin():
        return json.loads(run(measured).metrics.read_text())["provenance"]

    (checkout / "dvc.lock").write_text("rewritten by the run itself")
    assert re.fullmatch("[0-9a-f]{40}", origin()["commit"])
    assert origin()["dirty"] is False
    (checkout / "code.py").write_text("after")
    assert origin()["dirty"] is True


@pytest.mark.parametrize(
    ("built_from", "expected"),
    [
        (None, ("unknown", None)),
        ("unknown", ("unknown", None)),
        ("", ("unknown", None)),
        ("ab" * 20, ("ab" * 20, False)),
        ("ab" * 20 + "-dirty", ("ab" * 20, True)),
    ],
)
def test_outside_git_the_commit_is_that_of_the_image_if_any(measured, monkeypatch, built_from, expected):
    monkeypatch.chdir(measured)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(measured.parent))
    monkeypatch.delenv("DDM_COMMIT", raising=False)
    if built_from is not None:
        monkeypatch.setenv("DDM_COMMIT", built_from)
    provenance = json.loads(run(measured).metrics.read_text())["provenance"]
    assert (provenance["commit"], provenance["dirty"]) == expected


def test_the_text_table_of_a_run_names_every_obfuscator_within_110_characters(measured):
    metrics = json.loads(run(measured).metrics.read_text())
    lines = result_table(metrics).splitlines()
    assert max(map(len, lines)) <= 110
    keyed = next(line for line in lines if line.startswith("keyed_ddm"))
    assert " ".join(keyed.split()) == "keyed_ddm 2.0 2.5 3.0 1.0 3.0 (2.0–4.0) 33.3 33.3 33.3 98.8"  # noqa: RUF001
    assert result_table_markdown(metrics).count("\n| `") == len(PARAMS.train)


def test_figures_of_different_weights_are_not_mixed(measured):
    cell = attack("ddm", "clean", 0.5)
    write_result(
        measured / "attacks/ddm/clean/result.json", dataclasses.replace(cell, weights_sha256="ee" * 32)
    )
    with pytest.raises(DdmError, match="ddm: attack clean and utility measured different weights"):
        run(measured)


def test_the_page_shows_every_channel_that_was_measured_also_further_ones(measured):
    path = measured / "utility" / "keyed_ddm" / "result.json"
    content = json.loads(path.read_text())
    content["channels"]["photo_site"] = content["channels"]["png"] | {"psnr_db": 26.6}
    write_json(path, content)
    page = run(measured).html.read_text()
    assert '<th scope="col">photo site</th>' in page
    assert "<td>26.6<small>" in page
