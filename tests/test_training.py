"""One loop for every learned method: collaborative, finite, and the same bits for the same seed."""

import dataclasses
import math

import pytest
import torch
from checkpointed_training import without_speed

from ddm_core.errors import DdmError
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic, torch_generator
from ddm_core.training import augment, rate_factor, scale_gradient, train
from ddm_core.training_photos import PhotosInMemory


@pytest.fixture(scope="module")
def photos():
    """Twelve smooth uint8 photos [12, 1, 16, 16]."""
    coarse = torch.rand(12, 1, 4, 4, generator=torch_generator(0, "tests/training"))
    return (torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") * 255).byte()


@pytest.fixture(params=["ddm", "keyed_ddm"])
def params(request):
    return request.getfixturevalue(f"{request.param}_params")


def trained(params, photos, name="tests"):
    """Return (weights, observations) of one training run from its seed."""
    make_deterministic(params.seed, f"train/{name}", params.threads)
    networks = build_networks(Description(params, 1, 16))
    observations = []
    train(networks, photos, params, name, observations.append)
    return networks.state_dict(), observations


def same(first, second):
    return all(first[name].equal(second[name]) for name in first)


# The same seed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_bit_identical_weights_and_another_seed_does_not(params, photos, precision):
    params = dataclasses.replace(params, precision=precision)
    first, history = trained(params, photos)
    torch.rand(7)  # what the process drew in between changes nothing
    second, history_again = trained(params, photos)
    assert same(first, second)
    for before, after in zip(history, history_again, strict=True):
        assert without_speed(before) == without_speed(after)
    other, _ = trained(dataclasses.replace(params, seed=1), photos)
    assert not same(first, other)


def test_another_name_is_another_training(params, photos):
    assert not same(trained(params, photos, "a")[0], trained(params, photos, "b")[0])


# Learning


def test_training_brings_the_restored_photo_nearer_to_the_original(params, photos):
    # Without JPEG and resizing in between: which of them the last batch met would decide otherwise.
    calm = {"jpeg_probability": 0.0, "resize_probability": 0.0} if params.method == "keyed_ddm" else {}
    longer = dataclasses.replace(params, steps=150, batch_size=8, **calm)
    _, history = trained(longer, photos)
    assert [line.step for line in history] == [25, 50, 75, 100, 125, 150]
    assert history[-1].reconstruction_l1 < history[0].reconstruction_l1
    for line in history:
        assert line.jsd_lower_bound == pytest.approx(math.log(2) - line.discriminator_bce / 2)
        expected = 10.0 * line.reconstruction_l1 + params.discrepancy_weight * line.discriminator_bce
        assert line.loss == pytest.approx(expected, rel=1e-5)
        assert line.images_per_second > 0
    assert history[-1].learning_rate < history[0].learning_rate


def test_weights_change_and_come_back_ready_for_use(params, photos):
    make_deterministic(params.seed, "train/tests", params.threads)
    networks = build_networks(Description(params, 1, 16))
    before = {name: weight.clone() for name, weight in networks.state_dict().items()}
    train(networks, photos, params, "tests", lambda _: None)
    assert not networks.training
    assert any(not weight.equal(before[name]) for name, weight in networks.state_dict().items())


def test_without_discrepancy_weight_the_discriminator_watches_but_does_not_steer(ddm_params, photos):
    """The control: the networks' weights are those of reconstruction alone, the discrepancy is still seen."""
    control = dataclasses.replace(ddm_params, discrepancy_weight=0.0)
    weights, history = trained(control, photos)
    assert not same(weights, trained(ddm_params, photos)[0])
    assert history[-1].loss == pytest.approx(10.0 * history[-1].reconstruction_l1, rel=1e-6)
    watched = dataclasses.replace(control, steps=100)
    _, longer = trained(watched, photos)
    assert longer[-1].jsd_lower_bound > longer[0].jsd_lower_bound


def test_a_loss_that_is_not_finite_stops_the_training_at_once_in_one_line(ddm_params, photos):
    wild = dataclasses.replace(ddm_params, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(
        DdmError, match=r"the loss is not finite at step 2, batch [\d, ]+; lower learning_rate"
    ):
        trained(wild, photos)


def test_the_photos_of_the_batch_are_named_when_their_loss_is_not_finite(ddm_params, photos):
    """The fourth batch is restored to nothing but NaN; the draws of the seed tell which photos it holds."""
    make_deterministic(ddm_params.seed, "train/tests", ddm_params.threads)
    networks = build_networks(Description(ddm_params, 1, 16))
    keys = [f"anna/{number:02}" for number in range(len(photos))]
    batches = []
    whole = networks.round_trip

    def spoiling(batch, *draws):
        batches.append(batch)
        answer = whole(batch, *draws)
        if len(batches) == 4:
            answer = (answer[0], answer[1] * math.nan)
        return answer

    networks.round_trip = spoiling
    with pytest.raises(DdmError) as caught:
        train(networks, PhotosInMemory(photos, keys), ddm_params, "tests", lambda _: None)
    message = str(caught.value)
    assert "\n" not in message
    assert "not finite at step 4" in message
    draws = torch_generator(ddm_params.seed, "train/tests")
    for _ in range(4):
        chosen = torch.randint(0, len(photos), (ddm_params.batch_size,), generator=draws)
        augment(photos[chosen].float() / 255.0, draws)
    assert f"batch {', '.join(keys[photo] for photo in chosen)};" in message


# Parts


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine():
    factors = [rate_factor(step, 100, 10) for step in range(100)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors.index(max(factors)) == 10
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.55)))
    assert factors[-1] < 1e-3


def test_without_warm_up_the_first_step_is_a_full_one():
    assert rate_factor(0, 100, 0) == 1.0


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_a_scaled_gradient_keeps_the_values(factor):
    values = torch.rand(5, generator=torch_generator(0, "tests/scale"), requires_grad=True)
    scaled = scale_gradient(values, factor)
    assert torch.allclose(scaled, values, rtol=0, atol=1e-6)
    (3 * scaled).sum().backward()
    assert values.grad.tolist() == pytest.approx([3 * factor] * 5)


def test_augmented_photos_are_shifted_mirrored_and_lit_copies():
    images = torch.rand(64, 1, 32, 32, generator=torch_generator(0, "tests/augment"))
    changed = augment(images, torch_generator(0, "tests/augment/draws"))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert changed.equal(augment(images, torch_generator(0, "tests/augment/draws")))
    assert not changed.equal(augment(images, torch_generator(1, "tests/augment/draws")))
    inner, mirrored = 0, 0
    for before, after in zip(images, changed, strict=True):
        for flipped in (False, True):
            source = before.flip(2) if flipped else before
            found = any(
                is_lit_copy(source[:, 4 + row : 28 + row, 4 + column : 28 + column], after[:, 4:28, 4:28])
                for row in range(-2, 3)
                for column in range(-2, 3)
            )
            inner += found
            mirrored += found and flipped
    assert inner == len(images), "every photo is exactly one such copy"
    assert 16 <= mirrored <= 48


def is_lit_copy(source, copy):
    unclipped = copy < 1
    gains = copy[unclipped] / source[unclipped].clamp(min=1e-3)
    gain = gains.median()
    return 0.85 - 1e-3 <= gain <= 1.15 + 1e-3 and torch.allclose(
        copy, (source * gain).clamp(max=1), atol=1e-3
    )
