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
    "nonce_reuse": "A deliberate misuse: every photo encrypted under one and the same nonce, "
    "then the retrained attacker.",
}

CHANNEL_LABELS = {
    "png": "PNG",
    "jpeg95": "JPEG 95",
    "jpeg85": "JPEG 85",
    "jpeg75": "JPEG 75",
    "jpeg50": "JPEG 50",
    "resize75": "¾ size",
    "resize50": "half size",
}


def describe_obfuscator(settings: dict[str, Any]) -> str:
    """Return one line that says what an obfuscator does; `settings` is its entry of params.train."""
    notes = {
        "none": "The photo as it is. Shows how strong the attackers are.",
        "mosaic": "Every square of {block} × {block} pixels becomes its mean.",  # noqa: RUF001
        "blur": "Gaussian blur with a kernel of {kernel} pixels.",
        "p3": "The public part of P3: JPEG without its DC terms, coefficients clipped at {threshold}.",
        "ddm": "The paper's DDM, without a key. No protection against adaptive attackers.",
        "keyed_ddm": "DDM with a secret key: for every photo the hidden code is rotated at random.",
    }
    if is_discrepancy_control(settings):
        return "A control: DDM trained without its discriminator (λ = 0)."
    return notes[settings["method"]].format_map(settings)


def is_discrepancy_control(settings: dict[str, Any]) -> bool:
    """Say whether this is keyless DDM with the discriminator switched off."""
    return bool(settings["method"] == "ddm" and settings["discrepancy_weight"] == 0)


def attacker_label(attacker: str) -> str:
    """Return an attacker's name in words."""
    return ATTACKER_LABELS.get(attacker, attacker)


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
