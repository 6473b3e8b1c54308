"""Which reader turns a source into stored units? The one place that chooses, so that planning, runs and reproduction read alike.

Pictures, by suffix, go to `read_colour` (medadv_transforms/colour.py). Everything else is CT: `read_ct_volume` (ct.py) takes NIfTI by its
name to nifti.py, which unpacks no more than the header promises, and DICOM to series.py; slices share what is opened (datasets/opened.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medadv.datasets.coco import draw_segments
from medadv.datasets.labels import Boxes
from medadv.datasets.mirrored import mirrored
from medadv.datasets.opened import OpenSource, OpenSources
from medadv.datasets.sample import Sample, Shape, spacing_of
from medadv.datasets.source import Source
from medadv.datasets.space_boxes import onto_grid
from medadv.datasets.trees import PICTURES
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.modality import MODALITIES
from medadv_transforms import (
    InputError,
    LoadedImage,
    inspect_ct,
    open_slices,
    read_colour,
    read_ct_volume,
    read_mask,
)
from medadv_transforms.colour import PICTURE_RULES
from medadv_transforms.hounsfield import UNSTATED
from medadv_transforms.nifti import is_nifti
from medadv_transforms.picture import opened
from medadv_transforms.placement import Placement


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
        settings = self.preprocess
        how = partial(open_slices, spacing=settings.spacing, orientation=settings.orientation, offset=self.data.offset)
        object.__setattr__(self, "_sources", OpenSources(self.root, how))

    def expand(self, source: Source) -> list[Source]:
        """A volume that is to be read as slices becomes its slices; anything else stays. CT that states no unit raises InputError."""
        if self.is_picture(source) or source.index is not None:
            return [source]
        shared = self.opened(source)
        parts = [source] if shared is None else [replace(source, index=i) for i in range(len(shared.slices))]
        if self.data.offset is None and not (open_slices(self._paths(source)) if shared is None else shared.slices).says_hu():
            raise InputError("not-hu", UNSTATED)
        return parts

    def opened(self, source: Source) -> OpenSource | None:
        """What a source that is read as slices keeps for all of them; None for one that is a single sample."""
        if self.is_picture(source) or (source.index is None and self.preprocess.as_ != "slices"):
            return None
        return self._sources.get(source)

    def drop(self, source: Source) -> None:
        """Close an open source: what was read of it is not what it was taken for."""
        self._sources.drop(source)

    def look_again(self) -> None:
        """Have the files of open sources looked at once more: something may have changed them."""
        self._sources.look_again()

    def inspect(self, source: Source) -> Shape:
        """Shape and unit from headers alone, the same for all slices of a source. Raises InputError."""
        if self.is_picture(source):
            with opened(self._paths(source)[0]) as (_, header):
                size = header.upright_size
                _check_size(source.size, size, header.size)
            return Shape((PICTURE_RULES[self.data.modality].channels, *(self.preprocess.size or size)), "level8", "yx")
        if self.preprocess.size is not None:
            raise InputError("wrong-unit", "preprocess.size resizes 8-bit images; CT in HU keeps its grid, or takes preprocess.spacing.")
        shape = self._shape(source)
        return Shape((1, *(shape if source.index is None else shape[:2])), "hu", "xyz" if source.index is None else "xy")

    def _shape(self, source: Source) -> tuple[int, ...]:
        settings = self.preprocess
        if source.index is None:
            return inspect_ct(self._paths(source), spacing=settings.spacing, orientation=settings.orientation).shape
        shared = self.opened(source)
        assert shared is not None
        if is_nifti(self._paths(source)[0]) or settings.spacing is not None or settings.orientation is not None:
            return shared.slices.shape
        # Its header may say more than its pixels hold: the first slice speaks for its plane.
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
        if source.strata:
            facts["strata"] = dict(source.strata)
        sample = Sample(image.image, image.unit, image.spatial_axes, label, image.affine, spacing_of(image), image.region, facts)
        return mirrored(sample, source.mirror)

    def _image(self, source: Source) -> LoadedImage:
        paths = self._paths(source)
        if not all(path.is_file() for path in paths):
            raise InputError("changed-input")
        if self.is_picture(source):
            return self._picture(paths[0])
        settings = self.preprocess
        return read_ct_volume(paths, spacing=settings.spacing, orientation=settings.orientation, offset=self.data.offset)

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

    def is_picture(self, source: Source) -> bool:
        """Whether a sample is an 8-bit picture: CT by its suffix, everything else always."""
        return not MODALITIES[self.data.modality].in_space or source.images[0].lower().endswith(PICTURES)

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
            files = [self.root / name for name in source.masks]
            multilabel = self.overlapping and (label_map is not None or len(files) > 1)
            ignore, voxels = label.get("ignore"), self.data.mask_geometry == "voxels"
            if shared is not None:
                return shared.mask(image, label_map, multilabel=multilabel, ignore=ignore, voxels=voxels).onto(image)
            threshold, white = self.data.threshold, label.get("white")
            return read_mask(
                files, image, label_map, multilabel=multilabel, ignore=ignore, voxels=voxels, threshold=threshold, white=white
            )
        if isinstance(label, dict) and "segments" in label:
            placement = _placement(image)
            drawn = draw_segments(label, placement.source_size, multilabel=self.overlapping)
            return placement.mask(drawn), []
        if isinstance(label, dict) and "world" in label:
            return onto_grid(label, image)
        if isinstance(label, dict):
            return self._boxes(label, image)
        return label, []

    def _boxes(self, label: dict[str, Any], image: LoadedImage) -> tuple[Boxes, list[str]]:
        """Boxes on the stored grid; those that a crop cut away are dropped and named in a warning."""
        placement = _placement(image)
        if "relative" in label:
            height, width = placement.source_size
            rows = np.asarray(label["relative"], np.float64).reshape(-1, 5)
            centre, half = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height) / 2
            raw, classes = np.concatenate([centre - half, centre + half], 1), rows[:, 0].astype(np.int64)
        else:
            raw, classes = np.asarray(label["boxes"], np.float64).reshape(-1, 4), np.asarray(label["classes"], np.int64)
        boxes, kept = placement.boxes(raw.astype(np.float32))
        lost = len(raw) - len(boxes)
        return Boxes.of(boxes, classes[kept]), [f"{lost} boxes lie outside the stored image"] if lost else []


def _placement(image: LoadedImage) -> Placement:
    """Where a picture's pixels went.  Raises InputError where it is none, so that nothing drawn in pixels lies on it."""
    if image.placement is None:
        raise InputError("unsupported-format", "Boxes and outlines in pixels need pictures; boxes of volumes take layout decathlon.")
    return image.placement


def _check_size(stated: tuple[int, int] | None, upright: tuple[int, int], stored: tuple[int, int]) -> None:
    """Hold (height, width) that a label file states against the picture. Raises InputError."""
    if stated is None or stated == upright:
        return
    if stated == upright[::-1] and stated == stored:
        raise InputError("size-differs", "The label file has width and height exchanged: it was made without heed of the EXIF orientation.")
    raise InputError("size-differs", "The label file states another width and height than the picture has.")
