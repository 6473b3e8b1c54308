"""From a source to stored units: the one place that chooses a reader, so that planning, runs and reproduction read alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medadv.answers import Boxes
from medadv.datasets.coco import draw_segments
from medadv.datasets.source import Source
from medadv.datasets.trees import PICTURES
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv_transforms import (
    InputError,
    LoadedImage,
    count_slices,
    inspect_ct,
    read_colour,
    read_ct_slice,
    read_ct_volume,
    read_mask,
)
from medadv_transforms.hounsfield import UNSTATED, says_hu
from medadv_transforms.nifti import is_nifti
from medadv_transforms.picture import opened


@dataclass(frozen=True, eq=False)
class Sample:
    """One input as it will be stored.

    image: (C, *spatial) uint8 or int16.  label: raw truth (int, list, mask or Boxes), None without.  region: (*spatial) bool, where
    perturbing is allowed, None for everywhere.  facts: JSON-able, allow-listed, published.
    """

    image: npt.NDArray[Any]
    unit: str
    spatial_axes: str
    label: Any
    affine: npt.NDArray[np.float64] | None
    spacing_mm: tuple[float, ...] | None
    region: npt.NDArray[np.bool_] | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What headers promise of a sample."""

    shape: tuple[int, ...]
    unit: str
    spatial_axes: str


@dataclass(frozen=True)
class Reader:
    """Reads the samples of one data set."""

    root: Path
    data: DataSettings
    preprocess: PreprocessSettings
    overlapping: bool = False
    """Masks of a sigmoid head: with a label_map, one per class, which may overlap."""

    def expand(self, source: Source) -> list[Source]:
        """A volume that is to be read as slices becomes its slices; anything else stays. CT that states no unit raises InputError."""
        if self.is_picture(source) or source.index is not None:
            return [source]
        paths, settings = self._paths(source), self.preprocess
        slices = count_slices(paths, spacing=settings.spacing, orientation=settings.orientation) if settings.as_ == "slices" else None
        if self.data.offset is None and not says_hu(paths):
            raise InputError("not-hu", UNSTATED)
        return [source] if slices is None else [replace(source, index=i) for i in range(slices)]

    def inspect(self, source: Source) -> Shape:
        """Shape and unit from headers alone. Raises InputError."""
        if self.is_picture(source):
            channels = 1 if self.data.modality == "ct" else 3
            with opened(self._paths(source)[0]) as (_, header):
                size = header.upright_size
                _check_size(source.size, size, header.size)
            return Shape((channels, *(self.preprocess.size or size)), "level8", "yx")
        if self.preprocess.size is not None:
            raise InputError("wrong-unit", "preprocess.size resizes 8-bit images; CT in HU keeps its grid, or takes preprocess.spacing.")
        facts = _inspect(self._paths(source), self.preprocess.spacing, self.preprocess.orientation, source.index is None)
        return Shape((1, *(facts if source.index is None else facts[:2])), "hu", "xyz" if source.index is None else "xy")

    def read(self, source: Source) -> Sample:
        """Decode, preprocess and bring the label onto the stored grid. Raises InputError; OSError where a disk fails."""
        paths, settings = self._paths(source), self.preprocess
        for path in paths:
            if not path.is_file():
                raise InputError("changed-input")
        if self.is_picture(source):
            image = self._picture(paths[0])
        elif source.index is None:
            image = read_ct_volume(
                paths, spacing=settings.spacing, orientation=settings.orientation, offset=self.data.offset
            )
        else:
            image = read_ct_slice(
                paths, source.index, spacing=settings.spacing, orientation=settings.orientation, offset=self.data.offset
            )
        facts = dict(image.facts)
        label, notes = self._label(source, image)
        if notes:
            facts["label_warnings"] = notes
        if image.placement is not None:
            facts["placement"] = image.placement.as_dict()
        return Sample(image.image, image.unit, image.spatial_axes, label, image.affine, _spacing(image), image.region, facts)

    def files(self, source: Source) -> Iterator[Path]:
        """Every file that decides the sample's content: images first, then label files."""
        yield from self._paths(source)
        yield from (self.root / name for name in source.masks)

    def _paths(self, source: Source) -> tuple[Path, ...]:
        return tuple(self.root / name for name in source.images)

    def is_picture(self, source: Source) -> bool:
        """Whether a sample is an 8-bit picture: CT by its suffix, everything else always."""
        return self.data.modality != "ct" or source.images[0].lower().endswith(PICTURES)

    def _picture(self, path: Path) -> LoadedImage:
        settings, modality = self.preprocess, self.data.modality
        return read_colour(
            path,
            modality=modality,
            size=settings.size,
            fit=settings.fit,
            crop=settings.crop,
            restrict_to_field=settings.region,
            exclude_overlay=settings.region and modality == "endoscopy",
        )

    def _label(self, source: Source, image: LoadedImage) -> tuple[Any, list[str]]:
        label = source.label
        if source.masks:
            files, label_map = [self.root / name for name in source.masks], self.data.label_map
            return read_mask(
                files,
                image,
                label_map,
                multilabel=self.overlapping and (label_map is not None or len(files) > 1),
                threshold=self.data.threshold,
                white=label.get("white"),
                ignore=label.get("ignore"),
                voxels=self.data.mask_geometry == "voxels",
            )
        if isinstance(label, dict) and "segments" in label:
            assert image.placement is not None
            drawn = draw_segments(label, image.placement.source_size, multilabel=self.overlapping)
            return image.placement.mask(drawn), []
        if isinstance(label, dict):
            return self._boxes(label, image)
        return label, []

    def _boxes(self, label: dict[str, Any], image: LoadedImage) -> tuple[Boxes, list[str]]:
        """Boxes on the stored grid; those that a crop cut away are dropped and named in a warning."""
        assert image.placement is not None
        if "relative" in label:
            height, width = image.placement.source_size
            rows = np.asarray(label["relative"], np.float64).reshape(-1, 5)
            centre, half = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height) / 2
            raw, classes = np.concatenate([centre - half, centre + half], 1), rows[:, 0].astype(np.int64)
        else:
            raw, classes = np.asarray(label["boxes"], np.float64).reshape(-1, 4), np.asarray(label["classes"], np.int64)
        boxes, kept = image.placement.boxes(raw.astype(np.float32))
        lost = len(raw) - len(boxes)
        return Boxes.of(boxes, classes[kept]), [f"{lost} boxes lie outside the stored image"] if lost else []


