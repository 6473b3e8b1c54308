"""COCO json: boxes, or masks from its polygons and run lengths."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from medadv.common.errors import SpecError
from medadv.datasets.label_files import read_json
from medadv.datasets.source import Listing, Source, counted
from medadv.datasets.strata import strata_of
from medadv.datasets.tables import root_of
from medadv.datasets.templates import filled
from medadv.spec.data import DataSettings
from medadv_transforms import InputError
from medadv_transforms.mask_pictures import IGNORE
from medadv_transforms.quiet import quiet

FARTHEST = 1e6
"""Coordinates beyond this many pixels are damage."""

CROWD = 0
"""Class of a region that holds an uncounted many: its pixels are ignored."""


def list_coco(path: Path, data: DataSettings, base: Path) -> Listing:
    """COCO json; classes are the categories in the order of their ids, counted from 1.

    Detection leaves crowd annotations out and counts them; as masks they are ignored pixels. `data.image` is a template over an image's
    keys where names need one, as val2017/{file_name}.
    """
    if data.task == "classification":
        raise SpecError(f"layout coco gives boxes and masks, so task {data.task} cannot use it; take csv with a column of classes")
    document = read_json(path)
    try:
        categories = sorted(document["categories"], key=lambda c: c["id"])
        images, annotations = document["images"], document.get("annotations", [])
        index = {c["id"]: i + 1 for i, c in enumerate(categories)}
        of_image: dict[Any, list[Any]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
        listing = Listing(root_of(path, data, base), classes=[str(c.get("name", c["id"])) for c in categories])
        ids = {entry["id"] for entry in images}
        taken = [entry for entry in images if _in_split(path, entry, listing, data)]
        for entry in taken:
            _add(path, entry, of_image[entry["id"]], index, listing, data)
        if not data.unlabelled:
            _count(listing, annotations, ids, {entry["id"] for entry in taken}, data)
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{path}: not a COCO file ({type(error).__name__} at {error})") from None
    return listing


def _in_split(path: Path, entry: dict[str, Any], listing: Listing, data: DataSettings) -> bool:
    group = entry.get(data.group) if data.group else None
    if data.split and data.split.column not in entry:
        raise SpecError(f"{path}: an image has no key {data.split.column!r}; there are {', '.join(entry)}")
    if data.split and str(entry[data.split.column]) != data.split.use:
        if group is not None and str(entry[data.split.column]) not in data.split.ignore:
            listing.other_groups.add(str(group))
        return False
    return True


def _add(path: Path, entry: dict[str, Any], annotations: list[Any], index: dict[Any, int], listing: Listing, data: DataSettings) -> None:
    name = entry["file_name"]
    if data.image is not None:
        try:
            name = filled(data.image, entry)
        except (KeyError, ValueError):
            said = f"data.image={data.image!r} names no key of an image; there are {', '.join(entry)}"
            raise SpecError(f"{path}: {said}; between braces stands a name alone") from None
    located = listing.locate(name, data.allow_outside)
    if located is None:
        return
    group = entry.get(data.group) if data.group else None
    if data.group and group is None:
        raise SpecError(f"{path}: an image has no key {data.group!r}; there are {', '.join(entry)}")
    try:
        label = None if data.unlabelled else _boxes(annotations, index) if data.task == "detection" else _segments(annotations, index)
    except InputError as error:
        listing.refuse(located, error.code, error.message)
        return
    strata = strata_of(entry, data, path)
    listing.sources.append(Source((located,), label, None if group is None else str(group), size=_size(entry), strata=strata))


def _count(listing: Listing, annotations: list[Any], ids: set[Any], taken: set[Any], data: DataSettings) -> None:
    """What is left out, in numbers; and whether anything is labelled at all."""
    orphans = sum(annotation["image_id"] not in ids for annotation in annotations)
    if orphans:
        listing.notes.append(f"{counted(orphans, 'annotation')} of images that the file does not list")
    crowds = sum(bool(a.get("iscrowd")) and a["image_id"] in taken for a in annotations)
    if crowds and data.task == "detection":
        listing.notes.append(f"{counted(crowds, 'crowd annotation')} left out")
    labelled = taken & {annotation["image_id"] for annotation in annotations}
    if taken - labelled:
        alone = len(taken - labelled)
        listing.notes.append(f"{alone} of {counted(len(taken), 'image')} without an annotation: taken as images without objects")
    if not labelled:
        listing.nothing_labelled = "no annotation belongs to any of the images"


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) where the file states both."""
    try:
        height, width = int(entry["height"]), int(entry["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _class(annotation: dict[str, Any], index: dict[Any, int]) -> int:
    if annotation["category_id"] not in index:
        raise InputError("unknown-label", "An annotation has a category that the file does not list.")
    return index[annotation["category_id"]]


def _boxes(annotations: list[Any], index: dict[Any, int]) -> dict[str, Any]:
    """{"boxes": xyxy, "classes"}. A box that is missing is that of its polygons or run lengths."""
    boxes, classes = [], []
    for annotation in annotations:
        if annotation.get("iscrowd"):
            continue
        values = annotation.get("bbox")
        if values in (None, []) and annotation.get("segmentation"):
            values = _around(annotation["segmentation"])
        if not _numbers(values) or len(values) != 4 or not (0 < values[2] < FARTHEST and 0 < values[3] < FARTHEST):
            raise InputError("bad-box")
        x, y, w, h = map(float, values)
        boxes.append([x, y, x + w, y + h])
        classes.append(_class(annotation, index))
    return {"boxes": boxes, "classes": classes}


def _segments(annotations: list[Any], index: dict[Any, int]) -> dict[str, Any]:
    """{"segments": [[class, segmentation]], "classes": K}."""
    segments = []
    for annotation in annotations:
        if not annotation.get("segmentation"):
            raise InputError("missing-label", "An annotation has neither polygons nor run lengths.")
        kind = CROWD if annotation.get("iscrowd") else _class(annotation, index)
        segments.append([kind, _checked(annotation["segmentation"])])
    return {"segments": segments, "classes": len(index)}


def _checked(segmentation: Any) -> Any:
    """Polygons as lists of numbers, or run lengths with a size.  Raises InputError."""
    if isinstance(segmentation, list):
        if segmentation and all(_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation):
            return segmentation
    elif isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        whole = isinstance(size, list) and len(size) == 2 and all(isinstance(v, int) and 0 < v < FARTHEST for v in size)
        runs = isinstance(counts, list) and all(isinstance(v, int) and v >= 0 for v in counts)
        if whole and (runs or (isinstance(counts, str) and counts.isascii() and counts)):
            return {"size": size, "counts": counts}
    raise InputError("bad-segment")


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < FARTHEST for v in values)


def _around(segmentation: Any) -> list[float]:
    """[x, y, w, h] around polygons or run lengths."""
    checked = _checked(segmentation)
    if isinstance(checked, list):
        points = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in checked])
        low, high = points.min(0), points.max(0)
        return [*low.tolist(), *(high - low).tolist()]
    rows, columns = (np.flatnonzero(_decoded(checked, tuple(checked["size"])).any(axis)) for axis in (1, 0))
    if not rows.size:
        raise InputError("bad-box")
    return [float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)]


