"""What a user would take instead of a learned method: a stream cipher on the pixels.

Both are perfect on files that travel unchanged, and break under JPEG or resizing: a keystream that is off by
one pixel, or a pixel that is off by one grey level, decrypts to something else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddm_core.keys import keystream
from ddm_core.obfuscators.pixel_bytes import from_bytes, to_bytes
from ddm_core.obfuscators.protocol import check_one_nonce_an_image


@dataclass(frozen=True)
class XorCipher:
    """Every byte of the picture XORed with a ChaCha20 keystream."""

    master_key: bytes = field(repr=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the encrypted images.

        Raises:
            DdmError: not one nonce an image.
        """
        return from_bytes(to_bytes(images) ^ _stream(self.master_key, images, nonces, "xor_cipher"))

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the photos: XOR undoes itself."""
        return self.encrypt(images, nonces)

    def with_key(self, master_key: bytes) -> XorCipher:
        """Return the same cipher under another master key."""
        return XorCipher(master_key)


@dataclass(frozen=True)
class AddmodCipher:
    """A ChaCha20 keystream added to every byte of the picture, modulo 256.

    A small error of the channel stays a small error, but for those that step over 0 or 255.
    """

    master_key: bytes = field(repr=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the encrypted images.

        Raises:
            DdmError: not one nonce an image.
        """
        # uint8 arithmetic wraps around at 256 by itself
        return from_bytes(to_bytes(images) + _stream(self.master_key, images, nonces, "addmod_cipher"))

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the photos."""
        return from_bytes(to_bytes(images) - _stream(self.master_key, images, nonces, "addmod_cipher"))

    def with_key(self, master_key: bytes) -> AddmodCipher:
        """Return the same cipher under another master key."""
        return AddmodCipher(master_key)


def _stream(master_key: bytes, images: Tensor, nonces: Sequence[bytes], purpose: str) -> Tensor:
    check_one_nonce_an_image(images, nonces)
    stream = keystream(master_key, nonces, math.prod(images.shape[1:]), purpose)
    return torch.from_numpy(stream).view(images.shape).to(images.device)
