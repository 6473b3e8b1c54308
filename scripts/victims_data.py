"""Training images for the victims, in stored units and on the grid that a run feeds them.

A data folder holds `fundus/labels.csv`, `ct/dataset_slices.json` and `polyps/annotations_coco.json` with their images.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image
from torch import Tensor

TRAIN, HELD_OUT = "train", "test"


@dataclass(frozen=True)
class Labelled:
    """images: (n, C, *spatial), stored units.  labels: (n,) classes, (n, *spatial) masks or one (m, 4) array of xyxy boxes each."""

    images: Tensor
    labels: Tensor | list[Tensor]

    def __len__(self) -> int:
        return len(self.images)


def fundus(folder: Path, part: str, size: int) -> Labelled:
    """Photographs and whether each shows referable diabetic retinopathy."""
    with (folder / "fundus" / "labels.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == part]
    images = [square(folder / "fundus" / row["file"], size)[0] for row in rows]
    return Labelled(torch.stack(images), torch.tensor([int(row["referable"]) for row in rows]))


def ct_slices(folder: Path, part: str, size: int) -> Labelled:
    """Axial slices in HU, arrays in (x, y) order as nibabel gives them, with lung masks."""
    listing = json.loads((folder / "ct" / "dataset_slices.json").read_text())
    pairs = listing["training" if part == TRAIN else "validation"]
    images = torch.stack([torch.from_numpy(_slice(folder / "ct" / pair["image"], size)) for pair in pairs])
    masks = torch.stack([torch.from_numpy(_slice(folder / "ct" / pair["label"], size)) for pair in pairs])
    return Labelled(images[:, None].to(torch.int16), masks.to(torch.int64))


def polyps(folder: Path, part: str, size: int) -> Labelled:
    """Endoscopy frames and the boxes of their polyps."""
    listing = json.loads((folder / "polyps" / "annotations_coco.json").read_text())
    images, boxes = [], []
    for entry in listing["images"]:
        if entry["split"] != part:
            continue
        image, scale, offset = square(folder / "polyps" / entry["file_name"], size)
        xywh = np.array([a["bbox"] for a in listing["annotations"] if a["image_id"] == entry["id"]], np.float32).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        images.append(image)
        boxes.append(torch.from_numpy((corners * np.tile(scale, 2) + np.tile(offset, 2)).astype(np.float32)))
    return Labelled(torch.stack(images), boxes)


def square(path: Path, size: int) -> tuple[Tensor, Sequence[float], Sequence[int]]:
    """A colour image scaled to fit a square, aspect kept, centred, zeros around it.

    Returns the image (3, size, size) uint8, and the scale and offset, x first, that bring its coordinates along.
    """
    with Image.open(path) as file:
        image = file.convert("RGB")
    ratio = size / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    left, top = (size - width) // 2, (size - height) // 2
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[top : top + height, left : left + width] = small
    return torch.from_numpy(canvas).permute(2, 0, 1).contiguous(), (width / image.width, height / image.height), (left, top)


def _slice(path: Path, size: int) -> np.ndarray:
    array = np.asarray(nibabel.load(path).dataobj).squeeze()
    if array.shape != (size, size):
        raise ValueError(f"{path.name}: shape {array.shape}, expected one slice of {size} by {size}")
    return array
