"""What one training step does and holds, counted by torch in a real step on one and on two photos."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ddm_core.learned_params import KeyedParams, LearnedParams, PhotoDdmParams
from ddm_core.networks import Discriminator
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.seeding import make_deterministic
from ddm_core.training import train

_MOMENTS = 2  # that Adam keeps of each weight
_NAME = "plan"


@dataclass(frozen=True)
class StepWork:
    """FLOPs of a photo, forward and backward; operations of a step; bytes of what memory holds.

    FLOPs are those of convolutions and matrix products. Activations are what torch keeps for the backward
    pass.
    """

    weights: int
    flops_per_image: int
    operations: int
    weight_bytes: int
    optimiser_bytes: int
    activation_bytes_per_image: int
    activation_bytes_fixed: int

    @property
    def fixed_bytes(self) -> int:
        """Memory that does not grow with the batch: weights, gradients, moments, what a step keeps once."""
        return 2 * self.weight_bytes + self.optimiser_bytes + self.activation_bytes_fixed


@dataclass(frozen=True)
class _Count:
    flops: int
    operations: int
    activations: int


def count_step(params: LearnedParams, channels: int, image_size: int) -> StepWork:
    """Run the training's own step on photos of this shape and count; on the CPU or the GPU that is there.

    Keyed DDM's random channel is fixed to JPEG, without photo sites; the others differ by a hundredth.
    """
    settings: dict[str, Any] = {}
    if isinstance(params, KeyedParams):  # one quality, for its tables are made but once
        settings = {
            "jpeg_probability": 1.0,
            "resize_probability": 0.0,
            "jpeg_quality_max": params.jpeg_quality_min,
        }
    if isinstance(params, PhotoDdmParams):
        settings["site_share"] = 0.0
    single = dataclasses.replace(params, steps=1, warmup_steps=0, threads=torch.get_num_threads(), **settings)
    description = Description(single, channels, image_size)
    one, two = (_count(dataclasses.replace(single, batch_size=size), description) for size in (1, 2))
    trained = [*build_networks(description).parameters(), *Discriminator(channels).parameters()]
    weight_bytes = sum(weight.nbytes for weight in trained)
    return StepWork(
        weights=sum(weight.numel() for weight in trained),
        flops_per_image=two.flops - one.flops,
        operations=two.operations,  # the first run also makes tables that later ones find
        weight_bytes=weight_bytes,
        optimiser_bytes=_MOMENTS * weight_bytes,
        activation_bytes_per_image=two.activations - one.activations,
        activation_bytes_fixed=max(0, 2 * one.activations - two.activations),
    )


def _count(params: LearnedParams, description: Description) -> _Count:
    make_deterministic(params.seed, _NAME)
    networks = build_networks(description)
    side = description.image_size
    photos = torch.zeros(params.batch_size, description.channels, side, side, dtype=torch.uint8)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        redirect_stderr(io.StringIO()),  # the progress bar of one step
        FlopCounterMode(display=False) as flops,
        _OperationCounter() as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        train(networks, photos, params, _NAME, lambda _: None, goal=training_goal(networks))
    return _Count(flops.get_total_flops(), counter.operations, sum(kept.values()))


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that run something; views do not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        arguments: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        self.operations += not function.is_view
        call: Callable[..., Any] = function
        return call(*arguments, **(named or {}))
