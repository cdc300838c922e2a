"""One photo encrypted and decrypted: the bytes of a photo file in, the bytes of another one out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from PIL import Image

from ddm_core.errors import DdmError
from ddm_core.key_ring import KeyRing
from ddm_core.keys import fresh_nonces
from ddm_core.photos.band import append_band, cut_payload, payload_size, read_band
from ddm_core.photos.boxes import cells, snap
from ddm_core.photos.header import Box, Header
from ddm_core.photos.metadata import read_metadata, seal, unseal
from ddm_core.photos.model import PhotoModel
from ddm_core.photos.picture import Output, Pixels, read_image, read_pixels, write_pixels
from ddm_core.photos.tiles import Keystream, hide, keystream_of, pad_to_cells, reveal

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
            "a colour photo, and this model is for grey ones; make the one for colour (make photo) and give"
            " --model photo, or make the photo grey first"
        )
    key = ring.current
    header = Header(
        nonce=fresh_nonces(1)[0],
        key_id=key.id,
        model_id=model.id,
        width=width,
        height=height,
        patch=model.networks.patch,
        carrier=model.networks.carrier,
        grey=channels == 1,
        regions=snap(regions, (width, height), model.networks.patch),
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
    photo = _restore(picture, model, key.secret, header)
    return write_pixels(photo, output, unseal(content, key.secret, header))


def guess_photo(content: bytes, model: PhotoModel, key: bytes, output: Output = PNG) -> bytes:
    """Return what the networks make of an encrypted photo under any 32-byte key, right or wrong, unchecked.

    Raises:
        DdmError: an unreadable file, not one of ours, cropped, a damaged header, an unsupported version.
    """
    picture = read_image(content)
    return write_pixels(_restore(picture, model, key, read_band(picture.convert("L"))), output)


def _restore(picture: Image.Image, model: PhotoModel, key: bytes, header: Header) -> Pixels:
    photo = _reveal(cut_payload(picture, header), model, key, header)[: header.height, : header.width]
    return _as_grey(photo) if header.grey else photo


def _hide(photo: Pixels, model: PhotoModel, key: bytes, header: Header) -> Pixels:
    patch, carrier = header.patch, header.carrier
    padded = pad_to_cells(photo, patch)
    stream = _keystream(model, key, header)
    if not header.regions:
        return hide(model.networks, _in_channels(padded, model), stream)
    picture = _resized(_blanked(padded, header, patch), payload_size(header))
    for box in header.regions:
        rows, columns = cells(box, patch)
        part = _in_channels(padded[_pixels(rows, columns, patch)], model)
        hidden = hide(model.networks, part, stream.at(rows.start, columns.start))
        picture[_pixels(rows, columns, carrier)] = hidden[:, :, None]
    return picture[:, :, 0] if picture.shape[2] == 1 else picture


def _reveal(payload: Image.Image, model: PhotoModel, key: bytes, header: Header) -> Pixels:
    patch, carrier = header.patch, header.carrier
    luma = numpy.asarray(payload.convert("L"))
    stream = _keystream(model, key, header)
    if not header.regions:
        return reveal(model.networks, luma, stream)
    plain = numpy.array(payload.convert("L" if header.grey else "RGB"))
    whole = payload.width // carrier * patch, payload.height // carrier * patch
    picture = _resized(_blanked(plain.reshape(*luma.shape, -1), header, carrier), whole)
    for box in header.regions:
        rows, columns = cells(box, patch)
        hidden = luma[_pixels(rows, columns, carrier)]
        shown = reveal(model.networks, hidden, stream.at(rows.start, columns.start))
        picture[_pixels(rows, columns, patch)] = _as_grey(shown) if header.grey else shown
    return picture


def _keystream(model: PhotoModel, key: bytes, header: Header) -> Keystream:
    rows, columns = (-(-side // header.patch) for side in (header.height, header.width))
    return keystream_of(model.networks, key, header.nonce, (rows, columns))


def _pixels(rows: range, columns: range, side: int) -> tuple[slice, slice]:
    return (
        slice(rows.start * side, rows.stop * side),
        slice(columns.start * side, columns.stop * side),
    )


def _blanked(photo: Pixels, header: Header, side: int) -> Pixels:
    """Return a copy with grey boxes: resizing would mix a box's edge into what stays in the clear."""
    blank = photo.copy()
    for box in header.regions:
        blank[_pixels(*cells(box, header.patch), side)] = 128
    return blank


def _resized(photo: Pixels, size: tuple[int, int]) -> Pixels:
    """Return a photo in this width and height: what is not encrypted goes along with cells that grow."""
    if photo.shape[1::-1] == size:
        return photo
    image = Image.fromarray(photo[:, :, 0] if photo.shape[2] == 1 else photo)
    resized = numpy.array(image.resize(size, Image.Resampling.LANCZOS))
    return resized.reshape(*resized.shape[:2], -1)


def _as_grey(photo: Pixels) -> Pixels:
    if photo.shape[2] == 1:
        return photo
    return numpy.asarray(Image.fromarray(photo).convert("L"))[:, :, None]


def _in_channels(photo: Pixels, model: PhotoModel) -> Pixels:
    return numpy.repeat(photo, model.channels // photo.shape[2], axis=2)
