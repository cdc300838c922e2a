"""`ddm plan`: parses, counts one step, prints what a training will take."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING

from ddm_core.errors import DdmError
from ddm_core.verb_options import Verbs, add_path, named_obfuscator

if TYPE_CHECKING:
    from ddm_core.learned_params import LearnedParams
    from ddm_core.params import Params
    from ddm_core.planning.estimates import Assumptions, Workload
    from ddm_core.planning.gpu_types import GpuType
    from ddm_core.planning.step_work import StepWork

SIZES = tuple(10**power for power in range(4, 10))
SIZING_GPU, SIZING_BATCH, SIZING_EPOCHS = "H100-80GB", 1024, 10.0


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `plan` to a command line."""
    summary = "what a training will take: FLOPs, memory, shards, hours, cost"
    parser = verbs.add_parser("plan", help=summary, description=f"{summary}. docs/sizing.md tells more.")
    parser.set_defaults(run=_plan)
    parser.add_argument("--dataset-size", type=_count, metavar="N", help="photos to train on")
    parser.add_argument("--image-size", type=_count, metavar="S", help="pixels a side (params' prepare)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1 grey, 3 RGB (params' prepare)")
    parser.add_argument("--gpus", type=_count, default=1, metavar="G", help="GPUs (1)")
    parser.add_argument("--obfuscator", default="keyed_ddm", help="its name in the train section (keyed_ddm)")
    add_path(parser, "--params", "params.yaml", "the parameter file")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_positive, metavar="E", help="passes over the photos")
    length.add_argument("--steps", type=_count, metavar="N", help="optimiser steps (the params')")
    parser.add_argument("--batch-size", type=_count, metavar="N", help="photos a GPU and step (the params')")
    parser.add_argument("--gpu-type", metavar="TYPE", help="only this one of the table")
    parser.add_argument(
        "--price", action="append", default=[], metavar="TYPE=DOLLARS", help="of an hour of one GPU; repeat"
    )
    parser.add_argument(
        "--efficiency", type=_positive, metavar="FRACTION", help="model FLOP utilisation you measured (0.3)"
    )
    parser.add_argument(
        "--cores-per-gpu", type=_positive, default=12, metavar="N", help="that decode photos (12)"
    )
    parser.add_argument(
        "--s3-gigabits", type=_positive, default=12, metavar="N", help="a second that reach one GPU (12)"
    )
    parser.add_argument(
        "--sizing",
        action="store_true",
        help="a Markdown table from ten thousand to a thousand million photos",
    )
    parser.add_argument(
        "--within-hours", type=_positive, default=24.0, metavar="H", help="the deadline of --sizing (24)"
    )


def _plan(options: argparse.Namespace) -> None:
    from ddm_core.params import load
    from ddm_core.planning.gpu_types import gpu_type, parse_prices

    if options.dataset_size is None and not options.sizing:
        raise DdmError("plan: give --dataset-size N, the photos to train on, or --sizing for a table")
    params = load(options.params)
    settings, prices = _settings(params, options.obfuscator), parse_prices(options.price)
    only = gpu_type(options.gpu_type) if options.gpu_type else None
    assumed = _assumptions(options)
    # Torch is imported last, when everything else is known to be right.
    if options.sizing:
        gpu = only or gpu_type(SIZING_GPU)
        print(_sizing(options, params, settings, gpu=gpu, prices=prices, assumed=assumed))
    else:
        print(_one_plan(options, params, settings, only=only, prices=prices, assumed=assumed))


def _settings(params: Params, name: str) -> LearnedParams:
    from ddm_core.learned_params import LEARNED

    settings = named_obfuscator(params.train, name)
    if not isinstance(settings, LEARNED):
        raise DdmError(f"plan: '{name}' has nothing to learn; name an obfuscator that is trained")
    return settings


def _assumptions(options: argparse.Namespace) -> Assumptions:
    from ddm_core.planning.estimates import Assumptions

    assumed = Assumptions(
        cores_per_gpu=options.cores_per_gpu, s3_bytes_per_second=options.s3_gigabits * 1e9 / 8
    )
    if options.efficiency is None:
        return assumed
    if options.efficiency > 1:
        raise DdmError(f"efficiency is {options.efficiency:g}; it is a fraction of the peak, at most 1")
    return dataclasses.replace(assumed, efficiency=options.efficiency)


def _workload(options: argparse.Namespace, params: Params, settings: LearnedParams) -> Workload:
    from ddm_core.planning.estimates import Workload, steps_for

    batch = options.batch_size or settings.batch_size
    steps = options.steps or settings.steps
    if options.epochs:
        steps = steps_for(options.epochs, options.dataset_size, options.gpus, batch)
    try:  # the prepare section knows which sizes there are
        size = options.image_size or params.prepare.image_size
        shape = dataclasses.replace(params.prepare, image_size=size)
    except ValueError as error:
        raise DdmError(f"plan: {error}") from None
    return Workload(
        photos=options.dataset_size,
        image_size=shape.image_size,
        channels=options.channels or shape.channels,
        steps=steps,
        gpus=options.gpus,
        batch_per_gpu=batch,
        precision=settings.precision,
        shard_megabytes=shape.shard_megabytes,
    )


def _one_plan(
    options: argparse.Namespace,
    params: Params,
    settings: LearnedParams,
    *,
    only: GpuType | None,
    prices: dict[str, float],
    assumed: Assumptions,
) -> str:
    from ddm_core.planning.estimates import estimate, storage
    from ddm_core.planning.gpu_types import GPU_TYPES
    from ddm_core.planning.wording import plan_text

    workload = _workload(options, params, settings)
    work = _work(settings, workload)
    gpus = [only] if only else GPU_TYPES.values()
    lines = [estimate(workload, work, gpu, assumed, prices.get(gpu.name, gpu.hourly_price)) for gpu in gpus]
    stored = storage(workload, assumed)
    return plan_text(options.obfuscator, workload, work, stored=stored, estimates=lines, assumed=assumed)


def _sizing(
    options: argparse.Namespace,
    params: Params,
    settings: LearnedParams,
    *,
    gpu: GpuType,
    prices: dict[str, float],
    assumed: Assumptions,
) -> str:
    from ddm_core.planning.estimates import estimate, gpus_within, steps_for, storage
    from ddm_core.planning.wording import sizing_markdown

    batch, epochs = options.batch_size or SIZING_BATCH, options.epochs or SIZING_EPOCHS
    if options.steps or options.gpus != 1:
        raise DdmError("plan: --sizing chooses GPUs and steps itself; give --within-hours and --epochs")
    options.dataset_size, options.batch_size = SIZES[0], batch
    shape = _workload(options, params, settings)
    work, price = _work(settings, shape), prices.get(gpu.name, gpu.hourly_price)
    rows = []
    for photos in SIZES:
        sized = dataclasses.replace(shape, photos=photos, steps=steps_for(epochs, photos, 1, batch))
        gpus = gpus_within(options.within_hours, estimate(sized, work, gpu, assumed, price))
        sized = dataclasses.replace(sized, gpus=gpus, steps=steps_for(epochs, photos, gpus, batch))
        rows.append((sized, storage(sized, assumed), estimate(sized, work, gpu, assumed, price)))
    return sizing_markdown(rows, work, assumed)


def _work(settings: LearnedParams, workload: Workload) -> StepWork:
    from ddm_core.planning.step_work import count_step

    return count_step(settings, workload.channels, workload.image_size)


def _count(text: str) -> int:
    number = _positive(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(number)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
