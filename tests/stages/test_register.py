"""register lets models into the registry, and only those that survived become champion."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save

from ddm_core.checkpoints import weights_digest
from ddm_core.errors import DdmError
from ddm_core.files import sha256_bytes, write_json
from ddm_core.obfuscators.store import Description, build_networks, save_obfuscator
from ddm_core.params import ChannelLimit, load
from ddm_core.serving import registry, variants, versions
from ddm_core.stages.register import command_to_register_again, run, summarise
from ddm_core.tracking import WEIGHTS_TAG, connect, track_run

CHECKOUT = Path(__file__).parents[2]
PARAMS = load(CHECKOUT / "params.yaml")
BOTH = PARAMS.register
KEYED = dataclasses.replace(BOTH, models={"keyed_ddm": "keyed_ddm"})
MEND = "dvc repro --force --single-item register"
ATTACKERS, CHANNELS = tuple(BOTH.gate.attackers), tuple(BOTH.gate.channels)


def evidence(worst=0.03, psnr=33.0):
    cell = {"top1": worst, "ci95": [worst - 0.01, worst + 0.02], "n": 1280}
    utility = {"psnr_db": psnr, "ssim": 0.95, "recognition_top1": 0.99, "ci95": [0.97, 1.0], "n": 320}
    return {
        "method": "keyed_ddm",
        "decrypts": True,
        "attacks": dict.fromkeys(ATTACKERS, cell),
        "worst_case": {"attacker": "retrained", "top1": worst, "ci95": cell["ci95"]},
        "controls": {},
        "not_applicable": {},
        "utility": dict.fromkeys(CHANNELS, utility),
    }


@dataclasses.dataclass
class Project:
    folder: Path
    metrics: dict

    def train(self, seed):
        """Write both models, other weights for another seed."""
        for name in ("ddm", "keyed_ddm"):
            torch.manual_seed(seed)
            small = {"width": 8} | ({"blocks": 1} if name == "keyed_ddm" else {})  # exports take the time
            params = dataclasses.replace(PARAMS.train[name], **small)
            description = Description(params, channels=1, image_size=16)
            folder = self.folder / "models" / name
            folder.mkdir(parents=True, exist_ok=True)
            save_obfuscator(folder, description, build_networks(description))

    def register(self, params=KEYED, **measured):
        """Run the stage on `measured` evidence; the registrations by model name."""
        self.metrics["obfuscators"].update(measured)
        for name, figures in self.metrics["obfuscators"].items():
            folder = self.folder / "models" / name
            if (folder / "weights.safetensors").exists() and isinstance(figures, dict):
                figures.setdefault("weights_sha256", weights_digest(folder))
        write_json(self.folder / "metrics.json", self.metrics)
        result = run(
            params,
            metrics=self.folder / "metrics.json",
            models=self.folder / "models",
            registration=self.folder / "registration.json",
        )
        return {model.name: model for model in result.models}

    def versions(self, name):
        return sorted(int(v.version) for v in connect().search_model_versions(f"name = '{name}'"))


@pytest.fixture(scope="module", autouse=True)
def _exported_once():
    """Exports are tested in tests/serving/test_variants.py and take seconds: each networks' own, but once."""
    export, exported = variants.write_variants, {}

    def write_variants(networks, channels, folder):
        key = sha256_bytes(save(networks.state_dict()))
        if key not in exported:
            export(networks, channels, folder)
            exported[key] = {path.name: path.read_bytes() for path in folder.iterdir()}
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in exported[key].items():
            (folder / name).write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "write_variants", write_variants)
        yield


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    metrics = {
        "schema_version": 1,
        "chance_top1": 0.025,
        "obfuscators": {"ddm": evidence(worst=0.97), "keyed_ddm": evidence()},
        "provenance": {"commit": "c0ffee", "dirty": False, "dataset_digest": "ab" * 32},
    }
    project = Project(tmp_path, metrics)
    project.train(seed=0)
    return project


