"""Photos encrypted and decrypted from Python: `from ddm_core import load, encrypt, decrypt`.

The examples run as they stand where `model_folder` is the folder of a trained model, `key_file` a key file
(`ddm key new FILE`), `other_key_file` another one, and `photo` the path of a photo.

>>> from ddm_core import decrypt, encrypt, load
>>> vault = load(model_folder, key=key_file)
>>> hidden = encrypt(photo, vault)                       # the bytes of a PNG
>>> shown = decrypt(hidden, vault, format="jpeg", quality=90)

Only a part, and metadata that comes along sealed:

>>> hidden = encrypt(photo, vault, regions=[(20, 10, 40, 40)], keep_metadata=True)
>>> shown = decrypt(hidden, vault)

A wrong key is a clear error, and so is a picture that was never encrypted:

>>> decrypt(hidden, load(model_folder, key=other_key_file))
Traceback (most recent call last):
    ...
ddm_core.errors.DdmError: wrong key: the photo needs key ...
>>> decrypt(photo, vault)
Traceback (most recent call last):
    ...
ddm_core.errors.DdmError: not one of ours: it has no code band; give a photo that ddm encrypted, whole
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from ddm_core.data.imaging import read_photo
from ddm_core.key_files import read_key_ring
from ddm_core.key_ring import KeyRing
from ddm_core.photos.cipher import decrypt_photo, encrypt_photo
from ddm_core.photos.header import Box
from ddm_core.photos.model import CHAMPION, PhotoModel, load_model, model_folder
from ddm_core.photos.picture import Format, Output

Photo = bytes | str | PathLike[str]
"""A photo file: its bytes, or its path."""


@dataclass(frozen=True)
class Vault:
    """A model and the keys to use it with."""

    model: PhotoModel
    ring: KeyRing = field(repr=False)


def load(
    model: str | Path = CHAMPION,
    *,
    key: str | PathLike[str],
    passphrase: Callable[[], bytes] | None = None,
) -> Vault:
    """Return a model with the keys of a key file.

    `model` is a model folder, `champion`, NAME or NAME@ALIAS of the registry; `passphrase` is called if the
    key file is under one.

    Raises:
        DdmError: no such model or key file, a key file open to others, or a wrong passphrase.
    """
    ring = read_key_ring(Path(key), passphrase)
    with model_folder(model) as folder:
        return Vault(load_model(folder), ring)


def encrypt(
    photo: Photo,
    vault: Vault,
    *,
    regions: Sequence[tuple[int, int, int, int]] = (),
    keep_metadata: bool = False,
    format: Format = "png",
    quality: int = 95,
) -> bytes:
    """Return the encrypted photo as a file, under a fresh nonce and the vault's current key.

    `regions` are boxes x, y, width, height in pixels of the upright photo: only these are encrypted, in their
    places. Metadata is removed, or its EXIF sealed into the file with `keep_metadata`. `format` is png, jpeg
    or webp; `quality` (1..100) is for the latter two.

    Raises:
        DdmError: an unreadable photo, a colour photo for a grey model, or boxes outside of the photo.
    """
    boxes = [Box(*region) for region in regions]
    output = Output(format, quality)
    return encrypt_photo(
        _read(photo), vault.model, vault.ring, output, regions=boxes, keep_metadata=keep_metadata
    )


def decrypt(photo: Photo, vault: Vault, *, format: Format = "png", quality: int = 95) -> bytes:
    """Return the photo as a file, in its own size and colours, whatever a photo site made of its encryption.

    Raises:
        DdmError: an unreadable file, not one of ours, cropped, a damaged header, an unsupported version, a
            wrong key, or another model than the one that encrypted it.
    """
    return decrypt_photo(_read(photo), vault.model, vault.ring, Output(format, quality))


def _read(photo: Photo) -> bytes:
    return photo if isinstance(photo, bytes) else read_photo(Path(photo))
