"""What can be measured only on images: SSIM, noise, Dice per class, and whether the stored perturbations are what the records say."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medadv.datasets.labels import Array
from medadv.report import paint
from medadv.report.by_class import MaskDice
from medadv.report.columns import Columns
from medadv.report.noise import SampleNoise, sample_noise
from medadv.report.similarity import ssim
from medadv.report.view import chosen_slice, slabs
from medadv.store.reader import adversarial_image, open_shard
from medadv_transforms.units import LATTICES, Lattice

MOST = 64
MOST_VOLUMES = 8
"""Samples read again for a report, spread evenly over the corpus; all of a smaller one."""
NOISE_SLICES = 16
"""Slices of a volume on which its noise is measured, spread evenly."""
L2_TOLERANCE = 1e-9
"""Relative; sums in another order differ by rounding alone."""
GREY_SPAN = 255.0


@dataclass
class ReadBack:
    """One attack's stored perturbations, read again from `count` samples."""

    count: int = 0
    dtype: str = ""
    agreeing: int = 0
    """Samples whose stored perturbation has exactly the recorded linf and, but for rounding, the recorded L2."""
    outside: int = 0
    """Samples with a value off the lattice's range, or a perturbation beyond epsilon."""
    rms: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    ssim_shown: list[float] = field(default_factory=list)
    per_slice: bool = False
    dice: MaskDice = field(default_factory=lambda: MaskDice({}))


def read_back(columns: Columns, attack: str, epsilon: float, window: tuple[float, float] | None) -> ReadBack:
    """Read an even spread of samples again. Whole volumes are never held: slabs at a time, SSIM on the slice that is shown.

    window: HU shown as black and white, None for 8-bit images.
    """
    found = ReadBack()
    record = columns.attacks[attack]
    for number in spread(columns):
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
            same = largest == record.linf[number] and np.isclose(np.sqrt(square), record.l2[number], rtol=L2_TOLERANCE)
            found.count, found.dtype = found.count + 1, str(perturbation.dtype)
            found.agreeing += int(same)
            found.outside += int(not inside or largest > epsilon)
            found.rms.append(float(np.sqrt(square / np.prod(image.shape[1:]))))
            found.per_slice = spatial == 3
            stored, shown = _similarity(image, perturbation, index, chosen_slice(file, index), lattice, window)
            found.ssim.append(stored)
            found.ssim_shown.append(shown)
            if columns.task == "segmentation":
                before, after = (_dice(file, index, f"attacks/{attack}/prediction_{which}", spatial) for which in ("clean", "adversarial"))
                for value in before:
                    found.dice.rows.setdefault(value, []).append((number, before[value], after[value]))
    return found


def measure_noise(columns: Columns) -> list[SampleNoise]:
    """Noise of the clean CT images of the same spread of samples."""
    found = []
    for number in spread(columns):
        path, index = columns.places[number]
        with open_shard(path) as file:
            found.append(sample_noise(_planes(file["image"], index)))
    return found


def _planes(image: Any, index: int) -> Iterator[Array]:
    if image.ndim == 4:
        yield np.asarray(image[index, 0])
        return
    depth = image.shape[-1]
    for at in sorted({int(v) for v in np.linspace(0, depth - 1, min(depth, NOISE_SLICES))}):
        yield np.asarray(image[index, 0, :, :, at])


def spread(columns: Columns) -> list[int]:
    """Numbers of the samples that are read again."""
    if not columns.ids:
        return []
    with open_shard(columns.places[0][0]) as file:
        most = MOST_VOLUMES if file["image"].ndim == 5 else MOST
    return sorted({int(v) for v in np.linspace(0, len(columns.ids) - 1, min(most, len(columns.ids)))})


def _similarity(
    image: Any, perturbation: Any, index: int, at: int | None, lattice: Lattice, window: tuple[float, float] | None
) -> tuple[float, float]:
    """SSIM of the adversarial image beside the clean one: of stored values, and of what is shown of them."""
    place = (index,) if at is None else (index, ..., at)
    clean = np.asarray(image[place])
    adversarial = adversarial_image(clean, perturbation[place])
    stored = ssim(clean, adversarial, lattice.high - lattice.low)
    if window is None:
        return stored, stored
    before, after = (np.moveaxis(paint.grey(values, window)[..., :1], -1, 0) for values in (clean, adversarial))
    return stored, ssim(before, after, GREY_SPAN)


def _dice(file: Any, index: int, name: str, spatial: int) -> dict[int, float]:
    """Dice of each class that the truth holds, over the whole sample; voxels of no class (255) count nowhere."""
    both: dict[int, int] = defaultdict(int)
    either: dict[int, int] = defaultdict(int)
    present: set[int] = set()
    for truth, answer in zip(slabs(file["label"], index, spatial), slabs(file[name], index, spatial), strict=True):
        for value, held, claimed in _classes(truth, answer, spatial):
            both[value] += int((held & claimed).sum())
            either[value] += int(held.sum() + claimed.sum())
            if held.any():
                present.add(value)
    return {value: 2 * both[value] / either[value] for value in sorted(present)}


def _classes(truth: Array, answer: Array, spatial: int) -> list[tuple[int, Array, Array]]:
    known = truth != 255
    if truth.ndim == spatial:
        values = {int(v) for v in np.unique(truth)} | {int(v) for v in np.unique(answer)}
        return [(v, truth == v, (answer == v) & known) for v in sorted(values - {0, 255})]
    return [(k + 1, truth[k] == 1, (answer[k] == 1) & known[k]) for k in range(len(truth))]
