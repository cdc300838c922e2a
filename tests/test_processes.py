"""Several processes in one pod train as `ddm train` under torchrun does, and end as one process would."""

import dataclasses
import os
import re
import shutil
import signal
import threading
import time

import pytest
from running_processes import ps
from safetensors.torch import load_file

from ddm_core import processes
from ddm_core.checkpoint_options import CheckpointOptions, parse_interval
from ddm_core.checkpoints import weights_digest
from ddm_core.errors import DdmError

NAME = "tiny"


@pytest.fixture
def train(prepared, empty_store, tmp_path, monkeypatch):
    """Train with so many processes into folders of a name; return the model's folder and the result."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    def start(params, count, checkpoints=None):
        model = tmp_path / f"model{count}" / NAME
        history = tmp_path / f"history{count}" / NAME
        result = processes.run(
            params,
            name=NAME,
            prepared=prepared,
            model=model,
            history=history,
            checkpoints=checkpoints,
            processes=count,
        )
        assert (history / "history.csv").exists()
        return model, result

    return start


def test_two_processes_make_nearly_the_model_of_one(train, ddm_params):
    """Sums in another order: the weights agree, though not bit for bit."""
    (alone, _), (together, result) = train(ddm_params, 1), train(ddm_params, 2)
    assert result.weights_sha256 == weights_digest(together)
    assert result.seconds > 0
    weights, others = (load_file(folder / "weights.safetensors") for folder in (alone, together))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert weight.allclose(others[name], rtol=0, atol=1e-4), name


def test_what_the_processes_say_is_seen_and_their_failure_is_ours(train, ddm_params, capfd):
    with pytest.raises(
        DdmError, match=r"^rank . of 2: batch_size 1 is less than a photo for each of 2 processes; raise it"
    ):
        train(dataclasses.replace(ddm_params, batch_size=1), 2)
    assert "batch_size 1 is less than a photo for each of 2 processes" in capfd.readouterr().err


def test_sigterm_checkpoints_and_ends_with_143_and_the_same_call_goes_on(train, ddm_params, tmp_path, capfd):
    params = dataclasses.replace(ddm_params, steps=150)
    options = CheckpointOptions(str(tmp_path / "kept"), parse_interval("2"))

    def terminate():
        while not list(tmp_path.glob("kept/*/step-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit) as ended:
        train(params, 2, options)
    assert ended.value.code == 143
    running = ps("-eo", "args")
    assert "pytest" in running
    assert str(tmp_path / "kept") not in running, "no process outlives the one that started it"
    said = capfd.readouterr().err
    assert "told to end by SIGTERM" in said
    train(params, 2, options)
    assert re.search(r"going on after step [1-9]", capfd.readouterr().err)


@pytest.mark.parametrize("text", ["500", "5min"])
def test_an_interval_is_handed_on_as_it_was_written(text):
    assert str(parse_interval(text)) == text
