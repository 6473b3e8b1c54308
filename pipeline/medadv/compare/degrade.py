"""What happens to stored images on their way: smoothing, JPEG, resampling. Stored units in, stored units out."""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from medadv.attacks.smoothing import axis_kernels, smooth
from medadv_transforms.units import Lattice

BLUR_SIGMA = 0.8
"""Voxels; OpenCV's width for a kernel of three. Not the width that `smia` smooths with, so that it is not favoured."""
BLUR_SIZE = 3
JPEG_QUALITY = 75
RESAMPLING = (0.95, 1.05)

Degrade = Callable[[Tensor], Tensor]


def degradations(lattice: Lattice) -> dict[str, Degrade]:
    """Column name -> what is done to images (n, C, *spatial) of this unit; "as_is" is nothing."""
    chosen: dict[str, Degrade] = {"as_is": lambda x: x, "blur": lambda x: blur(x).round()}
    if lattice.unit == "level8":
        return {**chosen, "jpeg75": jpeg}
    return chosen | {f"resampled_{round(factor * 100)}": partial(_resampled, factor) for factor in RESAMPLING}


def blur(images: Tensor) -> Tensor:
    """3 x 3 (x 3) Gaussian."""
    return smooth(images, axis_kernels(BLUR_SIGMA, BLUR_SIZE, None, images.ndim - 2))


def jpeg(images: Tensor) -> Tensor:
    """Through a baseline JPEG of quality 75 with the codec's usual chroma subsampling. images: (n, 1 or 3, y, x), 0 to 255."""
    out = []
    for image in images.round().to(torch.uint8).cpu().numpy():
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
        decoded = np.asarray(Image.open(buffer))
        out.append(decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(out)).to(images)


def _resampled(factor: float, images: Tensor) -> Tensor:
    return resample(images, factor).round()


def resample(images: Tensor, factor: float) -> Tensor:
    """Linearly to a grid of `factor` times the voxels along each axis, and back."""
    spatial = list(images.shape[2:])
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    there = functional.interpolate(images, [max(1, round(length * factor)) for length in spatial], mode=mode, align_corners=False)
    return functional.interpolate(there, spatial, mode=mode, align_corners=False)
