"""PNG photographs with COCO boxes, a CSV of labels, or mask files."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medadv.common.errors import SpecError
from medadv.common.printable import cell
from medadv.common.record import Json
from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array, Boxes, Label
from medadv.export.item import Item, Written
from medadv.export.marks import CLEAN_SERIES, SERIES, derivation
from medadv.export.names import image_file, mask_files


def write_png(folder: Path, item: Item, manifest: Manifest) -> list[Path]:
    """Write one 8-bit image, and the mask of a segmentation beside it, one per class where masks may overlap; returns the files.

    Raises SpecError for HU, which 8 bits cannot hold.
    """
    if item.unit != "level8":
        raise SpecError("PNG holds 8-bit images; CT in HU keeps its values in --format nifti or dicom")
    marks = PngInfo()
    marks.add_text("Title", CLEAN_SERIES if item.attack is None else SERIES)
    marks.add_text("Description", derivation(manifest, item.attack, item.sample))
    path = folder / image_file("png", item.sample, item.attack)
    _picture(_upright(item.image, item.spatial_axes)).save(path, pnginfo=marks)
    files = [path]
    for name, mask in _masks(item.sample, item.label).items():
        # Clean and adversarial images of a sample share their masks.
        if not (folder / name).exists():
            Image.fromarray(np.ascontiguousarray(mask if item.spatial_axes == "yx" else mask.T)).save(folder / name)
            files.append(folder / name)
    return files


def is_class(label: Label) -> bool:
    """Whether a label is a class, or one of several labels, so that no file beside the image can hold it."""
    return not isinstance(label, Boxes) and label.ndim < 2


def write_labels(folder: Path, items: list[Written], manifest: Manifest) -> list[Path]:
    """labels.csv for classes and masks, annotations.json in COCO form for boxes.

    Of several values a label, as of several mask files, labels.csv holds all in the order of the classes, joined by a space.
    """
    classes = manifest.data.classes
    if items and isinstance(items[0].label, Boxes):
        path = folder / "annotations.json"
        path.write_text(json.dumps(_coco(items, classes), indent=1))
        return [path]
    path = folder / "labels.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "sample", "attack", "label"])
        for item in items:
            assert not isinstance(item.label, Boxes)
            shown = " ".join(_masks(item.sample, item.label) or map(str, item.label.reshape(-1).tolist()))
            writer.writerow([cell(value) for value in (item.file, item.sample, item.attack or "", shown)])
    return [path]


def _masks(sample: str, label: Label) -> dict[str, Array]:
    """A label's masks by file name: one of an index mask, one per class of (K, *spatial); none of other labels."""
    if isinstance(label, Boxes) or not (names := mask_files("png", sample, label.shape, 2)):
        return {}
    return dict(zip(names, label[None] if label.ndim == 2 else label, strict=True))


def _coco(items: list[Written], classes: list[str] | None) -> Json:
    images: list[Json] = []
    annotations: list[Json] = []
    seen: set[int] = set()
    for number, item in enumerate(items, start=1):
        width, height = item.size
        images.append({"id": number, "file_name": item.file, "width": width, "height": height})
        assert isinstance(item.label, Boxes)
        for box, category in zip(item.label.boxes.tolist(), item.label.classes.tolist(), strict=True):
            x0, y0, x1, y1 = box
            seen.add(category)
            bounds = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, **bounds})
    names = dict(enumerate(classes or [], start=1))
    known = sorted(seen | names.keys())
    categories: list[Json] = [{"id": category, "name": names.get(category, f"class {category}")} for category in known]
    return {"info": {"description": SERIES}, "images": images, "annotations": annotations, "categories": categories}


def _upright(image: Any, axes: str) -> Any:
    """(y, x, C) of (C, *spatial)."""
    return np.moveaxis(image, 0, -1) if axes == "yx" else np.moveaxis(image, 0, -1).transpose(1, 0, 2)


def _picture(pixels: Any) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