def test_the_first_that_passes_is_champion_and_one_that_fails_is_kept_with_its_reason(project):
    models = project.register(BOTH)

    keyed = models["keyed_ddm"]
    assert (keyed.passed, keyed.version, keyed.champion) == (True, 1, 1)
    assert keyed.aliases == ("challenger", "champion")
    plain = models["ddm"]
    assert (plain.passed, plain.version, plain.champion, plain.aliases) == (False, 1, None, ())
    assert "upper 95 % bound 99.0 %, more than 8.0 %" in plain.reason

    tags = connect().get_model_version("keyed_ddm", "1").tags
    assert tags["ddm.gate"] == "passed"
    assert tags["ddm.commit"] == "c0ffee"
    assert tags["ddm.dataset_digest"] == "ab" * 32
    assert tags["ddm.worst_case_top1_upper95"] == "0.05"
    assert tags["ddm.psnr_db_resize50"] == "33"
    failing = connect().get_model_version("ddm", "1")
    assert failing.tags["ddm.gate"] == "failed"
    assert "worst attacker" in failing.tags["ddm.gate_failures"]
    assert failing.description.startswith("FAILED the gate")


def test_the_record_holds_everything_the_summary_needs(project):
    project.register(BOTH)
    record = json.loads((project.folder / "registration.json").read_text())
    assert record["tracking_uri"] == "sqlite:///mlflow.db"
    assert [model["name"] for model in record["models"]] == ["ddm", "keyed_ddm"]
    assert {check["name"]: check["passed"] for check in record["models"][0]["checks"]}["decrypts"] is True

    summary = summarise(project.folder / "registration.json")
    assert "keyed_ddm: version 1 is champion" in summary
    assert "ddm: no version is champion" in summary
    assert "failed the gate" in summary
    assert summary.splitlines()[-1].endswith("mlflow ui --backend-store-uri sqlite:///mlflow.db")
    assert MEND not in summary


def test_a_version_points_to_the_run_that_trained_its_weights(project):
    with track_run(name="train/keyed_ddm", params={}) as training:
        training.set_tags({WEIGHTS_TAG: weights_digest(project.folder / "models/keyed_ddm")})
    models = project.register(BOTH)
    assert models["keyed_ddm"].training_run == training.run_id
    assert models["ddm"].training_run is None
    assert connect().get_model_version("keyed_ddm", "1").run_id == training.run_id


def test_a_better_model_replaces_the_champion(project):
    project.register()
    project.train(seed=1)
    keyed = project.register(keyed_ddm=evidence(psnr=33.2))["keyed_ddm"]
    assert (keyed.version, keyed.champion, keyed.aliases) == (2, 2, ("challenger", "champion"))
    assert "33.20 dB against the champion's 33.00 dB" in keyed.reason


def test_a_model_that_is_not_better_enough_is_challenger_and_the_champion_stays(project):
    project.register()
    project.train(seed=1)
    keyed = project.register(keyed_ddm=evidence(psnr=33.05))["keyed_ddm"]
    assert (keyed.version, keyed.champion, keyed.aliases) == (2, 1, ("challenger",))
    assert "champion stays" in keyed.reason
    assert "keyed_ddm: version 1 is champion" in summarise(project.folder / "registration.json")


def test_a_model_that_fails_moves_no_alias_of_the_one_that_passed(project):
    project.register()
    project.train(seed=1)
    keyed = project.register(keyed_ddm=evidence(worst=0.5, psnr=40.0))["keyed_ddm"]
    assert (keyed.version, keyed.passed, keyed.champion, keyed.aliases) == (2, False, 1, ())
    assert versions.aliases(connect(), "keyed_ddm") == {"challenger": 1, "champion": 1}


def test_figures_on_other_photos_do_not_compare_so_the_champion_stays(project):
    project.register()
    project.train(seed=1)
    project.metrics["provenance"]["dataset_digest"] = "cd" * 32
    keyed = project.register(keyed_ddm=evidence(psnr=40.0))["keyed_ddm"]
    assert (keyed.version, keyed.champion) == (2, 1)
    assert "other photos" in keyed.reason


def test_the_same_weights_and_evidence_make_no_second_version(project):
    first = project.register()
    assert project.register()["keyed_ddm"].version == first["keyed_ddm"].version
    assert project.versions("keyed_ddm") == [1]


