"""An alias moves by way of the log alone: judged, recorded, and by one of two who try at once."""

import json
import shutil
from pathlib import Path

import pytest
from registered_versions import CHECKOUT, GATE, MODEL, PHOTO_GATE, add_version, with_psnr_limit

from ddm_core.cli import main
from ddm_core.errors import DdmError
from ddm_core.serving import carrying_out, moves, moves_log
from ddm_core.serving.moves import archive, promote, rollback
from ddm_core.serving.moves_log import SUFFIX, OvertakenError
from ddm_core.serving.versions import FORCED_TAG, aliases
from ddm_core.tracking import connect


@pytest.fixture
def client(tmp_path, monkeypatch, empty_store):
    """A client of an empty registry in the current folder, where params.yaml is too."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    shutil.copy(CHECKOUT / "params.yaml", tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.chdir(tmp_path)
    return connect()


def champion(client):
    return aliases(client, MODEL).get("champion")


def log(client):
    return [(entry.move.action, entry.move.version, entry.state) for entry in moves_log.read(client, MODEL)]


def run(capsys, *arguments):
    """The exit status and everything printed."""
    status = main(["registry", *arguments])
    out, err = capsys.readouterr()
    return status, out + err


def test_a_move_is_recorded_with_who_from_to_why_and_by_which_figures_and_limits(client, tmp_path):
    add_version(tmp_path)
    add_version(tmp_path, psnr=34.0)
    promote(client, MODEL, "1", GATE)
    outcome = promote(client, MODEL, "2", GATE, reason="sharper  eyes")
    assert outcome.moved
    assert champion(client) == 2
    first, second = moves_log.read(client, MODEL)
    assert (first.move.before, first.move.reason) == (None, "the first")
    move = second.move
    assert (move.who, move.before, move.version, move.reason) == ("alice", 1, 2, "sharper eyes")
    assert move.figures["psnr_db_png"] == 34.0
    assert move.limits["psnr_db_png"] == GATE.channels["png"].min_psnr_db
    assert move.evidence_sha256 == client.get_model_version(MODEL, "2").tags["ddm.evidence_sha256"]
    assert second.state == "done"
    assert second.recorded_at > 1.7e12


def test_without_a_login_the_account_and_the_machine_are_named(client, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    add_version(tmp_path)
    promote(client, MODEL, "1", GATE)
    account, _, machine = moves_log.read(client, MODEL)[0].move.who.partition("@")
    assert account
    assert machine


def test_the_champion_stays_unless_the_rule_or_a_reason_speaks_for_the_other(client, tmp_path):
    add_version(tmp_path)
    add_version(tmp_path, psnr=33.05)
    promote(client, MODEL, "1", GATE)
    outcome = promote(client, MODEL, "2", GATE)
    assert (outcome.moved, outcome.refused) == (False, True)
    assert "the champion stays: mean PSNR 33.05 dB" in outcome.text
    assert promote(client, MODEL, "2", GATE, reason="smaller").moved
    assert champion(client) == 2


def test_the_gate_is_asked_again_at_promotion(client, tmp_path):
    add_version(tmp_path)
    with pytest.raises(DdmError, match=r"is not promoted: PSNR after png: 33.00 dB, less than 40.00 dB"):
        promote(client, MODEL, "1", with_psnr_limit(40.0))
    assert champion(client) is None
    assert log(client) == []


def tamper_content(client):
    tag = client.get_model_version(MODEL, "1").tags["ddm.evidence"]
    client.set_model_version_tag(MODEL, "1", "ddm.evidence", tag.replace("33.0", "39.0"))


def tamper_photos(client):
    client.set_model_version_tag(MODEL, "1", "ddm.dataset_digest", "cd" * 32)


def tamper_everything_but_the_files(client):
    other = client.get_model_version(MODEL, "2").tags
    for name in ("ddm.evidence", "ddm.evidence_sha256", "ddm.weights_sha256", "ddm.dataset_digest"):
        client.set_model_version_tag(MODEL, "1", name, other[name])


def tamper_weights(_client):
    for file in (Path.cwd() / "mlartifacts").rglob("weights.safetensors"):
        file.write_bytes(b"other weights")


def remove_evidence(client):
    client.delete_model_version_tag(MODEL, "1", "ddm.evidence")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (tamper_content, "its evidence was changed after registration"),
        (tamper_photos, "its evidence was changed after registration"),
        (tamper_everything_but_the_files, "its files were packed with other evidence"),
        (tamper_weights, "its weights are not those that were measured"),
        (remove_evidence, "carries no evidence"),
    ],
)
def test_evidence_that_is_not_what_was_measured_is_refused(client, tmp_path, tamper, words):
    add_version(tmp_path)
    add_version(tmp_path, psnr=39.0)
    tamper(client)
    with pytest.raises(DdmError, match=words):
        promote(client, MODEL, "1", GATE)
    assert champion(client) is None
    assert log(client) == []


def test_force_needs_a_reason_and_is_marked_for_ever(client, tmp_path, capsys):
    add_version(tmp_path, psnr=20.0)
    add_version(tmp_path)
    status, text = run(capsys, "promote", "1", "--force")
    assert (status, champion(client)) == (1, None)
    assert "--force needs --reason" in text
    assert run(capsys, "promote", "1", "--force", "--reason", "demo on Friday")[0] == 0
    assert run(capsys, "promote", "2", "--reason", "sound")[0] == 0
    client.delete_model_version_tag(MODEL, "1", FORCED_TAG)
    for verb in (["list"], ["show", "1"], ["history"]):
        text = run(capsys, *verb)[1]
        assert "FORCED" in text, verb
        assert "demo on Friday" in text, verb
    assert "FORCED" not in run(capsys, "show", "2")[1].partition("move ")[0]


def test_a_force_that_had_nothing_to_set_aside_marks_nothing(client, tmp_path):
    add_version(tmp_path)
    promote(client, MODEL, "1", GATE, force=True, reason="to be sure")
    assert moves_log.read(client, MODEL)[0].move.overrode == ()
    assert FORCED_TAG not in client.get_model_version(MODEL, "1").tags


def test_no_force_promotes_a_version_whose_files_are_gone(client, tmp_path):
    add_version(tmp_path)
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(DdmError, match="its files are gone"):
        promote(client, MODEL, "1", GATE, force=True, reason="no")


def three_champions(client, folder):
    for psnr in (33.0, 34.0, 35.0):
        promote(client, MODEL, str(add_version(folder, psnr=psnr)), GATE)


def test_rollback_goes_back_one_champion_at_a_time(client, tmp_path, capsys):
    three_champions(client, tmp_path)
    for expected in (2, 1):
        assert run(capsys, "rollback")[0] == 0
        assert champion(client) == expected
    status, text = run(capsys, "rollback")
    assert (status, champion(client)) == (1, 1)
    assert "no version held champion before" in text


def test_rollback_goes_to_the_earlier_champion_that_is_named(client, tmp_path):
    three_champions(client, tmp_path)
    add_version(tmp_path)
    rollback(client, MODEL, GATE, to="1", reason="colours")
    assert champion(client) == 1
    with pytest.raises(DdmError, match="version 4 never was champion"):
        rollback(client, MODEL, GATE, to="4")


def test_rollback_asks_no_gate_but_takes_no_evidence_that_changed(client, tmp_path):
    three_champions(client, tmp_path)
    assert rollback(client, MODEL, with_psnr_limit(60.0)).moved
    tamper_content(client)
    with pytest.raises(DdmError, match="not what it was when it became champion"):
        rollback(client, MODEL, GATE)


def test_an_alias_moved_by_hand_is_shown_and_rolled_back_from(client, tmp_path, capsys):
    three_champions(client, tmp_path)
    client.set_registered_model_alias(MODEL, "champion", "1")
    assert "last recorded move put it at version 3: it was moved outside ddm" in run(capsys, "list")[1]
    assert run(capsys, "rollback")[0] == 0
    assert champion(client) == 3


def test_an_archived_version_is_neither_listed_nor_promoted_nor_rolled_back_to(client, tmp_path, capsys):
    three_champions(client, tmp_path)
    assert "version 3 is champion; move that first" in run(capsys, "archive", "3")[1]
    archive(client, MODEL, "2", GATE, reason="leaks at the edges")
    listed = [line.split()[0] for line in run(capsys, "list", "--model", MODEL)[1].splitlines()[2:]]
    assert listed == ["1", "3"]
    assert "archived" in run(capsys, "list", "--archived")[1]
    with pytest.raises(DdmError, match="version 2 is archived"):
        promote(client, MODEL, "2", GATE, reason="all the same")
    rollback(client, MODEL, GATE)
    assert champion(client) == 1
    archive(client, MODEL, "2", GATE, undo=True)
    assert promote(client, MODEL, "2", GATE, reason="mended").moved


def test_compare_tells_differences_and_whether_the_second_would_replace_the_first(client, tmp_path, capsys):
    add_version(tmp_path)
    add_version(tmp_path, psnr=33.5, worst=0.035)
    text = run(capsys, "compare", "1", "2")[1]
    line = next(line for line in text.splitlines() if line.startswith("psnr_db_png"))
    assert line.split()[1:] == ["33.00", "dB", "33.50", "dB", "+0.50", "dB"]
    assert "+0.5 points" in text
    assert "version 2 would replace version 1" in text
    assert "version 1 would not replace version 2" in run(capsys, "compare", "2", "1")[1]


def test_show_prints_the_gate_line_by_line(client, tmp_path, capsys):
    three_champions(client, tmp_path)
    text = run(capsys, "show", "champion")[1]
    assert text.startswith("keyed_ddm version 3\n")
    assert "at least 32.00 dB  35.00 dB" in text
    assert "champion to version 3, from version 2" in text


def test_a_policy_that_asked_for_less_shows_in_the_history(client, tmp_path, capsys):
    add_version(tmp_path, psnr=12.0)
    promote(client, MODEL, "1", with_psnr_limit(11.0), alias="challenger")
    assert json.loads(run(capsys, "history", "--json")[1])[0]["limits"]["psnr_db_png"] == 11.0


def test_a_move_that_was_recorded_without_limits_is_still_read(client, tmp_path):
    add_version(tmp_path)
    promote(client, MODEL, "1", GATE)
    entry = client.get_model_version(MODEL + SUFFIX, "1")
    earlier = json.loads(entry.tags[moves_log.MOVE_TAG])
    del earlier["limits"]
    client.set_model_version_tag(entry.name, entry.version, moves_log.MOVE_TAG, json.dumps(earlier))
    assert moves_log.read(client, MODEL)[0].move.limits is None


def test_history_as_json_holds_the_figures(client, tmp_path, capsys):
    three_champions(client, tmp_path)
    records = json.loads(run(capsys, "history", "--json")[1])
    assert [record["version"] for record in records] == [1, 2, 3]
    assert records[2]["figures"]["worst_case_top1_upper95"] == 0.04


def photo_params(folder):
    """Lay the photo model's parameter file where the project has it."""
    (folder / "photo").mkdir()
    shutil.copy(CHECKOUT / "photo/params.yaml", folder / "photo")


