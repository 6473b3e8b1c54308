"""NIfTI: the stored grid, exactly; a slice is a volume of one voxel in z. Boxes of volumes go into a dataset.json."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medadv.common.errors import SpecError
from medadv.common.record import Json
from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array, Boxes
from medadv.datasets.space_boxes import in_space
from medadv.export.item import Item, Written
from medadv.export.marks import SERIES, derivation
from medadv.export.names import image_file, mask_files

DESCRIPTION_BYTES = 79


def write_nifti(folder: Path, item: Item, manifest: Manifest) -> list[Path]:
    """Write one image as .nii.gz, and the mask of a segmentation beside it; returns the files.

    Spatial axes are written in the stored order, three of them, so that a slice keeps its place and thickness; channels last. Raises
    SpecError for photographs, which have no geometry.
    """
    if item.affine is None:
        raise SpecError("NIfTI needs geometry, which photographs do not have: export them with --format png")
    text = derivation(manifest, item.attack, item.sample)
    spatial = len(item.spatial_axes)
    files = [_write(folder / image_file("nifti", item.sample, item.attack), _last(item.image, spatial), item.affine, text)]
    if isinstance(item.label, np.ndarray):
        mask = item.label[None] if item.label.ndim == spatial else item.label
        for name in mask_files("nifti", item.sample, item.label.shape, spatial):
            if not (folder / name).exists():
                files.append(_write(folder / name, _last(mask, spatial), item.affine, "label mask"))
    return files


def write_boxes(folder: Path, items: list[Written], manifest: Manifest) -> list[Path]:
    """dataset.json as MONAI's detection reads it, for volumes with boxes: cccwhd in LPS mm, classes from 0; returns the file, if any."""
    records: list[Json] = []
    for item in items:
        if isinstance(item.label, Boxes) and item.affine is not None and item.label.boxes.shape[1] == 6:
            boxes: Json = list(in_space(item.label, item.affine))
            classes: Json = (item.label.classes - 1).tolist()
            records.append({"image": item.file, "box": boxes, "label": classes, "sample": item.sample, "attack": item.attack})
    if not records:
        return []
    names: Json = {str(number): name for number, name in enumerate(manifest.data.classes or [])}
    path = folder / "dataset.json"
    text = {"description": SERIES, "labels": names, "box_mode": "cccwhd", "box_space": "lps", "training": records}
    path.write_text(json.dumps(text, indent=1))
    return [path]


def _last(image: Array, spatial: int) -> Array:
    """(x, y, z) or (x, y, z, C) of (C, *spatial); z is 1 for a slice."""
    volume = image.reshape(*image.shape, *(1,) * (3 - spatial))
    return volume[0] if len(volume) == 1 else np.moveaxis(volume, 0, -1)


def _write(path: Path, values: Any, affine: Any, text: str) -> Path:
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = text.encode()[:DESCRIPTION_BYTES]
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text.encode()))
    image.set_sform(affine, 2)
    # sform alone decides: a qform of a sheared or left-handed affine would be an approximation.
    image.set_qform(None, 0)
    nibabel.save(image, path)
    return path
