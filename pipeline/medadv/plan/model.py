"""The frozen plan as values."""

from dataclasses import asdict, dataclass
from typing import Any

from medadv.datasets.source import Source
from medadv.hashing import hash_value

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

    def as_dict(self) -> dict[str, Any]:
        """One line of the plan."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PlannedShard":
        """The inverse of `as_dict`."""
        samples = tuple(
            PlannedSample(s["id"], s["group"], s["label_sha256"], Source.from_dict(s["source"])) for s in data["samples"]
        )
        return cls(data["index"], tuple(data["shape"]), samples, data["batch_size"])

    @property
    def digest(self) -> str:
        """Hash of the shard's public part."""
        return hash_value([self.index, list(self.shape), self.batch_size, [s.public for s in self.samples]])


def plan_hash(settings: dict[str, Any], digests: list[str]) -> str:
    """The plan's identity: resolved settings and the shards' public parts."""
    return hash_value({"settings": settings, "shards": digests})
