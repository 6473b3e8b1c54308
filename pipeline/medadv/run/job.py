"""What is a worker asked for, and what does it answer? One shard, and whose run it belongs to; what was made, or what kills."""

from dataclasses import dataclass

from medadv.corpus.folder import shard_name
from medadv.plan.model import PlannedShard
from medadv.run import journal


class NotWantedError(Exception):
    """The run that asked for this shard stops, or lost the corpus to another run."""


class SuspectedError(Exception):
    """So many workers died on this shard that its samples are to be looked at one by one."""

    def __init__(self, name: str, deaths: int) -> None:
        super().__init__(name, deaths)
        self.deaths = deaths


@dataclass(frozen=True)
class Job:
    """One shard to make. `lock` and `token` tell whether the run that asks still holds the corpus."""

    corpus: str
    generation: int
    shard: PlannedShard
    trust_code: bool
    lock: str
    token: str
    excluded: tuple[str, ...] = ()
    tolerated: int = journal.TOLERATED
    """How many workers may die on the shard before it is suspected."""
    diary: str = ""
    """Under what the deaths are counted: the run's token unless set."""

    @property
    def name(self) -> str:
        """Name of the shard."""
        return shard_name(self.shard.index)


@dataclass(frozen=True)
class ShardMade:
    """A shard is committed: what the run shows of it.

    attackable, success: by attack, samples that could be attacked, and successes among them.
    """

    shard: str
    samples: int
    quarantined: int
    attackable: dict[str, int]
    success: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """A shard's samples were tried one by one. poison: ids of those that kill a worker alone."""

    poison: tuple[str, ...]
