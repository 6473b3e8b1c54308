"""A holder that is stopped in the middle, loses its lock to a run that thinks it dead, and then goes on. Run by test_late_holder.py.

    python -m tests.run.late_holder SOURCE FOLDER finish:EVERY forget:EVERY

SOURCE holds a corpus with its inputs and spec. The holder is a forked process; it is stopped before its first file operation after the
beginning of what is tried, in a fresh copy before its second (EVERY: 1) or a later one, and so on until it ends by itself. Prints a
JSON line a stop.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import torch
from tests.conftest import InlinePool

from medadv.common.errors import MedadvError
from medadv.common.progress import SILENT
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run import cluster, forget, run
from medadv.run.holder import STALE_S

CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")


class Inline(InlinePool):
    """Shards made in this process, as a context."""

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Stopper:
    """Stops this process before the n-th change of a file below a folder, once it is armed."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.left, self.armed = str(folder), number, False
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not self.changes(event, arguments):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

    def changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether an event is a file operation on the corpus that leaves something changed."""
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            return bool(writes) and str(path).startswith(self.folder)
        return event in CHANGES and str(arguments[0]).startswith(self.folder)


def holder(stopper: Stopper, module: Any, begins: str, act: Callable[[], object]) -> int:
    """In a forked process: act, armed from the call of `begins` on; 0 done, 3 refused in one line, 9 anything else."""
    real = getattr(module, begins)

    def begun(*arguments: Any, **options: Any) -> Any:
        stopper.armed = True
        return real(*arguments, **options)

    setattr(module, begins, begun)
    try:
        act()
    except MedadvError as error:
        print(error, file=sys.stderr)
        return 3
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        return 9
    return 0


def published(corpus: Path) -> dict[str, bytes]:
    """Everything outside the private folder."""
    return {str(p.relative_to(corpus)): p.read_bytes() for p in corpus.rglob("*") if p.is_file() and ".medadv" not in p.parts}


def age(lock: Path) -> None:
    """Let a lock look as if its holder had been silent on another host for long."""
    record = json.loads(lock.read_text())
    lock.write_text(json.dumps({**record, "host": "elsewhere", "heartbeat": time.time() - 2 * STALE_S}))


def tried(source: Path, folder: Path, what: str, group: str, number: int) -> dict[str, Any] | None:
    """One stop; None where the holder ended before it."""
    shutil.copytree(source, folder)
    corpus, spec = folder / "corpus", folder / "spec.yaml"
    acts: dict[str, tuple[Any, str, Callable[[], object]]] = {
        "finish": (run, "finish", lambda: run.run(spec, Options(), SILENT)),
        "forget": (forget.private, "remember_forgotten", lambda: forget.forget(corpus, group, Options(), SILENT)),
    }
    if what == "finish":
        for name in ("manifest.json", "manifest.json.sha256", "quarantine.jsonl", "croissant.json"):
            (corpus / name).unlink()
    process = os.fork()
    if not process:
        os._exit(holder(Stopper(corpus, number), *acts[what]))
    _, status = os.waitpid(process, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return None
    lock = corpus / ".medadv" / "lock"
    if lock.exists():
        age(lock)
    # Somebody adds to the corpus what the late holder does not know of, and looks at it.
    run.run(spec, Options(), SILENT)
    (corpus / "report.html").write_text("made by the successor")
    before = published(corpus)
    os.kill(process, signal.SIGCONT)
    _, status = os.waitpid(process, 0)
    after = published(corpus)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    left = [path.name for path in (corpus / ".medadv").glob("writing*")]
    return {"stop": number, "changed": changed, "verify": verify(corpus), "ended": os.waitstatus_to_exitcode(status), "left": left}


def main() -> None:
    """Stop before each operation in turn."""
    source, folder, *asked = sys.argv[1:]
    torch.set_num_threads(1)
    cluster.connect = lambda *_, **__: Inline()  # type: ignore[assignment]
    with h5py.File(Path(source) / "corpus" / "shards" / "shard-00000.h5") as file:
        group = file["group_id"][0].decode()
    for what, every in (words.split(":") for words in asked):
        number = 1
        while (found := tried(Path(source), Path(folder) / f"{what}{number}", what, group, number)) is not None:
            print(json.dumps({"what": what, **found}), flush=True)
            shutil.rmtree(Path(folder) / f"{what}{number}")
            number += int(every)


if __name__ == "__main__":
    main()
