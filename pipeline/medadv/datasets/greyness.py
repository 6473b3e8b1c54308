"""Are pictures grey? Photographs are not; CT slices and radiographs are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medadv_transforms.limits import MAX_PIXELS

LOOKED_AT = 8
SIDE = 64
TOLERANCE = 4
"""Levels between the channels of a grey JPEG, on average over the picture."""


def grey(paths: Sequence[Path]) -> bool | None:
    """Whether all of a few pictures, spread evenly, are grey; None where none of these can be decoded."""
    chosen = [paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths)))]
    found = [answer for answer in map(_grey, chosen) if answer is not None]
    return all(found) if found else None


def _grey(path: Path) -> bool | None:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (SIDE, SIDE))
            small = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.int16)
    except Exception:  # Pillow raises many types for damaged files, which here all say nothing
        return None
    return bool((small.max(2) - small.min(2)).mean() <= TOLERANCE)
