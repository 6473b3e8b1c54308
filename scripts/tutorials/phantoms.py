"""The tutorials' scans: what could lie in a hospital's folder, drawn so that nobody has to download anything.

Each patient is a small CT volume in Hounsfield units: a body of 40 HU in air, a liver, and a spleen that is 35 HU brighter than what
surrounds it, under noise of 20 HU, as a scanner has at a low dose. The spleen is labelled. No patient is in them.
"""

import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

SIZE = (48, 48, 16)
SPACING_MM = (5.0, 5.0, 6.0)
AIR_HU, BODY_HU, LIVER_HU, SPLEEN_HU, NOISE_HU = -1000, 40, 60, 75, 20


def draw_scan(patient: int, seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One patient: (volume, mask of the spleen), each (48, 48, 16), x to the left, y to the back, z to the head."""
    generator = np.random.default_rng([seed, patient])
    places = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), axis=-1)

    def inside(centre: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (((places - centre) / radii) ** 2).sum(-1) <= 1

    body = inside(np.array([23.5, 23.5, 8]), np.array([22, 17, 60]))
    liver = inside(np.array([14, 21, 8]) + generator.uniform(-2, 2, 3), np.array([8, 8, 6]) * generator.uniform(0.8, 1.2, 3))
    spleen = inside(np.array([33, 26, 8]) + generator.uniform(-1, 1, 3) * (4, 6, 2), np.array([6, 5, 4]) * generator.uniform(0.8, 1.3, 3))
    spleen &= body & ~liver
    hu = np.where(body, BODY_HU, AIR_HU).astype(np.float64)
    hu[body & liver], hu[spleen] = LIVER_HU, SPLEEN_HU
    hu += generator.normal(0, NOISE_HU, SIZE)
    return np.clip(hu.round(), -1024, 3071).astype(np.int16), spleen.astype(np.uint8)


def write_scans(folder: Path, train: int = 12, test: int = 6) -> Path:
    """Write volumes, masks and `dataset.json`, which lists both as the Medical Segmentation Decathlon does, and give its path."""
    affine = np.diag([*SPACING_MM, 1.0])
    entries = []
    for patient in range(train + test):
        entry = {"patient": f"patient{patient:02d}"}
        for kind, voxels in zip(("image", "label"), draw_scan(patient), strict=True):
            name = f"{kind}s/{entry['patient']}.nii.gz"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            volume = nibabel.Nifti1Image(voxels, affine)
            volume.header.set_xyzt_units("mm")
            nibabel.save(volume, folder / name)
            entry[kind] = name
        entries.append(entry)
    told = {
        "name": "drawn spleens",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "training": entries[:train],
        "validation": entries[train:],
    }
    (folder / "dataset.json").write_text(json.dumps(told, indent=1) + "\n")
    return folder / "dataset.json"
