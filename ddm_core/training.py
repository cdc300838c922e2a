"""Collaborative training (DDM paper): one loop for every learned obfuscator, in one process or in several.

L = reconstruction_weight * distance(x_r, x) + discrepancy_weight * L_D(x_r, x_e), minimised by the networks
and the discriminator together: one optimiser, one step, one sign. The paper's distance is the L1 norm.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddm_core.data_parallel import ALONE, BatchPart, Ranks, whole_batch
from ddm_core.discrepancy import discrepancy_loss, jsd_lower_bound, mean_absolute_error
from ddm_core.loss_watch import LossWatch
from ddm_core.metrics import psnr_db
from ddm_core.networks import Discriminator, place
from ddm_core.obfuscator_params import OptimisationParams
from ddm_core.profiling import profiled
from ddm_core.seeding import torch_generator
from ddm_core.step_clock import StepClock, StepCost
from ddm_core.termination import EXIT_STATUS, sigterm_noted
from ddm_core.training_checkpoints import NO_CHECKPOINT, Checkpoint, Checkpoints, shared
from ddm_core.training_state import TrainingState, restore, take_snapshot

OBSERVE_EVERY = 25  # steps between two observations
MAX_GRADIENT_NORM = 1.0


class ParameterGroup(TypedDict):
    """Parameters that learn at the rate `lr` per step at most."""

    params: list[nn.Parameter]
    lr: float


@dataclass(frozen=True)
class Goal:
    """What a training minimises beside the discrepancy: `distance` of x_r and x, a scalar.

    `groups` of the networks' parameters may learn at rates of their own; without them all learn at that of
    the params.
    """

    distance: Callable[[Tensor, Tensor], Tensor] = mean_absolute_error
    groups: Sequence[ParameterGroup] | None = None


PAPER = Goal()
"""The paper's goal: the L1 norm, and one rate for all networks."""


