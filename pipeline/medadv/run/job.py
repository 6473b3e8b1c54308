"""What is a worker asked for? One shard, and whose run it belongs to."""

from dataclasses import dataclass
from typing import Any

from medadv.corpus.folder import shard_name
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
    shard: dict[str, Any]
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
        return shard_name(self.shard["index"])
