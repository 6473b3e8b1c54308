"""The frozen plan as values."""

import json
from dataclasses import asdict, dataclass

from medadv.common.hashing import canonical_json, hash_value
from medadv.common.record import plain
from medadv.datasets.source import Source
from medadv.plan.plan_settings import PlanSettings

MEANING_VERSION = 4
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

    def line(self) -> bytes:
        """Its line of the frozen plan, without the end of the line."""
        return canonical_json(asdict(self))

    @classmethod
    def of_line(cls, line: str | bytes) -> "PlannedShard":
        """The inverse of `line`. ValueError, KeyError or TypeError where a line is none."""
        data = json.loads(line)
        samples = tuple(
            PlannedSample(s["id"], s["group"], s["label_sha256"], Source.from_dict(s["source"])) for s in data["samples"]
        )
        return cls(data["index"], tuple(data["shape"]), samples, data["batch_size"])

    @property
    def digest(self) -> str:
        """Hash of the shard's public part."""
        return hash_value([self.index, list(self.shape), self.batch_size, [s.public for s in self.samples]])


def plan_hash(settings: PlanSettings, digests: list[str]) -> str:
    """The plan's identity: resolved settings and the shards' public parts."""
    return hash_value({"settings": plain(settings), "shards": digests})
