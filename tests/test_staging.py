"""Stages read and write folders on S3 as they do local ones, or refuse an address in one line."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from folders import names, tree

from ddm_core.cli import main
from ddm_core.errors import DdmError
from ddm_core.params import load
from ddm_core.places import RemotePlace, is_remote, place
from ddm_core.results import ATTACKERS, CONTROLS
from ddm_core.stages import fetch, prepare
from ddm_core.staging import staged
from ddm_core.tracking import EXPERIMENT, connect, experiment_id

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch, photo_folder):
    """An empty folder with the least params that go through every stage; the current one."""
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
    params["fetch"] = {"source": "folder", "uri": str(photo_folder)}
    params["prepare"]["image_size"] = 32
    params["train"] = {"none": {"method": "none"}, "mosaic8": {"method": "mosaic", "block": 8}}
    params["recognise"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    params["attack"] |= {"epochs": 1, "batch_size": 8, "inversion_steps": 2, "threads": 1}
    params["attack"]["encryptions_per_photo"] = 1
    params["utility"] |= {"encryptions_per_photo": 1, "threads": 1}
    params["report"]["headline"] = "none"
    params["register"]["models"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ddm(capsys, *arguments):
    """Run `ddm`; return exit status, standard output and the last line of standard error."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err.rpartition("\r")[2].rstrip("\n").rpartition("\n")[2]


def keys(s3, prefix):
    found = s3.list_objects_v2(Bucket="faces", Prefix=prefix).get("Contents", ())
    return {item["Key"].removeprefix(prefix) for item in found}


# Addresses


@pytest.mark.parametrize(
    "arguments",
    [
        ("fetch", "--params", "s3://faces/params.yaml"),
        ("prepare", "--parts", "s3://faces/parts"),
        ("train", "none", "--profile", "s3://faces/profile"),
        ("register", "--registration", "s3://faces/registration.json"),
        ("summary", "--report", "s3://faces/report"),
        ("key", "new", "s3://faces/master.key"),
        ("encrypt", "photo.png", "--out", "s3://faces/out"),
        ("decrypt", "s3://faces/photo.png", "--out", "out"),
        ("data", "publish", "s3://faces/prepared", "s3://faces/copy"),
        ("data", "fetch", "facescrub", "--list", "s3://faces/list.txt", "--out", "out"),
        ("pipeline", "compile", "--output", "https://name:hidden@host/pipeline.yaml"),
    ],
    ids=" ".join,
)
def test_an_option_that_takes_no_address_says_so_and_writes_nothing(project, capsys, arguments):
    status, _, error = ddm(capsys, *arguments)
    assert status == 2
    assert error.endswith("takes a local path, and was given an address")
    assert "hidden" not in error
    assert names(project) == ["params.yaml"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("dvc://repository@v1:data/raw", "neither a local path nor s3://bucket/prefix"),
        ("https://faces/raw?token=hidden", "neither a local path nor s3://bucket/prefix"),
        ("s3:/faces/raw", "neither a local path nor s3://bucket/prefix"),
        ("s3://faces", "names no plain prefix in a bucket"),
        ("s3://faces/../raw", "names no plain prefix in a bucket"),
        ("s3://faces/a//raw", "names no plain prefix in a bucket"),
    ],
)
def test_an_address_that_a_stage_cannot_use_is_refused_before_it_runs(project, capsys, address, reason):
    for verb, option in (("fetch", "--raw"), ("prepare", "--raw"), ("prepare", "--prepared")):
        status, _, error = ddm(capsys, verb, option, address)
        assert status == 2
        assert reason in error
        assert "hidden" not in error
    assert names(project) == ["params.yaml"]


def test_a_stage_that_is_called_with_an_address_for_a_path_does_not_take_it_for_a_folder(
    project, photo_folder
):
    """`Path` makes `s3:/faces/prepared` of it."""
    params = load(Path("params.yaml"))
    with pytest.raises(DdmError, match="a local path is needed here, and an address was given"):
        prepare.run(params.prepare, raw=photo_folder, prepared=Path("s3://faces/prepared"))
    with pytest.raises(DdmError, match="a local path is needed here, and an address was given"):
        fetch.run(params.fetch, raw=Path("s3://faces/raw"))
    assert names(project) == ["params.yaml"]