def draw_segments(label: dict[str, Any], size: tuple[int, int], *, multilabel: bool) -> npt.NDArray[np.uint8]:
    """Masks of an image's annotations on its own grid: class indices (h, w), or with `multilabel` (K, h, w) of 0 and 1; 255 is ignored.

    label: as `list_coco` makes it.  size: (h, w) of the upright image.  Raises InputError.
    """
    planes = np.zeros((label["classes"] + 1, *size), np.bool_)
    for kind, segmentation in label["segments"]:
        planes[kind] |= _decoded(segmentation, size)
    crowd, planes = planes[CROWD] & ~planes[1:].any(0), planes[1:]
    if multilabel:
        stacked = planes.astype(np.uint8)
        stacked[:, crowd] = IGNORE
        return stacked
    if (planes.sum(0) > 1).any():
        raise InputError("label-overlap")
    if len(planes) >= IGNORE:
        raise InputError("label-values")
    mask = np.tensordot(np.arange(1, len(planes) + 1), planes, 1).astype(np.uint8)
    mask[crowd] = IGNORE
    return mask


def _decoded(segmentation: Any, size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """(h, w) of one annotation."""
    height, width = size
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != (height, width):
            raise InputError("size-differs", "The run lengths are of an image of another size.")
        counts = segmentation["counts"]
        counts = _runs(counts) if isinstance(counts, str) else counts
        # The library draws what fits of a damaged list; its sum tells.
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise InputError("bad-segment", "The run lengths do not add up to the image's pixels.")
        segmentation = {"size": [height, width], "counts": counts}
    try:
        with quiet():  # the library warns of its own use of numpy
            planes: npt.NDArray[np.uint8] = coco_mask.decode(coco_mask.frPyObjects(segmentation, height, width))
    except Exception:
        raise InputError("bad-segment") from None
    return np.asarray(planes.any(-1) if planes.ndim == 3 else planes, np.bool_)


def _runs(text: str) -> list[int]:
    """COCO's compressed counts: numbers of 5-bit digits in the characters from "0", lowest first, each beside the one before the last."""
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 40:
            raise InputError("bad-segment")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16) << (shift - 4)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise InputError("bad-segment")
    return counts
