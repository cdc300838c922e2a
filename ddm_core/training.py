"""Collaborative training (DDM paper): one loop for every learned obfuscator.

L = reconstruction_weight * |x_r - x|_1 + discrepancy_weight * L_D(x_r, x_e), minimised by the networks and
the discriminator together: one optimiser, one step, one sign.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddm_core.discrepancy import discrepancy_loss, jsd_lower_bound
from ddm_core.errors import DdmError
from ddm_core.metrics import psnr_db
from ddm_core.networks import Discriminator, place
from ddm_core.obfuscator_params import OptimisationParams
from ddm_core.seeding import torch_generator

OBSERVE_EVERY = 25  # steps between two observations
MAX_GRADIENT_NORM = 1.0


class RoundTrip(Protocol):
    """What the loop asks of the networks: hide a batch, pass it on, restore it."""

    def round_trip(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for images [batch, channels, height, width] in [0, 1]."""
        ...

    def parameters(self) -> object:
        """Return the weights to train."""
        ...


@dataclass(frozen=True)
class Observation:
    """One line of the history; losses of that step's batch, PSNR in decibels."""

    step: int
    loss: float
    reconstruction_l1: float
    discriminator_bce: float
    jsd_lower_bound: float
    psnr_db: float
    learning_rate: float
    images_per_second: float


def device() -> str:
    """Return the device that training and attacks use: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the learning rate's factor in [0, 1]: linear warm-up, then a cosine to zero."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to 1/16 of a side, mirror, and vary the gain by up to 15 %; draws from `generator`.

    The shift is one for the whole batch (a crop, not a gather); mirror and gain are drawn per image.
    """
    reach = images.shape[-1] // 16
    rows, columns = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    shifted = padded[..., rows : rows + images.shape[-2], columns : columns + images.shape[-1]]
    draws = torch.rand(2, len(images), 1, 1, 1, generator=generator).to(images.device)
    mirrored = torch.where(draws[0] < 0.5, shifted.flip(3), shifted)
    return (mirrored * (0.85 + 0.3 * draws[1])).clamp(0.0, 1.0)


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the values unchanged; the gradient through them is multiplied by `factor`."""
    return values * factor + (values * (1.0 - factor)).detach()


def train(
    networks: nn.Module,
    images: Tensor,
    params: OptimisationParams,
    name: str,
    observe: Callable[[Observation], None],
) -> None:
    """Train `networks` (a RoundTrip) in place on uint8 images [n, channels, height, width].

    The discriminator sees L_D itself; the networks see it times discrepancy_weight, so that at weight 0 it
    still measures the discrepancy without steering it (the control).

    Raises:
        DdmError: the loss is not finite.
    """
    where = device()
    draws = torch_generator(params.seed, f"train/{name}")
    discriminator = place(Discriminator(images.shape[1]), where)
    place(networks, where).train()
    photos = images.to(where)
    optimiser = torch.optim.Adam(
        [
            {"params": list(networks.parameters()), "lr": params.learning_rate},
            {"params": list(discriminator.parameters()), "lr": params.learning_rate / 2},
        ],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, params.steps, params.warmup_steps)
    )
    started = time.perf_counter()

    for step in tqdm(range(1, params.steps + 1), desc=f"train {name}", unit="step", mininterval=1.0):
        # every step: a batch of augmented photos
        chosen = torch.randint(0, len(photos), (params.batch_size,), generator=draws)
        batch = augment(photos[chosen].float() / 255.0, draws).contiguous(memory_format=torch.channels_last)

        # every step: hide, pass on, restore, and let the discriminator judge
        with torch.autocast(where, torch.bfloat16, enabled=params.precision == "bf16"):
            hidden, restored = networks.round_trip(batch, draws)  # type: ignore[operator]
            judged = scale_gradient(torch.cat([restored, hidden]), params.discrepancy_weight)
            restored_logits, hidden_logits = discriminator(judged).chunk(2)
        reconstruction = (restored - batch).abs().mean()
        discrepancy = discrepancy_loss(restored_logits, hidden_logits)
        loss = params.reconstruction_weight * reconstruction + discrepancy

        # every step: all networks minimise the same loss together
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()

        # now and then: one line of history
        if step % OBSERVE_EVERY == 0 or step == params.steps:
            total = params.reconstruction_weight * reconstruction + params.discrepancy_weight * discrepancy
            if not torch.isfinite(total):
                raise DdmError(f"train {name}: the loss is not finite at step {step}; lower learning_rate")
            observe(
                Observation(
                    step=step,
                    loss=total.item(),
                    reconstruction_l1=reconstruction.item(),
                    discriminator_bce=discrepancy.item(),
                    jsd_lower_bound=jsd_lower_bound(discrepancy.item()),
                    psnr_db=psnr_db(restored.detach().clamp(0, 1), batch).mean().item(),
                    learning_rate=float(schedule.get_last_lr()[0]),
                    images_per_second=step * params.batch_size / (time.perf_counter() - started),
                )
            )
    networks.to("cpu").eval()
