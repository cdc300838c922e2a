"""Statistics of the theorem: with fresh nonces x_e says nothing about the photo; with one nonce it does.

Every test has its positive control: the same statistic on encryptions that share one nonce must find the
dependence, so a pass means that there is nothing to find and not that the test is blind. Seeds are fixed.
"""

import dataclasses

import numpy
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from started_networks import started_networks
from torch.nn import functional as F

from ddm_core.channel import round_to_8_bits
from ddm_core.keys import haar_rotations, nonce_stream
from ddm_core.obfuscators.keyed_ddm import KeyedDdm
from ddm_core.obfuscators.store import Description
from ddm_core.obfuscators.training_start import training_goal
from ddm_core.rotations import apart
from ddm_core.seeding import make_deterministic, numpy_generator, torch_generator
from ddm_core.training import train

KEY = bytes(range(32))
SIDE = 16  # pixels; a grid of 2 x 2 cells
ALPHA = 0.01  # a fixed seed passes or fails for good; a false alarm at another seed is this rare


@pytest.fixture(
    scope="module",
    params=[(1, 0), (1, 60), (3, 60)],
    ids=["untrained", "briefly trained", "in colour, briefly trained"],
)
def networks(request, keyed_ddm_params):
    channels, steps = request.param
    make_deterministic(0, "tests/theorem", threads=1)
    networks = started_networks(Description(keyed_ddm_params, channels, SIDE))
    if steps:
        params = dataclasses.replace(keyed_ddm_params, steps=steps, batch_size=16)
        photos = (faces(networks, 64, "train") * 255).byte()
        train(networks, photos, params, "tests/theorem", lambda _: None, goal=training_goal(networks))
    return networks.eval().requires_grad_(False)


def faces(networks, count, name):
    """Smooth photos [count, c, 16, 16] that differ in a few degrees of freedom, as aligned faces do."""
    draws = torch_generator(0, f"tests/theorem/{name}")
    coarse = torch.rand(count, networks.channels, 3, 3, generator=draws)
    return round_to_8_bits(F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=True))


def photo(networks, kind):
    """One picture [1, c, 16, 16]; in colour each channel shows it another way up, but where it is plain."""
    ramp = torch.linspace(0, 1, SIDE)
    pictures = {
        "constant": torch.full((SIDE, SIDE), 0.5),
        "black": torch.zeros(SIDE, SIDE),
        "left to right": ramp.expand(SIDE, SIDE),
        "top to bottom": ramp.expand(SIDE, SIDE).T,
        "checkerboard": (torch.arange(SIDE)[:, None] + torch.arange(SIDE)).remainder(2).float(),
    }
    grey = pictures[kind].reshape(1, 1, SIDE, SIDE)
    return torch.cat([grey, grey.flip(3), grey.mT], dim=1)[:, : networks.channels]


def fresh(name, count):
    return list(nonce_stream(0, f"tests/theorem/{name}", count))


def encrypt(networks, images, name):
    return KeyedDdm(networks, KEY).encrypt(images, fresh(name, len(images)))


def encrypt_with_one_nonce(networks, images, name):
    """The misuse that KeyedDdm refuses, through the networks."""
    rotation = haar_rotations(KEY, fresh(name, 1), networks.grid(images))
    return networks.hide(images, rotation)


# The rotated latent is uniform on S7 and S3


def rotated(networks, images, nonces):
    return networks.rotated(images, haar_rotations(KEY, nonces, networks.grid(images)))


def points(networks, latent):
    """The octonions [n, 8] and the quaternions [n, 4] of a latent."""
    groups = apart(latent.double(), networks.layout.octonions)
    return [group.movedim(2, -1).reshape(-1, group.shape[2]) for group in groups]


def marginal_of(dimensions):
    """The distribution of one component of a uniform unit vector: density (1 - t^2)^((d - 3) / 2)."""
    return stats.beta((dimensions - 1) / 2, (dimensions - 1) / 2, loc=-1, scale=2)


def uniform_on_its_sphere(points):
    """Whether unit vectors [n, d] pass for independent and uniform: marginals and second moments."""
    count, d = points.shape
    marginal = marginal_of(d)
    smallest = min(stats.kstest(component, marginal.cdf).pvalue for component in points.numpy().T)
    moments = (points.T @ points / count).numpy()
    # the variances of q_i^2 and of q_i q_j
    own, mixed = 2 * (d - 1) / (d**2 * (d + 2)), 1 / (d * (d + 2))
    allowed = 4 * numpy.where(numpy.eye(d), own**0.5, mixed**0.5) / count**0.5
    return smallest > ALPHA / d and bool((abs(moments - numpy.eye(d) / d) < allowed).all())