def test_the_photo_model_is_judged_by_its_own_policy(client, tmp_path, capsys):
    photo_params(tmp_path)
    add_version(tmp_path, "photo", gate=PHOTO_GATE, psnr=33.0)  # enough for the other models
    add_version(tmp_path, "photo", gate=GATE, psnr=40.0)  # never tried on a photo site
    add_version(tmp_path, "photo", gate=PHOTO_GATE, psnr=40.0)
    status, text = run(capsys, "promote", "1", "--model", "photo")
    assert (status, "PSNR after png: 33.00 dB, less than 38.00 dB" in text) == (1, True)
    status, text = run(capsys, "promote", "2", "--model", "photo")
    assert (status, "PSNR after photo_site: no evidence" in text) == (1, True)
    assert run(capsys, "promote", "3", "--model", "photo")[0] == 0
    assert aliases(client, "photo") == {"champion": 3}


def test_list_shows_every_model_by_its_own_policy(client, tmp_path, capsys):
    photo_params(tmp_path)
    add_version(tmp_path)
    add_version(tmp_path, "photo", gate=PHOTO_GATE, psnr=33.0)
    ddm, keyed, photo = run(capsys, "list")[1].split("\n\n")
    assert [part.splitlines()[0] for part in (ddm, keyed, photo)] == ["ddm", "keyed_ddm", "photo"]
    assert ("pass" in keyed, "FAIL" in photo) == (True, True)
    assert "dB photo_site" in photo
    assert "dB photo_site" not in keyed


