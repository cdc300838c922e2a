"""What an attacker is given and what it gives back.

The attacker has the code, the weights and labelled photos (Kerckhoffs), and for keyed methods keys of its
own; never the victim's master key. Test photos are disjoint from everything it trains on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddm_core.keys import KEY_BYTES, nonce_stream
from ddm_core.obfuscators.protocol import KeyedObfuscator, Obfuscator
from ddm_core.params import AttackParams
from ddm_core.seeding import derive_bytes

if TYPE_CHECKING:
    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.data.shards import PhotoSet

CHUNK = 128  # images in one inference pass


@dataclass(frozen=True)
class Target:
    """One obfuscator under attack, with the photos and the clean-trained recogniser.

    `victim` holds the victim's key where there is one; `attacker` is the same obfuscator under a key of the
    attacker's own, for making training data. Keyless obfuscators are one and the same object.
    """

    name: str
    victim: Obfuscator
    attacker: Obfuscator
    train: PhotoSet
    test: PhotoSet
    recogniser: Recogniser
    params: AttackParams
    device: str

    @property
    def keyed(self) -> bool:
        """Whether the obfuscator has a key."""
        return isinstance(self.victim, KeyedObfuscator)

    @property
    def encryptions_per_photo(self) -> int:
        """Several nonces a photo for keyed methods; a keyless one gives the same image every time."""
        return self.params.encryptions_per_photo if self.keyed else 1


@dataclass(frozen=True)
class Outcome:
    """What the attacker reached: predicted identities [n] against the true ones [n].

    `reconstructions` [n, c, h, w] against `originals`, where the attacker rebuilds photos; `hidden` are the
    obfuscated photos it worked from.
    """

    predictions: Tensor
    labels: Tensor
    reconstructions: Tensor | None = None
    originals: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True)
class Encrypted:
    """Obfuscated test photos [n, c, h, w] with the photos behind them, their labels and nonces."""

    hidden: Tensor
    originals: Tensor
    labels: Tensor
    nonces: Sequence[bytes] = field(repr=False)


def evaluation_key(seed: int, owner: str) -> bytes:
    """Return a reproducible key for measurements: "victim", "attacker" or "wrong". Never for real photos."""
    return derive_bytes(seed, f"evaluation key/{owner}", KEY_BYTES)


def as_float(images: Tensor) -> Tensor:
    """Return uint8 images as floats in [0, 1]."""
    return images.float() / 255.0


def in_chunks(count: int) -> list[slice]:
    """Return the slices that cover `count` images, CHUNK at a time."""
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def encrypt_test_photos(target: Target, purpose: str) -> Encrypted:
    """Encrypt every test photo under the victim's key, each time under a nonce of its own."""
    repeats = target.encryptions_per_photo
    photos = as_float(target.test.images).repeat(repeats, 1, 1, 1)
    nonces = list(nonce_stream(target.params.seed, f"{target.name}/{purpose}/test", len(photos)))
    hidden = [
        target.victim.encrypt(photos[part].to(target.device), nonces[part]).cpu()
        for part in in_chunks(len(photos))
    ]
    return Encrypted(torch.cat(hidden), photos, target.test.labels.repeat(repeats), nonces)
