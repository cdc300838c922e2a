"""What the demo page shows, step by step, as plain data with pictures in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from ddm_core.errors import DdmError
from ddm_core.exact_channels import share
from ddm_core.metrics import psnr_db
from ddm_core.photos.api import Vault, decrypt, encrypt
from ddm_core.photos.cipher import guess_photo
from ddm_core.photos.picture import read_image, read_pixels

JPEG_QUALITIES = (None, 95, 85, 75, 50, 30)
PERCENTS = (100, 75, 50, 25)


@dataclass(frozen=True)
class Demonstration:
    """A model with its keys, and the 32-byte key of somebody who has none of them."""

    vault: Vault
    strange_key: bytes = field(repr=False)


def encrypt_step(demonstration: Demonstration, request: dict[str, Any]) -> dict[str, Any]:
    """Answer `{photo}` with `{encrypted}`, a PNG.

    Raises:
        DdmError: not a request of the page, or a photo that cannot be encrypted.
    """
    return {"encrypted": _text(encrypt(_bytes(request, "photo"), demonstration.vault))}


def decrypt_step(demonstration: Demonstration, request: dict[str, Any]) -> dict[str, Any]:
    """Answer `{photo, encrypted, percent, quality}` with what arrives and what it decrypts to.

    `received` is the encrypted photo after the channel: `percent` of its size, as a JPEG of `quality`, or as
    PNG where that is null. `right` and `wrong` hold a picture each with its `psnr_db` against the photo, and
    `wrong` the `refusal` that `ddm decrypt` gives; where nothing can be decrypted, `error` says why.

    Raises:
        DdmError: not a request of the page, one of the two pictures cannot be read, or `encrypted` is of
            another photo.
    """
    photo, encrypted = _bytes(request, "photo"), _bytes(request, "encrypted")
    percent, quality = _choice(request, "percent", PERCENTS), _choice(request, "quality", JPEG_QUALITIES)
    assert percent is not None  # PERCENTS has no null
    read_image(encrypted)  # judges size and damage before the channel decodes it
    received = share(encrypted, percent, quality)
    answer: dict[str, Any] = {"received": _text(received), "received_bytes": len(received)}
    try:
        right = decrypt(received, demonstration.vault)
        wrong = guess_photo(received, demonstration.vault.model, demonstration.strange_key)
    except DdmError as error:
        return answer | {"error": str(error)}
    refusal = "wrong key: ddm decrypt refuses it; this is what the networks make of it"
    return answer | {"right": _shown(right, photo), "wrong": _shown(wrong, photo) | {"refusal": refusal}}


def _shown(restored: bytes, photo: bytes) -> dict[str, Any]:
    pair = [torch.from_numpy(read_pixels(content).copy()) for content in (restored, photo)]
    if pair[0].shape[:2] != pair[1].shape[:2]:
        raise DdmError("the encrypted picture is not that of this photo; reload the page")
    channels = max(pixels.shape[2] for pixels in pair)
    first, second = (
        pixels.expand(-1, -1, channels).permute(2, 0, 1)[None].float().div(255.0) for pixels in pair
    )
    return {"picture": _text(restored), "psnr_db": round(float(psnr_db(first, second)), 1)}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _choice(request: dict[str, Any], name: str, choices: Sequence[int | None]) -> int | None:
    chosen = request.get(name)
    # Of JSON's numbers 75.0 equals 75 and true equals 1, but Pillow takes neither.
    if type(chosen) not in (int, type(None)) or chosen not in choices:
        offered = ", ".join("null" if choice is None else str(choice) for choice in choices)
        raise DdmError(f"{name}: expected one of {offered}; reload the page")
    return cast(int | None, chosen)


def _bytes(request: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(request[name], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DdmError(f"the request has no {name}; reload the page") from None
