"""What a run shows while it works: rate, time left, success, quarantine; and the same in the structured log."""

import time
from collections import Counter
from dataclasses import asdict

from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.run.job import ShardMade

TICK_EVERY_S = 5.0


class Watch:
    """Counts what is made. shards, samples: how many there are to make."""

    def __init__(self, progress: Progress, log: Log, shards: int, samples: int) -> None:
        self.progress, self.log = progress, log
        self.shards, self.samples = shards, samples
        self.done = self.made_samples = self.quarantined = 0
        self.attackable: Counter[str] = Counter()
        self.success: Counter[str] = Counter()
        self.began = self.ticked = time.monotonic()

    def message(self, text: str) -> None:
        """A line of its own."""
        self.log("message", text=text)
        self.progress.message(text)

    def made(self, shard: ShardMade) -> None:
        """A shard is committed."""
        self.done += 1
        self.made_samples += shard.samples
        self.quarantined += shard.quarantined
        self.attackable.update(shard.attackable)
        self.success.update(shard.success)
        self.log("shard", **asdict(shard))
        self.progress("shards", self.done, self.shards, self.text())

    def tick(self) -> None:
        """Time passes."""
        if time.monotonic() - self.ticked > TICK_EVERY_S:
            self.ticked = time.monotonic()
            self.progress("shards", self.done, self.shards, self.text())

    def text(self) -> str:
        """`3.2 samples/s, 0:04:10 left, success pgd-4 93%, 1 quarantined`"""
        handled = self.made_samples + self.quarantined
        if not handled:
            return ""
        rate = handled / max(1e-9, time.monotonic() - self.began)
        left = round((self.samples - handled) / rate)
        parts = [f"{rate:.3g} samples/s", f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"]
        if rates := [f"{name} {self.success[name] / able:.0%}" for name, able in sorted(self.attackable.items()) if able]:
            parts.append(f"success {', '.join(rates)}")
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        return ", ".join(parts)
