"""A control of the attack lab, not a method to use: a stream cipher that neglects its nonce.

One keystream for all photos, a many-time pad, is a fixed function of the photo. It falls to whoever knows
some photos and their encryptions under the same key, so an attacker of that kind must break it before its
failures elsewhere mean anything (ddm_core.attacks.sanity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ddm_core.keys import KEY_BYTES, NONCE_BYTES
from ddm_core.obfuscators.stream_cipher import XorCipher


@dataclass(frozen=True)
class ManyTimePad:
    """Every byte of every picture XORed with one and the same keystream of the key."""

    master_key: bytes = field(repr=False)

    def encrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the encrypted images; their nonces are not read."""
        return XorCipher(self.master_key).encrypt(images, [bytes(NONCE_BYTES)] * len(nonces))

    def decrypt(self, images: Tensor, nonces: Sequence[bytes]) -> Tensor:
        """Return the photos: XOR undoes itself."""
        return self.encrypt(images, nonces)

    def with_key(self, master_key: bytes) -> ManyTimePad:
        """Return the same cipher under another master key."""
        return ManyTimePad(master_key)


many_time_pad = ManyTimePad(bytes(KEY_BYTES))
