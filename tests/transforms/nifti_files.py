"""A small NIfTI volume, different at every voxel, and what reading it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.transforms.ct_phantoms import write_nifti

from medadv_transforms import InputError, LoadedImage, read_ct_volume

AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0, -2.5, 30], [0, 1.1, 0, -20], [0, 0, 0, 1.0]])


def volume_values() -> np.ndarray:
    """(6, 8, 5) int16, different at every voxel."""
    return (np.arange(240).reshape(6, 8, 5) * 7 - 900).astype(np.int16)


def code_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_ct_volume([path])
    return caught.value.code


def image_on(tmp_path: Path, **options: Any) -> LoadedImage:
    return read_ct_volume([write_nifti(tmp_path / "image.nii", volume_values(), AFFINE)], **options)
