"""Training images for the victims, read as a run reads them: stored units, same grid.

A data folder holds `fundus/labels.csv`, `ct/dataset_slices.json` and `polyps/annotations_coco.json` with their images.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medadv_transforms import read_colour, read_ct_slice, read_mask

TRAIN, HELD_OUT = "train", "test"
RETINOPATHY_GRADES, MACULAR_RISKS = 5, 3


@dataclass(frozen=True)
class Labelled:
    """images: (n, C, *spatial), stored units.  labels: (n,) classes, (n, *spatial) masks or one (m, 4) array of xyxy boxes each.

    severity: (n, k) of 0 and 1, what else is known of a photograph, taught along with the label and then forgotten.
    """

    images: Tensor
    labels: Tensor | list[Tensor]
    severity: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


def fundus(folder: Path, part: str, size: int) -> Labelled:
    """Photographs cropped to the field of view, and whether each shows referable diabetic retinopathy."""
    with (folder / "fundus" / "labels.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == part]
    loaded = [read_colour(folder / "fundus" / row["file"], modality="fundus", size=(size, size), fit="pad", crop=True) for row in rows]
    images = np.stack([picture.image for picture in loaded])
    severity = [
        [int(row["dr_grade"]) > grade for grade in range(RETINOPATHY_GRADES - 1)]
        + [int(row["dme_risk"]) > risk for risk in range(MACULAR_RISKS - 1)]
        for row in rows
    ]
    labels = torch.tensor([int(row["referable"]) for row in rows])
    return Labelled(torch.from_numpy(images), labels, torch.tensor(severity, dtype=torch.float32))


def ct_slices(folder: Path, part: str, size: int) -> Labelled:
    """Axial slices in HU, arrays in (x, y) order as nibabel gives them, with lung masks."""
    listing = json.loads((folder / "ct" / "dataset_slices.json").read_text())
    images, masks = [], []
    for pair in listing["training" if part == TRAIN else "validation"]:
        loaded = read_ct_slice([folder / "ct" / pair["image"]], 0)
        if loaded.image.shape[1:] != (size, size):
            raise ValueError(f"{pair['image']}: shape {loaded.image.shape[1:]}, expected one slice of {size} by {size}")
        images.append(loaded.image)
        masks.append(read_mask([folder / "ct" / pair["label"]], loaded)[0])
    return Labelled(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)).long())


def polyps(folder: Path, part: str, size: int) -> Labelled:
    """Endoscopy frames and the boxes of their polyps."""
    listing = json.loads((folder / "polyps" / "annotations_coco.json").read_text())
    images, boxes = [], []
    for entry in listing["images"]:
        if entry["split"] != part:
            continue
        loaded = read_colour(folder / "polyps" / entry["file_name"], modality="endoscopy", size=(size, size), fit="pad")
        placement = loaded.placement
        xywh = np.array([a["bbox"] for a in listing["annotations"] if a["image_id"] == entry["id"]], np.float64).reshape(-1, 4)
        images.append(loaded.image)
        boxes.append(torch.from_numpy(placement.boxes(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))[0]))
    return Labelled(torch.from_numpy(np.stack(images)), boxes)
