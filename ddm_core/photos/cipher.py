"""One photo encrypted and decrypted: the bytes of a photo file in, the bytes of another one out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from PIL import Image

from ddm_core.errors import DdmError
from ddm_core.key_ring import KeyRing
from ddm_core.keys import fresh_nonces
from ddm_core.obfuscators.transform_code import PATCH
from ddm_core.photos.band import append_band, cut_payload, read_band
from ddm_core.photos.boxes import cells, snap
from ddm_core.photos.header import Box, Header
from ddm_core.photos.metadata import read_metadata, seal, unseal
from ddm_core.photos.model import PhotoModel
from ddm_core.photos.picture import Output, Pixels, read_image, read_pixels, write_pixels
from ddm_core.photos.tiles import Keystream, carrier_cell, hide, pad_to_cells, reveal

PNG = Output()


def encrypt_photo(
    content: bytes,
    model: PhotoModel,
    ring: KeyRing,
    output: Output = PNG,
    *,
    regions: Sequence[Box] = (),
    keep_metadata: bool = False,
) -> bytes:
    """Return the encrypted photo as a file, under a fresh nonce and the ring's current key.

    With `regions`, boxes in pixels of the upright photo, only these are encrypted, in their places. No
    metadata is kept, or all of it sealed with `keep_metadata`.

    Raises:
        DdmError: an unreadable photo, a colour photo for a grey model, boxes outside of the photo.
    """
    photo = read_pixels(content)
    height, width, channels = photo.shape
    if channels > model.channels:
        raise DdmError(
            "a colour photo, and the model is for grey ones; take a model that was trained in colour,"
            " or make the photo grey first"
        )
    key = ring.current
    header = Header(
        nonce=fresh_nonces(1)[0],
        key_id=key.id,
        model_id=model.id,
        width=width,
        height=height,
        cell=carrier_cell(model.networks),
        grey=channels == 1,
        regions=snap(regions, width, height),
    ).signed(key.secret)
    picture = append_band(_hide(photo, model, key.secret, header), header)
    metadata = read_metadata(content) if keep_metadata else b""
    return write_pixels(picture, output, seal(metadata, key.secret, header) if metadata else None)


def decrypt_photo(content: bytes, model: PhotoModel, ring: KeyRing, output: Output = PNG) -> bytes:
    """Return the photo as a file, in the size with its colours, and its metadata if it came along.

    Raises:
        DdmError: an unreadable file, not one of ours, cropped, a damaged header, an unsupported version, a
            wrong key, or another model than the one that encrypted it.
    """
    picture = read_image(content)
    header = read_band(picture.convert("L"))
    key = ring.find(header.key_id)
    header.check(key.secret)
    if header.model_id != model.id:
        raise DdmError(
            f"it was encrypted with model {header.model_id.hex()}, this is model {model.id.hex()};"
            " give the right one with --model"
        )
    photo = _reveal(cut_payload(picture, header), model, key.secret, header)
    photo = photo[: header.height, : header.width]
    if header.grey and photo.shape[2] == 3:
        photo = numpy.asarray(Image.fromarray(photo).convert("L"))[:, :, None]
    return write_pixels(photo, output, unseal(content, key.secret, header))


def _hide(photo: Pixels, model: PhotoModel, key: bytes, header: Header) -> Pixels:
    padded = pad_to_cells(photo)
    keystream = _keystream(padded.shape[:2], model, key, header)
    if not header.regions:
        return hide(model.networks, _in_channels(padded, model), keystream)
    if header.cell != PATCH:
        raise DdmError(
            "this model draws encrypted photos larger than the photo, so regions do not fit in their places;"
            " take another model or encrypt the whole photo"
        )
    picture = padded.copy()
    for box in header.regions:
        part = cells(box)
        stream = keystream.at(box.top // PATCH, box.left // PATCH)
        picture[part] = hide(model.networks, _in_channels(padded[part], model), stream)[:, :, None]
    return picture[:, :, 0] if picture.shape[2] == 1 else picture


def _reveal(payload: Image.Image, model: PhotoModel, key: bytes, header: Header) -> Pixels:
    luma = numpy.asarray(payload.convert("L"))
    rows, columns = (side // header.cell * PATCH for side in luma.shape)
    keystream = _keystream((rows, columns), model, key, header)
    if not header.regions:
        return reveal(model.networks, luma, keystream)
    channels = 1 if header.grey else 3
    picture = numpy.array(payload.convert("L" if header.grey else "RGB")).reshape(rows, columns, channels)
    for box in header.regions:
        part = cells(box)
        stream = keystream.at(box.top // PATCH, box.left // PATCH)
        shown = reveal(model.networks, luma[part], stream)
        picture[part] = shown if shown.shape[2] == channels else shown.mean(axis=2, keepdims=True).round()
    return picture


def _keystream(shape: Sequence[int], model: PhotoModel, key: bytes, header: Header) -> Keystream:
    grid = model.networks.params.quaternions, shape[0] // PATCH, shape[1] // PATCH
    return Keystream(key, header.nonce, grid)


def _in_channels(photo: Pixels, model: PhotoModel) -> Pixels:
    return numpy.repeat(photo, model.channels // photo.shape[2], axis=2)
