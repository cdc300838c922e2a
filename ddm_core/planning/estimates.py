"""From counted work to hours, bytes and dollars: plain arithmetic with its assumptions in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ddm_core.planning.gpu_types import GpuType

if TYPE_CHECKING:
    from ddm_core.planning.step_work import StepWork

TAR_BYTES = 1792  # a photo's two headers, its JSON and its padding in a shard
SECONDS_PER_HOUR = 3600
GPUS_PER_NODE = 8


@dataclass(frozen=True)
class Assumptions:
    """What is not counted. All are stated with every plan.

    `efficiency`: model FLOP utilisation, the fraction of the peak that convolutions reach.
    `operation_seconds`: how long the host takes to start one operation. `usable_memory`: the fraction of a
    GPU's memory for what is counted; the rest is for gradients of activations, workspaces and CUDA itself.
    `png_bytes_per_value`: of a photo, a value being one channel of a pixel. Decoding a PNG takes one
    core `decode_seconds` and `decode_seconds_per_value` more for each value. `cores_per_gpu` decode for each
    GPU, and `s3_bytes_per_second` reach each of them.
    """

    efficiency: float = 0.3
    operation_seconds: float = 10e-6
    usable_memory: float = 0.6
    png_bytes_per_value: float = 0.7
    decode_seconds: float = 50e-6
    decode_seconds_per_value: float = 10e-9
    cores_per_gpu: float = 12
    s3_bytes_per_second: float = 1.5e9


@dataclass(frozen=True)
class Workload:
    """So many photos [channels, image_size, image_size] in a training of so many steps."""

    photos: int
    image_size: int
    channels: int
    steps: int
    gpus: int
    batch_per_gpu: int
    precision: Literal["fp32", "bf16", "fp16"]
    shard_megabytes: int

    @property
    def photos_seen(self) -> int:
        """Photos that all steps take together."""
        return self.steps * self.gpus * self.batch_per_gpu

    @property
    def values(self) -> int:
        """Values of one photo, a byte each as pixels."""
        return self.channels * self.image_size**2


@dataclass(frozen=True)
class Storage:
    """Bytes of one stored photo and of all, shards that hold them, bytes of the pixels in memory."""

    photo_bytes: float
    total_bytes: float
    shards: int
    pixel_bytes: int


@dataclass(frozen=True)
class Estimate:
    """One training on one GPU type; rates for all GPUs together, `largest_batch` for one of them."""

    gpu: GpuType
    largest_batch: int
    fits: bool
    step_seconds: float
    bound: str
    photos_per_second: float
    hours: float
    bytes_per_second: float
    decoding_cores: float
    cost: float | None


def steps_for(epochs: float, photos: int, gpus: int, batch_per_gpu: int) -> int:
    """Return the steps that pass over all photos `epochs` times."""
    return max(1, math.ceil(epochs * photos / (gpus * batch_per_gpu)))


def storage(workload: Workload, assumed: Assumptions) -> Storage:
    """Return what the photos take as tar shards of PNGs."""
    photo_bytes = TAR_BYTES + assumed.png_bytes_per_value * workload.values
    total = photo_bytes * workload.photos
    shards = math.ceil(total / (workload.shard_megabytes * 10**6))
    return Storage(photo_bytes, total, shards, workload.photos * workload.values)


def step_seconds(workload: Workload, work: StepWork, gpu: GpuType, assumed: Assumptions) -> tuple[float, str]:
    """Return the seconds of a step on one GPU, and which of five bounds is the largest.

    `compute`: the FLOPs at the assumed efficiency. `memory`: activations are written once and read once.
    `launches`: the host starts every operation. `decoding` and `S3`: the photos arrive. Communication
    between GPUs is left out: the gradients of these networks are about ten megabytes.
    """
    batch = workload.batch_per_gpu
    bounds = {
        "compute": batch * work.flops_per_image / (gpu.peak(workload.precision) * assumed.efficiency),
        "memory": 2 * batch * work.activation_bytes_per_image / gpu.bandwidth,
        "launches": work.operations * assumed.operation_seconds,
        "decoding": batch * _decoding(workload, assumed) / assumed.cores_per_gpu,
        "S3": batch * storage(workload, assumed).photo_bytes / assumed.s3_bytes_per_second,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return bounds[bound], bound


def estimate(
    workload: Workload, work: StepWork, gpu: GpuType, assumed: Assumptions, price: float | None
) -> Estimate:
    """Return what the training takes on GPUs of one type; `price` is dollars an hour for one of them."""
    seconds, bound = step_seconds(workload, work, gpu, assumed)
    room = gpu.memory * assumed.usable_memory - work.fixed_bytes
    largest = max(0, int(room // work.activation_bytes_per_image))
    rate = workload.gpus * workload.batch_per_gpu / seconds
    hours = workload.steps * seconds / SECONDS_PER_HOUR
    return Estimate(
        gpu=gpu,
        largest_batch=largest,
        fits=workload.batch_per_gpu <= largest,
        step_seconds=seconds,
        bound=bound,
        photos_per_second=rate,
        hours=hours,
        bytes_per_second=rate * storage(workload, assumed).photo_bytes,
        decoding_cores=rate * _decoding(workload, assumed),
        cost=None if price is None else workload.gpus * hours * price,
    )


def _decoding(workload: Workload, assumed: Assumptions) -> float:
    return assumed.decode_seconds + workload.values * assumed.decode_seconds_per_value


def gpus_within(hours: float, single: Estimate) -> int:
    """Return how many GPUs finish in `hours` what one does in `single`: 1, 2, 4, 8, then whole nodes."""
    needed = single.hours / hours
    for gpus in (1, 2, 4, GPUS_PER_NODE):
        if needed <= gpus:
            return gpus
    return math.ceil(needed / GPUS_PER_NODE) * GPUS_PER_NODE
