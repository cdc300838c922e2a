"""What every obfuscator offers. Images are float tensors [batch, channels, height, width] in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


class Obfuscator(Protocol):
    """Hides photos. Deterministic: the same images and nonces give the same bytes."""

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the obfuscated images, same shape, values multiples of 1/255 (what an 8-bit file holds).

        `nonces` has one fresh 12-byte nonce an image; keyless methods do not read it.
        """
        ...


@runtime_checkable
class DecryptingObfuscator(Obfuscator, Protocol):
    """An obfuscator whose receiver can restore the photo."""

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the restored images in [0, 1], given the nonces they were encrypted under."""
        ...


@runtime_checkable
class KeyedObfuscator(DecryptingObfuscator, Protocol):
    """A decrypting obfuscator whose strength rests on a 32-byte master key alone (Kerckhoffs)."""

    def with_key(self, master_key: bytes) -> KeyedObfuscator:
        """Return the same networks under another master key."""
        ...