@pytest.mark.parametrize("verb", [["promote", "1"], ["show", "1"], ["list"], ["rollback"]])
def test_a_model_is_never_judged_by_the_policy_of_others(client, tmp_path, capsys, verb):
    photo_params(tmp_path)
    add_version(tmp_path, "photo", gate=PHOTO_GATE)
    status, text = run(capsys, *verb, "--model", "photo", "--params", "params.yaml")
    assert status == 1
    assert "no policy for the model 'photo'" in text
    assert "pass --params FILE, the file it was registered with (photo/params.yaml for photo)" in text
    assert text.count("\n") == 1
    assert aliases(client, "photo") == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "9"], "has no version or alias '9'; versions: 1"),
        (["promote", "1", "--alias", "latest"], "'latest' cannot be an alias"),
        (["promote", "1", "--alias", "v1"], "'v1' cannot be an alias"),
        (["promote", "1", "--reason", "x" * 1001], "1000 at most"),
        (["promote", "1", "--model", "ddm"], "no model 'ddm' is registered"),
        (["promote", "1", "--model", "nobody"], "no policy for the model 'nobody'"),
    ],
)
def test_bad_input_is_one_line_and_moves_nothing(client, tmp_path, capsys, arguments, words):
    add_version(tmp_path)
    status, text = run(capsys, *arguments)
    assert status == 1
    assert words in text
    assert text.count("\n") == 1
    assert log(client) == []


