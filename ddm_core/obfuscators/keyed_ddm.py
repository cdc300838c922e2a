"""Keyed DDM: the latent of the photo is rotated by a Haar-random keystream before anything is drawn.

encoder E: photo -> unit quaternions z, a grid of n quaternions per 4x4 patch
z' = k z (Hamilton product): Haar measure is invariant, so z' is uniform whatever z is
renderer R: x_e = R(z'); the photo cannot reach x_e any other way, since R takes nothing but z'
receiver: seeker S reads z' from x_e, z = k* z', decoder: photo

x_e is drawn in one channel. A colour model repeats it over RGB and reads the luma of what arrives, so that
chroma subsampling costs nothing; a copy stored in grey decrypts just as well.

A photo whose sides are no multiples of the patch is padded by its edge, and x_e keeps the padded size, so
that every cell is drawn whole; decryption cuts the photo back to the size that the model was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddm_core import quaternions
from ddm_core.channel import luma, round_to_8_bits, simulate_jpeg, simulate_resize
from ddm_core.data_parallel import BatchPart, whole_batch
from ddm_core.errors import DdmError
from ddm_core.keys import haar_quaternions
from ddm_core.networks import PatchNetwork, crop_like, pad_to_multiple
from ddm_core.obfuscators.protocol import check_one_nonce_an_image
from ddm_core.obfuscators.transform_code import PATCH, transform_code
from ddm_core.params import KeyedDdmParams


def padded(side: int) -> int:
    """Return the side in pixels of the x_e of a photo with this side: the next multiple of the patch."""
    return side + -side % PATCH


class KeyedNetworks(Protocol):
    """What KeyedDdm asks of networks: cells of `patch` pixels become cells of `carrier` pixels of x_e."""

    patch: int
    carrier: int

    def grid(self, images: Tensor) -> tuple[int, int, int]:
        """Return the shape [n, rows, columns] of the quaternions that one of these photos becomes."""
        ...

    def hide(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return x_e for a keystream of unit quaternions [batch, n, 4, rows, columns]."""
        ...

    def reveal(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        """Return x_r, whole cells, not yet cut to the photo's size."""
        ...


class KeyedDdmNetworks(nn.Module):
    """Encoder, renderer, seeker and decoder. Images [batch, channels, height, width] in [0, 1]."""

    patch = carrier = PATCH

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
        start = transform_code(channels, params.quaternions)
        self.encoder.start_linear(*start.encode)
        self.renderer.start_linear(*start.render)
        self.seeker.start_linear(*start.seek)
        self.decoder.start_linear(*start.decode)

    @property
    def hide_reach(self) -> int:
        """How many cells away a patch of the photo still changes x_e, given the same keystream."""
        return 2 * (2 * self.params.blocks + 2)

    @property
    def reveal_reach(self) -> int:
        """How many cells away a cell of x_e still changes the restored photo."""
        return self.hide_reach

    def grid(self, images: Tensor) -> tuple[int, int, int]:
        """Return the shape [n, rows, columns] of the quaternions that one of these images becomes."""
        height, width = images.shape[-2:]
        return self.params.quaternions, padded(height) // PATCH, padded(width) // PATCH

    def encode(self, images: Tensor) -> Tensor:
        """Return the latent z: exactly unit quaternions [batch, n, 4, rows, columns]."""
        whole = pad_to_multiple(images, PATCH)
        return quaternions.normalise(self._group(self.encoder(F.pixel_unshuffle(whole, PATCH))))

    def render(self, rotated: Tensor) -> Tensor:
        """Return x_e in neutral colours, rounded to 8 bits.

        The rotated latent is the ONLY argument: no way around the key.
        """
        carrier = F.pixel_shuffle(self.renderer(rotated.flatten(1, 2)).float(), PATCH)
        return round_to_8_bits(carrier).expand(-1, self.channels, -1, -1)

    def seek(self, hidden: Tensor) -> Tensor:
        """Return the estimate of z', unit quaternions [batch, n, 4, rows, columns]; grey or RGB."""
        grid: Tensor = self.seeker(F.pixel_unshuffle(luma(hidden), PATCH))
        return quaternions.normalise(self._group(grid))

    def decode(self, latent: Tensor) -> Tensor:
        """Return x_r, unbounded so that training sees the whole error."""
        return F.pixel_shuffle(self.decoder(latent.flatten(1, 2)).float(), PATCH)

    def hide(self, images: Tensor, rotation: Tensor) -> Tensor:
        """Return x_e = R(k E(x)) for a keystream of unit quaternions [batch, n, 4, rows, columns]."""
        return self.render(quaternions.multiply(rotation, self.encode(images)))

    def reveal(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        """Return x_r = Dec(k* S(x_e))."""
        return self.decode(quaternions.multiply(quaternions.conjugate(rotation), self.seek(hidden)))

    def round_trip(
        self, images: Tensor, generator: torch.Generator, part: BatchPart | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (x_e, x_r) for one training batch: fresh rotations, and a random channel in between.

        Both are cut to the photos' size. With `part` the images are that part of a batch; rotations and
        channel are drawn for the whole.
        """
        part = part or whole_batch(len(images))
        rotations = quaternions.random_unit((part.whole, *self.grid(images)), generator)
        rotation = part.of(rotations).to(images.device)
        hidden = self.hide(images, rotation)
        # In bf16 the channel's matrix products would be grey levels off.
        with torch.autocast(images.device.type, enabled=False):
            received = _random_channel(hidden, self.params, generator, part)
        return crop_like(hidden, images), crop_like(self.reveal(received, rotation), images)

    def _group(self, grid: Tensor) -> Tensor:
        # Quaternion arithmetic stays in fp32: in bf16 a unit norm is off by up to 0.4 %.
        batch, _, height, width = grid.shape
        return grid.float().view(batch, self.params.quaternions, 4, height, width)


def _random_channel(
    hidden: Tensor, params: KeyedDdmParams, generator: torch.Generator, part: BatchPart
) -> Tensor:
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
    noise = part.of(torch.randn(part.whole, *hidden.shape[1:], generator=generator))
    return round_to_8_bits(hidden + params.noise_deviation * noise.to(hidden.device))


@dataclass(frozen=True)
class KeyedDdm:
    """Trained networks under one master key. Refuses to use a nonce twice: reuse breaks the one-time pad.

    `image_size` is the side in pixels of the photos that the networks were trained for; `None` stands for any
    multiple of the patch. x_e has as many cells as the photo has patches, whole or begun.
    """

    networks: KeyedNetworks
    master_key: bytes = field(repr=False)
    image_size: int | None = None
    _used: set[bytes] = field(default_factory=set, repr=False, compare=False)

    @torch.no_grad()
    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_e under one fresh nonce an image.

        Raises:
            DdmError: a nonce that this key has been used with before, not one nonce an image, or photos of a
                size that decryption could not restore.
        """
        check_one_nonce_an_image(images, nonces)
        self._check_restorable(images)
        repeated = len(set(nonces)) < len(nonces) or not self._used.isdisjoint(nonces)
        if repeated:
            raise DdmError("a nonce was used before under this key; draw a fresh one (keys.fresh_nonces)")
        self._used.update(nonces)
        return self.networks.hide(images, self._rotation(images, nonces))

    @torch.no_grad()
    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return x_r in [0, 1] in the photo's size; a wrong key gives noise (see keys.check_nonce_tag).

        Raises:
            DdmError: not one nonce an image, or sides that no x_e has.
        """
        check_one_nonce_an_image(images, nonces)
        height, width = images.shape[-2:]
        carrier, patch = self.networks.carrier, self.networks.patch
        if height % carrier or width % carrier:
            raise DdmError(
                f"the encrypted image is {width}x{height} pixels, but its sides must be multiples of"
                f" {carrier}; scale it back to the size that encryption gave it"
            )
        height, width = height // carrier * patch, width // carrier * patch
        photos = images.new_empty(len(images), 1, height, width)
        restored = self.networks.reveal(images, self._rotation(photos, nonces)).clamp(0.0, 1.0)
        return restored[..., : self._restored(height), : self._restored(width)]

    def with_key(self, master_key: bytes) -> KeyedDdm:
        """Return the same networks under another master key; the nonces of this one stay used."""
        if master_key == self.master_key:
            return self
        return KeyedDdm(self.networks, master_key, self.image_size)

    def _restored(self, side: int) -> int:
        if self.image_size is not None and side == self._padded(self.image_size):
            return self.image_size
        return side

    def _padded(self, side: int) -> int:
        return side + -side % self.networks.patch

    def _check_restorable(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if (height, width) != (self._restored(self._padded(height)), self._restored(self._padded(width))):
            own = f"{self.image_size}x{self.image_size} or " if self.image_size else ""
            raise DdmError(
                f"photos of {width}x{height} pixels could not be restored to that size;"
                f" resize them to {own}multiples of {self.networks.patch}"
            )

    def _rotation(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        return haar_quaternions(self.master_key, nonces, *self.networks.grid(images)).to(images.device)
