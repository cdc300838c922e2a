"""What the next step of a training depends on, as named tensors and plain values, and back bit for bit."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SMOOTHING_STEPS = 50  # over which the reconstruction loss that ranks checkpoints is averaged


@dataclass(frozen=True)
class TrainingState:
    """The changing parts of a training. `smoothed_l1` is a running mean of the reconstruction loss."""

    networks: nn.Module
    discriminator: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    draws: torch.Generator
    scaler: torch.amp.GradScaler
    smoothed_l1: Tensor

    def gradients(self) -> list[Tensor]:
        """Return the gradients of all weights, always in the same order."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        return [parameter.grad for parameter in parameters]

    def clipped(self, *, discriminator: bool) -> list[nn.Parameter]:
        """Return the weights whose gradients are bounded together, the discriminator's among them or not."""
        parameters = list(self.networks.parameters())
        return [*parameters, *self.discriminator.parameters()] if discriminator else parameters

    def smooth(self, reconstruction: Tensor, step: int) -> None:
        """Take the reconstruction loss of `step` (from 1) into the running mean, on the device."""
        self.smoothed_l1.lerp_(reconstruction.detach(), max(1.0 / step, 1.0 / SMOOTHING_STEPS))


@dataclass(frozen=True)
class Snapshot:
    """A state in memory: contiguous tensors by name, and values that JSON carries exactly."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def take_snapshot(state: TrainingState, position: dict[str, Any]) -> Snapshot:
    """Copy a state to memory, with the photos' `position` as plain JSON; the training may go on at once."""
    optimiser = state.optimiser.state_dict()
    tensors = {"draws": state.draws.get_state(), "smoothed_l1": state.smoothed_l1}
    for part, module in _modules(state).items():
        tensors |= {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, moments in optimiser["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
    copies = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    values = {
        "optimiser": optimiser["param_groups"],
        "schedule": state.schedule.state_dict(),
        "scaler": state.scaler.state_dict(),
        "position": position,
    }
    return Snapshot(copies, copy.deepcopy(values))


def restore(state: TrainingState, snapshot: Snapshot) -> None:
    """Put a training of the same settings where the snapshot was taken; the photos' position is left out."""
    tensors = snapshot.tensors
    for part, module in _modules(state).items():
        prefix = f"{part}."
        named = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        module.load_state_dict(named)
    moments = _moments(state.optimiser, tensors)
    state.optimiser.load_state_dict({"state": moments, "param_groups": snapshot.values["optimiser"]})
    state.schedule.load_state_dict(dict(snapshot.values["schedule"]))
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(snapshot.values["scaler"])
    state.draws.set_state(tensors["draws"])
    state.smoothed_l1.copy_(tensors["smoothed_l1"])


def _modules(state: TrainingState) -> dict[str, nn.Module]:
    return {"networks": state.networks, "discriminator": state.discriminator}


def _moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for full_name, tensor in tensors.items():
        part, _, rest = full_name.partition(".")
        if part == "optimiser":
            number, _, name = rest.partition(".")
            moments[int(number)][name] = _laid_out_as(parameters[int(number)], tensor)
    return dict(moments)


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    # A fused optimiser walks weights and moments in the order of memory, which here is channels-last.
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
