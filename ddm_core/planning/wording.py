"""A plan in words: for a terminal, and as the Markdown table of docs/sizing.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddm_core.planning.estimates import GPUS_PER_NODE, Assumptions, Estimate, Storage, Workload
from ddm_core.planning.gpu_types import PRICE_SOURCE, GpuType

if TYPE_CHECKING:
    from ddm_core.planning.step_work import StepWork

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def amount(value: float, unit: str) -> str:
    """Return a number in three digits with an SI prefix: `4.66 GB`."""
    if value <= 0:
        return f"0 {unit}"
    power = min(max(0, math.floor(math.log10(value) / 3)), len(_PREFIXES) - 1)
    if float(f"{value / 1000**power:.3g}") >= 1000 and power < len(_PREFIXES) - 1:
        power += 1
    return f"{_short(value / 1000**power)} {_PREFIXES[power]}{unit}"


def plan_text(
    name: str,
    workload: Workload,
    work: StepWork,
    *,
    stored: Storage,
    estimates: Sequence[Estimate],
    assumed: Assumptions,
) -> str:
    """Return the plan of one training on each GPU type."""
    side, colours = workload.image_size, _colours(workload)
    seen = workload.photos_seen
    per_gpu = work.fixed_bytes + workload.batch_per_gpu * work.activation_bytes_per_image
    lines = [
        f"{name}: {workload.photos:,} photos of {side} x {side} pixels, {colours},"
        f" {workload.precision}, {workload.gpus} GPUs, {workload.batch_per_gpu} photos a GPU and step",
        f"work    {amount(work.flops_per_image, 'FLOP')} a photo, forward and backward;"
        f" {seen:,} photos in {workload.steps:,} steps: {amount(seen * work.flops_per_image, 'FLOP')}",
        f"memory  {amount(per_gpu, 'B')} a GPU: {work.weights:,} weights {amount(work.weight_bytes, 'B')},"
        f" gradients {amount(work.weight_bytes, 'B')}, optimiser {amount(work.optimiser_bytes, 'B')},"
        f" activations {amount(work.activation_bytes_per_image, 'B')} a photo"
        f" and {amount(work.activation_bytes_fixed, 'B')} a step",
        f"data    {amount(stored.total_bytes, 'B')} in {stored.shards:,} shards of"
        f" {workload.shard_megabytes} MB; {amount(stored.pixel_bytes, 'B')} as pixels in memory",
        "",
        *_aligned(_HEADER, [_row(line) for line in estimates]),
        "",
        *assumption_lines(work, assumed, [line.gpu for line in estimates]),
    ]
    return "\n".join(lines)


_HEADER = (
    "GPU type",
    "largest batch",
    "step",
    "bound by",
    "photos/s",
    "hours",
    "from S3",
    "decoding cores",
    "cost",
)


def _row(line: Estimate) -> tuple[str, ...]:
    return (
        line.gpu.name,
        f"{line.largest_batch:,}" + ("" if line.fits else ", too small"),
        f"{_short(line.step_seconds * 1000)} ms",
        line.bound,
        _short(line.photos_per_second),
        _short(line.hours),
        amount(8 * line.bytes_per_second, "bit/s"),
        f"{math.ceil(line.decoding_cores):,}",
        "no price" if line.cost is None else dollars(line.cost),
    )


def assumption_lines(work: StepWork, assumed: Assumptions, gpus: Sequence[GpuType]) -> list[str]:
    """Return what a plan rests on, a line each."""
    return [
        "Counted by torch in a real step: FLOPs of convolutions and matrix products, activations kept for the"
        f" backward pass, {work.operations:,} operations a step.",
        "A step takes the longest of five: FLOPs at an efficiency of"
        f" {assumed.efficiency:g} of the peak, activations written and read once,"
        f" operations started every {assumed.operation_seconds * 1e6:g} microseconds, photos decoded by"
        f" {assumed.cores_per_gpu:g} cores a GPU, photos read at"
        f" {amount(8 * assumed.s3_bytes_per_second, 'bit/s')} a GPU.",
        "Assumed, not measured on a GPU: these figures; that GPUs add up, for gradients are small; that"
        f" {assumed.usable_memory:g} of the memory is there for what is counted.",
        f"Assumed of photos: {assumed.png_bytes_per_value:g} bytes of PNG a value, as with the AT&T faces at"
        f" 64 pixels; {assumed.decode_seconds * 1e6:g} microseconds a photo and"
        f" {assumed.decode_seconds_per_value * 1e9:g} ns a value to decode it, as Pillow took on one core.",
        f"Prices, where no --price is given, are an assumption: {PRICE_SOURCE}.",
        "Peaks are dense ones: " + "; ".join(_source(gpu) for gpu in gpus) + ".",
    ]


def sizing_markdown(
    rows: Sequence[tuple[Workload, Storage, Estimate]], work: StepWork, assumed: Assumptions
) -> str:
    """Return the sizing table: a line a number of photos, each with as many GPUs as its deadline needs."""
    titles = ("photos", "stored", "shards", "GPUs", "nodes", "photos/s", "from S3", "decoding cores", "hours")
    table = [(*titles, "cost"), ("---:",) * (len(titles) + 1)]
    for workload, stored, line in rows:
        table.append(
            (
                f"{workload.photos:,}",
                amount(stored.total_bytes, "B"),
                f"{stored.shards:,}",
                str(workload.gpus),
                str(math.ceil(workload.gpus / GPUS_PER_NODE)),
                _short(line.photos_per_second),
                amount(8 * line.bytes_per_second, "bit/s"),
                f"{math.ceil(line.decoding_cores):,}",
                _short(line.hours),
                "no price" if line.cost is None else dollars(line.cost),
            )
        )
    first, _, example = rows[0]
    head = (
        f"{first.image_size} × {first.image_size} pixels, {_colours(first)}, {first.precision},"  # noqa: RUF001
        f" {example.gpu.name}, {first.batch_per_gpu} photos a GPU and step,"
        f" {amount(work.flops_per_image, 'FLOP')} a photo, bound by {example.bound}."
    )
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    notes = [f"- {line}" for line in assumption_lines(work, assumed, [example.gpu])]
    return "\n".join([head, "", *lines, "", *notes])


def dollars(cost: float) -> str:
    """Return an amount of money, rounded to what an estimate knows."""
    if cost < 0.01:
        return "below $0.01"
    return f"${cost:.2f}" if cost < 100 else f"${float(f'{cost:.3g}'):,.0f}"


def _colours(workload: Workload) -> str:
    return "grey" if workload.channels == 1 else "RGB"


def _source(gpu: GpuType) -> str:
    return (
        f"{gpu.name} {amount(gpu.bf16_flops, 'FLOP/s')} bf16, {amount(gpu.fp32_flops, 'FLOP/s')} fp32,"
        f" {amount(gpu.memory, 'B')} at {amount(gpu.bandwidth, 'B/s')} ({gpu.source})"
    )


def _short(value: float) -> str:
    """Return three digits without an exponent."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value >= 0.001 else "below 0.001"


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
