"""The names of the exact channels, for settings and results; `ddm_core.exact_channels` is what they do."""

from __future__ import annotations

from collections.abc import Iterable

LAB_CHANNELS = (
    "png",
    *("jpeg95", "jpeg85", "jpeg75", "jpeg50", "jpeg30"),
    *("jpeg95_444", "jpeg85_444", "jpeg75_444", "jpeg50_444", "jpeg30_444"),
    "webp",
    *("resize75", "resize50", "resize25"),
    "crop_pad",
    "photo_site",
)
"""Every channel that utility can be measured after (docs/channels.md); the benchmark takes all of them."""
WHOLE_CHROMA = "_444"
"""How the name of a JPEG that keeps the chroma of every pixel ends (4:4:4)."""


def distinct_channels(names: Iterable[str], image_channels: int) -> tuple[str, ...]:
    """Return the names that differ for images of 1 (grey) or 3 (RGB) channels, in the same order.

    Grey has no chroma: JPEG 4:4:4 is JPEG 4:2:0 bit by bit, so its name is left out.
    """
    return tuple(name for name in names if image_channels > 1 or not name.endswith(WHOLE_CHROMA))
