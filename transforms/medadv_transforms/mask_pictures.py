"""Masks that are pictures: the levels of one file, upright, and what 255 means among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import InputError
from .picture import LOSSY, UPRIGHT, decoded, opened

LOSSY_THRESHOLD = 127
"""Levels above this are foreground in a JPEG."""

IGNORE = 255
"""Stored value of pixels and voxels that count nowhere."""


@dataclass(frozen=True, eq=False)
class Levels:
    """values: (h, w) uint8, upright.  binary: they are 0 and 1 by a threshold, whatever the other masks of the data set hold."""

    values: NDArray[np.uint8]
    binary: bool

    @property
    def counts(self) -> NDArray[np.int64]:
        """(256,), pixels of each level."""
        return np.bincount(self.values.ravel(), minlength=256)


def read_levels(path: Path, threshold: int | None = None) -> Levels:
    """Decode a mask picture. JPEG is cut at 127, and any picture at `threshold`: levels above are 1, the others 0.

    A palette's indices are the levels. Opaque alpha is dropped.  Raises InputError: `has-transparency`, `label-values` for colours, and for
    a JPEG that holds something but nothing above 127.
    """
    with opened(path) as (image, header):
        picture = decoded(image)
        lossy = header.format in LOSSY
        values = np.asarray(_upright(picture.convert("L"), header.orientation)) if lossy else _levels(picture, header.orientation)
    if threshold is not None:
        return Levels((values > threshold).astype(np.uint8), True)
    if not lossy:
        return Levels(values, False)
    if values.max() <= LOSSY_THRESHOLD and values.any():
        raise InputError("label-values", f"a JPEG mask that is not empty and holds no level above {LOSSY_THRESHOLD}")
    return Levels((values > LOSSY_THRESHOLD).astype(np.uint8), True)


def _levels(picture: Image.Image, orientation: int) -> NDArray[np.uint8]:
    if picture.mode in ("LA", "RGBA", "PA") or (picture.mode in ("L", "RGB") and "transparency" in picture.info):
        # A palette's indices stay indices, whichever of them is shown as transparent.
        if picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise InputError("has-transparency", "the mask has transparent pixels")
        picture = picture.convert("RGB") if picture.mode in ("RGB", "RGBA") else picture.getchannel(0)
    if picture.mode == "1":
        picture = picture.convert("L")
    values = np.asarray(_upright(picture, orientation))
    if values.ndim == 3:
        if picture.mode != "RGB" or not (values == values[..., :1]).all():
            raise InputError("label-values", "the mask is a colour picture")
        values = values[..., 0]
    return values


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def soft_edges(levels: Levels, allowed: Sequence[int]) -> str | None:
    """What to say of levels below 255 that mean nothing, None where there are none.  allowed: those that mean something."""
    if levels.binary:
        return None
    counts = levels.counts[:IGNORE].copy()
    counts[list(allowed)] = 0
    if not counts.any():
        return None
    return (
        f"levels that are neither a class nor in label_map, as at soft edges: {np.count_nonzero(counts)} in {counts.sum()} pixels; "
        "take a threshold, or name them"
    )


def meaning(levels: Levels, white: int | None) -> NDArray[Any]:
    """Class indices, with 255 as `white` says: 1, or 255 for ignored. None: it is 1 where this picture holds nothing else but 0."""
    if levels.binary:
        return levels.values
    if white is None:
        white = 1 if not levels.counts[1:IGNORE].any() else IGNORE
    return np.where(levels.values == IGNORE, np.uint8(white), levels.values)
