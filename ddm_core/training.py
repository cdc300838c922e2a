"""Collaborative training (DDM paper): one loop for every learned obfuscator, in one process or in several.

L = reconstruction_weight * distance(x_r, x) + discrepancy_weight * L_D(x_r, x_e), minimised by the networks
and the discriminator together: one optimiser, one step, one sign. The paper's distance is the L1 norm.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddm_core.data_parallel import ALONE, BatchPart, Ranks, whole_batch
from ddm_core.discrepancy import discrepancy_loss, jsd_lower_bound, mean_absolute_error
from ddm_core.errors import DdmError
from ddm_core.learned_params import OptimisationParams
from ddm_core.loss_watch import LossWatch
from ddm_core.metrics import psnr_db
from ddm_core.networks import Discriminator, place
from ddm_core.profiling import profiled
from ddm_core.seeding import torch_generator
from ddm_core.step_clock import StepClock, StepCost
from ddm_core.termination import EXIT_STATUS, sigterm_noted
from ddm_core.training_checkpoints import NO_CHECKPOINT, Checkpoint, Checkpoints, shared
from ddm_core.training_photos import Photos, PhotosInMemory, Position
from ddm_core.training_state import TrainingState, restore, take_snapshot

OBSERVE_EVERY = 25  # steps between two observations
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    photos: Photos | Tensor,
    params: OptimisationParams,
    name: str,
    observe: Callable[[Observation], None],
    *,
    checkpoints: Checkpoints | None = None,
    profile: Path | None = None,
    ranks: Ranks = ALONE,
    goal: Goal = PAPER,
) -> None:
    """Train `networks` (a RoundTrip) in place on photos; a tensor stands for `PhotosInMemory`.

    The discriminator sees L_D itself; the networks see it times discrepancy_weight, so that at weight 0 it
    still measures the discrepancy without steering it (the control).

    With `checkpoints` the training goes on after the latest one, and `observe` gets the history until there
    first; SIGTERM saves a checkpoint and ends the process with `termination.EXIT_STATUS`. The folder
    `profile` gets a trace of a few steps. Processes in touch with each other (`ranks`) train as one, on parts
    of the same batches; each gets the weights, the history and SIGTERM, only rank 0 has checkpoints.

    Raises:
        DdmError: the loss is not finite, a checkpoint cannot be written, photos cannot be read, fewer photos
            a batch than processes, no compiler to compile with, or another process is gone.
    """
    where = device()
    source = PhotosInMemory(photos) if isinstance(photos, Tensor) else photos
    state = _start(networks, source.channels, params, name, goal.groups)
    history: list[dict[str, Any]] = []
    position: Position = {}
    done = seen = 0
    if earlier := _earlier(state, checkpoints, ranks):
        restore(state, earlier.snapshot)
        history += earlier.history
        for line in history:
            observe(Observation(**line))
        done, position = earlier.step, earlier.snapshot.values["position"]
    watch = LossWatch(name, checkpoints.standing if checkpoints else lambda: NO_CHECKPOINT)
    clock, started = StepClock(where), time.perf_counter()
    noting = sigterm_noted() if checkpoints or ranks.world_size > 1 else nullcontext(lambda: False)

    with (
        noting as told_to_end,
        ranks.told_by_leader(),
        closing(source.batches(params.batch_size, state.draws, ranks, where, position)) as batches,
        profiled(profile, params.steps - done) as step_is_done,
    ):
        for step in _progress(name, done, params.steps, shown=ranks.leads):
            # every step: augmented photos, this process's part of the batch
            clock.begin()
            batch = next(batches)
            pixels = batch.images.to(where, non_blocking=True).float() / 255.0
            images = augment(pixels, state.draws, batch.part).contiguous(memory_format=torch.channels_last)
            clock.lap("data")

            # every step: all networks minimise the same loss together, as long as it is a number
            observed = step % OBSERVE_EVERY == 0 or step == params.steps
            state.optimiser.zero_grad()
            found = backward(networks, state, images, batch.part, params=params, goal=goal, measured=observed)
            clock.lap("forward_backward")
            ranks.mean([*found, *state.gradients()], batch.part)
            state.scaler.unscale_(state.optimiser)
            norm = nn.utils.clip_grad_norm_(
                state.clipped(discriminator=params.clip_discriminator), params.max_gradient_norm
            )
            reconstruction, discrepancy = found[:2]
            # In fp16 a gradient beyond all numbers is no fault: the step is left out, the next scale smaller.
            watched = reconstruction + discrepancy + (0.0 if state.scaler.is_enabled() else norm)
            watch.look(step, batch.names, batch.part.whole, watched)
            state.scaler.step(state.optimiser)
            state.scaler.update()
            state.schedule.step()
            clock.lap("optimiser")
            state.smooth(reconstruction, step)
            step_is_done()
            seen += batch.part.whole
            ending = ranks.any(told_to_end())

            # now and then: one line of history
            if observed:
                watch.settle()
                _require_scale(state, name, step)
                error, quality = found[2:]
                steered = params.discrepancy_weight * discrepancy
                observation = Observation(
                    step=step,
                    loss=(params.reconstruction_weight * reconstruction + steered).item(),
                    reconstruction_l1=error.item(),
                    discriminator_bce=discrepancy.item(),
                    jsd_lower_bound=jsd_lower_bound(discrepancy.item()),
                    psnr_db=quality.item(),
                    learning_rate=float(state.schedule.get_last_lr()[0]),
                    gradient_norm=norm.item(),
                    images_per_second=seen / (time.perf_counter() - started),
                    **dataclasses.asdict(clock.read()),
                )
                history.append(dataclasses.asdict(observation))
                observe(observation)

            # when due, or when told to end: a checkpoint, written while the training goes on
            if checkpoints and (ending or checkpoints.is_due(step)):
                watch.settle()
                seconds = checkpoints.earlier_seconds + time.perf_counter() - started
                snapshot = take_snapshot(state, batch.position)
                checkpoints.save(Checkpoint(step, seconds, tuple(history), snapshot))
            if ending:
                _end(name, checkpoints)
    networks.to("cpu").eval()


def backward(
    networks: nn.Module,
    state: TrainingState,
    images: Tensor,
    part: BatchPart,
    *,
    params: OptimisationParams,
    goal: Goal,
    measured: bool,
) -> list[Tensor]:
    """Hide, pass on, restore, let the discriminator judge; add up gradients, piece by piece of the images.

    Every piece sees the draws of the whole batch. Returns scalars, means over the images: reconstruction loss
    and L_D; and, if they are to be `measured`, the L1 error and PSNR (decibels).
    """
    pieces = part.pieces(params.accumulation)
    draws = state.draws.get_state() if len(pieces) > 1 else None
    found: list[Tensor] = []
    for piece in pieces:
        if draws is not None:
            state.draws.set_state(draws)
        own = images[piece.first - part.first : piece.last - part.first]
        with torch.autocast(images.device.type, AUTOCAST.get(params.precision), params.precision in AUTOCAST):
            hidden, restored = networks.round_trip(own, state.draws, piece)  # type: ignore[operator]
            judged = scale_gradient(torch.cat([restored, hidden]), params.discrepancy_weight)
            restored_logits, hidden_logits = state.discriminator(judged).chunk(2)
        reconstruction = goal.distance(restored, own)
        discrepancy = discrepancy_loss(restored_logits, hidden_logits)
        loss = params.reconstruction_weight * reconstruction + discrepancy
        values = [reconstruction.detach(), discrepancy.detach()]
        if measured:
            values.append(mean_absolute_error(restored.detach(), own))
            values.append(psnr_db(restored.detach().clamp(0, 1), own).mean())
        if len(pieces) > 1:
            share = piece.photos / part.photos
            loss, values = loss * share, [value * share for value in values]
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        found = [sum(pair) for pair in zip(found, values, strict=True)] if found else values  # type: ignore[misc]
    return found


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
    if params.compile:
        _compile([*networks.children(), discriminator])
    every: ParameterGroup = {"params": list(networks.parameters()), "lr": params.learning_rate}
    judge: ParameterGroup = {"params": list(discriminator.parameters()), "lr": params.learning_rate / 2}
    optimiser = torch.optim.Adam([dict(group) for group in [*(groups or [every]), judge]], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(step, params.steps, params.warmup_steps)
    )
    return TrainingState(
        networks,
        discriminator,
        optimiser,
        schedule,
        torch_generator(params.seed, f"train/{name}"),
        torch.amp.GradScaler(where, enabled=params.precision == "fp16"),
        smoothed_l1=torch.zeros((), device=where),
    )


def _compile(modules: Iterable[nn.Module]) -> None:
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise DdmError("compile: true needs a C++ compiler; install g++, or set compile: false")
    for module in modules:
        module.compile()  # in place: names of weights stay


def _require_scale(state: TrainingState, name: str, step: int) -> None:
    if state.scaler.is_enabled() and state.scaler.get_scale() < 1.0:
        raise DdmError(
            f"train {name}: at step {step} gradients overflow fp16 at any scale; set precision: bf16 or fp32,"
            " or lower learning_rate"
        )


def _earlier(state: TrainingState, checkpoints: Checkpoints | None, ranks: Ranks) -> Checkpoint | None:
    latest = checkpoints.latest() if checkpoints else None
    if ranks.world_size == 1:
        return latest
    # One start for all ranks, whatever their machines round differently.
    return shared(ranks, latest or Checkpoint(0, 0.0, (), take_snapshot(state, {})))


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
