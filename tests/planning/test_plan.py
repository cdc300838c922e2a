"""What a plan says follows from what was counted and from the assumptions it states."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddm_core.cli import main
from ddm_core.errors import DdmError
from ddm_core.planning.estimates import (
    Assumptions,
    Workload,
    estimate,
    gpus_within,
    steps_for,
    storage,
)
from ddm_core.planning.gpu_types import GPU_TYPES, gpu_type, parse_prices
from ddm_core.planning.step_work import StepWork, count_step
from ddm_core.planning.wording import amount

CHECKOUT = Path(__file__).parents[2]
SIZING = CHECKOUT / "docs" / "sizing.md"
WORK = StepWork(
    weights=1000,
    flops_per_image=10**9,
    operations=1000,
    weight_bytes=4000,
    optimiser_bytes=8000,
    activation_bytes_per_image=10**6,
    activation_bytes_fixed=0,
)
WORKLOAD = Workload(
    photos=10**6,
    image_size=64,
    channels=1,
    steps=100,
    gpus=2,
    batch_per_gpu=10_000,
    precision="bf16",
    shard_megabytes=256,
)
# Nothing but the GPU's own figures limits.
FREE = Assumptions(cores_per_gpu=1e9, s3_bytes_per_second=1e15)
H100 = gpu_type("H100-80GB")


# Counting


def test_four_times_the_pixels_are_four_times_the_work_for_the_same_weights(keyed_ddm_params):
    work = count_step(keyed_ddm_params, 1, 32)
    larger = count_step(keyed_ddm_params, 1, 64)
    assert work.flops_per_image > 0
    assert 3.5 < larger.flops_per_image / work.flops_per_image < 4.5
    assert 3.5 < larger.activation_bytes_per_image / work.activation_bytes_per_image < 4.5
    assert work.weight_bytes == 4 * work.weights
    assert work.optimiser_bytes == 2 * work.weight_bytes
    assert larger.weights == work.weights
    assert work.operations > 100


def test_bf16_keeps_fewer_bytes_for_the_backward_pass_and_does_the_same_work(ddm_params):
    full = count_step(ddm_params, 1, 32)
    half = count_step(dataclasses.replace(ddm_params, precision="bf16"), 1, 32)
    assert half.flops_per_image == full.flops_per_image
    assert half.activation_bytes_per_image < 0.8 * full.activation_bytes_per_image


def test_the_flops_of_the_ddm_are_those_of_its_convolutions(ddm_params):
    """Forward counts each convolution once, backward twice, but for inputs that need no gradient."""
    from ddm_core.networks import Discriminator
    from ddm_core.obfuscators.store import Description, build_networks

    forward = 0

    def add(module, inputs, output):
        nonlocal forward
        kernel = module.weight[0].numel()
        forward += 2 * kernel * output.numel()

    networks = build_networks(Description(ddm_params, 1, 32))
    discriminator = Discriminator(1)
    for network in (networks, discriminator):
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(add)
    with torch.no_grad():
        hidden, restored = networks.round_trip(torch.rand(1, 1, 32, 32), torch.Generator())
        discriminator(torch.cat([restored, hidden]))
    counted = count_step(ddm_params, 1, 32).flops_per_image
    assert 2.8 * forward < counted <= 3 * forward


def test_counting_twice_gives_the_same(ddm_params, keyed_ddm_params):
    for params in (ddm_params, keyed_ddm_params):
        assert count_step(params, 3, 16) == count_step(params, 3, 16)


@pytest.mark.parametrize("channel", [{"jpeg_probability": 0.0, "resize_probability": p} for p in (0.0, 1.0)])
def test_the_other_channels_differ_from_jpeg_by_little(keyed_ddm_params, channel, monkeypatch):
    wide = dataclasses.replace(keyed_ddm_params, width=32, blocks=3)
    jpeg = count_step(wide, 1, 64)
    replace = dataclasses.replace
    monkeypatch.setattr(
        dataclasses,
        "replace",
        lambda params, **new: replace(params, **(new | channel if "steps" in new else new)),
    )
    other = count_step(wide, 1, 64)
    assert other != jpeg
    assert other.flops_per_image == pytest.approx(jpeg.flops_per_image, rel=0.02)
    assert other.activation_bytes_per_image == pytest.approx(jpeg.activation_bytes_per_image, rel=0.03)


# Estimating


def test_hours_are_flops_over_the_efficient_peak_when_compute_bounds():
    line = estimate(WORKLOAD, WORK, H100, FREE, price=2.0)
    seconds = 10_000 * 1e9 / (H100.bf16_flops * FREE.efficiency)
    assert line.bound == "compute"
    assert line.step_seconds == pytest.approx(seconds)
    assert line.hours == pytest.approx(100 * seconds / 3600)
    assert line.cost == pytest.approx(2 * line.hours * 2.0)
    assert line.photos_per_second == pytest.approx(20_000 / seconds)
    full = estimate(dataclasses.replace(WORKLOAD, precision="fp32"), WORK, H100, FREE, price=None)
    assert full.step_seconds == pytest.approx(seconds * H100.bf16_flops / H100.fp32_flops)
    assert full.cost is None


@pytest.mark.parametrize(
    ("bound", "work", "assumed", "batch", "seconds"),
    [
        ("launches", {}, {}, 1, 1000 * 10e-6),
        ("memory", {"flops_per_image": 1}, {}, 10_000, 2e10 / 3350e9),
        ("decoding", {}, {"cores_per_gpu": 1.0}, 1000, 1000 * (50e-6 + 4096 * 10e-9)),
        ("S3", {}, {"s3_bytes_per_second": 1e6}, 1000, 1000 * (1792 + 0.7 * 4096) / 1e6),
    ],
)
def test_what_takes_longest_bounds_the_step(bound, work, assumed, batch, seconds):
    workload = dataclasses.replace(WORKLOAD, batch_per_gpu=batch)
    free = dataclasses.replace(FREE, **assumed)
    if bound == "memory":
        free = dataclasses.replace(free, operation_seconds=1e-9)
    line = estimate(workload, dataclasses.replace(WORK, **work), H100, free, price=None)
    assert line.bound == bound
    assert line.step_seconds == pytest.approx(seconds)


def test_the_largest_batch_fills_the_usable_memory_and_no_more():
    line = estimate(WORKLOAD, WORK, H100, FREE, price=None)
    room = H100.memory * FREE.usable_memory
    assert WORK.fixed_bytes + line.largest_batch * 10**6 <= room
    assert WORK.fixed_bytes + (line.largest_batch + 1) * 10**6 > room
    assert line.fits
    wide = dataclasses.replace(WORKLOAD, batch_per_gpu=line.largest_batch + 1)
    assert not estimate(wide, WORK, H100, FREE, price=None).fits


def test_storage_and_bandwidth_follow_from_the_photos():
    stored = storage(WORKLOAD, FREE)
    assert stored.photo_bytes == pytest.approx(1792 + 0.7 * 64 * 64)
    assert (stored.shards - 1) * 256e6 < stored.total_bytes <= stored.shards * 256e6
    assert stored.pixel_bytes == 10**6 * 64 * 64
    line = estimate(WORKLOAD, WORK, H100, FREE, price=None)
    assert line.bytes_per_second == pytest.approx(line.photos_per_second * stored.photo_bytes)


def test_epochs_become_whole_steps():
    assert steps_for(10, 1000, 2, 50) == 100
    assert steps_for(10, 1001, 2, 50) == 101
    assert steps_for(0.001, 10, 8, 1024) == 1


def test_a_deadline_takes_one_two_four_eight_gpus_and_then_whole_nodes():
    single = estimate(WORKLOAD, WORK, H100, FREE, price=None)
    for needed, gpus in ((0.5, 1), (1.5, 2), (3.0, 4), (5.0, 8), (9.0, 16), (17.0, 24)):
        assert gpus_within(single.hours / needed, single) == gpus


def test_amounts_have_three_digits_and_a_prefix():
    assert amount(4_659_000_000, "B") == "4.66 GB"
    assert amount(999_900, "B") == "1 MB"
    assert amount(0, "B") == "0 B"
    assert amount(12, "bit/s") == "12 bit/s"


def test_every_gpu_type_names_its_data_sheet_and_bf16_is_faster():
    for gpu in GPU_TYPES.values():
        assert "data sheet" in gpu.source
        assert gpu.bf16_flops > gpu.fp32_flops


@pytest.mark.parametrize("text", ["L4", "L4=", "L4=free", "L4=0", "L4=-1", "L4=inf", "M4=1"])
def test_a_price_that_is_none_is_refused_in_one_line(text):
    with pytest.raises(DdmError, match=r"price is|unknown GPU type") as error:
        parse_prices([text])
    assert "\n" not in str(error.value)


# The verb


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--dataset-size"),
        ("--dataset-size 10 --obfuscator mosaic8", "nothing to learn"),
        ("--dataset-size 10 --obfuscator keyed_dmd", "did you mean 'keyed_ddm'"),
        ("--dataset-size 10 --gpu-type H10-80GB", "did you mean 'H100-80GB'"),
        ("--dataset-size 10 --image-size 5000", "16..1024"),
        ("--dataset-size 10 --efficiency 30", "fraction"),
        ("--sizing --steps 5", "--within-hours"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why_in_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    assert main(["plan", *arguments.split()]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"ddm: error: .+\n", error)
    assert words in error


def test_the_prices_and_the_efficiency_given_are_those_used(capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    command = "plan --dataset-size 1e9 --image-size 16 --epochs 100 --gpu-type L4 --batch-size 4096"
    assert main([*command.split(), "--cores-per-gpu", "1e6", "--s3-gigabits", "1e6"]) == 0
    first = capsys.readouterr().out
    assert "no price" in first
    assert "efficiency of 0.3" in first
    assert main([*command.split(), "--price", "L4=0.5", "--efficiency", "0.001"]) == 0
    second = capsys.readouterr().out
    assert "efficiency of 0.001" in second
    (row,) = (line for line in second.splitlines() if line.startswith("L4"))
    assert "compute" in row
    assert "$" in row


def test_the_photo_model_has_a_plan_too(capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    command = "plan --params photo/params.yaml --obfuscator photo --dataset-size 1e6 --gpus 1"
    assert main(command.split()) == 0
    assert "pixels, RGB, bf16" in capsys.readouterr().out


def test_the_parser_imports_neither_torch_nor_the_planning():
    program = "import sys; from ddm_core.cli import build_parser; build_parser(); print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    loaded = run.stdout.split()
    assert "torch" not in loaded
    assert not [name for name in loaded if name.startswith("ddm_core.planning")]


# The documentation

BLOCKS = re.findall(r"<!-- (ddm plan .+): begin -->\n(.+?)<!-- \1: end -->", SIZING.read_text(), re.DOTALL)


def test_the_documentation_has_its_tables():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize(("command", "text"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_the_tables_of_the_documentation_are_what_their_command_prints(command, text, capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == text, f"docs/sizing.md lags behind; put in what `{command}` prints"


def test_the_commands_of_the_documentation_parse():
    from ddm_core.cli import build_parser

    commands = re.findall(r"^    ddm (plan .+)$", SIZING.read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        build_parser().parse_args(command.split())
