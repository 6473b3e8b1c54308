"""Pictures of known pixels, and the code that reading one is refused with."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medadv_transforms import InputError, read_colour
from medadv_transforms.picture import ORIENTATION_TAG


def gradient(height: int = 37, width: int = 53) -> np.ndarray:
    """(h, w, 3) uint8, different in every row, column and channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([5 * y, 4 * x, 2 * (x + y)], -1).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, orientation: int | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return path


def code_of(path: Path, modality: str = "fundus") -> str:
    with pytest.raises(InputError) as caught:
        read_colour(path, modality=modality)  # type: ignore[arg-type]
    return caught.value.code
