"""The shards of a corpus at an address: each fetched into the cache when it is first read, and the next ones ahead of that."""

import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medadv.common.cache import Lease
from medadv.common.errors import IntegrityError, MedadvError
from medadv.common.hashing import FileIdentity
from medadv.corpus.manifest import ShardEntry
from medadv.corpus.opening import promise_of
from medadv.corpus.remote import RemoteCorpus
from medadv.store.examine import examined
from medadv.store.reader import close_file
from medadv.training.held import HeldShards

AHEAD = 2
"""Shards that a process fetches before they are asked for."""
STRIDE = 16
"""So many shards further on is still the next one: several workers take turns."""
SHARE = 32
"""A process keeps open what is at most one part in so many of the cache, so that others find room; one shard in any case."""

_bookkeeping = threading.Lock()
os.register_at_fork(before=_bookkeeping.acquire, after_in_parent=_bookkeeping.release, after_in_child=_bookkeeping.release)


class RemoteShards(HeldShards):
    """As those of a folder, with a cache in between that many processes share.

    Which shards are next is known where a process goes through them in order, or where the cache holds the whole corpus; a random order in
    a smaller cache is fetched as it comes.
    """

    def __init__(self, corpus: RemoteCorpus, *, check: bool = True) -> None:
        """corpus: opened.  check: as for HeldShards."""
        super().__init__(corpus.root, corpus.manifest, check=check, place=corpus.path)
        self.corpus = corpus
        there, self.examined = self.examined, {}
        self.order = {path: number for number, path in enumerate(self.paths)}
        self.all_fit = sum(entry.bytes for entry in self.entries.values()) <= corpus.cache.limit
        self._start()
        if check:
            self._examine(there)

    def _start(self) -> None:
        """What belongs to one process."""
        self.process, self.last, self.forward = os.getpid(), -1, 0
        self.open_ones: dict[Path, int] = {}
        self.alive: weakref.WeakValueDictionary[Path, Any] = weakref.WeakValueDictionary()
        self.ahead: _Ahead | None = None

    def __getstate__(self) -> dict[str, object]:
        state = dict(self.__dict__)
        for own in ("alive", "ahead"):
            del state[own]
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    def _examine(self, there: dict[Path, FileIdentity]) -> None:
        """Have what is there already looked at now, as in a folder, so that no worker need do it.

        there: what each file was when it was looked for; another process may make room in this moment, and it is gone.
        """
        cache, entries = self.corpus.cache, self.entries
        found = {path: what for path, what in there.items() if cache.holds(entries[path].sha256, entries[path].bytes)}
        promises = [(path, promise_of(self.corpus.manifest, self.entries[path])) for path in found]
        for (path, _), verdict in zip(promises, examined(promises), strict=True):
            if verdict is not None:
                raise IntegrityError(f"{self._shown(path)}: {verdict}; see `medadv verify`")
            self.examined[path] = found[path]

    def _shown(self, path: Path) -> str:
        return self.corpus.address.shown(self.entries[path].path)

    def open(self, path: Path) -> Any:
        """A shard's open file, fetched where it is not there.

        Raises FetchError where it does not come, IntegrityError where other bytes come than the manifest lists, or no shard.
        """
        if self.process != os.getpid():
            self._start()
        kept = self.alive.get(path)
        lease = None if kept is not None else self._lease(path)
        try:
            file = super().open(path)
        except IntegrityError as error:
            raise IntegrityError(str(error).replace(str(path), self._shown(path))) from None
        if file is not kept:
            # As long as anybody holds the file, nobody removes it.
            weakref.finalize(file, (lease or self._lease(path)).close)
            with _bookkeeping:
                self.alive[path] = file
                self._close_others(path)
            self._look_ahead(path)
        return file

    def _lease(self, path: Path) -> Lease:
        entry = self.entries[path]
        with _bookkeeping:
            if not path.exists():
                # Room may be needed that only this process can give.
                self._close_others(path)
        return self.corpus.cache.lease(entry.sha256, entry.bytes, self.corpus.fill(entry))

    def _close_others(self, path: Path) -> None:
        """Close what was opened longest ago, down to this process's share of the cache."""
        self.open_ones.pop(path, None)
        self.open_ones[path] = self.entries[path].bytes
        while len(self.open_ones) > 1 and sum(self.open_ones.values()) > self.corpus.cache.limit // SHARE:
            oldest = next(iter(self.open_ones))
            del self.open_ones[oldest]
            close_file(oldest)

    def _look_ahead(self, path: Path) -> None:
        number, before, self.last = self.order[path], self.last, self.order[path]
        self.forward = self.forward + 1 if 0 < number - before <= STRIDE else 0
        if self.all_fit or self.forward > 1 or before < 0 == number:
            if self.ahead is None:
                self.ahead = _Ahead(self.corpus)
            self.ahead.ask(self._next(number))

    def _next(self, number: int) -> list[ShardEntry]:
        def missing() -> Iterator[ShardEntry]:
            after = self.paths[number + 1 :] + (self.paths[:number] if self.all_fit else [])
            for path in after:
                if not path.exists():
                    yield self.entries[path]

        return [entry for entry, _ in zip(missing(), range(AHEAD), strict=False)]


class _Ahead:
    """A thread of this process that fetches what will be wanted."""

    def __init__(self, corpus: RemoteCorpus) -> None:
        self.corpus, self.wanted, self.changed = corpus, list[ShardEntry](), threading.Condition()
        threading.Thread(target=self._work, name="medadv-ahead", daemon=True).start()

    def ask(self, entries: list[ShardEntry]) -> None:
        """From now on these, in this order."""
        with self.changed:
            self.wanted = entries
            self.changed.notify()

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.wanted)
                entry = self.wanted.pop(0)
            try:
                self.corpus.cache.prefetch(entry.sha256, entry.bytes, self.corpus.fill(entry))
            except MedadvError:
                # It is met again, and told, by who reads the shard.
                continue
