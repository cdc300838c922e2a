"""Keyed DDM under a master key: every photo's latent is rotated by its own keystream (`keyed_networks`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddm_core.errors import DdmError
from ddm_core.keys import haar_rotations
from ddm_core.obfuscators.keyed_networks import KeyedNetworks
from ddm_core.obfuscators.protocol import check_one_nonce_an_image


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
        return haar_rotations(self.master_key, nonces, self.networks.grid(images)).to(images.device)
