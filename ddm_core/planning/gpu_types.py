"""GPU types as their vendor's data sheets describe them, and what an hour is assumed to cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ddm_core.errors import DdmError, did_you_mean

PRICE_SOURCE = (
    "middle of the on-demand range of specialised clouds in May 2026, mercatus-ai.com/blog/cloud-gpu-pricing"
)


@dataclass(frozen=True)
class GpuType:
    """Memory in bytes, its bandwidth in bytes/s, dense peaks in FLOP/s, the price of an hour in dollars.

    Data sheets give tensor-core peaks with sparsity; a dense peak is half of that. `fp32_flops` is
    without TF32.
    """

    name: str
    memory: float
    bandwidth: float
    bf16_flops: float
    fp32_flops: float
    source: str
    hourly_price: float | None = None

    def peak(self, precision: Literal["fp32", "bf16", "fp16"]) -> float:
        """Return the peak at a precision in FLOP/s; tensor cores take fp16 as fast as bf16."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops


GPU_TYPES = {
    gpu.name: gpu
    for gpu in (
        GpuType("L4", 24e9, 300e9, 121e12, 30.3e12, "NVIDIA L4 data sheet"),
        GpuType("L40S", 48e9, 864e9, 362e12, 91.6e12, "NVIDIA L40S data sheet"),
        GpuType("A100-80GB", 80e9, 2039e9, 312e12, 19.5e12, "NVIDIA A100 data sheet, SXM", 1.30),
        GpuType("H100-80GB", 80e9, 3350e9, 989e12, 67e12, "NVIDIA H100 data sheet, SXM", 3.00),
        GpuType("H200-141GB", 141e9, 4800e9, 989e12, 67e12, "NVIDIA H200 data sheet, SXM", 4.00),
    )
}


def gpu_type(name: str) -> GpuType:
    """Return the type of this name.

    Raises:
        DdmError: it is not in the table.
    """
    if name not in GPU_TYPES:
        known = ", ".join(GPU_TYPES)
        raise DdmError(f"unknown GPU type '{name}'{did_you_mean(name, GPU_TYPES)}; known are {known}")
    return GPU_TYPES[name]


def parse_prices(texts: Iterable[str]) -> dict[str, float]:
    """Read `TYPE=DOLLARS` an hour, such as `L4=0.80`.

    Raises:
        DdmError: not of this form, an unknown type, or not above 0.
    """
    prices = {}
    for text in texts:
        name, _, amount = text.partition("=")
        try:
            prices[gpu_type(name).name] = float(amount)
        except ValueError:
            raise DdmError(f"price is '{text}'; write TYPE=DOLLARS an hour, such as L4=0.80") from None
        if not 0 < prices[name] < float("inf"):
            raise DdmError(f"price is '{text}'; the dollars must be above 0")
    return prices