def test_a_place_goes_down_as_a_path_does():
    where = place("s3://faces/models/")
    assert where == RemotePlace("s3://faces/models")
    assert str(where / "ddm") == "s3://faces/models/ddm"
    assert place("models") / "ddm" == Path("models/ddm")
    assert not is_remote(str(place("./models")))


# Stages


def test_the_whole_pipeline_runs_from_s3_to_s3(s3, project, capsys):
    """What is on this machine afterwards is the params and what was staged; that is all inputs."""
    at = "s3://faces/run"
    prepared, models, recogniser = f"{at}/prepared", f"{at}/models", f"{at}/recogniser"
    measured = ["--prepared", prepared, "--models", models, "--recogniser", recogniser]
    steps = [
        ["fetch", "--raw", f"{at}/raw"],
        ["prepare", "--raw", f"{at}/raw", "--prepared", prepared, "--workers", "1"],
        ["recognise", "--prepared", prepared, "--recogniser", recogniser],
    ]
    for name in ("none", "mosaic8"):
        steps.append(["train", name, "--prepared", prepared, "--models", models])
        steps[-1] += ["--histories", f"{at}/histories"]
        cells = [["attack", name, attacker] for attacker in ATTACKERS + CONTROLS]
        steps += [[*cell, *measured, "--attacks", f"{at}/attacks"] for cell in cells]
        steps.append(["utility", name, *measured, "--utility", f"{at}/utility"])
    steps.append(["report", "--prepared", prepared, "--recogniser", recogniser, "--attacks", f"{at}/attacks"])
    steps[-1] += ["--utility", f"{at}/utility", "--histories", f"{at}/histories", "--report", f"{at}/report"]
    for step in steps:
        status, printed, error = ddm(capsys, *step)
        assert status == 0, (step, error)
        assert ".staging" not in printed
    assert keys(s3, "run/prepared/") >= {"manifest.json", "photos.jsonl"}
    assert keys(s3, "run/models/") == {"none/obfuscator.json", "mosaic8/obfuscator.json"}
    assert "mosaic8/clean/result.json" in keys(s3, "run/attacks/")
    assert keys(s3, "run/report/") >= {"metrics.json", "report.html"}
    assert names(project) == [".staging", "params.yaml"]
    assert {path.parts[0] for path in map(Path, tree(project / ".staging"))} == {"downloads"}


def test_a_set_on_s3_is_the_set_that_a_local_run_makes(s3, project, capsys):
    assert ddm(capsys, "fetch")[0] == 0
    assert ddm(capsys, "prepare", "--workers", "1")[0] == 0
    assert ddm(capsys, "data", "publish", "data/raw", "s3://faces/raw")[0] == 0
    arguments = ("prepare", "--raw", "s3://faces/raw", "--prepared", "s3://faces/prepared", "--workers", "1")
    status, printed, _ = ddm(capsys, *arguments)
    assert status == 0
    assert printed.startswith("s3://faces/prepared: 25 train and 5 test photos of 5 people")
    with staged() as staging:
        assert tree(staging.read(place("s3://faces/prepared"), "prepared")) == tree(Path("data/prepared"))
    assert ddm(capsys, *arguments)[0] == 0  # the same again is no other set


def test_shares_are_made_and_merged_with_the_set_on_s3(s3, project, capsys):
    ddm(capsys, "fetch", "--raw", "s3://faces/raw")
    paths = ("--raw", "s3://faces/raw", "--prepared", "s3://faces/prepared", "--workers", "1")
    for share in ("0/2", "1/2"):
        assert ddm(capsys, "prepare", "--shard", share, *paths)[0] == 0
    assert keys(s3, "prepared/") == set()
    assert ddm(capsys, "prepare", "--merge", *paths)[0] == 0
    assert "manifest.json" in keys(s3, "prepared/")


def test_what_is_wrong_with_an_input_names_its_address(s3, project, capsys):
    s3.put_object(Bucket="faces", Key="prepared/manifest.json", Body=b"{}")
    status, _, error = ddm(capsys, "recognise", "--prepared", "s3://faces/prepared")
    assert status == 1
    assert error.startswith("ddm: error: s3://faces/prepared/manifest.json: schema version None")


