"""The exact channels: what real software (Pillow with libjpeg and libwebp) makes of a photo on its way.

Images are float tensors [batch, channels, height, width] in [0, 1], grey or RGB. Every channel rounds them to
8 bits first, gives 8-bit images of the same size, and has neither gradient nor chance in it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ddm_core.channel import Subsampling, to_pillow, to_uint8

Channel = Callable[[Tensor], Tensor]

JPEG_QUALITIES = (95, 85, 75, 50, 30)
WEBP_QUALITY = 80
RESIZE_PERCENTS = (75, 50, 25)
CROPPED_SHARE = 0.04
"""How much of the height and of the width `crop_pad` cuts off at each side."""
PHOTO_SITE_PERCENT = 50
PHOTO_SITE_QUALITY = 75


def real_jpeg(images: Tensor, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Return what libjpeg makes of each image, without a gradient."""
    return _apply(images, partial(_recode, kind="JPEG", quality=quality, subsampling=subsampling))


def share_on_photo_site(upload: bytes) -> bytes:
    """Return the JPEG file that a photo site makes of a grey or RGB image file.

    Turned upright as its EXIF says, scaled to PHOTO_SITE_PERCENT of its size, coded anew with 4:2:0, and
    without any metadata: neither EXIF nor comment, colour profile or XMP.
    """
    return share(upload, PHOTO_SITE_PERCENT, PHOTO_SITE_QUALITY)


def share(upload: bytes, percent: int, quality: int | None) -> bytes:
    """Return an upload upright, at `percent` of its size, without metadata: a JPEG of `quality`, or PNG."""
    with Image.open(io.BytesIO(upload)) as image:
        shown = ImageOps.exif_transpose(image)
        small = _shrink(shown, percent) if percent != 100 else shown.copy()
    small.info.clear()  # Pillow would hand the comment on
    if quality is None:
        return _encode(small, "PNG")
    return _encode(small, "JPEG", quality=quality, subsampling="4:2:0")


def _apply(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    changed = numpy.stack([numpy.array(change(to_pillow(array))) for array in to_uint8(images)])
    return torch.from_numpy(changed.reshape(*changed.shape[:3], -1)).permute(0, 3, 1, 2) / 255.0


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _recode(image: Image.Image, kind: str, **options: object) -> Image.Image:
    coded = Image.open(io.BytesIO(_encode(image, kind, **options)))
    return coded.convert(image.mode)  # WebP knows no grey and gives neutral RGB


def _shrink(image: Image.Image, percent: int) -> Image.Image:
    small = max(1, round(image.width * percent / 100)), max(1, round(image.height * percent / 100))
    return image.resize(small, Image.Resampling.BICUBIC)


def _resize(image: Image.Image, percent: int) -> Image.Image:
    return _shrink(image, percent).resize(image.size, Image.Resampling.BICUBIC)


def _crop_and_pad(image: Image.Image) -> Image.Image:
    across, down = (max(1, round(side * CROPPED_SHARE)) for side in image.size)
    kept = numpy.array(image.crop((across, down, image.width - across, image.height - down)))
    margins = [(down, down), (across, across), (0, 0)][: kept.ndim]
    return Image.fromarray(numpy.pad(kept, margins, mode="edge"))


def _photo_site(image: Image.Image) -> Image.Image:
    shown = Image.open(io.BytesIO(share_on_photo_site(_encode(image, "PNG"))))
    return shown.resize(image.size, Image.Resampling.BICUBIC)


EXACT_CHANNELS: dict[str, Channel] = {
    "png": partial(_apply, change=partial(_recode, kind="PNG")),
    **{f"jpeg{quality}": partial(real_jpeg, quality=quality) for quality in JPEG_QUALITIES},
    **{
        f"jpeg{quality}_444": partial(real_jpeg, quality=quality, subsampling="4:4:4")
        for quality in JPEG_QUALITIES
    },
    "webp": partial(_apply, change=partial(_recode, kind="WEBP", quality=WEBP_QUALITY)),
    **{f"resize{p}": partial(_apply, change=partial(_resize, percent=p)) for p in RESIZE_PERCENTS},
    "crop_pad": partial(_apply, change=_crop_and_pad),
    "photo_site": partial(_apply, change=_photo_site),
}
"""Name (`ddm_core.channel_names.LAB_CHANNELS`) -> what the channel does, each as docs/channels.md says."""
