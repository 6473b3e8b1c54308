"""`--grid native`: crops and padding undone exactly; resampling only by resampling again, which is lossy and therefore scored again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from medadv.common.errors import SpecError
from medadv.datasets.labels import Array, Boxes, Label
from medadv.datasets.mirrored import FACT, affine_turned, label_turned, turned
from medadv.datasets.space_boxes import between_grids
from medadv.export.item import Item
from medadv_transforms.placement import Placement
from medadv_transforms.resample import Grid, restore_grid, sampled
from medadv_transforms.units import LATTICES, to_lattice


@dataclass(frozen=True)
class Native:
    """An image on the grid of its source, and the way back to the stored grid, None where nothing was resampled."""

    item: Item
    back: Callable[[Array], Array] | None


def to_native(item: Item, lossy: bool) -> Native:
    """The item on its source's grid. What a crop cut away is not in the corpus: it is 0 (black) there.

    Raises SpecError where that takes resampling and `lossy` is not set.
    """
    if FACT in item.facts:
        return _unmirrored(item, lossy)
    if "placement" in item.facts:
        return _photograph(item, Placement.from_dict(item.facts["placement"]), lossy)
    resampling = item.facts.get("resampling")
    if not resampling:
        return Native(item, None)
    native, upright, stored = (_grid(resampling[name]) for name in ("native", "oriented", "stored"))
    resampled = stored.shape != upright.shape or not np.allclose(stored.affine, upright.affine)
    if resampled and not lossy:
        raise SpecError(f"sample {item.sample} was resampled: --grid native would resample it again; add --lossy, which scores the result")
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(native.affine), nibabel.orientations.io_orientation(upright.affine)
    )

    def back(image: Array) -> Array:
        channels = [sampled(nibabel.orientations.apply_orientation(c, turned), upright, stored, nearest=False) for c in image]
        return to_lattice(np.stack(channels), item.unit)[0]

    return Native(_volume(item, resampling), back if resampled else None)


def _unmirrored(item: Item, lossy: bool) -> Native:
    """As the source lies: mirrored back, and from there as any other."""
    axes, shape = item.facts[FACT], item.image.shape[1:]
    upright = replace(
        item,
        image=turned(item.image, axes, len(shape)),
        label=label_turned(item.label, axes, shape, item.spatial_axes),
        affine=None if item.affine is None else affine_turned(item.affine, axes, shape),
        facts={key: value for key, value in item.facts.items() if key != FACT},
    )
    native = to_native(upright, lossy)
    back = native.back
    return native if back is None else replace(native, back=lambda image: turned(back(image), axes, len(shape)))


def _photograph(item: Item, placement: Placement, lossy: bool) -> Native:
    top, left, height, width = placement.crop
    resampled = placement.scaled != (height, width)
    if resampled and not lossy:
        raise SpecError(
            f"sample {item.sample} was scaled from {width} x {height} to {placement.scaled[1]} x {placement.scaled[0]} pixels: "
            "--grid native would scale it again; add --lossy, which scores the result"
        )
    content = item.image[:, placement.pad[0] :, placement.pad[1] :][:, : placement.scaled[0], : placement.scaled[1]]
    native = np.zeros((len(item.image), *placement.source_size), item.image.dtype)
    native[:, top : top + height, left : left + width] = _resized(content, (height, width)) if resampled else content

    def back(image: Array) -> Array:
        stored = item.image.copy()
        cropped = _resized(image[:, top : top + height, left : left + width], placement.scaled)
        stored[:, placement.pad[0] :, placement.pad[1] :][:, : placement.scaled[0], : placement.scaled[1]] = cropped
        return stored

    label = _label(item.label, placement)
    return Native(replace(item, image=native, label=label), back if resampled else None)


def _resized(image: Array, size: tuple[int, int], how: Image.Resampling = Image.Resampling.BILINEAR) -> Array:
    """(C, h, w) at another size, bilinear unless said otherwise, as 8-bit photographs are scaled everywhere here."""
    planes = [Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), how) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _label(label: Label, placement: Placement) -> Label:
    if isinstance(label, Boxes):
        return Boxes(placement.to_source_boxes(label.boxes), label.classes)
    if label.ndim < 2:
        return label
    top, left, height, width = placement.crop
    # Masks of a sigmoid head have an axis of classes before the spatial ones.
    content = label[..., placement.pad[0] :, placement.pad[1] :][..., : placement.scaled[0], : placement.scaled[1]]
    planes = _resized(content.reshape(-1, *content.shape[-2:]), (height, width), Image.Resampling.NEAREST)
    native = np.zeros((*label.shape[:-2], *placement.source_size), label.dtype)
    native[..., top : top + height, left : left + width] = planes.reshape(*label.shape[:-2], height, width)
    return native


def _grid(facts: dict[str, Any]) -> Grid:
    x, y, z = facts["shape"]
    return Grid((x, y, z), np.asarray(facts["affine"], np.float64))


def _volume(item: Item, resampling: dict[str, Any]) -> Item:
    image, _ = to_lattice(restore_grid(item.image, resampling), item.unit)
    label = item.label
    if isinstance(label, np.ndarray) and label.ndim >= 3:
        label = restore_grid(label, resampling, nearest=True)
    affine = np.asarray(resampling["native"]["affine"], np.float64)
    if isinstance(label, Boxes):
        label = between_grids(label, np.asarray(resampling["stored"]["affine"], np.float64), affine)
    return replace(item, image=image.astype(LATTICES[item.unit].dtype), label=label, affine=affine)
