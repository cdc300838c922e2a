"""The model folder of a method that has nothing to optimise: settings, and photos where it needs them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ddm_core.errors import DdmError
from ddm_core.obfuscator_params import ExternalParams, KSameParams
from ddm_core.obfuscators.store import Description, describe, save_obfuscator


def write_untrained(folder: Path, description: Description, prepared: Path) -> None:
    """Write the model folder; the caller makes it appear at once (files.atomic_directory).

    k-same gets its reference from the training photos. External code is tried on two of them, and an MLflow
    model of ours is copied, so that it is judged as what it is.

    Raises:
        DdmError: too few people for k-same, external code that does not do what it should, or a model of ours
            for other images.
    """
    params = description.params
    if isinstance(params, KSameParams):
        _write_reference(folder, prepared, params.k)
    if isinstance(params, ExternalParams) and _adopt(folder, description, params.uri):
        return
    if isinstance(params, ExternalParams):
        tried = dataclasses.replace(params, offers=_try_once(params.uri, prepared))
        description = dataclasses.replace(description, params=tried)
    save_obfuscator(folder, description)


def _write_reference(folder: Path, prepared: Path, k: int) -> None:
    from ddm_core.checkpoints import WEIGHTS
    from ddm_core.data.shards import load_photos
    from ddm_core.obfuscators.k_same import make_reference, save_reference

    photos = load_photos(prepared, split="train")
    save_reference(make_reference(photos.images, photos.labels, k), folder / WEIGHTS)


def _adopt(folder: Path, description: Description, uri: str) -> bool:
    from ddm_core.obfuscators.external import MODELS

    if not uri.startswith(MODELS):
        return False
    from ddm_core.serving.foreign import adopt

    if not adopt(uri, folder):
        return False
    adopted = describe(folder)
    if (adopted.channels, adopted.image_size) != (description.channels, description.image_size):
        raise DdmError(
            f"{uri}: takes {_shape(adopted)}, the prepared photos are {_shape(description)};"
            " prepare the photos in the model's shape"
        )
    return True


def _shape(description: Description) -> str:
    colour = "grey" if description.channels == 1 else "RGB"
    return f"{colour} images of {description.image_size}x{description.image_size} pixels"


def _try_once(uri: str, prepared: Path) -> tuple[str, ...]:
    """Try everything that the code of others offers on two photos; return what that is."""
    from ddm_core.data.shards import load_photos
    from ddm_core.keys import fresh_nonces, generate_key
    from ddm_core.obfuscators.external import load_external
    from ddm_core.obfuscators.pixel_bytes import from_bytes
    from ddm_core.obfuscators.protocol import DecryptingObfuscator

    photos = from_bytes(load_photos(prepared, split="train").images[:2])
    found = load_external(uri, master_key=generate_key())
    nonces = fresh_nonces(len(photos))
    hidden = found.encrypt(photos, nonces)
    if isinstance(found, DecryptingObfuscator):
        found.decrypt(hidden, nonces)
    return found.offers
