"""Which boxes lie in space? Six numbers in mm, as MONAI's detection has them, to voxels of a grid and back.

A voxel of index i has its centre at coordinate i, as in MONAI's `AffineBoxToImageCoordinated`. Where axes of world and grid are oblique to
each other, a box becomes the one around its eight corners.
"""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data.box_utils import convert_box_mode

from medadv.datasets.labels import Array, Boxes
from medadv_transforms import InputError, LoadedImage

FARTHEST = 1e6
"""Coordinates beyond this many mm are damage."""
TO_RAS = {"lps": np.array([-1.0, -1.0, 1.0]), "ras": np.ones(3)}
"""Signs that lead from a world's axes to RAS, and back."""
Corners = npt.NDArray[np.float64]


def named_in_space(record: dict[str, Any], mode: str, space: str) -> dict[str, Any]:
    """{"world": lower and upper corners in RAS mm, "classes": from 1} of a record's `box` and `label`.

    mode, space: as `DataSettings.box_mode` and `box_space`.  Raises InputError.
    """
    if "box" not in record or "label" not in record:
        raise InputError("missing-label", "The record has no `box` with a `label`: an image without objects has empty lists.")
    raw, classes = record["box"], record["label"]
    if not isinstance(raw, list) or not all(isinstance(box, list) and len(box) == 6 and all(map(_number, box)) for box in raw):
        raise InputError("bad-box", "A box in space is six numbers.")
    if not isinstance(classes, list) or len(classes) != len(raw):
        raise InputError("unknown-label", "`label` is a list of one class for each box.")
    if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < FARTHEST for each in classes):
        raise InputError("unknown-label", "Classes of boxes are whole numbers from 0.")
    boxes = np.asarray(raw, np.float64).reshape(-1, 6)
    corners = np.asarray(convert_box_mode(boxes, src_mode=mode, dst_mode="xyzxyz"), np.float64) if len(boxes) else boxes
    if not (corners[:, 3:] > corners[:, :3]).all():
        raise InputError("bad-box", f"A box has no extent along an axis, read as data.box_mode: {mode}.")
    world = _through(corners, np.diag([*TO_RAS[space], 1.0]))
    return {"world": world.tolist(), "classes": [each + 1 for each in classes]}


def onto_grid(label: dict[str, Any], image: LoadedImage) -> tuple[Boxes, list[str]]:
    """Boxes on the stored grid, clipped to it; those that lie outside are dropped and named in a warning.

    label: as `named_in_space` makes it.  Raises InputError where none is left, or the image is no volume.
    """
    if image.affine is None or image.image.ndim != 4:
        raise InputError("bad-box", "The boxes lie in space, and the image is no volume.")
    corners = _through(np.asarray(label["world"], np.float64).reshape(-1, 6), np.linalg.inv(image.affine))
    boxes = np.clip(corners, 0, np.tile(image.image.shape[1:], 2)).astype(np.float32)
    kept = np.flatnonzero((boxes[:, 3:] > boxes[:, :3]).all(1))
    if len(boxes) and not len(kept):
        raise InputError("bad-box", "All boxes lie outside the volume: data.box_mode and data.box_space say how they are written.")
    lost = len(boxes) - len(kept)
    found = Boxes.of(boxes[kept], np.asarray(label["classes"], np.int64)[kept], dims=3)
    return found, [f"{lost} boxes lie outside the stored image"] if lost else []


def between_grids(boxes: Boxes, here: Array, there: Array) -> Boxes:
    """Boxes (m, 6) of one grid on another; both by their affines to RAS mm."""
    moved = _through(boxes.boxes.astype(np.float64), np.linalg.inv(there) @ here)
    return Boxes.of(moved, boxes.classes, boxes.scores, dims=3)


def in_space(boxes: Boxes, affine: Array) -> list[list[float]]:
    """Boxes (m, 6) of a grid as cccwhd in LPS mm: what `named_in_space` reads by default.  affine: (4, 4) voxel to RAS mm."""
    corners = _through(boxes.boxes.astype(np.float64), np.diag([*TO_RAS["lps"], 1.0]) @ affine)
    centres, lengths = (corners[:, :3] + corners[:, 3:]) / 2, corners[:, 3:] - corners[:, :3]
    found: list[list[float]] = np.concatenate([centres, lengths], 1).tolist()
    return found


def _through(corners: Corners, affine: Array) -> Corners:
    """Boxes around what an affine makes of boxes."""
    chosen = [[axis + 3 * upper for axis, upper in enumerate(corner)] for corner in product((0, 1), repeat=3)]
    points = np.stack([corners[:, columns] @ affine[:3, :3].T + affine[:3, 3] for columns in chosen])
    return np.concatenate([points.min(0), points.max(0)], 1)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < FARTHEST
