"""What attackers, channels and obfuscators are called, in plain words, and how figures are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABSENT = "–"  # noqa: RUF001 - an en dash is what a table shows for "no figure"
LOSSLESS_DB = 60.0  # a root mean square error of a quarter of a grey level; larger figures say nothing more

ATTACKER_LABELS = {
    "clean": "clean-trained",
    "retrained": "retrained",
    "inversion": "inversion",
    "wrong_key": "wrong key",
    "verification": "verification",
    "pretrained": "pretrained",
    "transfer": "transfer",
    "averaging": "averaging",
    "known_plaintext": "known plaintext",
    "learning_curve": "learning curve",
    "nonce_reuse": "nonce reuse",
}

ATTACKER_NOTES = {
    "clean": "A face recogniser trained on ordinary photos is shown the obfuscated ones. "
    "It never adapts, so it is the weakest attacker.",
    "retrained": "A recogniser trained on obfuscated photos of these very people, with their names. "
    "For keyed methods those were made under other keys and other nonces.",
    "inversion": "A network trained on pairs of obfuscated and original photos to undo the obfuscation. "
    "The recogniser then looks at what it draws.",
    "wrong_key": "Decrypts with a key of the attacker's own choosing, then runs the recogniser. "
    "A method without a key is simply decrypted.",
    "verification": "Names nobody: told two pictures, says whether both show the same person, "
    "with both obfuscated and with one of them clean (linkage).",
    "pretrained": "A face embedding that others trained on many more people, compared with clean photos of "
    "everybody. It counts only where it recognises clean photos.",
    "transfer": "A recogniser trained on the same method with other settings.",
    "averaging": "Sees the same photo encrypted several times under fresh nonces, and averages.",
    "known_plaintext": "Holds many photos with their encryptions under the very key that is attacked, "
    "and predicts the rest.",
    "learning_curve": "The retrained attacker with fewer labelled photos and with less training, "
    "to see whether more of either would help.",
    "nonce_reuse": "A deliberate misuse: every photo encrypted under one and the same nonce, "
    "then the retrained attacker.",
}

EMBEDDING_LABELS = {"recogniser": "clean recogniser", "dlib_resnet": "dlib's ResNet"}

EMBEDDING_NOTES = {
    "recogniser": "trained on clean photos of these very people; the attacker's judge",
    "dlib_resnet": "trained by others on millions of photos of other people; independent of this benchmark",
}

CHANNEL_LABELS = {
    "png": "PNG",
    "jpeg95": "JPEG 95",
    "jpeg85": "JPEG 85",
    "jpeg75": "JPEG 75",
    "jpeg50": "JPEG 50",
    "jpeg30": "JPEG 30",
    "jpeg95_444": "JPEG 95, 4:4:4",
    "jpeg85_444": "JPEG 85, 4:4:4",
    "jpeg75_444": "JPEG 75, 4:4:4",
    "jpeg50_444": "JPEG 50, 4:4:4",
    "jpeg30_444": "JPEG 30, 4:4:4",
    "webp": "WebP",
    "resize75": "¾ size",
    "resize50": "half size",
    "resize25": "¼ size",
    "crop_pad": "crop and pad",
    "photo_site": "photo site",
}

OBFUSCATOR_NOTES = {
    "none": "The photo as it is. Shows how strong the attackers are.",
    "mosaic": "Every square of {block} × {block} pixels becomes its mean.",  # noqa: RUF001
    "blur": "Gaussian blur with a kernel of {kernel} pixels.",
    "p3": "The public part of P3: JPEG without its DC terms, coefficients clipped at {threshold}.",
    "pixel_permutation": "All pixels in another order, the same for every photo.",
    "block_permutation": "The pixels of every {block} × {block} square in another order, "  # noqa: RUF001
    "the same everywhere.",
    "learnable_encryption": "Learnable image encryption on {block} × {block} squares "  # noqa: RUF001
    "with one fixed key.",
    "block_scrambling": "Squares of {block} × {block} pixels shuffled, turned, flipped and "  # noqa: RUF001
    "negated, with a fresh key a photo.",
    "xor_cipher": "Every byte XORed with a keystream.",
    "addmod_cipher": "A keystream added to every byte, modulo 256.",
    "dp_pix": "Means of {block} × {block} squares with Laplace noise at ε {epsilon}.",  # noqa: RUF001
    "dp_blur": "Means of {block} × {block} squares with Laplace noise at ε {epsilon}, "  # noqa: RUF001
    "then a blur.",
    "k_same": "The average of a group of at least {k} people.",
    "external": "Code of others: {uri}.",
    "ddm": "The paper's DDM, without a key. No protection against adaptive attackers.",
    "photo_ddm": "DDM with a secret key, for colour photos that photo sites shrink and recompress.",
    "keyed_ddm": "DDM with a secret key: for every photo the hidden code is rotated at random.",
}


def describe_obfuscator(settings: dict[str, Any]) -> str:
    """Return one line that says what an obfuscator does; `settings` is its entry of params.train.

    A method without a note of its own is described by its name.
    """
    if is_discrepancy_control(settings):
        return "A control: DDM trained without its discriminator (λ = 0)."
    return OBFUSCATOR_NOTES.get(settings["method"], "{method}").format_map(settings)


def is_discrepancy_control(settings: dict[str, Any]) -> bool:
    """Say whether this is keyless DDM with the discriminator switched off."""
    return bool(settings["method"] == "ddm" and settings["discrepancy_weight"] == 0)


def attacker_label(attacker: str) -> str:
    """Return an attacker's name in words."""
    return ATTACKER_LABELS.get(attacker, attacker)


def embedding_label(embedding: str) -> str:
    """Return a face embedding's name in words."""
    return EMBEDDING_LABELS.get(embedding, embedding)


def channel_label(channel: str) -> str:
    """Return a channel's name in words."""
    return CHANNEL_LABELS.get(channel, channel)


def percent(fraction: float) -> str:
    """Write a fraction as per cent with one decimal and no sign: 0.025 -> `2.5`."""
    return f"{100 * fraction:.1f}"


def interval(ci95: Sequence[float]) -> str:
    """Write an interval of fractions in per cent: (0.018, 0.035) -> `1.8–3.5`."""  # noqa: RUF002
    return f"{percent(ci95[0])}–{percent(ci95[1])}"  # noqa: RUF001


def decibels(psnr_db: float) -> str:
    """Write a PSNR with one decimal; from `LOSSLESS_DB` on as a bound."""
    return f"≥ {LOSSLESS_DB:.0f}" if psnr_db >= LOSSLESS_DB else f"{psnr_db:.1f}"


def duration(seconds: float) -> str:
    """Write a time in seconds as minutes and seconds: 2797.4 -> `46 min 37 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
