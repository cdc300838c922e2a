"""What an attacker is given and what it gives back.

The attacker has the code, the weights and labelled photos (Kerckhoffs), and for keyed methods keys of its
own; never the victim's master key. Test photos are disjoint from everything it trains on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ddm_core.evaluation import Encrypted, encrypt_photos
from ddm_core.obfuscators.protocol import Obfuscator
from ddm_core.params import AttackParams
from ddm_core.results import ArchitectureTrial, CleanLevel, CurvePoint, VerificationFigures

if TYPE_CHECKING:
    from ddm_core.attacks.recognition import Recogniser
    from ddm_core.data.shards import PhotoSet


@dataclass(frozen=True)
class Target:
    """One obfuscator under attack, with the photos and the clean-trained recogniser.

    `victim` holds the victim's key where there is one; `attacker` is the same obfuscator under a key of the
    attacker's own, for making training data. Keyless obfuscators are one and the same object.
    `others` are obfuscators of the same method with other settings, by name, under the attacker's key.
    `prepared` is the folder that the photos come from; LFW's pairs may lie there.
    """

    name: str
    victim: Obfuscator
    attacker: Obfuscator
    train: PhotoSet
    test: PhotoSet
    recogniser: Recogniser
    params: AttackParams
    device: str
    others: Mapping[str, Obfuscator] = field(default_factory=dict)
    prepared: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What the attacker reached: identities, likeliest first (int64 [n, up to 5]), against the true ones [n].

    Both are None for an attacker that only tells whether two pictures show one person (`verification`).
    `reconstructions` [n, c, h, w] against `originals`, where the attacker rebuilds photos; `hidden` are the
    obfuscated photos it worked from. `architecture` names the network that won on the attacker's validation
    photos, and `trials` are all that it tried there. `clean_level` is what an embedding of others is worth.
    """

    labels: Tensor | None = None
    ranking: Tensor | None = None
    reconstructions: Tensor | None = None
    originals: Tensor | None = None
    hidden: Tensor | None = None
    verification: dict[str, VerificationFigures] | None = None
    curve: tuple[CurvePoint, ...] = ()
    architecture: str | None = None
    trials: tuple[ArchitectureTrial, ...] = ()
    clean_level: CleanLevel | None = None

    @property
    def predictions(self) -> Tensor:
        """The likeliest identity of each picture [n]."""
        assert self.ranking is not None  # an attacker that only verifies names nobody
        return self.ranking[:, 0]


def encrypt_test_photos(target: Target, purpose: str) -> Encrypted:
    """Encrypt every test photo under the victim's key, each time under a nonce of its own."""
    params = target.params
    name = f"{target.name}/{purpose}/test"
    return encrypt_photos(
        target.victim, target.test, params.encryptions_per_photo, params.seed, name, target.device
    )
