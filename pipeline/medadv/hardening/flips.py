"""Along which axes does training see images mirrored? Before they are attacked: afterwards they would hardly be adversarial any more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medadv.datasets.labels import Boxes
from medadv.datasets.mirrored import label_turned
from medadv.spec.modality import MODALITIES, Modality

IMAGES = ("image", "adversarial", "label")
"""What has the image's axes, where it has as many as the image; class labels have fewer."""


def flip_axes(asked: Sequence[int] | Literal["auto", "none"], modality: Modality) -> tuple[int, ...]:
    """Spatial axes that corpora of a hardening are mirrored along.  asked: by the spec; auto: in CT left and right are not alike."""
    if asked == "none" or (asked == "auto" and MODALITIES[modality].in_space):
        return ()
    return (0, 1) if asked == "auto" else tuple(asked)


@dataclass(frozen=True)
class Flips:
    """Transform of CorpusDataset's clean items, to be attacked afterwards.  axes: each is mirrored in half of the draws."""

    axes: tuple[int, ...]

    def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        drawn = torch.rand(len(self.axes)).tolist()
        return flipped(item, [axis for axis, value in zip(self.axes, drawn, strict=True) if value < 0.5])


def flipped(item: Mapping[str, Any], axes: Sequence[int]) -> Mapping[str, Any]:
    """An item mirrored along spatial axes."""
    if not axes:
        return item
    changed, image = dict(item), item["image"]
    for key in IMAGES:
        value = item.get(key)
        if isinstance(value, Tensor) and value.ndim == image.ndim:
            changed[key] = torch.flip(_plain(value), [axis + 1 for axis in axes])
    if "boxes" in item:
        boxes = Boxes(_plain(item["boxes"]).numpy(), np.empty(0, np.int64))
        changed["boxes"] = torch.from_numpy(label_turned(boxes, axes, image.shape[1:], item["spatial_axes"]).boxes)
    return changed


def _plain(value: Tensor) -> Tensor:
    return value.as_subclass(Tensor)
