"""One sample as it is looked at: a slice or photograph with rows downwards, its perturbation, masks and boxes on the same grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medadv.datasets.labels import Array, Boxes
from medadv.spec.modality import MODALITIES
from medadv.store.reader import dataset_names, read_answer

SLAB = 32
"""Rows of a volume held at once: those of a chunk."""


@dataclass(frozen=True)
class View:
    """image: (C, h, w), stored units.  perturbation: the same shape.  masks: (h, w) or (K, h, w).  Boxes: x first on (h, w)."""

    image: Array
    perturbation: Array
    truth: Any
    clean: Any
    adversarial: Any
    position: str
    """Where a slice lies in the patient; empty for photographs."""
    at: int | None
    """Which slice of a sample that has more, so that boxes beyond it are not shown; None for the whole of one."""


@dataclass(frozen=True)
class Placing:
    """How stored axes become rows and columns."""

    transpose: bool
    flip_x: bool
    flip_y: bool
    width: int
    height: int

    def picture(self, values: Array) -> Array:
        """(..., a, b) stored to (..., rows, columns) shown."""
        values = values.swapaxes(-1, -2) if self.transpose else values
        values = values[..., ::-1] if self.flip_x else values
        return np.ascontiguousarray(values[..., ::-1, :] if self.flip_y else values)

    def boxes(self, boxes: Boxes) -> Boxes:
        """The same for xyxy boxes."""
        low_x, low_y, high_x, high_y = boxes.boxes.T.copy() if len(boxes.boxes) else np.zeros((4, 0), np.float32)
        if self.flip_x:
            low_x, high_x = self.width - high_x, self.width - low_x
        if self.flip_y:
            low_y, high_y = self.height - high_y, self.height - low_y
        return Boxes(np.stack([low_x, low_y, high_x, high_y], 1), boxes.classes, boxes.scores)


@dataclass
class Planes:
    """Slices of one sample's arrays, read a brick's thickness at a time, since a slice costs as much as the bricks that it crosses.

    file: an open shard.  index: of the sample.
    """

    file: Any
    index: int
    _held: dict[str, tuple[int, Array]] = field(default_factory=dict)

    def of(self, name: str, at: int | None) -> Array:
        """One slice along the last axis, or where it is None the whole sample."""
        dataset = self.file[name]
        if at is None:
            return np.asarray(dataset[self.index])
        thick = dataset.chunks[-1] if dataset.chunks else 1
        start = at // thick * thick
        if self._held.get(name, (None,))[0] != start:
            self._held[name] = start, np.asarray(dataset[(self.index, ..., slice(start, start + thick))])
        return self._held[name][1][..., at - start]


def load_view(planes: Planes, attack: str, sample: str, at: int | None) -> View:
    """What is shown of one sample, touching only that sample's (and, in 3D, that slice's) chunks.  at: slice of a volume."""
    file, index = planes.file, planes.index
    axes = str(file.attrs["spatial_axes"])
    affine = np.asarray(file["affine"][index]) if "affine" in file else None
    shape = file["image"].shape[2:]
    first, second = (shape[0], shape[1])
    transpose = axes.startswith("xy")
    width, height = (first, second) if transpose else (second, first)
    placing = Placing(transpose, *_flips(affine if transpose else None), width=width, height=height)

    def pixels(name: str) -> Array:
        return placing.picture(planes.of(name, at))

    def answer(name: str) -> Any:
        if name in dataset_names(file) and file[name].ndim >= len(shape) + 1:
            return pixels(name)
        found = read_answer(file, name, index)
        return placing.boxes(_on_slice(found, at)) if isinstance(found, Boxes) else found

    prefix = f"attacks/{attack}"
    return View(
        pixels("image"),
        pixels(f"{prefix}/perturbation").astype(np.int32),
        answer("label"),
        answer(f"{prefix}/prediction_clean"),
        answer(f"{prefix}/prediction_adversarial"),
        _position(affine, at, shape, sample) if MODALITIES[file.attrs["modality"]].in_space else "",
        at,
    )


def chosen_slice(file: Any, index: int) -> int | None:
    """Index along the last axis: where the true mask is largest, the middle of the first true box, else the middle; None without slices."""
    shape = file["image"].shape[2:]
    if len(shape) < 3:
        return None
    label = file["label"]
    if hasattr(label, "ndim"):
        if label.ndim < 4:
            return int(shape[-1] // 2)
        areas = np.zeros(shape[-1], np.int64)
        for slab in slabs(label, index, len(shape)):
            areas += ((slab != 0) & (slab != 255)).reshape(-1, shape[-1]).sum(0)
        return int(areas.argmax()) if areas.any() else int(shape[-1] // 2)
    truth = read_answer(file, "label", index)
    assert isinstance(truth, Boxes)
    if not len(truth.boxes):
        return int(shape[-1] // 2)
    return int(np.clip((truth.boxes[0, 2] + truth.boxes[0, 5]) / 2, 0, shape[-1] - 1))


def slabs(dataset: Any, index: int, spatial: int) -> Iterator[Array]:
    """One sample in pieces along its first spatial axis, each with all of the other axes; in 2D the sample is one piece."""
    if spatial < 3:
        yield np.asarray(dataset[index])
        return
    for start in range(0, dataset.shape[-3], SLAB):
        yield np.asarray(dataset[(index, ..., slice(start, start + SLAB), slice(None), slice(None))])


def _on_slice(boxes: Boxes, at: int | None) -> Boxes:
    if at is None:
        return boxes
    keep = (boxes.boxes[:, 2] <= at + 1) & (boxes.boxes[:, 5] > at)
    flat = boxes.boxes[keep][:, [0, 1, 3, 4]]
    return Boxes(flat, boxes.classes[keep], None if boxes.scores is None else boxes.scores[keep])


def _flips(affine: Array | None) -> tuple[bool, bool]:
    """Radiological view of an axial slice: patient's right on the left, front up. The affine leads to RAS, millimetres."""
    if affine is None or abs(affine[0, 0]) < abs(affine[1, 0]) or abs(affine[1, 1]) < abs(affine[0, 1]):
        return False, False
    return bool(affine[0, 0] > 0), bool(affine[1, 1] > 0)


def _position(affine: Array | None, at: int | None, shape: Sequence[int], sample: str) -> str:
    parts = []
    if at is not None:
        parts.append(f"slice {at + 1} of {shape[-1]}")
    elif sample.rpartition("-")[2].isdigit() and "-" in sample:
        parts.append(f"slice {int(sample.rpartition('-')[2]) + 1} of its file or series")
    if affine is not None:
        centre = affine @ np.array([shape[0] / 2, shape[1] / 2, at or 0, 1.0])
        parts.append(f"z = {centre[2]:.1f} mm (RAS)")
    return ", ".join(parts)
