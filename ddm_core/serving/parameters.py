"""What a request to the registered model may set; no parameter says anything about a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from ddm_core.errors import DdmError, did_you_mean

OPERATIONS = ("encrypt", "decrypt")
ImageFormat = Literal["png", "jpeg", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)


@dataclass(frozen=True)
class Settings:
    """One request's parameters; the defaults are those of the model's signature.

    `image_format` is that of the returned pictures; `quality` 1..100 is read for jpeg and webp.
    """

    operation: str = OPERATIONS[0]
    image_format: ImageFormat = IMAGE_FORMATS[0]
    quality: int = 95


def read_settings(params: Mapping[str, Any]) -> Settings:
    """Return a request's parameters; those that are left out have their defaults.

    Raises:
        DdmError: an unknown parameter, or a value that does not exist.
    """
    known = get_type_hints(Settings)
    for name in params:
        if name not in known:
            raise DdmError(f"unknown parameter '{name}'{did_you_mean(name, known)}")
    settings = Settings(**params)
    for name, value, choices in (
        ("operation", settings.operation, OPERATIONS),
        ("image_format", settings.image_format, IMAGE_FORMATS),
    ):
        if value not in choices:
            raise DdmError(f"{name}: unknown '{value}'{did_you_mean(str(value), choices)}")
    if not 1 <= settings.quality <= 100:
        raise DdmError(f"quality: {settings.quality} is out of range; it goes from 1 to 100")
    return settings
