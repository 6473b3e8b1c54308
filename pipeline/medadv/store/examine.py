"""May a file be handed to HDF5? Each is first opened by a process of its own, with limits of time and memory.

A few damaged bytes make HDF5 spin for ever, crash, or ask for all memory there is. `python -m medadv.store.examine` answers questions, one
JSON object a line, and forks a child for each file, which walks its structure as `hold` does and looks at every chunk's place.
"""

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py

from medadv.common.hashing import FileIdentity, file_identity
from medadv.store import codecs as codecs
from medadv.store.hold import Promise, ShardError, hold

SECONDS = 20.0
BYTES_A_SECOND = 50_000_000
"""A larger file has more chunks to look at; each second beyond the first ones stands for so much of it."""
MEMORY = 2 << 30
AT_ONCE = 4
ANSWER = 4096

Verdict = str | None
"""Why a file is not opened; None where it may be."""


def examined(files: Iterable[tuple[Path, Promise | None]]) -> list[Verdict]:
    """A verdict for each file, and what it should hold where that is known; several are looked at at a time.

    A file that this process has looked at already is known by path, inode, size and time of the last change. One that is not there has no
    verdict: who opens it will see.
    """
    asked = [(path, _identity(path), promise) for path, promise in files]
    with _asking:
        new = {place: None for place in asked if place[1] is not None and _remembered(place) is None}
        verdicts = _service.ask([(path, promise) for path, _, promise in new]) if new else []
        for (path, identity, promise), verdict in zip(new, verdicts, strict=True):
            if verdict is not None and _identity(path) is None:
                continue  # It went while it was looked at, as from a cache: nothing is wrong with it, nor with what may come in its place.
            _known.setdefault((path, identity), {})[promise] = verdict
        return [(_remembered(place) or (None,))[0] for place in asked]


def _remembered(place: tuple[Path, FileIdentity | None, Promise | None]) -> tuple[Verdict] | None:
    """What is known of a file: one that holds what it should by one record is a shard for who has none."""
    path, identity, promise = place
    known = _known.get((path, identity), {})
    if promise is None and known:
        return (None,) if None in known.values() else (next(iter(known.values())),)
    return (known[promise],) if promise in known else None


def examine(path: Path) -> None:
    """Raise ShardError where the file at a path must not be opened."""
    (verdict,) = examined([(path, None)])
    if verdict is not None:
        raise ShardError(f"{path}: {verdict}")


def _identity(path: Path) -> FileIdentity | None:
    try:
        return file_identity(path)
    except OSError:
        return None


