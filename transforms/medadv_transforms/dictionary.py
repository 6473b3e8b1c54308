"""The readers as MONAI dictionary transforms: they take paths, give MetaTensors, and have inverses where that makes sense.

Images are float32 in stored units (HU, or levels 0 to 255), channel first. `meta` holds `unit`, `spatial_axes`, `facts` and, for
photographs, `placement`. Photographs are (C, y, x); CT is (C, x, y, z) or (C, x, y), as nibabel has it. Deterministic throughout.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, Cropd, InvertibleTransform, MapTransform

from . import endoscopy, fundus
from .colour import Modality, read_colour
from .ct import read_ct_slice, read_ct_volume
from .fundus import Field
from .loaded import LoadedImage
from .mask_classes import LabelMap
from .masks import read_mask
from .placement import Placement
from .resample import Spacing, restore_grid

Data = Mapping[Hashable, Any]


class LoadCTd(MapTransform, InvertibleTransform):
    """Replace a path, or the list of a DICOM series' paths, by the CT volume in HU; with `index_key`, by one slice of it.

    Labels under `label_keys` (a NIfTI mask or DICOM SEG each) come onto the same grid, (1, *spatial). offset: as in read_ct_volume;
    voxels: as in read_mask.  inverse: volumes and labels
    that were resampled or reoriented go back to their native grid.  Raises InputError.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        label_keys: Sequence[str] = (),
        label_map: LabelMap | None = None,
        spacing: Spacing | None = None,
        orientation: str | None = None,
        offset: int | None = None,
        voxels: bool = False,
        index_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if index_key is not None and (spacing is not None or orientation is not None):
            raise ValueError("single slices are not resampled")
        self.label_keys, self.label_map, self.index_key = tuple(label_keys), label_map, index_key
        self.spacing, self.orientation, self.offset, self.voxels = spacing, orientation, offset, voxels

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if self.index_key is not None:
                loaded = read_ct_slice(_files(d[key]), int(d[self.index_key]), offset=self.offset)
            else:
                loaded = read_ct_volume(_files(d[key]), spacing=self.spacing, orientation=self.orientation, offset=self.offset)
            for label_key in self.label_keys:
                mask, warnings = read_mask(_files(d[label_key]), loaded, self.label_map, voxels=self.voxels)
                d[label_key] = self._tracked(_meta_tensor(loaded, mask[None], warnings), nearest=True)
            d[key] = self._tracked(_meta_tensor(loaded, loaded.image, []), nearest=False)
        return d

    def inverse(self, data: Data) -> dict[Hashable, Any]:
        """Resampled volumes and labels on their native grid; others unchanged."""
        d = dict(data)
        for key in (*self.key_iterator(d), *self.label_keys):
            extra = self.pop_transform(d[key])["extra_info"]
            if "resampling" in extra:
                nearest = extra["nearest"]
                values = restore_grid(d[key].numpy(), extra["resampling"], nearest=nearest)
                affine = torch.tensor(extra["resampling"]["native"]["affine"], dtype=torch.float64)
                tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
                d[key] = MetaTensor(tensor, meta={**d[key].meta, "affine": affine})
        return d

    def _tracked(self, tensor: MetaTensor, *, nearest: bool) -> MetaTensor:
        resampling = tensor.meta["facts"].get("resampling")
        extra = {"nearest": nearest} if resampling is None else {"nearest": nearest, "resampling": resampling}
        tracked: MetaTensor = self.push_transform(tensor, orig_size=tuple(tensor.shape[1:]), extra_info=extra)
        return tracked


