"""Keyed DDM: the latent of the photo is rotated by a Haar-random keystream before anything is drawn.

encoder E: photo -> unit quaternions z, a grid of n quaternions per 4x4 patch
z' = k z (Hamilton product): Haar measure is invariant, so z' is uniform whatever z is
renderer R: x_e = R(z'); the photo cannot reach x_e any other way, since R takes nothing but z'
receiver: seeker S reads z' from x_e, z = k* z', decoder: photo

x_e is drawn in one channel (luma) and repeated over RGB, so that chroma subsampling costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddm_core import quaternions
from ddm_core.channel import round_to_8_bits, simulate_jpeg, simulate_resize
from ddm_core.errors import DdmError
from ddm_core.keys import haar_quaternions
from ddm_core.networks import PatchNetwork
from ddm_core.params import KeyedDdmParams

PATCH = 4  # pixels a side of one grid cell


class KeyedDdmNetworks(nn.Module):
    """Encoder, renderer, seeker and decoder. Images [batch, channels, height, width] in [0, 1]."""

    def __init__(self, channels: int, params: KeyedDdmParams) -> None:
        super().__init__()
        self.channels = channels
        self.params = params
        latent = 4 * params.quaternions
        size = params.width, params.blocks
        self.encoder = PatchNetwork(channels * PATCH**2, latent, *size)
        self.renderer = PatchNetwork(latent, PATCH**2, *size)
        self.seeker = PatchNetwork(PATCH**2, latent, *size)
        self.decoder = PatchNetwork(latent, channels * PATCH**2, *size)
        _start_as_transform_code(self)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latent z: exactly unit quaternions [batch, n, 4, height/4, width/4]."""
        return quaternions.normalise(self._group(self.encoder(F.pixel_unshuffle(images, PATCH))))

    def render(self, rotated: Tensor) -> Tensor:
        """Return x_e, rounded to 8 bits. The rotated latent is the ONLY argument: no way around the key."""
        carrier = F.pixel_shuffle(self.renderer(rotated.flatten(1, 2)).float(), PATCH)
        return round_to_8_bits(carrier).expand(-1, self.channels, -1, -1)

    def seek(self, hidden: Tensor) -> Tensor:
        """Return the estimate of z', unit quaternions [batch, n, 4, height/4, width/4]."""
        carrier = hidden.mean(dim=1, keepdim=True)
        grid: Tensor = self.seeker(F.pixel_unshuffle(carrier, PATCH))
        return quaternions.normalise(self._group(grid))

    def decode(self, latent: Tensor) -> Tensor:
        """Return x_r, unbounded so that training sees the whole error."""
        return F.pixel_shuffle(self.decoder(latent.flatten(1, 2)).float(), PATCH)

    def hide(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return x_e = R(k E(x)) for a keystream of unit quaternions [batch, n, 4, height/4, width/4]."""
        return self.render(quaternions.multiply(rotation, self.encode(images)))

    def reveal(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        """Return x_r = Dec(k* S(x_e))."""
        return self.decode(quaternions.multiply(quaternions.conjugate(rotation), self.seek(hidden)))

    def round_trip(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for one training batch: fresh rotations, and a random channel in between."""
        height, width = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        shape = len(images), self.params.quaternions, height, width
        rotation = quaternions.random_unit(shape, generator).to(images.device)
        hidden = self.hide(images, rotation)
        # In bf16 the channel's matrix products would be grey levels off.
        with torch.autocast(images.device.type, enabled=False):
            received = _random_channel(hidden[:, :1], self.params, generator).expand_as(hidden)
        return hidden, self.reveal(received, rotation)

    def _group(self, grid: Tensor) -> Tensor:
        # Quaternion arithmetic stays in fp32: in bf16 a unit norm is off by up to 0.4 %.
        batch, _, height, width = grid.shape
        return grid.float().view(batch, self.params.quaternions, 4, height, width)


def _random_channel(hidden: Tensor, params: KeyedDdmParams, generator: torch.Generator) -> Tensor:
    draw, which = torch.rand(2, generator=generator).tolist()
    if draw < params.jpeg_probability:
        span = params.jpeg_quality_max - params.jpeg_quality_min + 1
        return simulate_jpeg(hidden, params.jpeg_quality_min + int(which * span))
    if draw < params.jpeg_probability + (1 - params.jpeg_probability) * params.resize_probability:
        return simulate_resize(
            hidden,
            # squared: the smallest sizes are the hardest and come most often
            params.resize_scale_min + which**2 * (1 - params.resize_scale_min),
        )
    noise = torch.randn(hidden.shape, generator=generator).to(hidden.device)
    return round_to_8_bits(hidden + params.noise_deviation * noise)


def _start_as_transform_code(networks: KeyedDdmNetworks) -> None:
    """Start the four linear parts as a DCT code of 4x4 patches, from which training converges in seconds.

    Each quaternion starts as (1, a, b, c) with three low-frequency DCT coefficients a, b, c: the constant
    keeps the direction readable after normalisation. The first quaternion takes the lowest frequencies and
    is drawn with the lowest frequencies too, so that it survives a photo being scaled down.
    """
    count, channels = networks.params.quaternions, networks.channels
    basis = _dct_basis()
    coefficients = min(3 * count, PATCH**2)
    slots = [4 * (index // 3) + 1 + index % 3 for index in range(coefficients)]
    gains = torch.tensor([1.0] + [3.0] * (coefficients - 1))  # the DC varies most, so it is drawn smallest

    # pixel_unshuffle puts the channel first: [channel 0's 16 pixels, channel 1's 16 pixels, ...]
    grey = basis[:coefficients].repeat(1, channels) / channels
    encode = torch.zeros(4 * count, channels * PATCH**2)
    encode[slots] = grey * gains[:, None]
    constant = torch.zeros(4 * count)
    constant[0::4] = 1.0
    constant[slots[0]] = -PATCH / 2 * float(gains[0])  # the DC of mid-grey
    networks.encoder.start_linear(encode, constant)

    decode = torch.zeros(channels * PATCH**2, 4 * count)
    decode[:, slots] = (basis[:coefficients] / gains[:, None]).T.repeat(channels, 1)
    networks.decoder.start_linear(decode, torch.full((channels * PATCH**2,), 0.5))

    carriers = min(4 * count, PATCH**2)
    amplitude = 1.4 / math.sqrt(4 * count)  # pixel deviation about 0.17: clipping at 0 and 1 is rare
    draw = torch.zeros(PATCH**2, 4 * count)
    draw[:, :carriers] = basis[:carriers].T * amplitude
    networks.renderer.start_linear(draw, torch.full((PATCH**2,), 0.5))
    read = draw.T / amplitude**2
    networks.seeker.start_linear(read, -read.sum(dim=1) * 0.5)


def _dct_basis() -> Tensor:
    """Return the 16 orthonormal 4x4 DCT patterns, [16, 16 pixels], lowest frequencies first."""
    k = torch.arange(float(PATCH)).unsqueeze(1)
    n = torch.arange(float(PATCH)).unsqueeze(0)
    matrix = torch.cos(torch.pi * (2 * n + 1) * k / (2 * PATCH)) * math.sqrt(2 / PATCH)
    matrix[0] *= math.sqrt(0.5)
    pairs = sorted(
        ((row, column) for row in range(PATCH) for column in range(PATCH)),
        key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair),
    )
    return torch.stack([torch.outer(matrix[row], matrix[column]).flatten() for row, column in pairs])


@dataclass(frozen=True)
class KeyedDdm:
    """Trained networks under one master key. Refuses to use a nonce twice: reuse breaks the one-time pad."""

    networks: KeyedDdmNetworks
    master_key: bytes = field(repr=False)
    _used: set[bytes] = field(default_factory=set, repr=False, compare=False)

    @torch.no_grad()
    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_e under one fresh nonce an image.

        Raises:
            DdmError: a nonce that this key has been used with before, or not one nonce an image.
        """
        _one_nonce_an_image(images, nonces)
        repeated = len(set(nonces)) < len(nonces) or not self._used.isdisjoint(nonces)
        if repeated:
            raise DdmError("a nonce was used before under this key; draw a fresh one (keys.fresh_nonces)")
        self._used.update(nonces)
        return self.networks.hide(images, self._rotation(images, nonces))

    @torch.no_grad()
    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_r in [0, 1]; a wrong key gives noise, see keys.check_nonce_tag for a clear error.

        Raises:
            DdmError: not one nonce an image.
        """
        _one_nonce_an_image(images, nonces)
        return self.networks.reveal(images, self._rotation(images, nonces)).clamp(0.0, 1.0)

    def with_key(self, master_key: bytes) -> KeyedDdm:
        """Return the same networks under another master key; the nonces of this one stay used."""
        return self if master_key == self.master_key else KeyedDdm(self.networks, master_key)

    def _rotation(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        height, width = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        count = self.networks.params.quaternions
        return haar_quaternions(self.master_key, nonces, count, height, width).to(images.device)


def _one_nonce_an_image(images: Tensor, nonces: Sequence[bytes]) -> None:
    # One rotation would be spread silently over a whole batch: the nonce reuse that must be impossible.
    if len(nonces) != len(images):
        raise DdmError(f"{len(images)} images came with {len(nonces)} nonces; draw one for each image")