@pytest.mark.parametrize("kind", ["constant", "black", "left to right", "top to bottom", "checkerboard"])
def test_rotated_latents_are_uniform_on_the_sphere_whatever_the_photo(networks, kind):
    images = photo(networks, kind).expand(400, -1, -1, -1)
    for group in points(networks, rotated(networks, images, fresh(f"uniform/{kind}", 400))):
        assert (group.norm(dim=-1) - 1).abs().max() < 1e-6
        assert uniform_on_its_sphere(group)


def test_each_single_cell_is_uniform_too(networks):
    images = photo(networks, "left to right").expand(400, -1, -1, -1)
    latent = rotated(networks, images, fresh("cells", 400)).double()
    for group in apart(latent, networks.layout.octonions):
        marginal = marginal_of(group.shape[2])
        components = group.reshape(400, -1).T.numpy()  # one row a component of a cell
        smallest = min(stats.kstest(component, marginal.cdf).pvalue for component in components)
        assert smallest > ALPHA / len(components)


def test_latents_before_the_rotation_are_not_uniform(networks):
    for group in points(networks, networks.encode(faces(networks, 400, "latents"))):
        assert not uniform_on_its_sphere(group)


def test_control_with_one_nonce_rotated_latents_are_not_uniform(networks):
    images = faces(networks, 400, "reuse")
    for group in points(networks, rotated(networks, images, fresh("many", 400))):
        assert uniform_on_its_sphere(group)
    for group in points(networks, rotated(networks, images, fresh("one", 1) * 400)):
        assert not uniform_on_its_sphere(group)


# x_e is independent of the latent and of the photo


def centred_distances(samples):
    distances = squareform(pdist(samples.flatten(1).double().numpy()))
    return distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()


def distance_correlation_p_value(first, second, permutations=199):
    """Permutation test of Székely, Rizzo and Bakirov's distance covariance (2007): small means dependent.

    The distance correlation divides it by a constant that no permutation changes, so the test is the same.
    """
    a, b = centred_distances(first), centred_distances(second)
    draws = numpy_generator(0, "tests/theorem/permutations")
    observed = (a * b).sum()
    orders = [draws.permutation(len(a)) for _ in range(permutations)]
    at_least = sum((a * b[numpy.ix_(order, order)]).sum() >= observed for order in orders)
    return (1 + at_least) / (1 + permutations)


@pytest.mark.parametrize("behind", ["photo", "latent"])
def test_hidden_photos_are_independent_of_what_lies_behind(networks, behind):
    images = faces(networks, 200, "dependence")
    known = images if behind == "photo" else networks.encode(images)
    assert distance_correlation_p_value(known, encrypt(networks, images, "independent")) > ALPHA


@pytest.mark.parametrize("behind", ["photo", "latent"])
def test_control_with_one_nonce_hidden_photos_depend_on_what_lies_behind(networks, behind):
    images = faces(networks, 200, "dependence")
    known = images if behind == "photo" else networks.encode(images)
    hidden = encrypt_with_one_nonce(networks, images, "independent")
    assert distance_correlation_p_value(known, hidden) < ALPHA


# A trained probe


def features(hidden):
    """Pixels and their squares: a probe of means and of variances."""
    pixels = hidden.flatten(1).double() - 0.5
    return torch.cat([pixels, pixels.square(), torch.ones(len(pixels), 1).double()], 1)


def probe_accuracy(hidden, labels):
    """Train ridge regression on one half of the encryptions; return its accuracy on the other half."""
    known, target = features(hidden), labels.double() * 2 - 1
    train_, test = slice(0, None, 2), slice(1, None, 2)
    ridge = 10 * torch.eye(known.shape[1]).double()
    weights = torch.linalg.solve(known[train_].T @ known[train_] + ridge, known[train_].T @ target[train_])
    return ((known[test] @ weights > 0) == (labels[test] == 1)).double().mean().item()


def two_photos(networks, count):
    """`count` copies, a quarter each in turn: both halves of the probe hold both photos."""
    labels = torch.arange(count) // 2 % 2
    return torch.cat([photo(networks, kind) for kind in ("black", "left to right")])[labels], labels


def test_a_trained_probe_cannot_tell_two_very_different_photos_apart(networks):
    images, labels = two_photos(networks, 4000)
    accuracy = probe_accuracy(encrypt(networks, images, "probe"), labels)
    assert abs(accuracy - 0.5) < 3 * 0.5 / 2000**0.5  # three standard deviations of guessing


def test_control_with_one_nonce_the_probe_tells_them_apart_through_noise(networks):
    images, labels = two_photos(networks, 4000)
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch_generator(0, "tests/theorem/noise"))
    hidden = encrypt_with_one_nonce(networks, noisy.clamp(0, 1), "probe")
    assert probe_accuracy(hidden, labels) > 0.99
    assert abs(probe_accuracy(encrypt(networks, noisy.clamp(0, 1), "noisy"), labels) - 0.5) < 0.034
