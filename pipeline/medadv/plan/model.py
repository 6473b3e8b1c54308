"""The frozen plan as values."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medadv.common.hashing import canonical_json, hash_value
from medadv.common.record import plain
from medadv.datasets.source import Source
from medadv.plan.plan_settings import PlanSettings

MEANING_VERSION = 5
"""Raised whenever the same settings would give other bits, so that old shards are never taken for new ones."""

MAX_SHARD_VALUES = 1 << 26
"""Values (voxels times channels) that a shard holds at most: a CT volume is usually a shard of its own."""


@dataclass(frozen=True)
class PlannedSample:
    """One place in a batch. `source` is private; the rest may be published."""

    id: str
    group: str
    label_sha256: str
    source: Source

    @property
    def public(self) -> list[str]:
        """What the plan's hash covers: content, not paths, and no group, which depends on a secret key."""
        return [self.id, self.label_sha256]


def image_lists(samples: Iterable[PlannedSample]) -> dict[int, tuple[str, ...]]:
    """The lists of image files, each once, by the identity of the tuple: whatever is done for each list is not done for each slice."""
    return {id(sample.source.images): sample.source.images for sample in samples}


@dataclass(frozen=True)
class PlannedShard:
    """The samples of one file and how they go through the victim together."""

    index: int
    shape: tuple[int, ...]
    samples: tuple[PlannedSample, ...]
    batch_size: int

    @property
    def batches(self) -> list[tuple[PlannedSample, ...]]:
        """Consecutive samples, `batch_size` at a time."""
        return [self.samples[i : i + self.batch_size] for i in range(0, len(self.samples), self.batch_size)]

    @property
    def series(self) -> list[tuple[str, ...]]:
        """The lists of files that its slices come from, each once: hundreds of slices share a list of hundreds of files."""
        return list(image_lists(s for s in self.samples if s.source.index is not None and len(s.source.images) > 1).values())

    @property
    def files(self) -> set[str]:
        """Every image and label file, relative to the data root."""
        lists = image_lists(self.samples).values()
        return {name for images in lists for name in images} | {name for s in self.samples for name in s.source.masks}

    def line(self) -> bytes:
        """Its line of the frozen plan, without the end of the line. A slice names its series by its place in `series`."""
        places = {id(images): place for place, images in enumerate(self.series)}
        samples = [
            {
                "id": s.id,
                "group": s.group,
                "label_sha256": s.label_sha256,
                "source": {**s.source.as_dict(), "images": places.get(id(s.source.images), s.source.images)},
            }
            for s in self.samples
        ]
        line = {"index": self.index, "shape": self.shape, "samples": samples, "batch_size": self.batch_size}
        return canonical_json({**line, "series": self.series} if places else line)

    @classmethod
    def of_line(cls, line: str | bytes, before: Sequence[tuple[str, ...]] = ()) -> "PlannedShard":
        """The inverse of `line`. before: the `series` of the line before, which are shared where they go on.

        Raises ValueError, KeyError, IndexError or TypeError where a line is none.
        """
        data = json.loads(line)
        series = [next((known for known in before if known == names), names) for names in map(tuple, data.get("series", ()))]

        def source(values: dict[str, Any]) -> Source:
            images = values["images"]
            return Source.from_dict({**values, "images": series[images] if isinstance(images, int) else images})

        samples = tuple(PlannedSample(s["id"], s["group"], s["label_sha256"], source(s["source"])) for s in data["samples"])
        return cls(data["index"], tuple(data["shape"]), samples, data["batch_size"])

    @property
    def digest(self) -> str:
        """Hash of the shard's public part."""
        return hash_value([self.index, list(self.shape), self.batch_size, [s.public for s in self.samples]])


def plan_hash(settings: PlanSettings, digests: list[str]) -> str:
    """The plan's identity: resolved settings and the shards' public parts."""
    return hash_value({"settings": plain(settings), "shards": digests})
