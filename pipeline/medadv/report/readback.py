"""What can be measured only on images: SSIM, Dice per class, and whether the stored perturbations are what the records say."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric

from medadv.datasets.labels import Array
from medadv.report.columns import Columns
from medadv.report.estimates import ClassRow, class_name
from medadv.report.view import chosen_slice, slabs
from medadv.store.reader import adversarial_image, open_shard
from medadv_transforms.units import LATTICES

MOST = 64
MOST_VOLUMES = 8
"""Samples read again for a report, spread evenly over the corpus; all of a smaller one."""
SSIM_WINDOW = 11
L2_TOLERANCE = 1e-9
"""Relative; sums in another order differ by rounding alone."""


@dataclass
class ReadBack:
    """One attack's stored perturbations, read again from `count` samples."""

    count: int = 0
    dtype: str = ""
    agreeing: int = 0
    """Samples whose stored perturbation has exactly the recorded linf and, but for rounding, the recorded L2."""
    outside: int = 0
    """Samples with a value off the lattice's range, or a perturbation beyond epsilon."""
    ssim: list[float] = field(default_factory=list)
    per_slice: bool = False
    dice: list[ClassRow] = field(default_factory=list)


def read_back(columns: Columns, attack: str, epsilon: float, names: list[str] | None) -> ReadBack:
    """Read an even spread of samples again. Whole volumes are never held: slabs at a time, SSIM on the slice that is shown."""
    found = ReadBack()
    sums: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in _spread(columns):
        path, index = columns.places[number]
        with open_shard(path) as file:
            spatial = file["image"].ndim - 2
            lattice = LATTICES[str(file.attrs["unit"])]
            image, perturbation = file["image"], file[f"attacks/{attack}/perturbation"]
            largest, square, inside = 0, 0, True
            for clean, delta in zip(slabs(image, index, spatial), slabs(perturbation, index, spatial), strict=True):
                wide = delta.astype(np.int64)
                largest, square = max(largest, int(np.abs(wide).max(initial=0))), square + int((wide**2).sum())
                moved = clean + wide
                inside &= bool(moved.min(initial=lattice.high) >= lattice.low and moved.max(initial=lattice.low) <= lattice.high)
            record = columns.attacks[attack]
            same = largest == record.linf[number] and np.isclose(np.sqrt(square), record.l2[number], rtol=L2_TOLERANCE)
            found.count, found.dtype = found.count + 1, str(perturbation.dtype)
            found.agreeing += int(same)
            found.outside += int(not inside or largest > epsilon)
            found.per_slice = spatial == 3
            found.ssim.append(_ssim(image, perturbation, index, chosen_slice(file, index) if spatial == 3 else None, lattice))
            if columns.task == "segmentation":
                for which in ("clean", "adversarial"):
                    for value, dice in _dice(file, index, f"attacks/{attack}/prediction_{which}", spatial).items():
                        sums[which, value].append(dice)
    classes = sorted({value for _, value in sums})
    for value in classes:
        means = [float(np.mean(sums[which, value])) for which in ("clean", "adversarial")]
        found.dice.append(ClassRow(class_name(value, names, first=1), len(sums["clean", value]), *means))
    return found


def _spread(columns: Columns) -> list[int]:
    if not columns.ids:
        return []
    with open_shard(columns.places[0][0]) as file:
        most = MOST_VOLUMES if file["image"].ndim == 5 else MOST
    return sorted({int(v) for v in np.linspace(0, len(columns.ids) - 1, min(most, len(columns.ids)))})


def _ssim(image: Any, perturbation: Any, index: int, at: int | None, lattice: Any) -> float:
    """MONAI's SSIM of the adversarial image beside the clean one; its range is that of the stored unit."""
    place = (index,) if at is None else (index, ..., at)
    clean = np.asarray(image[place])
    pair = [torch.from_numpy(v.astype(np.float32))[None] for v in (clean, adversarial_image(clean, perturbation[place]))]
    shortest = min(clean.shape[1:])
    metric = SSIMMetric(2, data_range=float(lattice.high - lattice.low), win_size=min(SSIM_WINDOW, shortest - (shortest + 1) % 2))
    return float(metric(*pair).mean())


def _dice(file: Any, index: int, name: str, spatial: int) -> dict[int, float]:
    """Dice of each class that the truth holds, over the whole sample; voxels of no class (255) count nowhere."""
    both: dict[int, int] = defaultdict(int)
    either: dict[int, int] = defaultdict(int)
    present: set[int] = set()
    for truth, answer in zip(slabs(file["label"], index, spatial), slabs(file[name], index, spatial), strict=True):
        for value, held, claimed in _planes(truth, answer, spatial):
            both[value] += int((held & claimed).sum())
            either[value] += int(held.sum() + claimed.sum())
            if held.any():
                present.add(value)
    return {value: 2 * both[value] / either[value] for value in sorted(present)}


def _planes(truth: Array, answer: Array, spatial: int) -> list[tuple[int, Array, Array]]:
    known = truth != 255
    if truth.ndim == spatial:
        values = {int(v) for v in np.unique(truth)} | {int(v) for v in np.unique(answer)}
        return [(v, truth == v, (answer == v) & known) for v in sorted(values - {0, 255})]
    return [(k + 1, truth[k] == 1, (answer[k] == 1) & known[k]) for k in range(len(truth))]
