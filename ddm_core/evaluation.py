"""What every measurement shares: public evaluation keys, fresh nonces, and many photos in small chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddm_core.keys import KEY_BYTES, nonce_stream
from ddm_core.obfuscators.protocol import DecryptingObfuscator, Obfuscator, RandomisedObfuscator
from ddm_core.seeding import derive_bytes

if TYPE_CHECKING:
    from ddm_core.data.shards import PhotoSet

CHUNK = 128  # images in one inference pass


@dataclass(frozen=True)
class Encrypted:
    """Obfuscated photos [n, c, h, w] with the photos behind them (of h, w or smaller), labels and nonces.

    The `photos` different photos come one after the other, then all again under other nonces.
    """

    hidden: Tensor
    originals: Tensor
    labels: Tensor
    nonces: Sequence[bytes] = field(repr=False)
    photos: int


def evaluation_key(seed: int, owner: str) -> bytes:
    """Return a reproducible key for measurements: "victim", "attacker" or "wrong". Never for real photos."""
    return derive_bytes(seed, f"evaluation key/{owner}", KEY_BYTES)


def as_float(images: Tensor) -> Tensor:
    """Return uint8 images as floats in [0, 1]."""
    return images.float() / 255.0


def in_chunks(count: int) -> list[slice]:
    """Return the slices that cover `count` images, CHUNK at a time."""
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def encrypt_photos(  # noqa: PLR0917 - one line a thing that decides the outcome
    obfuscator: Obfuscator, photos: PhotoSet, repeats: int, seed: int, purpose: str, device: str
) -> Encrypted:
    """Encrypt every photo `repeats` times, each time under a nonce of its own, drawn for `purpose`.

    An obfuscator without secret randomness gives the same image every time, so it is asked once.
    """
    times = repeats if isinstance(obfuscator, RandomisedObfuscator) else 1
    originals = as_float(photos.images).repeat(times, 1, 1, 1)
    nonces = list(nonce_stream(seed, purpose, len(originals)))
    hidden = [
        obfuscator.encrypt(originals[part].to(device), nonces[part]).cpu()
        for part in in_chunks(len(originals))
    ]
    return Encrypted(torch.cat(hidden), originals, photos.labels.repeat(times), nonces, len(photos.images))


def decrypt_photos(
    obfuscator: DecryptingObfuscator, hidden: Tensor, nonces: Sequence[bytes], device: str
) -> Tensor:
    """Return the decrypted photos [n, c, h, w] in [0, 1], on the CPU."""
    restored = [
        obfuscator.decrypt(hidden[part].to(device), nonces[part]).cpu() for part in in_chunks(len(hidden))
    ]
    return torch.cat(restored)