class RoundTrip(Protocol):
    """What the loop asks of the networks: hide a batch, pass it on, restore it."""

    def round_trip(
        self, images: Tensor, generator: torch.Generator, part: BatchPart
    ) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for images [batch, channels, height, width] in [0, 1].

        They are a part of a batch; draws are made for the whole.
        """
        ...

    def parameters(self) -> object:
        """Return the weights to train."""
        ...


@dataclass(frozen=True)
class Observation(StepCost):
    """One line of the history; losses and gradient norm (before clipping) of that step, PSNR in decibels.

    What steps cost is a mean since the line before, speed since this process began.
    """

    step: int
    loss: float
    reconstruction_l1: float
    discriminator_bce: float
    jsd_lower_bound: float
    psnr_db: float
    learning_rate: float
    gradient_norm: float
    images_per_second: float


def device() -> str:
    """Return the device that training and attacks use: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Return the learning rate's factor in [0, 1]: linear warm-up, then a cosine to zero."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def augment(images: Tensor, generator: torch.Generator, part: BatchPart | None = None) -> Tensor:
    """Shift by up to 1/16 of a side, mirror, and vary the gain by up to 15 %; draws from `generator`.

    The shift is one for the whole batch (a crop, not a gather); mirror and gain are drawn per image. With
    `part` the images are that part of a batch; draws are made for the whole.
    """
    part = part or whole_batch(len(images))
    reach = images.shape[-1] // 16
    rows, columns = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    shifted = padded[..., rows : rows + images.shape[-2], columns : columns + images.shape[-1]]
    draws = torch.rand(2, part.whole, 1, 1, 1, generator=generator)
    mirror, gain = (part.of(drawn).to(images.device) for drawn in draws)
    mirrored = torch.where(mirror < 0.5, shifted.flip(3), shifted)
    return (mirrored * (0.85 + 0.3 * gain)).clamp(0.0, 1.0)


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the values unchanged; the gradient through them is multiplied by `factor`."""
    return values * factor + (values * (1.0 - factor)).detach()


def train(  # noqa: PLR0915 - the loop reads from top to bottom
    networks: nn.Module,
    images: Tensor,
    params: OptimisationParams,
    name: str,
    observe: Callable[[Observation], None],
    *,
    keys: Sequence[str] = (),
    checkpoints: Checkpoints | None = None,
    profile: Path | None = None,
    ranks: Ranks = ALONE,
    goal: Goal = PAPER,
) -> None:
    """Train `networks` (a RoundTrip) in place on uint8 images [n, channels, height, width].

    The discriminator sees L_D itself; the networks see it times discrepancy_weight, so that at weight 0 it
    still measures the discrepancy without steering it (the control).

    With `checkpoints` the training goes on after the latest one, and `observe` gets the history until there
    first; SIGTERM saves a checkpoint and ends the process with `termination.EXIT_STATUS`. `keys` name the
    photos in messages. The folder `profile` gets a trace of a few steps.
    Processes in touch with each other (`ranks`) train as one, on parts of the same
    batches; each gets the weights, the history and SIGTERM, only rank 0 has checkpoints.

    Raises:
        DdmError: the loss is not finite, a checkpoint cannot be written, fewer photos a batch than processes,
            or another process is gone.
    """
    where, part = device(), ranks.part(params.batch_size)
    state = _start(networks, images.shape[1], params, name, goal.groups)
    photos = images.to(where)
    history: list[dict[str, Any]] = []
    done = 0
    if earlier := _earlier(state, checkpoints, ranks):
        restore(state, earlier.snapshot)
        history += earlier.history
        for line in history:
            observe(Observation(**line))
        done = earlier.step
    watch = LossWatch(name, keys, checkpoints.standing if checkpoints else lambda: NO_CHECKPOINT)
    clock, started = StepClock(where), time.perf_counter()
    noting = sigterm_noted() if checkpoints or ranks.world_size > 1 else nullcontext(lambda: False)

    with (
        noting as told_to_end,
        ranks.told_by_leader(),
        profiled(profile, params.steps - done) as step_is_done,
    ):
        for step in _progress(name, done, params.steps, shown=ranks.leads):
            # every step: augmented photos, this process's part of the batch
            clock.begin()
            chosen = torch.randint(0, len(photos), (params.batch_size,), generator=state.draws)
            batch = augment(photos[part.of(chosen)].float() / 255.0, state.draws, part)
            batch = batch.contiguous(memory_format=torch.channels_last)
            clock.lap("data")

            # every step: hide, pass on, restore, and let the discriminator judge
            with torch.autocast(where, torch.bfloat16, enabled=params.precision == "bf16"):
                hidden, restored = networks.round_trip(batch, state.draws, part)  # type: ignore[operator]
                judged = scale_gradient(torch.cat([restored, hidden]), params.discrepancy_weight)
                restored_logits, hidden_logits = state.discriminator(judged).chunk(2)
            reconstruction = goal.distance(restored, batch)
            discrepancy = discrepancy_loss(restored_logits, hidden_logits)
            loss = params.reconstruction_weight * reconstruction + discrepancy

            # every step: all networks minimise the same loss together, as long as it is a number
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clock.lap("forward_backward")
            reconstruction, discrepancy = reconstruction.detach(), discrepancy.detach()
            ranks.mean([reconstruction, discrepancy, *state.gradients()], part)
            norm = nn.utils.clip_grad_norm_(networks.parameters(), MAX_GRADIENT_NORM)
            watch.look(step, chosen, reconstruction + discrepancy + norm)
            state.optimiser.step()
            state.schedule.step()
            clock.lap("optimiser")
            state.smooth(reconstruction, step)
            step_is_done()
            ending = ranks.any(told_to_end())

            # now and then: one line of history
            if step % OBSERVE_EVERY == 0 or step == params.steps:
                watch.settle()
                steered = params.discrepancy_weight * discrepancy
                error = mean_absolute_error(restored.detach(), batch)
                quality = psnr_db(restored.detach().clamp(0, 1), batch).mean()
                ranks.mean([error, quality], part)
                observation = Observation(
                    step=step,
                    loss=(params.reconstruction_weight * reconstruction + steered).item(),
                    reconstruction_l1=error.item(),
                    discriminator_bce=discrepancy.item(),
                    jsd_lower_bound=jsd_lower_bound(discrepancy.item()),
                    psnr_db=quality.item(),
                    learning_rate=float(state.schedule.get_last_lr()[0]),
                    gradient_norm=norm.item(),
                    images_per_second=(step - done) * params.batch_size / (time.perf_counter() - started),
                    **dataclasses.asdict(clock.read()),
                )
                history.append(dataclasses.asdict(observation))
                observe(observation)

            # when due, or when told to end: a checkpoint, written while the training goes on
            if checkpoints and (ending or checkpoints.is_due(step)):
                watch.settle()
                seconds = checkpoints.earlier_seconds + time.perf_counter() - started
                checkpoints.save(Checkpoint(step, seconds, tuple(history), take_snapshot(state)))
            if ending:
                _end(name, checkpoints)
    networks.to("cpu").eval()


def _start(
    networks: nn.Module,
    channels: int,
    params: OptimisationParams,
    name: str,
    groups: Sequence[ParameterGroup] | None,
) -> TrainingState:
    where = device()
    discriminator = place(Discriminator(channels), where)
    place(networks, where).train()
    every: ParameterGroup = {"params": list(networks.parameters()), "lr": params.learning_rate}
    judge: ParameterGroup = {"params": list(discriminator.parameters()), "lr": params.learning_rate / 2}
    optimiser = torch.optim.Adam([dict(group) for group in [*(groups or [every]), judge]], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, params.steps, params.warmup_steps)
    )
    draws = torch_generator(params.seed, f"train/{name}")
    return TrainingState(
        networks, discriminator, optimiser, schedule, draws, smoothed_l1=torch.zeros((), device=where)
    )


def _earlier(state: TrainingState, checkpoints: Checkpoints | None, ranks: Ranks) -> Checkpoint | None:
    latest = checkpoints.latest() if checkpoints else None
    if ranks.world_size == 1:
        return latest
    # One start for all ranks, whatever their machines round differently.
    return shared(ranks, latest or Checkpoint(0, 0.0, (), take_snapshot(state)))


def _progress(name: str, done: int, steps: int, *, shown: bool) -> Iterable[int]:
    return tqdm(
        range(done + 1, steps + 1),
        desc=f"train {name}",
        unit="step",
        initial=done,
        total=steps,
        mininterval=1.0,
        disable=not shown,
    )


def _end(name: str, checkpoints: Checkpoints | None) -> NoReturn:
    if checkpoints:
        checkpoints.wait()
        print(f"\ntrain {name}: told to end by SIGTERM; {checkpoints.standing()}", file=sys.stderr)
    raise SystemExit(EXIT_STATUS)