def test_of_two_who_decided_at_once_the_first_wins_and_the_other_is_told(client, tmp_path, monkeypatch):
    for psnr in (33.0, 34.0, 35.0):
        add_version(tmp_path, psnr=psnr)
    promote(client, MODEL, "1", GATE)
    real = moves.carry_out

    def meanwhile(other, name, move):
        monkeypatch.setattr(moves, "carry_out", real)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
        promote(client, MODEL, "2", GATE)
        real(other, name, move)

    monkeypatch.setattr(moves, "carry_out", meanwhile)
    with pytest.raises(
        OvertakenError, match="nothing was moved, for bob was first: promote: champion to vers"
    ):
        promote(client, MODEL, "3", GATE)
    assert champion(client) == 2
    assert log(client) == [
        ("promote", 1, "done"),
        ("promote", 2, "done"),
        ("promote", 3, "overtaken"),
    ]


def test_one_held_up_between_log_and_alias_does_not_undo_a_later_move(client, tmp_path, monkeypatch):
    for psnr in (33.0, 34.0):
        add_version(tmp_path, psnr=psnr)
    real = carrying_out._apply

    def held_up(*arguments):
        monkeypatch.setattr(carrying_out, "_apply", real)
        promote(client, MODEL, "2", GATE)  # finishes ours first, then moves on
        assert champion(client) == 2
        return real(*arguments)

    monkeypatch.setattr(carrying_out, "_apply", held_up)
    promote(client, MODEL, "1", GATE)
    assert champion(client) == 2
    assert log(client) == [("promote", 1, "done"), ("promote", 2, "done")]


def test_a_move_of_a_version_that_was_deleted_meanwhile_is_void_and_blocks_nobody(
    client, tmp_path, monkeypatch
):
    for psnr in (33.0, 34.0):
        add_version(tmp_path, psnr=psnr)
    real = carrying_out._apply

    def delete_first(*arguments):
        client.delete_model_version(MODEL, "1")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(carrying_out, "_apply", delete_first)
        with pytest.raises(DdmError, match="was deleted meanwhile"):
            promote(client, MODEL, "1", GATE)
    promote(client, MODEL, "2", GATE)
    assert champion(client) == 2
    assert log(client) == [("promote", 1, "void"), ("promote", 2, "done")]


def test_a_request_that_the_network_repeated_is_one_move(client, tmp_path, monkeypatch):
    add_version(tmp_path)
    real = type(client).create_model_version

    def twice(self, *arguments, **settings):
        real(self, *arguments, **settings)
        return real(self, *arguments, **settings)

    monkeypatch.setattr(type(client), "create_model_version", twice)
    promote(client, MODEL, "1", GATE)
    assert log(client) == [("promote", 1, "done")]
    assert len(client.search_model_versions(f"name = '{MODEL + SUFFIX}'")) == 2
