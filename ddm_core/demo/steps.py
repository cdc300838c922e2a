"""What the demo page shows, step by step, as plain data with pictures in base64."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import torch

from ddm_core.errors import DdmError
from ddm_core.exact_channels import share
from ddm_core.metrics import psnr_db
from ddm_core.photos.api import Vault, decrypt, encrypt
from ddm_core.photos.cipher import guess_photo
from ddm_core.photos.picture import read_pixels

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
        DdmError: not a request of the page, or the photo cannot be read.
    """
    photo, encrypted = _bytes(request, "photo"), _bytes(request, "encrypted")
    percent, quality = request.get("percent"), request.get("quality")
    if percent not in PERCENTS or quality not in JPEG_QUALITIES:
        raise DdmError("the request is not one of the demo page's; reload the page")
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
    channels = max(pixels.shape[2] for pixels in pair)
    first, second = (
        pixels.expand(-1, -1, channels).permute(2, 0, 1)[None].float().div(255.0) for pixels in pair
    )
    return {"picture": _text(restored), "psnr_db": round(float(psnr_db(first, second)), 1)}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(request: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(request[name], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DdmError(f"the request has no {name}; reload the page") from None
