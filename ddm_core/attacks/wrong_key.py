"""The decryption network without the right key: what anyone with the public weights can try.

For a keyed method another key is used. A keyless method needs none: its public decryption network simply
restores the photo, which is why it protects nothing against an attacker with the weights (Kerckhoffs).
"""

from __future__ import annotations

from ddm_core.attacks.protocol import Outcome, Target, encrypt_test_photos
from ddm_core.evaluation import decrypt_photos, evaluation_key
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator


def wrong_key(target: Target) -> Outcome:
    """Decrypt the test photos with a wrong key and recognise what comes out."""
    assert isinstance(target.victim, DecryptingObfuscator)  # the stage leaves the others out
    other: DecryptingObfuscator = target.victim
    if isinstance(target.victim, KeyedObfuscator):
        other = target.victim.with_key(evaluation_key(target.params.seed, "wrong"))
    encrypted = encrypt_test_photos(target, "wrong_key")
    decrypted = decrypt_photos(other, encrypted.hidden, encrypted.nonces, target.device)
    return Outcome(
        ranking=target.recogniser.rank(decrypted),
        labels=encrypted.labels,
        reconstructions=decrypted,
        originals=encrypted.originals,
        hidden=encrypted.hidden,
    )