def test_the_same_weights_measured_anew_are_a_new_version(project):
    project.register()
    assert project.register(keyed_ddm=evidence(psnr=33.01))["keyed_ddm"].version == 2


def test_a_stricter_gate_judges_the_same_version_again(project):
    project.register()
    stricter = dataclasses.replace(KEYED.gate, channels={"png": ChannelLimit(34.0, 0.97)})
    keyed = project.register(dataclasses.replace(KEYED, gate=stricter))["keyed_ddm"]
    assert (keyed.version, keyed.passed) == (1, False)
    assert connect().get_model_version("keyed_ddm", "1").tags["ddm.gate"] == "failed"


@pytest.mark.parametrize("step", ["_move_aliases", "experiment_id", "version_tags"])
def test_an_interrupted_registration_is_completed_by_the_next_run(project, monkeypatch, step):
    def interrupt(*_arguments, **_settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            project.register(BOTH)
    assert not (project.folder / "registration.json").exists()

    models = project.register(BOTH)
    assert models["keyed_ddm"].aliases == ("challenger", "champion")
    assert project.versions("keyed_ddm") == [1]
    assert project.versions("ddm") == [1]


def test_a_champion_whose_files_are_gone_is_replaced_by_the_same_model_registered_again(project):
    project.register()
    shutil.rmtree(project.folder / "mlartifacts")
    assert MEND in summarise(project.folder / "registration.json")
    keyed = project.register()["keyed_ddm"]
    assert (keyed.version, keyed.champion) == (2, 2)
    assert "are gone" in keyed.reason
    assert MEND not in summarise(project.folder / "registration.json")


def test_a_deleted_database_is_told_with_the_command_that_mends_it(project, empty_store, monkeypatch):
    project.register()
    elsewhere = project.folder / "elsewhere.db"
    shutil.copy(empty_store, elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    summary = summarise(project.folder / "registration.json")
    assert "keyed_ddm: no version is champion" in summary
    assert "dvc repro --force --single-item register" in summary
    assert f"not of sqlite:///{elsewhere}" in summary


@pytest.mark.parametrize(
    ("pipeline", "stage"), [("dvc.yaml", "register"), ("photo/dvc.yaml", "photo/dvc.yaml:register")]
)
def test_every_pipeline_is_told_the_command_of_its_own_register_stage(monkeypatch, pipeline, stage):
    monkeypatch.chdir(CHECKOUT)
    written = yaml.safe_load(Path(pipeline).read_text())["stages"]["register"]["outs"][0]
    registration = Path(next(iter(written)) if isinstance(written, dict) else written)
    assert command_to_register_again(registration) == f"dvc repro --force --single-item {stage}"


def test_evidence_that_is_missing_is_named_before_anything_is_registered(project):
    del project.metrics["obfuscators"]["keyed_ddm"]
    with pytest.raises(DdmError, match="names 'keyed_ddm', which was not measured"):
        project.register(BOTH)
    with pytest.raises(DdmError, match=r"weights\.safetensors: not found"):
        shutil.rmtree(project.folder / "models/keyed_ddm")
        project.register(BOTH, keyed_ddm=evidence())
    assert project.versions("ddm") == []


@pytest.mark.parametrize("part", ["obfuscators", "chance_top1", "provenance"])
def test_a_metrics_file_out_of_shape_is_one_line(project, part):
    metrics = copy.deepcopy(project.metrics)
    del metrics[part]
    write_json(project.folder / "metrics.json", metrics)
    with pytest.raises(DdmError, match=f"metrics.json: .*{part}") as caught:
        run(
            KEYED,
            metrics=project.folder / "metrics.json",
            models=project.folder / "models",
            registration=project.folder / "registration.json",
        )
    assert "\n" not in str(caught.value)


def test_figures_of_other_weights_are_refused(project):
    with pytest.raises(DdmError, match="keyed_ddm was measured with other weights"):
        project.register(KEYED, keyed_ddm=evidence() | {"weights_sha256": "ab" * 32})
    assert project.versions("keyed_ddm") == []
