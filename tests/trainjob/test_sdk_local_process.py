"""The training in the Kubeflow SDK's local-process backend, as people without a cluster start it."""

import importlib.metadata
import os
import shutil
import site
import sys
import zipfile
from pathlib import Path

import pytest
from kubeflow.trainer import CustomTrainer, TrainerClient
from kubeflow.trainer.backends.localprocess.types import LocalProcessBackendConfig

from ddm_core import processes
from ddm_core.checkpoints import weights_digest

NAME = "tiny"
RUNTIME = "torch-distributed"
ENDED = {"Complete", "Failed"}


def train_obfuscator(parameters):
    """What each process runs; the SDK copies this text into a file of its own, so it imports for itself."""
    import sys

    from ddm_core.cli import main

    sys.exit(main(parameters["arguments"]))


@pytest.fixture
def torch_of_this_environment(tmp_path):
    """A package in torch's place: `torchrun`, and a path to what is installed here.

    The backend makes an empty environment and installs torch into it: gigabytes without a CPU build.
    """
    version = importlib.metadata.version("torch").split("+")[0] + "+here"
    wheel = tmp_path / f"torch-{version}-py3-none-any.whl"
    information = f"torch-{version}.dist-info"
    checkout = Path(processes.__file__).parents[1]
    files = {
        "here.pth": "\n".join([*site.getsitepackages(), str(checkout)]) + "\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": "[console_scripts]\ntorchrun = torch.distributed.run:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{information}/RECORD": record}.items():
            archive.writestr(name, text)
    return f"torch @ {wheel.as_uri()}"


@pytest.fixture
def run(prepared, empty_store, torch_of_this_environment, tmp_path):
    """Run `ddm train` on a parameter file in two processes of the backend; return the job and its log."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = TrainerClient(backend_config=LocalProcessBackendConfig())

    def start(section):
        folders = {"--models": "models", "--histories": "histories", "--checkpoints": "checkpoints"}
        arguments = ["train", NAME, "--params", str(section), "--prepared", str(prepared)]
        arguments += [part for flag, name in folders.items() for part in (flag, str(tmp_path / name))]
        job = client.train(
            runtime=client.get_runtime(RUNTIME),
            trainer=CustomTrainer(
                func=train_obfuscator,
                func_args={"arguments": arguments},
                packages_to_install=[torch_of_this_environment],
                env={  # the whole environment: the backend adds nothing
                    "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
                    "TMPDIR": str(tmp_path),
                    "PET_NPROC_PER_NODE": "2",
                    "PIP_NO_INDEX": "1",
                    "OMP_NUM_THREADS": "1",
                    "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
                },
            ),
        )
        ended = client.wait_for_job_status(job, status=ENDED, timeout=120, polling_interval=1)
        return ended.status, "\n".join(client.get_job_logs(job))

    return start


def test_the_backend_trains_the_very_model_that_two_processes_train(run, prepared, ddm_params, tmp_path):
    section = processes.write_section(tmp_path, NAME, ddm_params)
    status, log = run(section)
    assert status == "Complete", log
    model, history = tmp_path / "ours" / NAME, tmp_path / "history" / NAME
    processes.run(
        ddm_params, name=NAME, prepared=prepared, model=model, history=history, checkpoints=None, processes=2
    )
    assert weights_digest(tmp_path / "models" / NAME) == weights_digest(model)


def test_a_training_that_fails_is_a_failed_job_with_its_line_in_the_log(run, tmp_path):
    status, log = run(tmp_path / "missing.yaml")
    assert status == "Failed"
    assert "ddm: error:" in log
    assert not (tmp_path / "models").exists()
