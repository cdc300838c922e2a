"""How busy a GPU is comes from its driver; whatever the driver answers, no training ends for it."""

import pynvml
import pytest
import torch

from ddm_core import step_clock


@pytest.fixture
def driver(monkeypatch):
    """NVIDIA's driver as far as `nvidia-ml-py` asks it; `utilisation` is what it answers."""
    answers = {"utilisation": lambda: pynvml.c_nvmlUtilization_t(gpu=37, memory=5)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: f"device {index}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda handle: answers["utilisation"]())
    return answers


def refusing(error):
    def answer():
        raise error

    return answer


def test_the_drivers_percentage_becomes_a_fraction(driver):
    assert step_clock._gpu_utilisation() == 0.37


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,  # a slice of a GPU (MIG)
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_a_driver_that_refuses_leaves_the_figure_out(driver, code):
    driver["utilisation"] = refusing(pynvml.NVMLError(code))
    assert step_clock._gpu_utilisation() is None


def test_without_a_driver_the_figure_is_left_out():
    assert torch.cuda.is_available() or step_clock._gpu_utilisation() is None