def _check_size(stated: tuple[int, int] | None, upright: tuple[int, int], stored: tuple[int, int]) -> None:
    """Hold (height, width) that a label file states against the picture. Raises InputError."""
    if stated is None or stated == upright:
        return
    if stated == upright[::-1] and stated == stored:
        raise InputError("size-differs", "The label file has width and height exchanged: it was made without heed of the EXIF orientation.")
    raise InputError("size-differs", "The label file states another width and height than the picture has.")


@lru_cache(maxsize=4096)
def _inspect(
    paths: tuple[Path, ...], spacing: tuple[float, float, float] | None, orientation: str | None, whole: bool
) -> tuple[int, int, int]:
    """Shape (x, y, z); the slices of one volume ask for it once."""
    if whole or is_nifti(paths[0]) or spacing is not None or orientation is not None:
        return inspect_ct(paths, spacing=spacing, orientation=orientation).shape
    # Slices of a series need no even spacing, which inspect_ct would ask for: the first slice speaks for its plane.
    _, x, y = read_ct_slice(paths, 0).image.shape
    return x, y, 1


def _spacing(image: LoadedImage) -> tuple[float, ...] | None:
    """Voxel spacing in mm along the stored axes, None for photographs."""
    if image.affine is None:
        return None
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    return tuple(float(v) for v in lengths[: image.image.ndim - 1])


def stacked_regions(samples: Sequence[Sample]) -> npt.NDArray[np.bool_] | None:
    """(n, 1, *spatial) bool, where each sample may be perturbed; None where all may be everywhere."""
    if all(s.region is None for s in samples):
        return None
    return np.stack([np.ones(s.image.shape[1:], bool) if s.region is None else s.region for s in samples])[:, None]
