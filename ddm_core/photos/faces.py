"""The faces of a photo as regions to encrypt, found by the optional detector."""

from __future__ import annotations

import math

from ddm_core.data.faces import detect_all
from ddm_core.data.imaging import flatten, open_upright
from ddm_core.errors import DdmError
from ddm_core.photos.header import Box

MARGIN = 0.25  # of the face's box on every side: hair and chin tell people apart too


def face_boxes(content: bytes) -> tuple[Box, ...]:
    """Return a box around every face, in pixels of the upright photo.

    Raises:
        DdmError: no face was found, an unreadable photo, or the extra `faces` is not installed.
    """
    image = flatten(open_upright(content)[0], "RGB")
    boxes = tuple(_widened(region.box, image.size) for region in detect_all(image) if region.box)
    if not boxes:
        raise DdmError("no face was found, so nothing would be encrypted; give --regions or encrypt it whole")
    return boxes


def _widened(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    (left, top, right, bottom), (width, height) = box, size
    across, down = MARGIN * (right - left), MARGIN * (bottom - top)
    x, y = max(0, math.floor(left - across)), max(0, math.floor(top - down))
    return Box(x, y, min(width, math.ceil(right + across)) - x, min(height, math.ceil(bottom + down)) - y)