class _Service:
    """The process that forks the children, started when it is first asked, and again where it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.owner = os.getpid()

    def ask(self, files: Sequence[tuple[Path, Promise | None]]) -> list[Verdict]:
        """Verdicts in the order of the files."""
        asked = [(os.fsencode(path.absolute()).hex(), None if promise is None else asdict(promise)) for path, promise in files]
        question = json.dumps({"files": asked, "seconds": SECONDS, "memory": MEMORY})
        for _ in range(2):
            process = self._running()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(question + "\n")
                process.stdin.flush()
                if answer := process.stdout.readline():
                    return [None if verdict is None else str(verdict) for verdict in json.loads(answer)]
            except (OSError, ValueError):
                pass
            self.close()
        return ["the process that looks at shards before they are opened was killed; see that there is memory enough"] * len(files)

    def _running(self) -> "subprocess.Popen[str]":
        if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
            # One that was killed between two questions leaves its pipes.
            self.close()
            self.owner = os.getpid()
            # In its own session: Ctrl-C is for the one who asks, whose end it notices.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "medadv.store.examine"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
            )
        return self.process

    def close(self) -> None:
        """End the process; a forked child leaves that of its parent alone."""
        process, self.process = self.process, None
        if process is not None and self.owner == os.getpid():
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert stream is not None
                    stream.close()
            process.kill()
            process.wait()


_known: dict[tuple[Path, FileIdentity | None], dict[Promise | None, Verdict]] = {}
_asking = threading.RLock()
_service = _Service()


def _after_fork() -> None:
    """A forked child starts a service of its own, and closes its ends of the parent's pipes, so that the parent's can end."""
    global _service
    _asking.release()
    process = _service.process
    for stream in (process.stdin, process.stdout) if process is not None else ():
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    if process is not None:
        process.returncode = 0  # not a child of this process: nothing to wait for
    _service = _Service()


os.register_at_fork(before=_asking.acquire, after_in_parent=_asking.release, after_in_child=_after_fork)
atexit.register(lambda: _service.close())


def look(path: Path, promise: Promise | None) -> None:
    """Walk a file's structure and the places of its chunks. Raises ShardError.

    It may also never end, or crash: that is what children are for.
    """
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise ShardError("HDF5 cannot open it") from None
    with file:
        arrays = hold(file, promise)
        size = path.stat().st_size

        def inside(chunk: Any) -> None:
            if chunk.byte_offset is not None and not 0 <= chunk.byte_offset <= chunk.byte_offset + chunk.size <= size:
                raise ShardError("a chunk lies outside the file")

        try:
            for item in arrays.values():
                if item.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
                    item.chunk_iter(inside)
                if h5py.h5a.get_num_attrs(item):
                    dict(h5py.Dataset(item).attrs)
            for group in (file, *(file[f"attacks/{name}"] for name in file.get("attacks", ()))):
                dict(group.attrs)
        except ShardError:
            raise
        except Exception as error:
            raise ShardError(f"its structure cannot be read ({type(error).__name__})") from None


def _child(path: Path, promise: Promise | None, memory: int, pipe: int) -> None:
    """What the forked child does; never returns."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        look(path, promise)
        answer: Verdict = None
    except ShardError as error:
        answer = str(error)
    except MemoryError:
        answer = "looking at its structure takes too much memory"
    except BaseException as error:
        answer = f"its structure cannot be read ({type(error).__name__})"
    os.write(pipe, json.dumps([answer[:500] if answer else None]).encode()[:ANSWER])
    os._exit(0)


class _Looking:
    """One child at work."""

    def __init__(self, number: int, path: Path, promise: Promise | None, seconds: float, memory: int) -> None:
        self.number, self.seconds = number, seconds
        with contextlib.suppress(OSError):
            self.seconds += path.stat().st_size / BYTES_A_SECOND
        self.end = time.monotonic() + self.seconds
        self.pipe, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _child(path, promise, memory, theirs)
        os.close(theirs)

    def verdict(self, ready: bool) -> Verdict:
        """After it answered or died (`ready`), or its time was over."""
        answer = os.read(self.pipe, ANSWER) if ready else b""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pipe)
        if answer:
            return json.loads(answer)[0]
        return "HDF5 crashes on it" if ready else f"HDF5 was not done with its structure after {self.seconds:.0f} s"


def _answers(files: Sequence[tuple[Path, Promise | None]], seconds: float, memory: int) -> list[Verdict]:
    waiting = list(enumerate(files))[::-1]
    running: dict[int, _Looking] = {}
    found: list[Verdict] = [None] * len(files)
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, (path, promise) = waiting.pop()
            looking = _Looking(number, path, promise, seconds, memory)
            running[looking.pipe] = looking
        left = min(looking.end for looking in running.values()) - time.monotonic()
        ready, _, _ = select.select(list(running), [], [], max(0.0, left))
        now = time.monotonic()
        for pipe in [pipe for pipe, looking in running.items() if pipe in ready or looking.end <= now]:
            looking = running.pop(pipe)
            found[looking.number] = looking.verdict(pipe in ready)
    return found


def main() -> None:
    """Answer questions on standard input until it ends."""
    for line in sys.stdin:
        question = json.loads(line)
        files = [(Path(os.fsdecode(bytes.fromhex(path))), _promise(promise)) for path, promise in question["files"]]
        print(json.dumps(_answers(files, question["seconds"], question["memory"])), flush=True)


def _promise(said: dict[str, Any] | None) -> Promise | None:
    return None if said is None else Promise(**{**said, "attacks": tuple(said["attacks"])})


if __name__ == "__main__":
    main()