class LoadColourd(MapTransform):
    """Replace the path of a photograph, endoscopy frame or 8-bit CT slice by the picture, (C, h, w), upright.

    Masks under `label_keys` (pictures; threshold and white as in read_mask) and boxes under `box_keys`, (m, 4) xyxy in source pixels,
    follow exactly; boxes that leave the picture are dropped, and `<key>_kept` holds the indices of those that stay. Where perturbations are
    allowed is a bool mask (1, h, w) under `region_key`.  The other arguments are those of read_colour.  Raises InputError.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        modality: Modality,
        size: tuple[int, int] | None = None,
        fit: Literal["stretch", "pad"] = "stretch",
        crop: bool = False,
        label_keys: Sequence[str] = (),
        label_map: LabelMap | None = None,
        threshold: int | None = None,
        white: int | None = None,
        box_keys: Sequence[str] = (),
        region_key: str | None = None,
        restrict_to_field: bool = False,
        exclude_overlay: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.modality, self.size, self.fit, self.crop = modality, size, fit, crop
        self.label_keys, self.label_map, self.box_keys = tuple(label_keys), label_map, tuple(box_keys)
        self.threshold, self.white = threshold, white
        self.region_key, self.restrict_to_field, self.exclude_overlay = region_key, restrict_to_field, exclude_overlay

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            loaded = read_colour(
                d[key],
                modality=self.modality,
                size=self.size,
                fit=self.fit,
                crop=self.crop,
                restrict_to_field=self.restrict_to_field,
                exclude_overlay=self.exclude_overlay,
            )
            for label_key in self.label_keys:
                mask, warnings = read_mask(_files(d[label_key]), loaded, self.label_map, threshold=self.threshold, white=self.white)
                d[label_key] = _meta_tensor(loaded, mask[None], warnings)
            for box_key in self.box_keys:
                assert loaded.placement is not None
                boxes, kept = loaded.placement.boxes(np.asarray(d[box_key]))
                d[box_key], d[f"{box_key}_kept"] = torch.from_numpy(boxes), torch.from_numpy(kept)
            if self.region_key is not None:
                region = loaded.region if loaded.region is not None else np.ones(loaded.image.shape[1:], np.bool_)
                d[self.region_key] = torch.from_numpy(np.ascontiguousarray(region))[None]
            d[key] = _meta_tensor(loaded, loaded.image, [])
        return d


class RestoreBoxesd(MapTransform):
    """Boxes of a loaded picture, (m, 4) xyxy, back in pixels of its source; `ref_key` is the picture that LoadColourd gave."""

    def __init__(self, keys: KeysCollection, ref_key: str, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        d = dict(data)
        placement = Placement.from_dict(d[self.ref_key].meta["placement"])
        for key in self.key_iterator(d):
            d[key] = torch.from_numpy(placement.to_source_boxes(np.asarray(d[key])))
        return d


class _CropFieldd(Cropd):
    """Crop every key to the field found in the picture under `source_key`; the inverse pads with zeros."""

    def __init__(self, keys: KeysCollection, source_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, Crop(), allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Data, lazy: bool | None = None) -> dict[Hashable, Any]:
        d = dict(data)
        picture = torch.as_tensor(d[self.source_key]).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        top, left, bottom, right = self.find(picture if picture.shape[2] == 3 else picture[..., 0]).box
        for key in self.key_iterator(d):
            d[key] = self.cropper(d[key], slices=(slice(top, bottom), slice(left, right)), lazy=self.lazy if lazy is None else lazy)
        return d

    def find(self, picture: Any) -> Field:
        """Find the field of a (h, w) or (h, w, 3) uint8 picture."""
        raise NotImplementedError


class CropFieldOfViewd(_CropFieldd):
    """Crop fundus photographs, (C, y, x) in levels 0 to 255, to the field of view found under `source_key`; invertible."""

    def find(self, picture: Any) -> Field:
        """The disc of a fundus photograph."""
        return fundus.find_field(picture)


class CropBlackBorderd(_CropFieldd):
    """Crop endoscopy frames, (C, y, x) in levels 0 to 255, to what the instrument shows under `source_key`; invertible."""

    def find(self, picture: Any) -> Field:
        """The optical field of an endoscopy frame."""
        return endoscopy.find_field(picture)


def _files(value: Any) -> list[str | Path]:
    return [value] if isinstance(value, (str, Path)) else list(value)


def _meta_tensor(loaded: LoadedImage, values: Any, warnings: list[str]) -> MetaTensor:
    facts = {**loaded.facts, "warnings": [*loaded.facts["warnings"], *warnings]}
    meta: dict[str, Any] = {"unit": loaded.unit, "spatial_axes": loaded.spatial_axes, "facts": facts, "original_channel_dim": 0}
    if loaded.placement is not None:
        meta["placement"] = loaded.placement.as_dict()
    affine = torch.eye(4, dtype=torch.float64) if loaded.affine is None else torch.from_numpy(loaded.affine)
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values, np.float32)), affine=affine, meta=meta)
