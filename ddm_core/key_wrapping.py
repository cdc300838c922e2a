"""Keys under a passphrase: scrypt makes a wrapping key, ChaCha20-Poly1305 seals each secret with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from ddm_core.errors import DdmError

SALT_BYTES = 16
WRAPPING_NONCE_BYTES = 12
MAX_COST = 1 << 20  # what a file may ask for: 1 GiB of memory; more is an attack on the reader
MAX_BLOCK_SIZE, MAX_PARALLELISM = 8, 4


@dataclass(frozen=True)
class Scrypt:
    """The public settings of scrypt (RFC 7914); the defaults take 128 MiB and about half a second."""

    salt: bytes
    cost: int = 1 << 17
    block_size: int = 8
    parallelism: int = 1

    def __post_init__(self) -> None:
        power_of_two = self.cost > 1 and self.cost & (self.cost - 1) == 0
        if not power_of_two or self.cost > MAX_COST:
            raise ValueError(f"scrypt's cost is {self.cost}; expected a power of two up to {MAX_COST}")
        if not (0 < self.block_size <= MAX_BLOCK_SIZE and 0 < self.parallelism <= MAX_PARALLELISM):
            raise ValueError("scrypt's block_size or parallelism is out of range")
        if len(self.salt) != SALT_BYTES:
            raise ValueError(f"scrypt's salt has {len(self.salt)} bytes; expected {SALT_BYTES}")


def new_scrypt() -> Scrypt:
    """Return the default settings with a fresh salt."""
    return Scrypt(os.urandom(SALT_BYTES))


@dataclass(frozen=True)
class Wrapping:
    """A passphrase with its scrypt settings; the wrapping key is derived once, when it is first needed."""

    scrypt: Scrypt
    passphrase: bytes

    def __repr__(self) -> str:
        return f"Wrapping({self.scrypt})"  # without the passphrase

    def seal(self, secret: bytes, context: bytes) -> bytes:
        """Return nonce and ciphertext of `secret`; `context` is public and must be the same when opening."""
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce = os.urandom(WRAPPING_NONCE_BYTES)
        return nonce + ChaCha20Poly1305(self._key).encrypt(nonce, secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the secret.

        Raises:
            DdmError: wrong passphrase, or a sealed key or context that was changed.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce, ciphertext = sealed[:WRAPPING_NONCE_BYTES], sealed[WRAPPING_NONCE_BYTES:]
        try:
            return ChaCha20Poly1305(self._key).decrypt(nonce, ciphertext, context)
        except (InvalidTag, ValueError):
            raise DdmError("wrong passphrase, or a damaged key file; type it again") from None

    @cached_property
    def _key(self) -> bytes:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt as Derivation

        settings = self.scrypt
        return Derivation(
            salt=settings.salt, length=32, n=settings.cost, r=settings.block_size, p=settings.parallelism
        ).derive(self.passphrase)
