"""How is an image mirrored while a model is trained? Image, adversarial image, mask and boxes together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medadv.common.errors import SpecError

IMAGES = ("image", "adversarial", "label")
"""What has the image's axes, where it has as many as the image; class labels have fewer."""


def flip_axes(asked: Sequence[int] | str, unit: str, axes: int) -> tuple[int, ...]:
    """Spatial axes that training mirrors.  asked: as the spec says it.  unit: of stored values; in HU left and right are not alike.

    Raises SpecError where the image has no such axis.
    """
    if asked == "none" or (asked == "auto" and unit == "hu"):
        return ()
    if isinstance(asked, str):
        return tuple(range(axes))
    if beyond := [axis for axis in asked if axis >= axes]:
        raise SpecError(f"hardening.flips: axis {beyond[0]} of images of {axes} spatial axes, which count from 0")
    return tuple(asked)


@dataclass(frozen=True)
class Flips:
    """Transform of CorpusDataset's items, which seeds the draws by epoch and sample.  axes: each is mirrored in half of the draws."""

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
        boxes, names = _plain(item["boxes"]).clone(), item["spatial_axes"]
        for axis in axes:
            # Boxes have x first, whatever the order of the tensor's axes.
            low = "xyz".index(names[axis])
            high, length = low + len(names), image.shape[axis + 1]
            boxes[:, [low, high]] = length - boxes[:, [high, low]]
        changed["boxes"] = boxes
    return changed


def _plain(value: Tensor) -> Tensor:
    return value.as_subclass(Tensor)
