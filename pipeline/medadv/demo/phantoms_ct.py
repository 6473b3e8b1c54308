"""Chest phantoms on disk: NIfTI volumes and masks of lesions in the Decathlon's layout, and the same volumes as DICOM series."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from medadv.demo.chest import Chest, draw_chest
from medadv.demo.dicom_series import write_dicom_series


def affine_of(chest: Chest) -> NDArray[np.float64]:
    """NIfTI's affine, (4, 4) float64: voxel indices to mm, x to the right, y to the front, z to the head."""
    affine = np.diag([-chest.spacing_mm[0], -chest.spacing_mm[1], chest.spacing_mm[2], 1.0])
    affine[:3, 3] = (-chest.origin_mm[0], -chest.origin_mm[1], chest.origin_mm[2])
    return affine


def write_chests(root: Path, *, seed: int, train: int, test: int, progress: Callable[[float, str], None] | None) -> Path:
    """Write `train` + `test` volumes to images/, labels/ and dicom/PATIENT/, and `dataset.json`, whose path is returned."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, str]] = []
    for number in range(train + test):
        patient, chest = f"chest{number:03d}", draw_chest(seed, number)
        entry = {"image": f"./images/{patient}.nii.gz", "label": f"./labels/{patient}.nii.gz", "patient": patient}
        for key, voxels in (("image", chest.hu), ("label", chest.lesions)):
            volume = nibabel.Nifti1Image(voxels, affine_of(chest))
            volume.header.set_xyzt_units("mm")
            nibabel.save(volume, root / entry[key])
        write_dicom_series(root / "dicom" / patient, chest.hu, chest.spacing_mm, chest.origin_mm, patient)
        entries.append(entry)
        if progress:
            progress((number + 1) / (train + test), "drawing chest CTs")
    dataset = {
        "name": "chest phantoms",
        "description": "Synthetic chest CT volumes in HU with masks of ground-glass lesions, drawn by medadv",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "lesion"},
        "numTraining": train,
        "training": entries[:train],
        "validation": entries[train:],
    }
    (root / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n", encoding="utf-8")
    return root / "dataset.json"
