"""Requests to a model for photos of one size: the nonce travels beside the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from pandas import DataFrame
from torch import Tensor

from ddm_core.errors import DdmError
from ddm_core.key_ring import KeyRing
from ddm_core.keys import NONCE_BYTES, TAG_BYTES, check_nonce_tag, fresh_nonces, nonce_tag
from ddm_core.obfuscators.protocol import DecryptingObfuscator, KeyedObfuscator, Obfuscator
from ddm_core.obfuscators.store import Description
from ddm_core.serving.parameters import Settings
from ddm_core.serving.pictures import decode_picture, encode_picture

_BATCH = 64  # photos at a time, so that memory does not grow with the request


def answer(
    obfuscator: Obfuscator,
    description: Description,
    ring: KeyRing | None,
    table: DataFrame,
    settings: Settings,
) -> tuple[list[bytes], list[bytes]]:
    """Return pictures and nonces of a request; `ring` is `None` for a keyless obfuscator.

    Raises:
        DdmError: an unreadable picture or one of another size, no nonce, or no key of the ring fits it.
    """
    pictures: list[bytes] = []
    nonces: list[bytes] = []
    for start in range(0, len(table), _BATCH):
        rows = table.iloc[start : start + _BATCH]
        side = description.image_size if settings.operation == "encrypt" else description.hidden_size
        images = _decode(list(rows["image"]), description.channels, side, start)
        if settings.operation == "encrypt":
            changed, tagged = _encrypt(obfuscator, images, ring)
        else:
            changed, tagged = _decrypt(obfuscator, images, rows, start, ring)
        pictures += [encode_picture(image, settings.image_format, settings.quality) for image in changed]
        nonces += tagged
    return pictures, nonces


def _decode(pictures: Sequence[object], channels: int, side: int, start: int) -> Tensor:
    numbered = enumerate(pictures, start)
    return torch.stack([decode_picture(picture, channels, side, f"row {row}") for row, picture in numbered])


def _encrypt(obfuscator: Obfuscator, images: Tensor, ring: KeyRing | None) -> tuple[Tensor, list[bytes]]:
    nonces = fresh_nonces(len(images))
    if ring is None:
        return obfuscator.encrypt(images, nonces), [b""] * len(images)
    key = ring.current.secret
    hidden = _under(obfuscator, key).encrypt(images, nonces)
    return hidden, [nonce + nonce_tag(key, nonce) for nonce in nonces]


def _decrypt(
    obfuscator: Obfuscator, images: Tensor, rows: DataFrame, start: int, ring: KeyRing | None
) -> tuple[Tensor, list[bytes]]:
    if not isinstance(obfuscator, DecryptingObfuscator):
        raise DdmError("this model cannot decrypt; load one that can, such as keyed_ddm")
    if ring is None:
        nonces = [b""] * len(images)
        return obfuscator.decrypt(images, nonces), nonces
    cells = list(rows["nonce"]) if "nonce" in rows else [None] * len(rows)
    tagged = [_checked_length(cell, f"row {row}") for row, cell in enumerate(cells, start)]
    keys = [_find_key(ring, cell, f"row {row}") for row, cell in enumerate(tagged, start)]
    restored: list[Tensor] = [images[0]] * len(images)
    for key, places in _places(keys):
        parts = _under(obfuscator, key).decrypt(images[places], [tagged[row][:NONCE_BYTES] for row in places])
        for row, part in zip(places, parts, strict=True):
            restored[row] = part
    return torch.stack(restored), tagged


def _under(obfuscator: Obfuscator, key: bytes) -> KeyedObfuscator:
    assert isinstance(obfuscator, KeyedObfuscator)
    return obfuscator.with_key(key)


def _places(keys: Sequence[bytes]) -> Iterator[tuple[bytes, list[int]]]:
    """Yield each key with the rows under it: photos of before and after a rotation may come mixed."""
    for key in dict.fromkeys(keys):
        yield key, [row for row, own in enumerate(keys) if own == key]


def _checked_length(cell: object, where: str) -> bytes:
    expected = NONCE_BYTES + TAG_BYTES
    if not isinstance(cell, bytes) or len(cell) != expected:
        raise DdmError(f"{where}: decrypting needs the {expected}-byte nonce that encryption returned")
    return cell


def _find_key(ring: KeyRing, tagged: bytes, where: str) -> bytes:
    nonce, tag = tagged[:NONCE_BYTES], tagged[NONCE_BYTES:]
    for key in reversed(ring.keys):
        with suppress(DdmError):
            check_nonce_tag(key.secret, nonce, tag)
            return key.secret
    raise DdmError(
        f"{where}: wrong key, or a damaged nonce: its tag fits no key of the key file; use the file with the"
        " key that it was encrypted with"
    )
