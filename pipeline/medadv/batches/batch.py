"""What goes through the victim together?"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medadv.batches.loading import Loaded
from medadv.datasets.labels import Array


def planned(loaded: Sequence[Loaded], *, one_spacing: bool = False) -> Iterator[list[int]]:
    """Indices of the loaded samples, planned batch by planned batch; on request cut further where the voxel spacing differs."""
    keys = [(item.place[0], item.sample.spacing_mm if one_spacing else None) for item in loaded]
    for key in dict.fromkeys(keys):
        yield [i for i, k in enumerate(keys) if k == key]


def on_device(images: Array, device: torch.device) -> Tensor:
    """Stored images as floating point where the attack runs. They travel in their stored type, a quarter of the bytes."""
    stored = torch.from_numpy(images)
    if device.type == "cuda":
        # From page-locked memory the copy need not be waited for.
        stored = stored.pin_memory().to(device, non_blocking=True)
    return stored.to(device, torch.float32)
