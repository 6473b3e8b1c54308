"""Images as training pipelines hold them, on the lattice of stored units and back in their own type."""

from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from medadv.datasets.labels import Array
from medadv_transforms.units import Lattice

COARSE = (torch.float16, torch.bfloat16)
"""Types that do not hold every HU."""


def as_plain(images: Any) -> Tensor:
    """A plain tensor of what a pipeline holds: tensor, MetaTensor or NumPy array."""
    if isinstance(images, MetaTensor):
        return images.as_tensor()
    if isinstance(images, np.ndarray):
        # A copy: torch takes no negative strides, and warns of arrays that may not be written to.
        return torch.from_numpy(images.copy())
    return torch.as_tensor(images)


def on_lattice(images: Tensor, lattice: Lattice, round_to_lattice: bool) -> Tensor:
    """Whole stored units. images: floating point, any shape; rounded, and clipped to the range, only where `round_to_lattice` allows it.

    Raises ValueError for fractions otherwise, for images scaled to 0..1, and for what is not finite.
    """
    if not images.numel():
        return images
    if not bool(images.isfinite().all()):
        raise ValueError("images hold NaN or infinity")
    whole = images.round()
    if bool((whole == images).all()):
        return images.clamp(lattice.low, lattice.high) if round_to_lattice else images
    if float(images.min()) >= 0 and float(images.max()) <= 1:
        back = "multiply by 255" if lattice.unit == "level8" else "undo their window: multiply by its width, then add its lower end"
        raise ValueError(f"images lie in 0..1; stored units of {lattice.unit} are {lattice.low} to {lattice.high}: {back}")
    if not round_to_lattice:
        fraction = float(images[whole != images][0])
        raise ValueError(
            f"images hold fractions such as {fraction:g}, stored units are whole numbers: after resampling say round_to_lattice=True, and "
            "attack before any normalisation"
        )
    return whole.clamp(lattice.low, lattice.high)


def moved(images: Tensor, perturbation: Tensor, dtype: torch.dtype) -> Tensor:
    """images + perturbation in `dtype`; a value that it does not hold gives way towards the image, never beyond the perturbation."""
    found = (images + perturbation).to(dtype)
    if dtype in COARSE:
        left = perturbation.to(images.dtype)
        while bool((beyond := (found.to(images.dtype) - images).abs() > perturbation.abs()).any()):
            left = left - left.sign() * beyond
            found = (images + left).to(dtype)
    return found


def tensor_of(image: Array, affine: Array | None) -> Tensor:
    """A stored image as training gets it: float32 of its own, in its place where it has one."""
    return _placed(torch.from_numpy(image.astype(np.float32)), affine)


def label_of(label: Array, affine: Array | None, axes: int) -> Tensor:
    """A number or numbers as they are; masks channel first, in the place of their image. axes: number of the image's spatial axes."""
    if label.ndim < axes:
        return torch.from_numpy(label)
    return _placed(torch.from_numpy(label[None] if label.ndim == axes else label), affine)


def _placed(values: Tensor, affine: Array | None) -> Tensor:
    return values if affine is None else MetaTensor(values, affine=torch.from_numpy(affine.copy()))
