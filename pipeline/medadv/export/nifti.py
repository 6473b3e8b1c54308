"""NIfTI: the stored grid, exactly."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medadv.common.errors import SpecError
from medadv.corpus.manifest import Manifest
from medadv.export.item import Item
from medadv.export.marks import derivation

DESCRIPTION_BYTES = 79


def write_nifti(folder: Path, item: Item, manifest: Manifest) -> list[Path]:
    """Write one image as .nii.gz, and the mask of a segmentation beside it; returns the files.

    Spatial axes are written in the stored order, channels last. Raises SpecError for photographs, which have no geometry.
    """
    if item.affine is None:
        raise SpecError("NIfTI needs geometry, which photographs do not have: export them with --format png")
    image = item.image[0] if item.image.shape[0] == 1 else np.moveaxis(item.image, 0, -1)
    files = [_write(folder / f"{item.stem}.nii.gz", image, item.affine, derivation(manifest, item.attack, item.sample))]
    label = item.label
    if isinstance(label, np.ndarray) and label.ndim >= len(item.spatial_axes):
        mask = label if label.ndim == len(item.spatial_axes) else np.moveaxis(label, 0, -1)
        path = folder / f"{item.sample}_label.nii.gz"
        if not path.exists():
            files.append(_write(path, mask, item.affine, "label mask"))
    return files


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
