"""The component `train_job` hands its inputs on as KFP gives them to it: artifacts, and numbers as floats."""

import dataclasses
import json

import pytest
from kfp.dsl import Artifact, Dataset, Model

from components.train_job import train_job
from ddm_core.errors import DdmError
from ddm_core.obfuscators.store import load_obfuscator


@pytest.fixture
def call(cluster, settings, prepared, tmp_path):
    """Call the component; return the model artifact."""

    def start(obfuscator):
        model = Model(uri=str(tmp_path / "model"))
        given = {"obfuscator": obfuscator, "settings": dataclasses.asdict(settings)}
        train_job.python_func(
            **json.loads(json.dumps(given), parse_int=float),
            prepared=Dataset(uri=str(prepared)),
            model=model,
            history=Artifact(uri=str(tmp_path / "history")),
        )
        return model

    return start


def test_the_model_artifact_says_what_it_holds(call, tmp_path):
    model = call({"name": "blocks", "method": "mosaic", "block": 8})
    assert (model.metadata["obfuscator"], model.metadata["method"]) == ("blocks", "mosaic")
    assert len(model.metadata["weights_sha256"]) == 64
    assert load_obfuscator(tmp_path / "model" / "blocks") is not None


def test_a_method_that_learns_becomes_a_job(call, cluster, ddm_params):
    cluster.programs = dict.fromkeys(range(2), "import sys; sys.exit(7)")
    with pytest.raises(DdmError, match="ended with status 7"):
        call({"name": "tiny", **dataclasses.asdict(ddm_params)})
    (manifest,) = cluster.created
    assert manifest["spec"]["trainer"]["numNodes"] == 2
    assert manifest["metadata"]["name"].startswith("ddm-tiny-")


def test_a_mistake_in_the_settings_is_one_line(call):
    with pytest.raises(DdmError, match="train: tiny"):
        call({"name": "tiny", "method": "ddmm"})
