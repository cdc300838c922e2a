"""Precision, accumulation, clipping, compilation: what each does to a step, and what it leaves alone."""

import dataclasses
import math
import os
import subprocess
import sys

import pytest
import torch
from checkpointed_training import NAME, photos, settings, trained
from torch import nn

from ddm_core import training
from ddm_core.checkpoint_options import CheckpointOptions, Interval
from ddm_core.errors import DdmError
from ddm_core.networks import averaging_matrix, pool
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training_checkpoints import open_checkpoints

LOSSES = ("loss", "reconstruction_l1", "discriminator_bce", "psnr_db", "gradient_norm")


@pytest.fixture(autouse=True)
def every_step_is_observed(monkeypatch):
    monkeypatch.setattr(training, "OBSERVE_EVERY", 1)


@pytest.fixture(params=["ddm", "keyed_ddm"])
def params(request):
    return dataclasses.replace(settings(request.param, 20), precision="fp32", batch_size=5)


def same(first, second):
    weights, others = first.state_dict(), second.state_dict()
    return all(weights[name].equal(others[name]) for name in weights)


# Accumulation


@pytest.mark.parametrize("accumulation", [2, 5])
def test_pieces_of_a_batch_follow_the_curve_of_the_whole(params, accumulation):
    whole_networks, whole = trained(params)
    networks, history = trained(dataclasses.replace(params, accumulation=accumulation))
    for one, other in zip(whole, history, strict=True):
        for loss in LOSSES:
            assert other[loss] == pytest.approx(one[loss], rel=1e-5, abs=1e-5), (one["step"], loss)
    assert not same(whole_networks, networks), "they are not the same sums"


def test_pieces_need_less_memory_for_activations(params):
    def kept(accumulation):
        most, held = 0, 0

        def pack(tensor):
            nonlocal most, held
            if not isinstance(tensor, nn.Parameter):
                held += tensor.untyped_storage().nbytes()
            most = max(most, held)
            return tensor

        def unpack(tensor):
            nonlocal held
            held = 0  # the backward pass of this piece has begun
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            trained(dataclasses.replace(params, steps=2, batch_size=8, accumulation=accumulation))
        return most

    assert kept(4) < 0.6 * kept(1)


def test_more_pieces_than_photos_are_refused(params):
    with pytest.raises(ValueError, match=r"accumulation is 6; it must lie in 1\.\.batch_size"):
        dataclasses.replace(params, accumulation=6)


# Half precision with a loss scale


def test_fp16_learns_as_fp32_does_and_scales_the_loss(params):
    longer = dataclasses.replace(params, steps=60)
    _, full = trained(longer)
    networks, half = trained(dataclasses.replace(longer, precision="fp16"))
    assert all(math.isfinite(line["loss"]) for line in half)
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.05)
    assert [line["loss"] for line in half] != [line["loss"] for line in full]
    assert all(weight.isfinite().all() for weight in networks.state_dict().values())


def test_the_loss_scale_goes_on_from_the_checkpoint_bit_for_bit(params, tmp_path):
    half = dataclasses.replace(params, precision="fp16", steps=40)
    options = CheckpointOptions(str(tmp_path), Interval(steps=10))
    networks, history = trained(half)

    class StopError(Exception):
        pass

    def stop(observation):
        if observation.step == 35:
            raise StopError

    with pytest.raises(StopError):
        trained(half, options, stop)
    with open_checkpoints(options, NAME) as checkpoints:
        found = checkpoints.latest()
        scaler = found.snapshot.values["scaler"]
        assert scaler["_growth_tracker"] > 0
        # Another scale would be another training from here on: it is read, not begun anew.
        assert scaler["scale"] > 0
    again, history_again = trained(half, options)
    assert same(networks, again)
    assert history_again == history


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(ddm_params):
    """The first gradient is infinite: weights stay, and the training goes on with a smaller scale."""
    half = dataclasses.replace(ddm_params, precision="fp16", steps=10)
    make_deterministic(half.seed, "train/tests", half.threads)
    networks = build_networks(Description(half, 1, 16))
    start = {name: weight.clone() for name, weight in networks.state_dict().items()}
    first = next(networks.parameters())
    calls = []

    def overflowing(gradient):
        calls.append(1)
        return gradient * math.inf if len(calls) == 1 else gradient

    first.register_hook(overflowing)
    states = []

    def observe(_):
        states.append({name: weight.detach().clone() for name, weight in networks.state_dict().items()})

    training.train(networks, photos(), half, "tests", observe)
    assert all(states[0][name].equal(start[name]) for name in start)
    assert not all(states[-1][name].equal(start[name]) for name in start)


def test_gradients_that_overflow_at_every_scale_end_the_training_in_one_line(ddm_params):
    half = dataclasses.replace(ddm_params, precision="fp16", steps=100)
    networks = build_networks(Description(half, 1, 16))
    next(networks.parameters()).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(DdmError, match="at step 17 gradients overflow fp16 at any scale; set precision"):
        training.train(networks, photos(), half, "tests", lambda _: None)


