"""What goes through the victim together?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medadv.datasets.labels import Array, Label
from medadv.datasets.sample import Sample, stacked_regions
from medadv_transforms.units import LATTICES, Lattice


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one shape.

    images: (n, C, *spatial) in stored units, in their stored type or as float32; attacks and answers want them `on` a device.
    labels, ids: one a sample.  lattice: the range of the stored units.  region: (n, 1, *spatial), nonzero where perturbing is allowed, None
    for everywhere.  spacing_mm: of the first sample's voxels; those who smooth in mm cut batches so that all have the same.
    """

    images: Tensor
    labels: Sequence[Label]
    ids: Sequence[str]
    lattice: Lattice
    region: Tensor | None = None
    spacing_mm: tuple[float, ...] | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample], labels: Sequence[Label], ids: Sequence[str]) -> "Batch":
        """From samples as they were read."""
        regions = stacked_regions(samples)
        return cls(
            torch.from_numpy(np.stack([sample.image for sample in samples])),
            labels,
            ids,
            LATTICES[samples[0].unit],
            None if regions is None else torch.from_numpy(regions),
            samples[0].spacing_mm,
        )

    def __len__(self) -> int:
        return len(self.images)

    def on(self, device: torch.device) -> "Batch":
        """The same with floating-point images where the attack runs."""
        region = None if self.region is None else self.region.to(device, torch.float32)
        return replace(self, images=on_device(self.images, device), region=region)

    def part(self, rows: slice) -> "Batch":
        """Consecutive samples of it."""
        region = None if self.region is None else self.region[rows]
        return replace(self, images=self.images[rows], labels=self.labels[rows], ids=self.ids[rows], region=region)

    def chosen(self, rows: Sequence[int]) -> "Batch":
        """Some samples of it."""
        region = None if self.region is None else self.region[list(rows)]
        labels, ids = [self.labels[row] for row in rows], [self.ids[row] for row in rows]
        return replace(self, images=self.images[list(rows)], labels=labels, ids=ids, region=region)

    def cut(self, size: int) -> Iterator["Batch"]:
        """Batches of at most `size` samples."""
        for start in range(0, len(self), size):
            yield self.part(slice(start, start + size))

    def repeated(self, count: int) -> "Batch":
        """The first sample so many times, for measuring what a batch costs."""
        images = self.images[:1].expand(count, *self.images.shape[1:]).contiguous()
        region = None if self.region is None else self.region[:1].expand(count, *self.region.shape[1:])
        return replace(self, images=images, labels=[self.labels[0]] * count, ids=[self.ids[0]] * count, region=region)


def on_device(images: Tensor | Array, device: torch.device) -> Tensor:
    """Stored images as floating point on a device. They travel in their stored type, a quarter of the bytes."""
    stored = images if isinstance(images, Tensor) else torch.from_numpy(images)
    if device.type == "cuda" and stored.device.type == "cpu":
        # From page-locked memory the copy need not be waited for.
        stored = stored.pin_memory().to(device, non_blocking=True)
    return stored.to(device, torch.float32)


def rows_by_batch(numbers: Iterable[object]) -> list[list[int]]:
    """Rows of a shard batch by batch: those of one number, in the order in which the numbers come."""
    rows: dict[object, list[int]] = {}
    for row, number in enumerate(numbers):
        rows.setdefault(number, []).append(row)
    return list(rows.values())
