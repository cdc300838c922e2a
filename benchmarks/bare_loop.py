"""The training of `ddm train` as a plain torch loop: same networks, losses, draws, optimiser, and no more.

No history, no watch over the loss, no checkpoints, no ranks, no progress. What others are measured against.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from ddm_core.data_parallel import whole_batch
from ddm_core.discrepancy import discrepancy_loss
from ddm_core.learned_params import LearnedParams, OptimisationParams
from ddm_core.networks import Discriminator, place
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import fresh_networks, training_goal
from ddm_core.seeding import torch_generator
from ddm_core.training import AUTOCAST, augment, device, rate_factor, scale_gradient

NAME = "benchmark"


def noise(photos: int, channels: int, size: int) -> Tensor:
    """Return uint8 photos [photos, channels, size, size] without content, which costs no time."""
    draws = torch_generator(0, NAME)
    return torch.randint(0, 256, (photos, channels, size, size), generator=draws, dtype=torch.uint8)


def begun(params: LearnedParams, images: Tensor) -> nn.Module:
    """Return the networks as `ddm train` begins with them, for uint8 photos [n, channels, size, size]."""
    description = Description(params, images.shape[1], images.shape[-1])
    return fresh_networks(description, params, NAME, lambda count: images[:count])


def train_barely(networks: nn.Module, images: Tensor, params: OptimisationParams) -> float:
    """Train in place on uint8 images [n, channels, height, width]; return the seconds of all steps."""
    where, part = device(), whole_batch(params.batch_size)
    discriminator = place(Discriminator(images.shape[1]), where)
    place(networks, where).train()
    goal = training_goal(networks)
    every = {"params": list(networks.parameters()), "lr": params.learning_rate}
    groups = [
        *(goal.groups or [every]),
        {"params": list(discriminator.parameters()), "lr": params.learning_rate / 2},
    ]
    optimiser = torch.optim.Adam(groups, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, params.steps, params.warmup_steps)
    )
    draws, photos = torch_generator(params.seed, f"train/{NAME}"), images.to(where)
    started = time.perf_counter()
    for _ in range(params.steps):
        chosen = torch.randint(0, len(photos), (params.batch_size,), generator=draws)
        batch = augment(photos[chosen].float() / 255.0, draws)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(where, AUTOCAST.get(params.precision), params.precision in AUTOCAST):
            hidden, restored = networks.round_trip(batch, draws, part)
            judged = scale_gradient(torch.cat([restored, hidden]), params.discrepancy_weight)
            restored_logits, hidden_logits = discriminator(judged).chunk(2)
        loss = params.reconstruction_weight * goal.distance(restored, batch)
        loss = loss + discrepancy_loss(restored_logits, hidden_logits)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), params.max_gradient_norm)
        optimiser.step()
        schedule.step()
    if where == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
