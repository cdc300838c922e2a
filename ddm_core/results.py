"""What the measuring stages write, as frozen dataclasses; JSON files hold exactly these fields."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ddm_core.files import read_json, write_json
from ddm_core.strict import parse

T = TypeVar("T")

ATTACKERS = ("clean", "retrained", "inversion", "wrong_key")
"""The attackers that every obfuscator faces and that count in the worst case."""
CONTROLS = ("nonce_reuse",)
"""Attackers that show the price of a forbidden misuse; they do not count in the worst case."""
CHANNELS = ("png", "jpeg95", "jpeg85", "jpeg75", "jpeg50", "resize75", "resize50")
"""The channels that utility is measured after, mild to harsh (ddm_core.channel.CHANNELS)."""

RESULT = "result.json"
PICTURES = "pictures.png"
TIMING = "timing.json"


@dataclass(frozen=True)
class AttackResult:
    """One cell: one attacker against one obfuscator.

    Accuracies are fractions; `ci95` is the Wilson interval of `top1` over `n` test encryptions.
    `psnr_db` and `ssim` speak of the attacker's reconstruction, where it makes one (inversion, wrong_key).
    A cell that makes no sense (no decryption to try) has `applicable` false and says why in `reason`.
    `weights_sha256` is the digest of the very weights that were attacked.
    `counts_for_gate` is false for controls that show what a forbidden misuse would cost (nonce_reuse).
    """

    obfuscator: str
    attacker: str
    applicable: bool
    reason: str | None = None
    counts_for_gate: bool = True
    top1: float | None = None
    ci95: tuple[float, ...] | None = None
    n: int | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    weights_sha256: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class ChannelUtility:
    """What the receiver holds after one channel, against the original photo."""

    psnr_db: float
    ssim: float
    recognition_top1: float
    recognition_ci95: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class UtilityResult:
    """One obfuscator's utility. `decrypts` false: measured on the obfuscated photo itself.

    `weights_sha256` is the digest of the very weights that were measured.
    """

    obfuscator: str
    decrypts: bool
    channels: dict[str, ChannelUtility]
    weights_sha256: str
    seconds: float


def write_result(path: Path, result: AttackResult | UtilityResult) -> None:
    """Write one result as JSON, atomically."""
    write_json(path, dataclasses.asdict(result))


def read_result(path: Path, kind: type[T]) -> T:
    """Read a result written by `write_result`; a DdmError names what does not fit."""
    return parse(read_json(path), kind, str(path))