@pytest.mark.parametrize(("data", "keeps_a_copy"), [("memory", True), ("stream", False), ("auto", False)])
def test_a_training_streams_from_s3_unless_its_photos_are_to_be_in_memory(
    s3, project, capsys, data, keeps_a_copy
):
    params = yaml.safe_load((project / "params.yaml").read_text())
    small = yaml.safe_load((CHECKOUT / "params.yaml").read_text())["train"]["ddm"]
    params["train"]["ddm"] = small | {
        "steps": 2,
        "warmup_steps": 1,
        "batch_size": 4,
        "data": data,
        "threads": 1,
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    places = ("--raw", "s3://faces/raw", "--prepared", "s3://faces/prepared")
    assert ddm(capsys, "fetch", *places[:2])[0] == 0
    assert ddm(capsys, "prepare", *places, "--workers", "1")[0] == 0
    shutil.rmtree(project / ".staging")
    status, _, error = ddm(capsys, "train", "ddm", *places[2:], "--no-resume")
    assert status == 0, error
    assert (project / "models/ddm/weights.safetensors").exists()
    assert (project / ".staging").exists() == keeps_a_copy
    assert source_in_mlflow() == {"uri": "s3://faces/prepared"}


def source_in_mlflow():
    """Where the latest training's photos lie, by its run."""
    client = connect()
    (run, *_) = client.search_runs([experiment_id(client, EXPERIMENT)])
    (photos,) = run.inputs.dataset_inputs
    return json.loads(photos.dataset.source)


def test_a_set_that_is_not_whole_is_not_read(s3, project, capsys):
    s3.put_object(Bucket="faces", Key="prepared/train-0000.tar", Body=b"the first of several")
    status, _, error = ddm(capsys, "recognise", "--prepared", "s3://faces/prepared")
    assert status == 1
    assert error.startswith("ddm: error: s3://faces/prepared: no manifest.json below it")
    assert names(project) == ["params.yaml"]


def test_a_stage_does_not_begin_where_another_result_stands(s3, project, capsys):
    """Hours of training must not end in this line."""
    s3.put_object(Bucket="faces", Key="models/none/obfuscator.json", Body=b"{}")
    status, _, error = ddm(capsys, "train", "none", "--models", "s3://faces/models")
    assert status == 1
    assert error == (
        "ddm: error: s3://faces/models/none/obfuscator.json: a set is published there; name another prefix"
    )
    assert s3.get_object(Bucket="faces", Key="models/none/obfuscator.json")["Body"].read() == b"{}"


def test_a_result_that_could_not_be_published_is_kept_and_the_line_says_how_to_go_on(s3, project, capsys):
    s3.put_object(Bucket="faces", Key="raw/.publishing", Body=b"of another writer")
    status, _, error = ddm(capsys, "fetch", "--raw", "s3://faces/raw")
    assert status == 1
    command = re.search("`ddm (data publish .+ s3://faces/raw)` try again", error)[1]
    s3.delete_object(Bucket="faces", Key="raw/.publishing")
    status, printed, _ = ddm(capsys, *command.split())
    assert status == 0
    assert printed.startswith("s3://faces/raw: 31 objects sent, 0 were there, ")
    assert "source.json" in keys(s3, "raw/")


def test_results_after_one_that_could_not_be_published_are_named_too(s3, project, capsys, prepared):
    s3.put_object(Bucket="faces", Key="models/none/.publishing", Body=b"of another writer")
    places = ("--prepared", str(prepared), "--models", "s3://faces/models", "--histories", "s3://faces/runs")
    status, _, error = ddm(capsys, "train", "none", *places)
    assert status == 1
    assert len(re.findall("`ddm data publish [^ ]+/none s3://faces/(?:models|runs)/none`", error)) == 2
    s3.delete_object(Bucket="faces", Key="models/none/.publishing")
    for command in re.findall("`ddm ([^`]+)`", error):
        assert ddm(capsys, *command.split())[0] == 0
    assert keys(s3, "") == {"models/none/obfuscator.json", "runs/none/timing.json"}


# Publishing


def test_a_folder_that_no_stage_wrote_is_not_published(s3, project, capsys):
    (project / "photos").mkdir()
    status, _, error = ddm(capsys, "data", "publish", "photos", "s3://faces/photos")
    assert status == 1
    assert error.startswith("ddm: error: photos: no finished folder of a stage; expected one of source.json")
    assert keys(s3, "") == set()


def test_publishing_goes_to_an_address(project, capsys):
    status, _, error = ddm(capsys, "data", "publish", "data/raw", "somewhere")
    assert status == 2
    assert error.endswith("'somewhere' is no address; write s3://bucket/prefix")
