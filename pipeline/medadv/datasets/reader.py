"""From a source to stored units: the one place that chooses a reader, so that planning, runs and reproduction read alike."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medadv.datasets.labels import Boxes
from medadv.datasets.opened import OpenSource, OpenSources
from medadv.datasets.sample import Sample, Shape, spacing_of
from medadv.datasets.source import Source
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv_transforms import (
    InputError,
    LoadedImage,
    inspect_ct,
    read_colour,
    read_ct_volume,
    read_mask,
)
from medadv_transforms.colour import PICTURE_RULES
from medadv_transforms.nifti import is_nifti
from medadv_transforms.picture import opened

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Reader:
    """Reads the samples of one data set."""

    root: Path
    data: DataSettings
    preprocess: PreprocessSettings
    overlapping: bool = False
    """Masks of a sigmoid head: with a label_map, one per class, which may overlap."""
    _sources: OpenSources = field(init=False, repr=False, compare=False)
    """What slices share, for as long as the reader lives."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sources", OpenSources(self.root))

    def expand(self, source: Source) -> list[Source]:
        """A volume that is to be read as slices becomes its slices; anything else stays. Raises InputError."""
        if source.index is not None:
            return [source]
        shared = self.opened(source)
        return [source] if shared is None else [replace(source, index=i) for i in range(len(shared.slices))]

    def opened(self, source: Source) -> OpenSource | None:
        """What a source that is read as slices keeps for all of them; None for one that is a single sample."""
        if self._is_picture(source) or (source.index is None and self.preprocess.as_ != "slices"):
            return None
        return self._sources.get(source)

    def look_again(self) -> None:
        """Have the files of open sources looked at once more: something may have changed them."""
        self._sources.look_again()

    def inspect(self, source: Source) -> Shape:
        """Shape and unit from headers alone, the same for all slices of a source. Raises InputError."""
        if self._is_picture(source):
            with opened(self._paths(source)[0]) as (_, header):
                size = header.upright_size
            return Shape((PICTURE_RULES[self.data.modality].channels, *(self.preprocess.size or size)), "level8", "yx")
        if self.preprocess.size is not None:
            raise InputError("wrong-unit", "preprocess.size resizes 8-bit images; CT in HU keeps its grid, or takes preprocess.spacing.")
        shape = self._shape(source)
        return Shape((1, *(shape if source.index is None else shape[:2])), "hu", "xyz" if source.index is None else "xy")

    def _shape(self, source: Source) -> tuple[int, ...]:
        paths = self._paths(source)
        if source.index is None or is_nifti(paths[0]):
            return inspect_ct(paths, spacing=self.preprocess.spacing, orientation=self.preprocess.orientation).shape
        # Slices of a series need no even spacing, which inspect_ct would ask for: the first slice speaks for its plane.
        shared = self.opened(source)
        assert shared is not None
        return shared.image(0).image.shape[1:]

    def read(self, source: Source) -> Sample:
        """Decode, preprocess and bring the label onto the stored grid. Raises InputError; OSError where a disk fails."""
        shared = None if source.index is None else self.opened(source)
        image = self._image(source) if shared is None else self._slice(source, shared)
        facts = dict(image.facts)
        label, notes = self._label(source, image, shared)
        if notes:
            facts["label_warnings"] = notes
        if image.placement is not None:
            facts["placement"] = image.placement.as_dict()
        return Sample(image.image, image.unit, image.spatial_axes, label, image.affine, spacing_of(image), image.region, facts)

    def _image(self, source: Source) -> LoadedImage:
        paths = self._paths(source)
        if not all(path.is_file() for path in paths):
            raise InputError("changed-input")
        if self._is_picture(source):
            return self._picture(paths[0])
        return read_ct_volume(paths, spacing=self.preprocess.spacing, orientation=self.preprocess.orientation)

    def _slice(self, source: Source, shared: OpenSource) -> LoadedImage:
        assert source.index is not None
        if not shared.there:
            raise InputError("changed-input")
        return shared.image(source.index)

    def files(self, source: Source) -> Iterator[Path]:
        """Every file that decides the sample's content: images first, then label files."""
        yield from self._paths(source)
        yield from (self.root / name for name in source.masks)

    def _paths(self, source: Source) -> tuple[Path, ...]:
        return tuple(self.root / name for name in source.images)

    def _is_picture(self, source: Source) -> bool:
        return Path(source.images[0]).suffix.lower() in PICTURES

    def _picture(self, path: Path) -> LoadedImage:
        settings, modality = self.preprocess, self.data.modality
        return read_colour(
            path,
            modality=modality,
            size=settings.size,
            fit=settings.fit,
            crop=settings.crop,
            restrict_to_field=settings.region,
            exclude_overlay=settings.region and PICTURE_RULES[modality].find_overlay is not None,
        )

    def _label(self, source: Source, image: LoadedImage, shared: OpenSource | None) -> tuple[Any, list[str]]:
        label = source.label
        if source.masks:
            label_map = self.data.label_map
            multilabel = self.overlapping and label_map is not None
            if shared is not None:
                return shared.mask(image, label_map, multilabel).onto(image)
            return read_mask([self.root / name for name in source.masks], image, label_map, multilabel=multilabel)
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
