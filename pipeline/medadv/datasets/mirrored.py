"""How is a sample mirrored before it is attacked? Image, region, truth and affine together; and how does it come back.

An adversarial example that is mirrored afterwards is hardly one any more (`scripts/bench/mirrored.py` shows how much is left): who trains
on mirrored images mirrors them first.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medadv.common.hashing import seed_of
from medadv.datasets.labels import Array, Boxes
from medadv.datasets.sample import Sample

FACT = "mirrored"
"""Key of a sample's facts: the spatial axes that it is mirrored along."""
VOLUME = 3
"""Spatial axes of one."""


def axes_drawn(sample: str, axes: Sequence[int], turn: int) -> tuple[int, ...]:
    """Those of the axes that a sample is mirrored along, by its id: each way is as frequent as any other.

    turn: after as many turns as there are ways (2 to the number of axes) each sample was seen in all of them.
    """
    way = (seed_of("mirror", sample) + turn) % 2 ** len(axes)
    return tuple(axis for bit, axis in enumerate(axes) if way >> bit & 1)


def mirrored(sample: Sample, axes: Sequence[int]) -> Sample:
    """The same sample mirrored along spatial axes, which count from 0."""
    if not axes:
        return sample
    shape = sample.image.shape[1:]
    return replace(
        sample,
        image=turned(sample.image, axes, len(shape)),
        region=None if sample.region is None else turned(sample.region, axes, len(shape)),
        label=label_turned(sample.label, axes, shape, sample.spatial_axes),
        affine=None if sample.affine is None else affine_turned(sample.affine, axes, shape),
        facts={**sample.facts, FACT: list(axes)},
    )


def turned(array: Array, axes: Sequence[int], spatial: int) -> Array:
    """An array (..., *spatial) mirrored along spatial axes. Twice is as before."""
    return np.ascontiguousarray(np.flip(array, tuple(array.ndim - spatial + axis for axis in axes)))


def label_turned(label: Any, axes: Sequence[int], shape: Sequence[int], spatial_axes: str) -> Any:
    """Truth or answer of a mirrored image; classes stay.  shape: (*spatial).  spatial_axes: names of the image's axes."""
    if isinstance(label, Boxes):
        boxes = label.boxes.copy()
        # Pictures count from the edge of their first pixel; volumes have the centre of voxel 0 at coordinate 0, see space_boxes.py.
        off_centre = 1 if len(shape) == VOLUME else 0
        for axis in axes:
            # Boxes have x first, whatever the order of the image's axes.
            low = "xyz".index(spatial_axes[axis])
            high = low + len(shape)
            boxes[:, [low, high]] = shape[axis] - off_centre - boxes[:, [high, low]]
        return replace(label, boxes=boxes)
    is_mask = isinstance(label, np.ndarray) and label.ndim >= len(shape)
    return turned(label, axes, len(shape)) if is_mask else label


def affine_turned(affine: Array, axes: Sequence[int], shape: Sequence[int]) -> Array:
    """(4, 4) voxel to mm of a mirrored image: every voxel stays where it is in the patient."""
    step = np.eye(4)
    for axis in axes:
        step[axis, axis], step[axis, 3] = -1, shape[axis] - 1
    return np.asarray(affine @ step)
