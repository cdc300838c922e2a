"""What every obfuscator offers. Images are float tensors [batch, channels, height, width] in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ddm_core.errors import DdmError


class Obfuscator(Protocol):
    """Hides photos. Deterministic: the same images and nonces give the same bytes."""

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the obfuscated images, values multiples of 1/255 (what an 8-bit file holds).

        Same number of images and channels, same size; only keyed DDM gives whole cells: the next multiple of
        8 pixels, or for photos 1.5 times that.
        `nonces` has one fresh 12-byte nonce an image; keyless methods do not read it.
        """
        ...


@runtime_checkable
class DecryptingObfuscator(Obfuscator, Protocol):
    """An obfuscator whose receiver can restore the photo."""

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the restored images in [0, 1], in the photos' size, given the nonces of encryption."""
        ...


@runtime_checkable
class RandomisedObfuscator(Obfuscator, Protocol):
    """An obfuscator whose randomness is secret: drawn from a 32-byte master key and the photo's nonce.

    One nonce for two photos breaks the hiding; keyed DDM refuses that, the baselines do as they are told.
    """

    def with_key(self, master_key: bytes) -> RandomisedObfuscator:
        """Return the same method under another master key."""
        ...


@runtime_checkable
class KeyedObfuscator(RandomisedObfuscator, DecryptingObfuscator, Protocol):
    """A decrypting obfuscator whose strength rests on the master key alone (Kerckhoffs)."""

    def with_key(self, master_key: bytes) -> KeyedObfuscator:
        """Return the same method under another master key."""
        ...


def check_one_nonce_an_image(images: Tensor, nonces: Sequence[bytes]) -> None:
    """Make sure that no keystream is spread over several images.

    Raises:
        DdmError: not one nonce an image.
    """
    if len(nonces) != len(images):
        raise DdmError(f"{len(images)} images came with {len(nonces)} nonces; draw one for each image")