# Clipping


def gradients_of_a_step(params, monkeypatch):
    """Return the norms that the optimiser sees at the first step: of the networks, of the discriminator."""
    norms = []

    def noting(optimiser, *arguments, **named):
        for group in optimiser.param_groups:
            found = [parameter.grad.norm() for parameter in group["params"]]
            norms.append(torch.stack(found).norm().item())
        return step(optimiser, *arguments, **named)

    step = torch.optim.Adam.step
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", noting)
        trained(dataclasses.replace(params, steps=2))
    return norms[:2]


def test_gradients_above_the_norm_are_scaled_down_to_it(params, monkeypatch):
    free = gradients_of_a_step(dataclasses.replace(params, max_gradient_norm=1e6), monkeypatch)
    bound = free[0] / 4
    networks, discriminator = gradients_of_a_step(
        dataclasses.replace(params, max_gradient_norm=bound), monkeypatch
    )
    assert networks == pytest.approx(bound, rel=1e-3)
    assert discriminator == pytest.approx(free[1]), "the discriminator's gradients are left alone"


def test_the_discriminator_is_clipped_with_the_networks_where_it_shall_be(params, monkeypatch):
    free = gradients_of_a_step(dataclasses.replace(params, max_gradient_norm=1e6), monkeypatch)
    bound = math.hypot(*free) / 4
    settings_ = dataclasses.replace(params, max_gradient_norm=bound, clip_discriminator=True)
    clipped = gradients_of_a_step(settings_, monkeypatch)
    assert clipped == pytest.approx([value / 4 for value in free], rel=1e-3)


# What the training asks of torch


def test_tf32_and_kernel_search_are_off_and_cublas_may_be_deterministic():
    command = """
import os
from ddm_core.seeding import make_deterministic
make_deterministic(0, "tests")
import torch
print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark,
      torch.get_deterministic_debug_mode(), os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "False", "2", ":4096:8"]


def test_the_optimiser_is_fused_and_weights_are_channels_last(params):
    networks = build_networks(Description(params, 1, 16))
    state = training._start(networks, 1, params, NAME, None)
    assert all(group["fused"] for group in state.optimiser.param_groups)
    assert not state.scaler.is_enabled()
    for module in (networks, state.discriminator):
        convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
        assert convolutions
        for convolution in convolutions:
            assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_batches_reach_the_networks_channels_last(params):
    networks = build_networks(Description(params, 1, 16))
    whole, seen = networks.round_trip, []

    def noting(images, *draws):
        seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return whole(images, *draws)

    networks.round_trip = noting
    training.train(networks, photos(), dataclasses.replace(params, steps=2), NAME, lambda _: None)
    assert seen == [True, True]


# Averages that a GPU may take too


@pytest.mark.parametrize(("source", "target"), [(16, 4), (64, 16), (7, 4), (50, 16), (24, 4), (9, 16)])
def test_averages_by_matrices_are_those_of_adaptive_pooling(source, target):
    features = torch.rand(2, 3, source, source + 3, generator=torch_generator(0, "tests/pool"))
    rows, columns = averaging_matrix(source, target), averaging_matrix(source + 3, target)
    pooled = pool(features, target)
    assert torch.allclose(rows @ features @ columns.T, pooled, rtol=0, atol=1e-6)
    assert pooled.equal(nn.functional.adaptive_avg_pool2d(features, target))


def test_elsewhere_than_on_a_cpu_no_adaptive_pooling_is_asked_for():
    """The device `meta` computes shapes alone; a graph of the backward pass names its operations."""
    features = torch.rand(2, 3, 7, 7, device="meta", requires_grad=True)
    pooled = pool(features, 4)
    assert pooled.shape == (2, 3, 4, 4)
    pending, names = [pooled.grad_fn], set()
    while pending:
        node = pending.pop()
        names.add(node.name())
        pending += [following for following, _ in node.next_functions if following is not None]
    assert not [name for name in names if "Adaptive" in name]


# Compilation


def test_without_a_compiler_compilation_is_refused_in_one_line(params, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    compiled = dataclasses.replace(params, compile=True)
    with pytest.raises(
        DdmError, match=r"compile: true needs a C\+\+ compiler; install g\+\+, or set compile"
    ):
        training.train(build_networks(Description(compiled, 1, 16)), photos(), compiled, NAME, lambda _: None)


@pytest.mark.timeout(600)
def test_compiled_networks_learn_the_same_and_keep_the_names_of_their_weights(ddm_params):
    plain_networks, plain = trained(dataclasses.replace(ddm_params, steps=3))
    networks, history = trained(dataclasses.replace(ddm_params, steps=3, compile=True))
    assert networks.state_dict().keys() == plain_networks.state_dict().keys()
    for one, other in zip(plain, history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
